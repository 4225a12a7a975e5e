"""entry.py and predict.py: how programs end, and what is written of an image."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

MUTANTS: list[Mutant] = [
    *of(
        "entry.py",
        "tests/test_entry.py -k not (every_program or closed or real_ctrl_c)",
        ("MISTAKE, INTERRUPTED, FAULT = 2, 130, 1", "MISTAKE, INTERRUPTED, FAULT = 1, 130, 1"),
        ("MISTAKE, INTERRUPTED, FAULT = 2, 130, 1", "MISTAKE, INTERRUPTED, FAULT = 2, 1, 1"),
        ("MISTAKE, INTERRUPTED, FAULT = 2, 130, 1", "MISTAKE, INTERRUPTED, FAULT = 2, 130, 0"),
        ('    if getattr(error, "told", False):', '    if not getattr(error, "told", True):'),
        ("            _require_words(sys.argv[1:] if argv is None else argv)\n", ""),
        ("if isinstance(ended.exc_value, OSError) else", "if isinstance(ended.exc_value, Exception) else"),
        ("        _before[-1](ended)\n", "        pass\n"),
        ("error.errno not in WITHOUT_NAME", "error.errno in WITHOUT_NAME"),
        ("or isinstance(error, MemoryError):", "or False:"),
        ("    traceback.print_exception(error)\n", ""),
    ),
]  # fmt: skip
