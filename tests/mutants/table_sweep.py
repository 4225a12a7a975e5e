"""sweep/: which jobs there are, which are done, and what is tried again."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

QUICK = "tests/test_sweep.py"
MUTANTS: list[Mutant] = [
    *of(
        "sweep/grids.py",
        QUICK,
        ("merged = tuple({**dict(job.overrides), **dict(overrides)}.items())", "merged = job.overrides"),
        ('"methods" in chosen and job.method not in', '"methods" in chosen and job.method in'),
        ("    if depth > DEEPEST:", "    if False:"),
        ('NUMBERS = {"shots": range(1, 100_001)', 'NUMBERS = {"shots": range(0, 100_001)'),
        ("isinstance(value, int) and not isinstance(value, bool)", "isinstance(value, int)"),
        ("tuple({**common, **dict(", "tuple({**dict("),
        ('not NAME.fullmatch(value)', "False"),
        ("if not jobs:\n        raise GridError(f\"{path} holds no runs", "if False:\n        raise GridError(f\"{path} holds no runs"),
    ),
    *of(
        "sweep/jobs.py",
        QUICK,
        ('"overrides": sorted(self.overrides)}', '"overrides": ()}'),
        ("key=lambda job: (job.backbone, places[job.dataset], job.task, job.seed, job.shots)", "key=lambda job: (job.backbone, job.seed)"),
        ("(job.setting, job.shots) if job.method in stacked", "job.setting if job.method in stacked"),
        ("if job.method in stacked else job.id", "if job.method not in stacked else job.id"),
    ),
    *of(
        "sweep/desk.py",
        QUICK,
        ("TRIES = 2", "TRIES = 1"),
        ("TRIES = 2", "TRIES = 3"),
        ("LOSSES = 3", "LOSSES = 2"),
        ("        if self._losses[unit] < LOSSES:", "        if True:"),
        ("            if self._losses[unit] >= LOSSES:", "            if False:"),
        ("            self._waiting.append(unit)\n            self._screen.failed(slot, unit, outcome, True)", "            self._waiting.appendleft(unit)\n            self._screen.failed(slot, unit, outcome, True)"),
        ("        self._losses[unit] += 1\n", ""),
        ("folders=told.folders.get(job.id, ()),", "folders=(),"),
    ),
    *of(
        "sweep/journal.py",
        QUICK,
        ("        elif kind == LOST:\n            count += 1", "        elif kind == LOST:\n            count += 0"),
        ("            count += open_start\n", ""),
        ("    return count + open_start", "    return count"),
        ("SELECT MAX(id) FROM events GROUP BY job", "SELECT MIN(id) FROM events GROUP BY job"),
        ("            self.path.replace(self.put_aside)", "            self.path.unlink()"),
    ),
    *of(
        "sweep/rates.py",
        QUICK,
        ("return None if not jobs or None in each else sum(filter(None, each)) / slots", "return None if not jobs or None in each else sum(filter(None, each))"),
        ("divmod(round(seconds), 60)", "divmod(round(seconds), 100)"),
        ('mean(self._seconds[kind]) for kind in _kinds(job.title)', 'mean(self._seconds[kind]) for kind in reversed(_kinds(job.title))'),
    ),
    *of(
        "sweep/done.py",
        "tests/test_sweep_runs.py -k apart",
        ("    return all(_same(wanted[key], config.get(key, NOWHERE)) for key in rest)", "    return True"),
        ("if any(not _same(wanted.get(key, own.get(key, NOWHERE)), value) for key, value in changed.items()):", "if False:", "the rest is read from the run's config.yaml"),
        ("output / job.label / stage", "output / stage"),
    ),
    *of(
        "sweep/study.py",
        "tests/test_tune_study.py",
        ("return self.correct + 1 / (1 + self.nll)", "return self.correct - self.nll"),
        ("-one.score.nll, -one.number", "one.score.nll, -one.number"),
        ("-one.score.nll, -one.number", "-one.score.nll, one.number"),
        ("SeedSequence([self._seed, len(done)])", "SeedSequence([self._seed, 0])"),
        ("SeedSequence([self._seed, len(done)])", "SeedSequence([0, len(done)])"),
        ("            beside.add_trials(done)\n", ""),
    ),
]  # fmt: skip
