"""The page itself, in Gradio: where an image is dropped, and where the answers stand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from analysis.conformal import percent
from dassl.utils import UnreadableImage, UserError
from demo import html
from demo.reader import Reader
from demo.references import Sample

COVERAGES = (0.8, 0.9, 0.95, 0.99)
HOURS = 1  # after which an uploaded image is removed while the page runs; all are when it ends
LARGEST = "1gb"  # of an uploaded file
WAITING = "Drop an image, or choose a sample."
OPACITY = "(value) => document.querySelectorAll('.bd-map .over').forEach((map) => { map.style.opacity = value; })"


def gradio() -> ModuleType:
    """Gradio, without its reports to its makers and without the images and answers that it keeps in the browser.

    Raises:
        UserError: it is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"the page needs Gradio, which is optional: pip install gradio ({error})") from error
    return gradio


def page(reader: Reader, samples: Sequence[Sample], coverage: float) -> Any:
    """The ``gradio.Blocks`` of a run.

    Args:
        samples: to choose from.
        coverage: of the sets, until another is chosen.
    """
    gr = gradio()
    trainer = reader.trainer
    title = f"{trainer.cfg.TRAINER.NAME} on {trainer.backbone.name}, {trainer.facts.name}"
    choices = sorted({*COVERAGES, coverage})
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600 * HOURS)) as blocks:
        raw = gr.State(None)
        gr.HTML(html.caveat(), elem_id="bd-caveat")
        gr.HTML(html.head(title, reader.classnames, samples))
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                dropped = gr.File(label="An image: PNG, JPEG, TIFF, DICOM, NIfTI, …", file_count="single", elem_id="bd-file")
                gallery = _gallery(gr, reader, samples) if samples else None
            with gr.Column(scale=3, min_width=280):
                bars = gr.HTML(html.waiting(WAITING), elem_id="bd-bars")
                steps = [(percent(one), one) for one in choices]
                asked = gr.Radio(steps, value=coverage, label="Coverage of the prediction set", elem_id="bd-coverage")
                chosen = gr.HTML("", elem_id="bd-set")
        with gr.Row():  # on a phone the answer stands above the map
            with gr.Column(scale=2, min_width=280):
                looked = gr.HTML("", elem_id="bd-looked")
                opacity = gr.Slider(0, 1, value=html.OPACITY, step=0.05, label="Opacity of the map", elem_id="bd-opacity")
            with gr.Column(scale=3, min_width=280):
                said = gr.HTML("", elem_id="bd-sentences")
                near = gr.HTML("", elem_id="bd-images")
        answers = [raw, bars, chosen, looked, said, near]

        def answer(path: Path, share: float, over: float, truth: str = "") -> list[Any]:
            try:
                found = reader.read(path)
            except UnreadableImage as error:
                return [None, html.refused(f"{path.name}: {error.reason}"), "", "", "", ""]
            except UserError as error:
                return [None, html.refused(str(error)), "", "", "", ""]
            return [
                found.raw,
                html.bars(reader.probabilities(found.raw), reader.kept is not None, reader.calibration_note(), truth),
                html.prediction_set(*_asked(reader, found.raw, share)),
                html.map_over(found.picture, found.overlay, f"{found.name} ({found.kind})", found.map_note, over),
                html.sentences(found.sentences, found.counted, reader.sentences.note),
                html.images(found.images, reader.images.note, reader.pixels),
            ]

        def of_file(path: str | None, share: float, over: float) -> list[Any]:
            if path is None:
                return [None, html.waiting(WAITING), "", "", "", ""]
            return answer(Path(path), share, over)

        def of_sample(event: gr.SelectData, share: float, over: float) -> list[Any]:
            sample = samples[event.index]
            return answer(sample.path, share, over, sample.classname)

        def of_coverage(values: list[float] | None, share: float) -> str:
            return "" if values is None else html.prediction_set(*_asked(reader, values, share))

        # one at a time: a model on a CPU is not made faster by two
        one = {"concurrency_limit": 1, "concurrency_id": "model"}
        dropped.change(of_file, [dropped, asked, opacity], answers, **one)
        if gallery is not None:
            of_sample.__annotations__["event"] = gr.SelectData  # Gradio reads it, and a name in quotes it cannot find here
            gallery.select(of_sample, [asked, opacity], answers, **one)
        asked.change(of_coverage, [raw, asked], chosen)
        opacity.input(None, opacity, None, js=OPACITY)
    return blocks


def _asked(reader: Reader, raw: list[float], share: float) -> tuple[Sequence[str], str, str]:
    chosen, note = reader.prediction_set(raw, share)
    return chosen, percent(share), note


def _gallery(gr: ModuleType, reader: Reader, samples: Sequence[Sample]) -> Any:
    pictures = [(html.thumbnail(sample.path, reader.pixels), sample.classname or sample.path.name) for sample in samples]
    gr.HTML(html.waiting("Or choose a sample:"))
    return gr.Gallery(
        pictures, show_label=False, columns=3, height="auto", allow_preview=False, object_fit="cover", elem_id="bd-samples",
        interactive=False, buttons=[],
    )  # fmt: skip


def serve(blocks: Any, host: str, port: int) -> None:
    """Answer on an address until the program is ended; what was uploaded goes with it."""
    gr = gradio()
    plain = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # none from elsewhere
    blocks.launch(
        server_name=host, server_port=port, share=False, quiet=True, inbrowser=False, prevent_thread_lock=True, ssr_mode=False,
        max_file_size=LARGEST, theme=plain, css=html.STYLE, footer_links=[],
    )  # fmt: skip
    print(f"open http://{host}:{port} in a browser; Ctrl-C ends it", flush=True)
    blocks.block_thread()


def with_scratch() -> tempfile.TemporaryDirectory[str]:
    """The folder of what is uploaded, for as long as the program runs."""
    scratch = tempfile.TemporaryDirectory(prefix="biomed-dpt-demo-")
    os.environ["GRADIO_TEMP_DIR"] = scratch.name
    return scratch
