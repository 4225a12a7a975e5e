"""predict.py, export.py and explain: images, runs, places to write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

from tests.faults.fault import FIFO, FOLDER, Fault, link, run, sealed
from tests.faults.table_train import NESTED

IMAGE, PLACE, RUN, NUMBER, NAME, TEXT = (
    "an image", "a place to write", "a run's folder", "a setting's value", "an unknown name", "a file's name")  # fmt: skip


def png(side: int = 8, form: str = "PNG") -> bytes:
    """A grey square."""
    made = io.BytesIO()
    Image.new("L", (side, side), 90).save(made, form)
    return made.getvalue()


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels, with a handful of bytes behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")


def image(what: str, content: Any, line: str, command: str = "predict.py {run} a.png") -> Fault:
    """An image that cannot be read is named and passed over: status 3."""
    return Fault(IMAGE, what, command, line, 3, given={"a.png": content})


def in_training(what: str, content: Any, line: str) -> Fault:
    """An image that cannot be read among own images: train.py stops before training, and names it."""
    kinds = {f"own/{kind}/{n}.png": png(8 + n + 8 * k) for k, kind in enumerate(("a", "b")) for n in range(8)}
    yaml = "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: own\n"
    command = "train.py {base} --dataset-config-file own.yaml {method} {task} --output-root out {quick} OPTIM.MAX_EPOCH 900"
    given = {**kinds, "own.yaml": yaml, "own/b/8.png": content}
    return Fault(f"{IMAGE} to train or test on", what, command, line, given=given, leaves=("own/split*", "out", "out/*"))


IMAGES = [
    image("is a folder without images", FOLDER, "no images in a.png", "predict.py {run} a.png"),
    image("is a FIFO", FIFO, "unreadable, skipped: a.png: not a regular file"),
    image("is a device", link("/dev/zero"), "unreadable, skipped: a.png: not a regular file"),
    image("is empty", b"", "unreadable, skipped: a.png"),
    image("is a text", "hello", "unreadable, skipped: a.png"),
    image("is cut short", png(64)[:-40], "unreadable, skipped: a.png"),
    image("nobody may read it", sealed(png()), "unreadable, skipped: a.png: Permission denied"),
    image("is over the pixel limit", bomb(60_000), "unreadable, skipped: a.png"),
    image("is a TIFF of garbage", b"II*\0" + b"\xff" * 64, "unreadable, skipped: a.png"),
    image("is DICOM of garbage", bytes(128) + b"DICM" + b"\x02\0\0\0UL" * 9, "unreadable, skipped: a.png"),
    image("is NIfTI of garbage", b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + b"\xff" * 40, "unreadable, skipped: a.png"),
    image("is a script", b"#!/bin/sh\ntouch pwned\n", "unreadable, skipped: a.png"),
    Fault(IMAGE, "one of a folder is a FIFO: passed over", "predict.py {run} many", "many/b.png", 0,
          given={"many/a.png": FIFO, "many/b.png": png()}),
    Fault(IMAGE, "one of a folder is a FIFO: passed over", "-m explain {run} many -o maps", "b.png", 0,
          given={"many/a.png": FIFO, "many/b.png": png()}),
    Fault(IMAGE, "is not there", "predict.py {run} nowhere.png", "no such file or folder: nowhere.png"),
    Fault(IMAGE, "is a link to itself", "predict.py {run} a.png", "a.png", given={"a.png": link("a.png")}),
    Fault(IMAGE, "folder nobody may read", "predict.py {run} many", "many", given={"many": sealed(FOLDER)}),
    Fault(IMAGE, "folder that holds itself", "predict.py {run} many", "many/b.png", 0,
          given={"many/b.png": png(), "many/again": link("../many")}),
    in_training("is empty", b"", "own/b/8.png"),
    in_training("nobody may read it", sealed(png()), "8.png"),
    in_training("is over the pixel limit", bomb(60_000), "8.png"),
]  # fmt: skip
IMAGES[0] = Fault(IMAGE, "is a folder without images", "predict.py {run} a.png", "no images in a.png", given={"a.png": FOLDER})

ODD = "many/caf\udce9.png"
NAMES = [
    Fault(TEXT, "no UTF-8, in a table", "predict.py {run} many", "is no UTF-8: rename it", given={ODD: png()}),
    Fault(TEXT, "no UTF-8, into CSV", "predict.py {run} many -o out.csv", "is no UTF-8: rename it", given={ODD: png()}),
    Fault(TEXT, "no UTF-8, into JSON", "predict.py {run} many/caf* -o out.json", "no such file or folder", given={ODD: png()}),
    Fault(TEXT, "no UTF-8, maps", "-m explain {run} many -o maps", "is no UTF-8: rename it", given={ODD: png()}),
    Fault(TEXT, "a formula, in a picture", "predict.py {run} many --explain maps", "a$", 0, given={"many/a$\\frac$.png": png()}),
    Fault(TEXT, "line breaks, in CSV", "predict.py {run} many --format csv", '"many/a\nb.png"', 0, given={"many/a\nb.png": png()}),
    Fault(TEXT, "a formula, in CSV", "predict.py {run} . --format csv", "\n'=cmd()", 0, given={"=cmd().png": png()}),
    Fault(TEXT, "a minus, in CSV", "predict.py {run} . --format csv --top-k 1", "\n'-1+1.png", 0, given={"-1+1.png": png()}),
]  # fmt: skip


def place(what: str, target: str, line: str, given: Any = None, programs: str = "predict") -> list[Fault]:
    """A target that cannot be written, told before any image is read: the image here would hang or take status 3."""
    commands = {
        "predict": f"predict.py {{run}} a.png -o {target}",
        "maps": f"predict.py {{run}} a.png --explain {target}",
        "export": f"export.py {{run}} -o {target}",
        "explain": f"-m explain {{run}} a.png -o {target}",
        "embedding": f"-m explain {{run}} a.png --embedding pca -o {target}",
    }
    things = {"a.png": b"no image", **({target.split("/")[0]: given} if given is not None else {})}
    return [Fault(PLACE, what, commands[name], line, given=things) for name in programs.split()]


PLACES = [
    *place("-o is a folder", "there", "there", FOLDER, "predict embedding"),
    *place("-o lies below a file", "there/x.csv", "there", "mine", "predict maps export explain embedding"),
    *place("-o is a file", "there", "there", "mine", "maps export explain"),
    *place("-o in a folder nobody may write to", "there/x.csv", "Permission denied", sealed(FOLDER, 0o555),
           "predict maps export explain embedding"),
    *place("-o is a FIFO", "there", "there", FIFO, "predict maps export explain embedding"),
    *place("-o in /proc", "/proc/x.csv", "/proc", None, "predict maps export explain embedding"),
    *place("-o is a device", "there", "there", link("/dev/full"), "predict export"),
    *place("-o has a name too long", "y" * 300 + ".csv", "File name too long", None, "predict maps export"),
    *place("-o of an unknown form", "there.docx", "docx", None, "embedding"),
]  # fmt: skip


def of_run(what: str, line: str, programs: str = "predict", **changes: Any) -> list[Fault]:
    """A trained run that is not what it should be."""
    commands = {
        "predict": "predict.py mine {world}/images/bright/0.png",
        "export": "export.py mine -o served",
        "explain": "-m explain mine {world}/images/bright/0.png -o maps",
        "eval": "train.py {base} {own} {method} --eval-only --model-dir mine --output-dir out {quick} TRAINER.COOP.N_CTX 4",
    }
    return [Fault(RUN, what, commands[name], line, given={"mine": run(**changes)}) for name in programs.split()]


RUNS = [
    *[Fault(RUN, "is not there", f"{program} nowhere {rest}", "is not the folder of a run")
      for program, rest in (("predict.py", "{run}"), ("export.py", "-o x"), ("-m explain", "--interpret"))],
    Fault(RUN, "is a file", "predict.py mine a.png", "is not the folder of a run", given={"mine": "x"}),
    Fault(RUN, "holds runs", "predict.py {world}/out a.png", "there is a run in"),
    *of_run("config.yaml empty", "mine/config.yaml", "predict export explain", config=""),
    *of_run("config.yaml no YAML", "config.yaml", "predict export", config="A: ["),
    *of_run("config.yaml a list", "config.yaml", config="- 1"),
    *of_run("config.yaml no UTF-8", "config.yaml", config=b"\xff\xfe\0"),
    *of_run("config.yaml nested 100,000 deep", "config.yaml", config=NESTED),
    *of_run("config.yaml with keys that are no text", "config.yaml", config="1: {2: 3}"),
    *of_run("config.yaml is a FIFO", "config.yaml", config_dot_yaml=FIFO),
    *of_run("config.yaml unreadable", "config.yaml", config_dot_yaml=sealed("x")),
    *of_run("config.yaml names an unknown method", "Nobody", "predict export", config={"TRAINER.NAME": "Nobody"}),
    *of_run("config.yaml names an unknown backbone", "Nobody", config={"MODEL.BACKBONE.NAME": "Nobody"}),
    *of_run("config.yaml names a backbone folder that is gone", "gone", config={"MODEL.BACKBONE.PATH": "/gone"}),
    *of_run("config.yaml with a class name that is a number", "RUN_CLASSNAMES", config={"DATASET.RUN_CLASSNAMES": [1, 2, 3]}),
    *of_run("config.yaml with class names that are lists", "RUN_CLASSNAMES",
            config={"DATASET.RUN_CLASSNAMES": [["a"], ["b"], ["c"]]}),
    *of_run("config.yaml with N_CTX 0", "N_CTX", config={"TRAINER.COOP.N_CTX": 0}),
    *of_run("config.yaml with an image size that is a text", "INPUT.SIZE", config={"INPUT.SIZE": "large"}),
    *of_run("config.yaml with PIXEL_MEAN of two", "PIXEL_MEAN", config={"INPUT.PIXEL_MEAN": [0.5, 0.5]}),
    *of_run("config.yaml with PIXEL_STD zero", "PIXEL_STD", config={"INPUT.PIXEL_STD": [0.0, 0.0, 0.0]}),
    *of_run("results.json with classes that are numbers", "RUN_CLASSNAMES", results={"classnames": [1, 2, 3]},
            config={"DATASET.RUN_CLASSNAMES": [1]}),
]  # fmt: skip

NUMBERS = [
    Fault(NUMBER, "--batch-size 0", "predict.py {run} a.png --batch-size 0", "--batch-size"),
    Fault(NUMBER, "--workers -1", "predict.py {run} a.png --workers -1", "--workers"),
    Fault(NUMBER, "--top-k 0", "predict.py {run} {world}/images --top-k 0", "--top-k"),
    Fault(NUMBER, "--top-k 99", "predict.py {run} {world}/images --top-k 99", "the run has 3 classes"),
    Fault(NUMBER, "--epoch 77", "predict.py {run} {world}/images --epoch 77", "77"),
    Fault(NUMBER, "--epoch -1", "predict.py {run} {world}/images --epoch -1", "-1"),
    Fault(NAME, "--device", "predict.py {run} {world}/images --device tpu", "tpu"),
    Fault(NAME, "--map", "predict.py {run} {world}/images --explain maps --map xray", "xray"),
    Fault(NAME, "--map", "-m explain {run} {world}/images -o maps --map xray", "xray"),
    Fault(NAME, "--class", "-m explain {run} {world}/images -o maps --class Nobody", "Nobody"),
    Fault(NAME, "--backbone-path", "predict.py {run} {world}/images --backbone-path nowhere", "nowhere"),
    Fault(NAME, "a class twice", "predict.py {run} {world}/images --classnames a a", "each once"),
    Fault(NAME, "a class without a name", "predict.py {run} {world}/images --classnames a ''", "class name"),
    Fault(NUMBER, "--zero-vectors -4", "-m explain {run} {world}/images -o maps --zero-vectors -4", "zero"),
    Fault(NUMBER, "--count -1", "-m explain --table --backbone PhantomCLIP --root {world}/data --datasets btmri --count -1",
          "--count"),
    Fault("arguments that do not fit", "--table and --interpret", "-m explain {run} --table --interpret", "exclude"),
    Fault("arguments that do not fit", "no images to explain", "-m explain {run}", "images"),
]  # fmt: skip

FAULTS = [*IMAGES, *NAMES, *PLACES, *RUNS, *NUMBERS]
