"""The comparison of two runs as a page. Whatever comes from a run goes through :func:`html.escape` here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from analysis.report_html import options_html
from analysis.report_runs import image_file, image_folder, thumbnail
from analysis.two_runs import LEFT, NEITHER, RIGHT, Case, TwoRuns

PAGE = Path(__file__).parent / "page"


def page(two: TwoRuns, said: str, metrics: Sequence[Sequence[str]], thumbnails: int, images: Path | None) -> tuple[str, int]:
    """The page's text, and how many thumbnails are in it.

    Args:
        two: the comparison.
        said: its summary.
        metrics: rows of texts.
        thumbnails: at most so many, of the first cases.
        images: folder that image paths start from; by default that of A's config.
    """
    folder = images or image_folder(two.sides[0].folder)
    small = [thumbnail(path) if path else "" for path in (image_file(folder, case.path) for case in two.cases[:thumbnails])]
    small += [""] * (len(two.cases) - len(small))
    script = (PAGE / "two_runs.js").read_text(encoding="utf-8")
    heads = "".join(
        f"<dt>{letter}</dt><dd>{escape(side.name)}<br><code>{escape(str(side.folder))}</code></dd>"
        for letter, side in zip("AB", two.sides, strict=True)
    )
    rehearsal = any(side.record.get("rehearsal") for side in two.sides)
    return Template((PAGE / "two_runs.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{two.sides[0].name} against {two.sides[1].name}"),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        heads=heads,
        banner='<p class="banner">On synthetic images: the numbers say nothing about patients.</p>' if rehearsal else "",
        said=escape(said),
        metrics=_rows(metrics, "n"),
        settings=_rows(two.settings, "") or '<tr><th scope="row">nothing</th><td></td><td></td></tr>',
        kinds=options_html((LEFT, RIGHT, NEITHER)),
        classes=options_html(sorted({case.truth for case in two.cases})),
        cases="".join(_case(case, uri, bool(thumbnails)) for case, uri in zip(two.cases, small, strict=True)),
    ), sum(map(bool, small))


def _rows(rows: Sequence[Sequence[str]], kind: str) -> str:
    lines = []
    for first, *rest in rows:
        cells = "".join(f'<td class="{kind}">{escape(value)}</td>' for value in rest)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return "".join(lines)


def _case(case: Case, uri: str, pictures: bool) -> str:
    """One image: its classes, and how sure each of the two was."""
    picture = f'<img src="{uri}" alt="">' if uri else '<span class="none">not in the page</span>' if pictures else ""
    lines = "".join(_choice(letter, case.truth, *own) for letter, own in (("A", case.first), ("B", case.second)))
    path = escape(case.path.encode("utf-8", "replace").decode())
    return (
        f'<li data-right="{escape(case.right)}" data-class="{escape(case.truth)}">{picture}'
        f"<div><b>{escape(case.truth)}</b></div>{lines}<code>{path}</code></li>"
    )


def _choice(letter: str, truth: str, name: str, true: float, chosen: float) -> str:
    """What one of the two chose, and how probable it held the true class to be."""
    kind, sign, rest = ("yes", "✓", "") if name == truth else ("no", "✗", f", true class {100 * true:.1f} %")
    return f'<div><b>{letter}</b> <span class="{kind}">{sign}</span> {escape(name)} {100 * chosen:.1f} %{rest}</div>'
