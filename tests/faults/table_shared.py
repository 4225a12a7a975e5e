"""share, demo, and predict.py on labelled images: what is given away, shown, measured."""

from __future__ import annotations

from typing import Any

from tests.faults.fault import FIFO, FOLDER, Fault, run, sealed
from tests.faults.table_predict import png

LABELLED, RUN, PLACE, NUMBER, FIT, NAME = (
    "labelled images", "a run's folder", "a place to write", "a setting's value", "arguments that do not fit", "an unknown name")  # fmt: skip
KINDS = ("bright", "dark", "grey")
MANY = {f"labelled/{kind}/{n}.png": png(8 + n) for kind in KINDS for n in range(6)}


def labelled(what: str, line: str, code: int = 2, source: str = "labelled", more: str = "", **given: Any) -> list[Fault]:
    """Of both uses of labelled images the same line."""
    things = {name.replace("__", "/").replace("_dot_", "."): content for name, content in given.items()}
    return [
        Fault(LABELLED, f"{what}, {use}", f"predict.py mine --{use} {source}{more}", line, code,
              given={"mine": run(), **things}, leaves=("mine/calibration.json",) if code != 2 else ())
        for use in ("evaluate", "calibrate")
    ]  # fmt: skip


IMAGES = [
    *labelled("are not there", "no such file or folder: nowhere", source="nowhere"),
    *labelled("are an empty folder", "holds no class folders", labelled=FOLDER),
    *labelled("with a class that the run does not have", "the folder alien is no class of the run",
              **MANY, **{f"labelled/alien/{n}.png": png(9 + n) for n in range(4)}),
    *labelled("no image of which can be read", "none of the 20 labelled images can be read",
              **{f"labelled/{kind}/{n}.png": b"no image" for kind in ("bright", "dark") for n in range(10)}),
    *labelled("one of which cannot be read", "unreadable, skipped: ", 3, **MANY, labelled__bright__zz_dot_png=b"no image"),
    *labelled("with a class that is a FIFO", "no class", 2, labelled__alien__a_dot_png=FIFO, **{f"labelled/alien/{n}.png": png(9 + n) for n in range(4)}),
    *labelled("a CSV that is empty", "list.csv is empty", source="list.csv", list_dot_csv=""),
    *labelled("a CSV without rows", "has a header and no rows", source="list.csv", list_dot_csv="path,label\n"),
    *labelled("a CSV without labels", "has no column for the label or class", source="list.csv", list_dot_csv="path\na.png\n",
              a_dot_png=png()),
    *labelled("a CSV with a class of its own", "the label alien is no class of the run", source="list.csv",
              list_dot_csv="path,label\na.png,alien\n", a_dot_png=png()),
    *labelled("a CSV of images that are gone", "line 2: no image gone.png", source="list.csv", list_dot_csv="path,label\ngone.png,bright\n"),
    *labelled("a CSV with an image twice", "line 3: a.png stands in line 2 already", source="list.csv",
              list_dot_csv="path,label\na.png,bright\na.png,dark\n", a_dot_png=png()),
    *labelled("a CSV that is no UTF-8", "is no readable CSV in UTF-8", source="list.csv", list_dot_csv=b"\xff\xfe\0"),
    *labelled("a CSV nobody may read", "list.csv", source="list.csv", list_dot_csv=sealed("path,label\n")),
    Fault(LABELLED, "too few for sets", "predict.py mine --calibrate labelled", "has 3 labelled images: sets of 90 % need 17",
          given={"mine": run(), **{f"labelled/bright/{n}.png": png(8 + n) for n in range(3)}}),
    Fault(LABELLED, "all of one class, to calibrate", "predict.py mine --calibrate labelled", "a calibration on one class says nothing",
          given={"mine": run(), **{f"labelled/bright/{n}.png": png(8 + n) for n in range(20)}}),
]  # fmt: skip

