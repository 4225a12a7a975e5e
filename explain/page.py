"""The index page of a folder of maps: every picture with its numbers, in one HTML file that opens without a server."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dassl.utils import atomic

INDEX = "index.html"
CAVEAT = "Research use only: not a medical device. A map shows where a number comes from, not whether it is right."
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1d21; --soft: #5b6470; --line: #d8dde3; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e8eaed; --soft: #a3acb7; --line: #333a42; --card: #1c2127; }
}
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; color: var(--soft); overflow-wrap: anywhere; }
.caveat { border-left: 4px solid #d55e00; padding: .25rem .75rem; color: var(--ink); }
article { border: 1px solid var(--line); border-radius: 8px; padding: .75rem; margin: 1rem 0; background: var(--card); }
article img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; margin: .5rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .75rem .2rem 0; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; border-top: 0; }
"""


@dataclass(frozen=True)
class Entry:
    """One picture of the page.

    Attributes:
        picture: its file name, in the page's folder.
        image: the image that it explains.
        classname, probability: the likeliest class, and its probability (0 to 1).
        about: the class that gradcam asks about.
        rows: a row of cells per map, in the order of the page's columns.
    """

    picture: str
    image: Path
    classname: str
    probability: float
    about: str
    rows: Sequence[Sequence[str]]


def write_index(folder: Path, title: str, notes: Sequence[str], columns: Sequence[str], entries: Sequence[Entry]) -> Path:
    """``index.html`` of a folder of pictures; links are relative, and nothing is fetched from elsewhere."""
    head = "".join(f"<p>{_text(note)}</p>\n" for note in notes)
    names = _told_apart([entry.image for entry in entries])
    cards = "\n".join(_card(entry, name, columns) for entry, name in zip(entries, names, strict=True))
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n{head}"
        f'<p class="caveat">{CAVEAT}</p>\n{cards}\n</body>\n</html>\n'
    )
    with atomic(folder / INDEX) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")
    return folder / INDEX


def _told_apart(images: Sequence[Path]) -> list[str]:
    """The images' names; with their folder where two have one name."""
    count = Counter(image.name for image in images)
    return [image.name if count[image.name] == 1 else f"{image.parent.name}/{image.name}" for image in images]


def _card(entry: Entry, name: str, columns: Sequence[str]) -> str:
    said = f"{_text(entry.classname)} {100 * entry.probability:.1f} %"
    asked = "" if entry.about == entry.classname else f"; Grad-CAM of {_text(entry.about)}"
    heads = "".join(f"<th>{_text(column)}</th>" for column in columns)
    rows = "".join("<tr>" + "".join(f"<td>{_text(cell) or '–'}</td>" for cell in row) + "</tr>" for row in entry.rows)
    return (
        f"<article>\n<h2>{_text(name)}</h2>\n<p>{said}, not calibrated{asked}</p>\n"
        f'<a href="{quote(entry.picture)}"><img src="{quote(entry.picture)}" loading="lazy" '
        f'alt="maps of {_text(name)}"></a>\n'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n</article>'
    )


def _text(text: str) -> str:
    """As HTML, quotes too; bytes of a file's name that are no UTF-8 are shown as escapes."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())
