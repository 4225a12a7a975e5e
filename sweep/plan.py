"""A plan in words: what is done, what is to be done, what cannot be and why, and how long it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sweep.jobs import Job
from sweep.rates import Rates, clock

MOST = 12  # reasons that are shown


def described(
    jobs: Sequence[Job],
    done: Mapping[str, object],
    ready: Sequence[Job],
    cannot: Mapping[str, Sequence[Job]] | None = None,
    left_out: Mapping[str, Sequence[Job]] | None = None,
    unread: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Lines on a sweep's jobs; counts by protocol first."""
    lines = [f"{len(jobs)} runs: {len(done)} done, {len(ready)} to do" + (f", {_count(cannot)} cannot run" if cannot else "")]
    tasks = Counter(job.task for job in jobs)
    for task, count in tasks.items():
        own = [job for job in jobs if job.task == task]
        counts = {name: len({getattr(job, name) for job in own}) for name in ("method", "dataset", "seed")}
        facts = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items()]
        shots = sorted({job.shots for job in own})
        shots_word = f"{' '.join(map(str, shots))} {'shot' if shots == [1] else 'shots'}"
        finished = sum(job.id in done for job in own)
        lines.append(f"  {task}: {count} runs ({', '.join(facts)}, {shots_word}), {finished} done")
    lines += _reasons("cannot run", cannot or {})
    lines += _reasons("left out", left_out or {})
    by_key: dict[str, list[str]] = {}
    for method, key in unread:
        by_key.setdefault(key, []).append(method)
    lines += [f"  {key} is not read by {', '.join(sorted(names))}: these run without it" for key, names in by_key.items()]
    return lines


def _count(reasons: Mapping[str, Sequence[Job]] | None) -> int:
    return sum(map(len, (reasons or {}).values()))


def _reasons(what: str, reasons: Mapping[str, Sequence[Job]]) -> list[str]:
    told = sorted(reasons.items(), key=lambda item: -len(item[1]))
    lines = [f"  {what}, {len(jobs)} run{'s' * (len(jobs) > 1)}: {why}" for why, jobs in told[:MOST]]
    rest = told[MOST:]
    return lines + ([f"  {what}, {_count(dict(rest))} more runs for {len(rest)} other reasons"] if rest else [])


def estimated(ready: Sequence[Job], rates: Rates, slots: Sequence[int] = (1, 4, 8, 64), origin: str = "earlier runs") -> str:
    """The wall time of what is to be done, for some numbers of slots as fast as this machine.

    Args:
        origin: of the rates.
    """
    if not ready:
        return "nothing is left that can be done"
    if rates.total(ready) is None:
        return "time: not known before something has run here; --probe tries some of these runs for 20 seconds"
    each = [f"{clock(rates.total(ready, n) or 0)} with {n} slot{'s' * (n > 1)}" for n in slots]
    return f"time, from {rates.known} {origin}: {', '.join(each)}"
