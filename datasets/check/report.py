"""What a check found, as a record for JSON and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from datasets.check.files import Look
from datasets.check.findings import Finding, Listed
from datasets.splits import PARTS


def as_record(
    title: str,
    images: str,
    rows: Listed,
    looks: Sequence[Look],
    found: Sequence[Finding],
    notes: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Everything that is known of a dataset after a check.

    Args:
        notes: of the dataset itself: how its split was made, say.
        seconds: that the check took.
    """
    good = [one for one in looks if not one.reason]
    widths, heights = ([one.size[axis] for one in good] for axis in (0, 1))
    return {
        "dataset": title,
        "images": images,
        "files": len(looks),
        "readable": len(good),
        "parts": {part: sum(rows.counts[part, label] for label in rows.names) for part in PARTS},
        "classes": {name: {part: rows.counts[part, label] for part in PARTS} for label, name in rows.names.items()},
        "kinds": dict(Counter(one.kind for one in good).most_common()),
        "width": _spread(widths),
        "height": _spread(heights),
        "notes": list(notes),
        "findings": [
            {"kind": one.kind, "matters": one.matters, "said": one.said, "items": list(one.items)}
            for one in sorted(found, key=lambda one: not one.matters)
        ],
        "seconds": round(seconds, 2),
        "seconds_per_1000": round(1000 * seconds / max(1, len(looks)), 2),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)} if values else {}


def printed(record: dict[str, Any], show: int) -> str:
    """A record in lines.

    Args:
        show: at most so many items of a finding; 0 shows all.
    """
    parts = ", ".join(f"{count} {part}" for part, count in record["parts"].items())
    lines = [
        f"{record['dataset']}: {sum(record['parts'].values())} images ({parts}), {len(record['classes'])} classes",
        f"  read: {record['readable']} of {record['files']} files; "
        + ", ".join(f"{kind}: {count}" for kind, count in record["kinds"].items()),
    ]
    if record["width"]:
        sizes = (f"{axis} {' / '.join(f'{value:g}' for value in record[axis].values())}" for axis in ("width", "height"))
        lines.append(f"  size in pixels (smallest / median / largest): {', '.join(sizes)}")
    lines += _balance(record["classes"])
    lines += [f"  note: {note}" for note in record["notes"]]
    for one in record["findings"]:
        lines.append(f"  {'WRONG' if one['matters'] else 'note'}: {one['said']}")
        if one["matters"]:
            shown = one["items"] if not show else one["items"][:show]
            lines += [f"    {_item(item)}" for item in shown]
            left = len(one["items"]) - len(shown)
            lines += [f"    and {left} more (--show 0 lists all, --json writes them)"] if left else []
    wrong = sum(one["matters"] for one in record["findings"])
    verdict = f"{wrong} thing{'s' if wrong > 1 else ''} wrong" if wrong else "nothing wrong"
    lines.append(f"  {verdict}; {record['seconds']:.1f} s, {record['seconds_per_1000']:.1f} s per 1,000 images")
    return "\n".join(lines)


def _balance(classes: dict[str, dict[str, int]]) -> list[str]:
    """Images of each class by part, and how uneven training is."""
    width = max(map(len, classes), default=0)
    lines = [f"  {'':{width}}  " + "".join(f"{part:>7}" for part in PARTS)]
    lines += [f"  {name:{width}}  " + "".join(f"{counts[part]:>7}" for part in PARTS) for name, counts in classes.items()]
    trained = [counts["train"] for counts in classes.values() if counts["train"]]
    if trained:
        lines.append(f"  the largest class has {max(trained) / min(trained):.1f} times the training images of the smallest")
    return lines


def _item(item: dict[str, Any]) -> str:
    if "group" in item:
        return f"{item['group']}: " + ", ".join(f"{item['parts'][part]} {part}" for part in PARTS if part in item["parts"])
    return " = ".join(item["paths"]) + (f": {item['why']}" if item.get("why") else "")
