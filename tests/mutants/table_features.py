"""features/: what is stored is what was encoded, of these images, by this tower, and nothing else is read for it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

UNIT = "tests/test_feature_space.py"  # the store on disk and the encoder, without a backbone
DISK = "tests/test_feature_disk.py"
SPACE = "tests/test_feature_disk.py -k rows_come_back or damaged_file or prune_removes"

MUTANTS = [
    Mutant("features/disk.py", 'total.update(len(raw).to_bytes(8, "big") + raw)', "total.update(raw)", SPACE),
    Mutant("features/disk.py", "json.dumps(about, sort_keys=True)", "json.dumps(about)", SPACE),
    Mutant("features/disk.py", "if not torch.isfinite(rows).all():", "if not torch.isfinite(rows).any():", SPACE),
    Mutant("features/disk.py", "{key: start + place for place, key in", "{key: place for place, key in", SPACE),
    Mutant("features/disk.py", "    total.update(rows.numpy().data)\n", "", SPACE),
    Mutant(
        "features/disk.py", "if len(keys) != len(rows) or checksum(keys, rows) != wanted:", "if len(keys) != len(rows):", SPACE
    ),
    Mutant("features/disk.py", "if path.name not in self._known:", "if path.name in self._known:", SPACE),
    Mutant("features/disk.py", "(name, number)) for number", "(name, 0)) for number", SPACE),
    Mutant("features/disk.py", 'key=lambda space: space["used"])', 'key=lambda space: -space["used"])', SPACE),
    Mutant("features/disk.py", "if total <= max_bytes:", "if total < max_bytes:", SPACE),
    Mutant("features/disk.py", '        total -= space["bytes"]\n', "", SPACE),
    Mutant("features/disk.py", "                if remove:\n", "                if not remove:\n", SPACE),
]
