"""What the page shows, as HTML: no text of a file, class or sentence is taken for markup, nothing is fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dassl.utils import PixelSettings, UnreadableImage, read_image
from demo.references import Near, Sample

CAVEAT = "Research use only: not a medical device"
OPACITY = 0.55  # of the map, before the slider is moved
THUMBNAIL = 112  # pixels
STYLE = """
#bd-caveat { position: sticky; top: 0; z-index: 40; }
#bd-samples .grid-wrap { min-height: 0; max-height: none; overflow: visible; }
#bd-samples .caption-label { left: 0; right: 0; bottom: 0; max-width: none; border-radius: 0; text-align: center;
  font-size: .75rem; }
.bd-caveat { background: #8a3b00; color: #fff; font-weight: 600; padding: .5rem .75rem; border-radius: 6px; }
.bd h3 { margin: 0 0 .4rem; font-size: 1rem; }
.bd p { margin: .35rem 0; }
.bd .soft, .bd.soft { opacity: .78; font-size: .875rem; overflow-wrap: anywhere; }
.bd-bars { display: grid; grid-template-columns: minmax(6rem, auto) 1fr 4.2rem; gap: .35rem .6rem; align-items: center; }
.bd-bars .name { overflow-wrap: anywhere; }
.bd-bars .rail { background: var(--border-color-primary); border-radius: 4px; height: .8rem; }
.bd-bars .bar { background: #0072b2; border-radius: 4px; height: .8rem; min-width: 2px; }
.bd-bars .value { text-align: right; font-variant-numeric: tabular-nums; }
.bd-bars .first { font-weight: 600; }
.bd-chips { display: flex; flex-wrap: wrap; gap: .4rem; }
.bd-chip { border: 1px solid var(--border-color-accent, #0072b2); border-radius: 999px; padding: .1rem .7rem;
  font-weight: 600; }
.bd-map { position: relative; width: 100%; max-width: 30rem; margin: 0 auto; line-height: 0; }
.bd-map img { width: 100%; height: auto; border-radius: 6px; }
.bd-map .over { position: absolute; inset: 0; }
.bd ol { padding-left: 1.2rem; margin: .3rem 0; }
.bd li { margin: .35rem 0; }
.bd-near { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .6rem; }
.bd-near figure { margin: 0; font-size: .8rem; overflow-wrap: anywhere; }
.bd-near img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px; }
.bd-wrong { border-left: 4px solid #d55e00; padding: .3rem .8rem; }
"""


def caveat() -> str:
    return f'<div class="bd-caveat" role="note">{CAVEAT}</div>'


def head(title: str, classnames: Sequence[str], samples: Sequence[Sample]) -> str:
    """What the run is."""
    own = " Samples with a class are the run's own test images." if any(sample.classname for sample in samples) else ""
    return (
        f'<header class="bd"><h2>{_text(title)}</h2><p class="soft">Tells apart: {_text(", ".join(classnames))}. Whatever is '
        f"dropped here is called one of these.{own}</p></header>"
    )


def waiting(said: str) -> str:
    """What stands in place of an answer before there is one."""
    return f'<p class="bd soft">{_text(said)}</p>'


def panel(title: str, inside: str, note: str = "") -> str:
    """A part of the page."""
    below = f'<p class="soft">{_text(note)}</p>' if note else ""
    return f'<section class="bd"><h3>{_text(title)}</h3>{inside}{below}</section>'


def bars(ranked: Sequence[tuple[str, float]], calibrated: bool, note: str, truth: str = "") -> str:
    """Probabilities, likeliest first."""
    rows = "".join(
        f'<span class="name{" first" if not place else ""}">{_text(name)}</span><span class="rail"><span class="bar" '
        f'style="display:block;width:{100 * p:.2f}%"></span></span><span class="value">{100 * p:.1f} %</span>'
        for place, (name, p) in enumerate(ranked)
    )
    title = "Probabilities, calibrated" if calibrated else "Probabilities, not calibrated"
    said = f"<p>This sample is labelled <b>{_text(truth)}</b>.</p>" if truth else ""
    return panel(title, f'<div class="bd-bars">{rows}</div>{said}', note)


def prediction_set(chosen: Sequence[str], asked: str, note: str) -> str:
    """The classes that are not ruled out; a refusal in words where there are none."""
    if not chosen:
        return panel(f"Prediction set, {asked}", f'<p class="bd-wrong">{_text(note)}</p>')
    chips = "".join(f'<span class="bd-chip">{_text(name)}</span>' for name in chosen)
    return panel(f"Prediction set, {asked}", f'<div class="bd-chips">{chips}</div>', note)


def map_over(picture: Image.Image, overlay: Image.Image | None, name: str, note: str, opacity: float = OPACITY) -> str:
    """The image as the model sees it, and over it the map, whose opacity the page's slider sets."""
    note += "; yellow most, violet least" if overlay else ""
    over = f'<img class="over" style="opacity:{opacity:g}" alt="map" src="{uri(overlay)}">' if overlay else ""
    inside = f'<div class="bd-map"><img alt="{_text(name)}" src="{uri(picture)}">{over}</div>'
    return panel("Where it looks", inside, f"{name}: {note}")


def sentences(near: Sequence[Near[str]], counted: Sequence[tuple[str, int]], note: str) -> str:
    """The sentences nearest to the image, each with the class that it is about."""
    if not near:
        return panel("Nearest sentences", "", note)
    rows = "".join(
        f'<li>{_text(one.item)} <span class="bd-chip">{_text(one.classname)}</span> '
        f'<span class="soft">cosine {one.similarity:.3f}</span></li>'
        for one in near
    )
    total = sum(count for _, count in counted)
    votes = ", ".join(f"{_text(name)} {count}" for name, count in counted)
    return panel("Nearest sentences", f"<ol>{rows}</ol><p>Of the {total} nearest: {votes}.</p>", note)


def images(near: Sequence[Near[Path]], note: str, pixels: PixelSettings) -> str:
    """The training images nearest to the image."""
    figures = "".join(
        f'<figure><img alt="{_text(one.item.name)}" src="{uri(thumbnail(one.item, pixels), "JPEG")}">'
        f"<figcaption>{_text(one.classname)}, cosine {one.similarity:.3f}</figcaption></figure>"
        for one in near
    )
    return panel("Nearest training images", f'<div class="bd-near">{figures}</div>' if near else "", note)


def refused(said: str) -> str:
    """What stands in place of an answer."""
    return panel("This image cannot be read", f'<p class="bd-wrong">{_text(said)}</p>')


def thumbnail(path: Path, pixels: PixelSettings) -> Image.Image:
    """A small copy of an image of any kind; grey where the file has gone or cannot be read any more."""
    try:
        image = read_image(str(path), pixels)
    except (UnreadableImage, OSError):
        return Image.new("RGB", (THUMBNAIL, THUMBNAIL), "grey")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def uri(image: Image.Image, form: str = "PNG") -> str:
    """An image as the page's own text."""
    data = io.BytesIO()
    image.save(data, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "backslashreplace").decode())
