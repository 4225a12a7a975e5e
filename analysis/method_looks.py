"""One colour and marker per method, the same in every figure and on the report page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

INK = "#1b1f24"  # of texts and axes too: on a dark page it turns light
BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, INK)  # Okabe and Ito's without yellow, which is lost on white paper
MARKERS = "osD^vPX*<>hp"
LARGER = {"*": 1.6, "X": 1.2, "P": 1.2, "^": 1.15, "v": 1.15, "<": 1.15, ">": 1.15, "p": 1.15, "h": 1.1}
LINES = ("-", "--", "-.", ":")
THIN, THICK = 1.1, 2.0
Series = tuple[str, str, str]  # method, backbone, setting


@dataclass(frozen=True)
class Look:
    """How one series is drawn in every panel."""

    color: str
    marker: str
    line: str = "-"
    width: float = THIN

    def size(self, points: float) -> float:
        """A marker's size in points, so that all look alike large: some fill less of their square."""
        return points * LARGER.get(self.marker, 1.0)


# methods of one kind share a colour: two biomedical ones, prompts in words, prompts in both towers, adapters, linear, zero-shot
METHODS = {
    "BiomedDPT": Look(RED, "o", "-"),
    "DPT": Look(RED, "X", "--"),
    "BiomedCoOp": Look(BLUE, "s", "-"),
    "BiomedCCPL": Look(RED, "s", ":"),
    "BiomedAP": Look(RED, "D", "-."),
    "TipAdapter": Look(BLUE, "<", "-."),
    "TipAdapterF": Look(BLUE, ">", "--"),
    "ProKeR": Look(BLUE, "^", ":"),
    "CoOp": Look(GREEN, "^", "-"),
    "CoCoOp": Look(GREEN, "v", "--"),
    "CLIPAdapter": Look(GREEN, "p", "-."),
    "KgCoOp": Look(SKY, "D", "-"),
    "ProGrad": Look(SKY, "o", "--"),
    "MaPLe": Look(PINK, "*", "-"),
    "PromptSRC": Look(PINK, "P", "--"),
    "CLIPLoRA": Look(PINK, "D", ":"),
    "VPT": Look(PINK, "s", "-."),
    "LinearProbe": Look(ORANGE, "h", "-"),
    "LPPlusPlus": Look(ORANGE, "X", "--"),
    "GDA": Look(ORANGE, "D", "-."),
    "TIMO": Look(ORANGE, "o", "-"),
    "TIMOS": Look(ORANGE, "s", "--"),
    "SSText": Look(ORANGE, "v", ":"),
    "ZeroshotCLIP": Look(INK, "o", ":"),
    "ZeroshotCLIP2": Look(INK, "*", ":"),
}


def look_of(method: str, taken: Sequence[Look] = ()) -> Look:
    """The look of a method; of one that the table has not, one that its name leads to and that nobody else has, if any is left.

    Args:
        method: its name.
        taken: looks of other methods that the table has not.
    """
    if method in METHODS:
        return METHODS[method]
    used = {(look.color, look.marker) for look in (*METHODS.values(), *taken)}
    choices = [Look(color, marker) for marker in MARKERS for color in PALETTE]
    start = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big") % len(choices)
    turned = choices[start:] + choices[:start]
    return next((look for look in turned if (look.color, look.marker) not in used), turned[0])


def looks(series: Sequence[Series], highlight: str = "") -> dict[Series, Look]:
    """A look per series. A method's second setting or backbone keeps its colour, with another marker and line.

    Args:
        series: method, backbone, setting.
        highlight: the method drawn thicker.
    """
    own: dict[str, Look] = {}
    for method in sorted({one[0] for one in series}):
        own[method] = look_of(method, [look for name, look in own.items() if name not in METHODS])
    found: dict[Series, Look] = {}
    ways: dict[str, Iterator[Look]] = {method: _ways(look) for method, look in own.items()}
    for one in sorted(series, key=lambda one: (one[0], one[2] != "", one)):
        look = next(ways[one[0]])
        found[one] = replace(look, width=THICK if one[0] == highlight else THIN)
    return {one: found[one] for one in series}


def _ways(look: Look) -> Iterator[Look]:
    """The look itself, then with the other markers and lines, without end."""
    yield look
    others = [marker for marker in MARKERS if marker != look.marker]
    number = 0
    while True:
        number += 1
        yield replace(
            look, marker=others[(number - 1) % len(others)], line=LINES[(LINES.index(look.line) + number) % len(LINES)]
        )


def outline(marker: str) -> str:
    """A marker as the path data of an SVG, within -1 … 1, y downwards."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    largest = abs(path.vertices).max()
    words = []
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = "" if code == Outline.CLOSEPOLY else _points(points / largest)
        words.append(letters[code] + numbers)
    return "".join(words)


def _points(numbers: Sequence[float]) -> str:
    return " ".join(f"{value if place % 2 == 0 else -value:.3g}" for place, value in enumerate(numbers))
