"""Two finished runs side by side: settings that differ, metrics, and the images that they classify otherwise.

python -m analysis.compare_runs RUN_A RUN_B
python -m analysis.compare_runs RUN_A RUN_B -o two.html --thumbnails 50    # as a page, with small copies of the images
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.files import require_target, write_whole
from analysis.render import render
from analysis.two_runs import BOTH, LEFT, NEITHER, RIGHT, Case, TwoRuns, compared
from analysis.two_runs_html import page
from analysis.words import count_of, cut_inside
from entry import program

SHOWN = 10  # images in the terminal


def summary(two: TwoRuns) -> str:
    """How many images the two disagree on, and whether one is better, in a sentence or two."""
    if two.difference is None:
        return f"Image by image they cannot be compared: {two.told}."
    d, images = two.difference, sum(two.counts.values())
    said = f"{two.told}. " if two.told else ""
    return (
        f"{said}Of {count_of(images, 'image')} both get {two.counts[BOTH]} right, {LEFT} {two.counts[LEFT]}, {RIGHT} "
        f"{two.counts[RIGHT]}, {NEITHER} {two.counts[NEITHER]}; accuracy A − B {d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}], "
        f"p = {d.p:.3g} (paired bootstrap over the images)."
    )


def shown_metrics(two: TwoRuns) -> list[list[str]]:
    """Rows of title, A, B, difference."""
    rows = []
    for title, a, b, digits in two.metrics:
        gap = "–" if a is None or b is None else f"{a - b:+.{digits}f}"
        rows.append([title, *("–" if value is None else f"{value:.{digits}f}" for value in (a, b)), gap])
    return rows


def shown_case(case: Case) -> list[str]:
    """A row of path, true class, and what each of the two chose with its probability."""
    chosen = [f"{cut_inside(name, 28)} {100 * p:.1f} %" for name, _, p in (case.first, case.second)]
    return [cut_inside(case.path, 48), cut_inside(case.truth, 28), *chosen, case.right]


def text(two: TwoRuns, most: int = SHOWN) -> str:
    """The comparison for a terminal."""
    heads = [f"{letter}: {side.name}\n   {side.folder}" for letter, side in zip("AB", two.sides, strict=True)]
    cut = [[key, cut_inside(a, 46), cut_inside(b, 46)] for key, a, b in two.settings]
    parts = [
        "\n".join(heads),
        render("Metrics", ["", "A", "B", "A − B"], shown_metrics(two), "terminal"),
        render("Set otherwise", ["", "A", "B"], cut, "terminal") if cut else "Set otherwise: nothing",
        summary(two),
    ]
    if two.cases:
        rows = [shown_case(case) for case in two.cases[:most]]
        title = f"{len(rows)} of {count_of(len(two.cases), 'image')} that they classify otherwise"
        parts.append(render(title, ["image", "true class", "A", "B", "right"], rows, "terminal"))
    return "\n\n".join(parts)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a folder that is no finished run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, metavar="RUN_A")
    parser.add_argument("second", type=Path, metavar="RUN_B")
    parser.add_argument("-o", "--output", type=Path, metavar="PAGE", help="write a page with all images that they disagree on")
    parser.add_argument("--thumbnails", type=int, default=0, help="with -o: small copies of at most so many images (0)")
    parser.add_argument("--images", type=Path, help="folder that image paths start from (by default from the config of A)")
    args = parser.parse_args(argv)
    if args.thumbnails < 0:
        parser.error(f"--thumbnails is {args.thumbnails}, must be 0 or more")
    if args.thumbnails and not args.output:
        parser.error("--thumbnails go into a page: name it with -o")
    if args.output:
        require_target(args.output)
    two = compared(args.first, args.second)
    print(text(two))
    if args.output:
        made, pictures = page(two, summary(two), shown_metrics(two), args.thumbnails, args.images)
        write_whole(args.output, made)
        wanted = min(args.thumbnails, len(two.cases))
        absent = (
            f", {wanted - pictures} of {wanted} images not found: name their folder with --images" if pictures < wanted else ""
        )
        print(f"\n{args.output}: {count_of(len(two.cases), 'image')}, {count_of(pictures, 'thumbnail')}{absent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
