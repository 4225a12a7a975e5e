"""Runs for the tests of the report: some of them broken, all of them with names that are markup."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from analysis import report
from analysis.report_pack import unpacked
from tests.synthetic_runs import write_run

EVIL = '</script><img src=x onerror="document.title=1">&amp;<b>tumor'
UNFINISHED = "few_shot/btmri/shots_16/CoOp_BiomedCLIP/nctx4/seed2"
DAMAGED = "few_shot/busi/shots_1/BiomedDPT_BiomedCLIP/nctx4/seed1"
ABSENT = "few_shot/busi/shots_16/CoOp_BiomedCLIP/nctx4/seed1"


def rewrite(folder: Path, **fields: object) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def write_runs(root: Path, data: Path) -> None:
    """16 runs: one unfinished, one damaged, one absent; classes named by markup; images of BTMRI below ``data``."""
    for label in (0, 1):
        folder = data / "BTMRI" / "BTMRI" / f"class_{label}"
        folder.mkdir(parents=True)
        for number in range(label, 100, 2):
            Image.new("RGB", (40, 30), (2 * number, 0, 99)).save(folder / f"{number}.png")
    for method, plus in (("CoOp", 0), ("BiomedDPT", 5)):
        for dataset in ("BTMRI", "BUSI"):
            for seed in (1, 2):
                for shots in (1, 16):
                    accuracy = 40 + plus + seed + shots
                    folder = write_run(root, method, dataset, shots=shots, seed=seed, accuracy=accuracy, rehearsal=True)
                    rewrite(folder, classnames=[EVIL, "normal"], files={}, notes=[EVIL])
                    (folder / "config.yaml").write_text(f"DATASET:\n  NAME: {dataset}\n  ROOT: {data}\nNOTE: '{EVIL}'\n")
                    epochs = "".join(f"epoch [{e}/9] batch [1/1] loss 1.0 ({9 / e:.4f}) lr 1e-3\n" for e in range(1, 10))
                    (folder / "log.txt").write_text(f"{epochs}{EVIL}\n* accuracy: {accuracy}.00%\n")
    (root / UNFINISHED / "results.json").unlink()
    rewrite(root / DAMAGED, files={"predictions.csv.gz": 7})
    shutil.rmtree(root / ABSENT)


def write_page(root: Path, path: Path) -> Path:
    """The report on these runs."""
    assert report.main([str(root), "-o", str(path), "--metrics", "accuracy", "ece"]) == 0
    return path


class Reader(HTMLParser):
    """Counts elements, and keeps the text of script elements that have an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.handlers: list[str] = []
        self.blocks: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self._inside = str(dict(attrs).get("id") or "") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[self._inside] = self.blocks.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def embedded(page: Path) -> dict:
    """The runs of the drill-down (with the lines that "config" and "log" number), the thumbnails, and the list of runs."""
    blocks = Reader(page.read_text()).blocks
    chunks = [json.loads(unpacked(blocks[f"chunk-{n}"])) for n in range(sum(name.startswith("chunk-") for name in blocks))]
    runs = [run | {"lines": chunk["lines"]} for chunk in chunks for run in chunk["runs"]]
    return {"runs": runs, "thumbnails": json.loads(blocks["thumbnails"]), "rows": json.loads(unpacked(blocks["rows"]))["rows"]}
