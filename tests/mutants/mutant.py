"""What one deliberate fault is, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault.

    Attributes:
        file: of the project, from its root.
        old: a snippet of source that occurs exactly once in ``file``; several lines are allowed.
        new: what stands in its place.
        tests: the tests that are expected to notice: test files or node ids, each with ``-k WORDS`` behind it if wanted.
        equivalent: why no test can tell the two apart; such a mutant is counted and not run.
    """

    file: str
    old: str
    new: str
    tests: str | tuple[str, ...]
    equivalent: str = ""

    @property
    def test_names(self) -> tuple[str, ...]:
        """``tests`` as a tuple."""
        return (self.tests,) if isinstance(self.tests, str) else self.tests

    @property
    def room(self) -> str:
        """The room of docs/ARCHITECTURE.md; the files in the project's root are "programs"."""
        first, *rest = self.file.split("/")
        return "programs" if not rest else "dassl" if first == "engine" else first

    def applied(self, root: Path = ROOT) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: ``old`` does not occur exactly once, or ``new`` is the same.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self}: the snippet occurs {text.count(self.old)} times in {self.file}")
        if self.old == self.new:
            raise ValueError(f"{self}: nothing is changed")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}: {old} -> {new or '(deleted)'}"


def of(file: str, tests: str | tuple[str, ...], *changes: tuple[str, str] | tuple[str, str, str]) -> list[Mutant]:
    """Mutants of one file with the same tests: each ``(old, new)`` or ``(old, new, why it is equivalent)``."""
    return [Mutant(file, old, new, tests, *why) for old, new, *why in changes]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: "killed", "survived", "equivalent" or "error"; ``how`` says by what end of the tests."""

    mutant: Mutant
    end: str
    how: str
    seconds: float