USES = [
    Fault(FIT, "--part without labelled images", "predict.py {run} {world}/images --part test", "--part is read with --calibrate or --evaluate"),
    Fault(FIT, "--penalty without --calibrate", "predict.py {run} {world}/images --penalty 0.1", "--penalty is read with --calibrate only"),
    Fault(FIT, "--coverage without sets", "predict.py {run} {world}/images --coverage 0.8", "--coverage is read with --calibrate or --calibrated"),
    Fault(FIT, "--calibrate and --evaluate", "predict.py {run} --calibrate {world}/images --evaluate {world}/images", "exclude each other"),
    Fault(FIT, "--calibrated of a run that is not", "predict.py {run} {world}/images --calibrated", "calibration.json: make it of labelled images"),
    Fault(RUN, "its calibration.json is damaged", "predict.py mine {world}/images --calibrated", "calibration.json is damaged",
          given={"mine": run(calibration_dot_json="{")}),
    Fault(RUN, "its calibration.json is a FIFO", "predict.py mine {world}/images --calibrated", "calibration.json is damaged",
          given={"mine": run(calibration_dot_json=FIFO)}),
    Fault(NUMBER, "--coverage 1", "predict.py {run} --calibrate {world}/images --coverage 1", "--coverage is 1, must be between 0 and 1"),
    Fault(NUMBER, "--penalty NaN", "predict.py {run} --calibrate {world}/images --penalty nan", "--penalty is nan"),
    Fault(PLACE, "metrics as CSV", "predict.py {run} --evaluate {world}/images -o out.csv", "ends in .json"),
    Fault(PLACE, "metrics below a file", "predict.py {run} --evaluate {world}/images -o there/out.json", "there", given={"there": "mine"}),
    Fault(PLACE, "a run nobody may write to, calibrated", "predict.py mine --calibrate {world}/images", "Permission denied",
          given={"mine": sealed(run(), 0o555)}),
]  # fmt: skip

DEMO = [
    Fault(RUN, "is not there", "-m demo nowhere", "is not the folder of a run"),
    Fault(RUN, "is a file", "-m demo mine", "is not the folder of a run", given={"mine": "x"}),
    Fault(NUMBER, "--coverage 2", "-m demo {run} --coverage 2", "--coverage is 2, must be between 0 and 1"),
    Fault(FIT, "--part without --calibrate", "-m demo {run} --part test", "--part is read with --calibrate only"),
    Fault(FIT, "--data without --calibrate", "-m demo {run} --data DATASET.ROOT x", "--data is read with --calibrate only"),
]  # fmt: skip

SHARE = [
    Fault(RUN, "is not there", "-m share pack nowhere -o packed", "is not the folder of a run"),
    Fault(RUN, "config.yaml no YAML", "-m share pack mine -o packed", "config.yaml", given={"mine": run(config="A: [")}),
    Fault(RUN, "results.json damaged", "-m share pack mine -o packed", "results.json", given={"mine": run(results="{")}),
    Fault(RUN, "of another project's method", "-m share pack mine -o packed", "Nobody", given={"mine": run(results={"files": {}}, config={"TRAINER.NAME": "Nobody"})}),
    Fault(RUN, "of a method that learns nothing", "-m share pack mine -o packed", "learns nothing",
          given={"mine": run(results={"files": {}}, config={"TRAINER.NAME": "ZeroshotCLIP"})}),
    Fault(PLACE, "-o is a file", "-m share pack {run} -o there", "there", given={"there": "mine"}),
    Fault(PLACE, "-o is a folder with something else", "-m share pack {run} -o there", "there", given={"there/precious.txt": "mine"}),
    Fault(PLACE, "-o in a folder nobody may write to", "-m share pack {run} -o there/x", "Permission denied",
          given={"there": sealed(FOLDER, 0o555)}),
    Fault(RUN, "changed since it ended", "-m share pack mine -o packed", "mine: config.yaml has", given={"mine": run(config={"SEED": 12345})}),
    Fault(RUN, "to push that is not there", "-m share push nowhere ORG/NAME --dry-run", "nowhere"),
    Fault(NAME, "a repository's name", "-m share push mine 'no name' --dry-run", "is no name of a repository", given={"mine": FOLDER}),
    Fault(FIT, "no command of share", "-m share", "required"),
]  # fmt: skip

FAULTS = [*IMAGES, *USES, *DEMO, *SHARE]
