"""Split files, tables of images, and the programs in datasets/."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.fault import FIFO, FOLDER, Fault, lent, link, sealed
from tests.faults.table_predict import bomb, png
from tests.faults.table_train import NESTED

SPLIT, TABLE, PLACE, NAME, PROMPTS, CLASSES, NUMBER = (
    "a split file", "a table of images", "a place to write", "an unknown name", "a prompts file", "classes", "a setting's value")  # fmt: skip
ROWS = {"train": [["dark/0.png", 0, "dark"], ["grey/0.png", 1, "grey"]], "val": [], "test": [["dark/1.png", 0, "dark"]]}
LOST = ("BTMRI/split_fewshot*",)


def split(what: str, content: Any, line: str, program: str = "train.py {published}") -> Fault:
    """A published dataset with such a split file."""
    given = {"BTMRI/split_BTMRI.json": content, "BTMRI/BTMRI": lent("images")}
    return Fault(SPLIT, what, program, line, given=given, leaves=LOST)


def rows(**parts: Any) -> str:
    """A split file with other parts."""
    return json.dumps(ROWS | parts)


SPLITS = [
    split("empty", "", "split_BTMRI.json is not a readable JSON file"),
    split("a list", "[]", 'must hold the lists "train", "val" and "test"'),
    split("no test part", '{"train": [], "val": []}', "must hold the lists"),
    split("no test images", rows(test=[]), "no images to test on"),
    split("NUL in a path", rows(test=[["dark/\0.png", 0, "dark"]]), "test[0]"),
    split("a surrogate in a path", rows(test=[["dark/\ud800.png", 0, "dark"]]), "test[0]"),
    split("a surrogate in a class name", json.dumps({part: [[p, n, "\udfff"] for p, n, _ in own] for part, own in ROWS.items()}),
          "split_BTMRI.json"),
    split("a control character in a class name", json.dumps({"train": [["dark/0.png", 0, "a\x1b[2J"], ["grey/0.png", 1, "b"]],
          "val": [], "test": [["dark/1.png", 0, "a\x1b[2J"]]}), "split_BTMRI.json"),
    split("an empty path", rows(test=[["", 0, "dark"]]), "test[0]"),
    split("a path that is the folder", rows(test=[[".", 0, "dark"]]), "test[0]"),
    split("a path that is a class folder", rows(test=[["dark", 0, "dark"]]), "dark"),
    split("a path above the folder", rows(test=[["../../x.png", 0, "dark"]]), "must lie below the image folder"),
    split("an absolute path", rows(test=[["/etc/passwd", 0, "dark"]]), "must lie below the image folder"),
    split("a path too long", rows(test=[["x" * 5000, 0, "dark"]]), "are not in"),
    split("an image that is not there", rows(test=[["dark/99.png", 0, "dark"]]), "first dark/99.png"),
    split("nested 100,000 deep", NESTED, "split_BTMRI.json"),
    split("a row nested 100,000 deep", '{"train": [' + NESTED, "split_BTMRI.json"),
    split("no UTF-8", b"\xff\xfe\0", "split_BTMRI.json"),
    split("a label of 400 digits", rows(test=[["dark/1.png", 10**400, "dark"]]), "split_BTMRI.json"),
    split("a label of 1e9", rows(test=[["dark/1.png", 10**9, "dark"]]), "no image has the label"),
    split("a label true", rows(test=[["dark/1.png", True, "dark"]]), "test[0]"),
    split("a label NaN", '{"train": [["a", NaN, "b"]], "val": [], "test": []}', "train[0]"),
    split("a label -1", rows(test=[["dark/1.png", -1, "dark"]]), "test[0]"),
    split("a row that is a mapping", rows(test=[{"path": 1}]), "test[0]"),
    split("a class with two names", rows(test=[["dark/1.png", 0, "light"]]), "before"),
    split("two labels of one name", rows(val=[["dark/2.png", 2, "dark"]]), "both called"),
    split("four labels of one name", json.dumps({p: [[f"dark/{n}.png", n, "x"] for n in range(4)] for p in ROWS}), "both called"),
    split("a label that is missing", rows(val=[["dark/2.png", 3, "x"]]), "without a gap"),
    split("one class", json.dumps({p: [["dark/0.png", 0, "dark"]] for p in ROWS}), "one class"),
    split("an empty class name", rows(val=[["dark/2.png", 2, " "]]), "no class name"),
    split("is a folder", FOLDER, "split_BTMRI.json"),
    split("is a FIFO", FIFO, "split_BTMRI.json"),
    split("nobody may read it", sealed("{}"), "split_BTMRI.json"),
    split("is a link to itself", link("split_BTMRI.json"), "BTMRI"),
    split("NUL in a path", rows(test=[["dark/\0.png", 0, "dark"]]), "test[0]", "-m datasets.check btmri --root ."),
    split("a row nested 100,000 deep", '{"train": [' + NESTED, "split_BTMRI.json", "-m datasets.check btmri --root ."),
]  # fmt: skip

UNSEEN = {
    "BTMRI/BTMRI": lent("images"),
    "BTMRI/split_BTMRI.json": rows(test=[["dark/1.png", 0, "dark"], ["bad.png", 1, "grey"]]),
}
UNREADABLE = [
    Fault("an image to train or test on", f"{what}, of the test part, told before training", f"train.py {{published}} {more}", "bad.png",
          given=UNSEEN | {"BTMRI/BTMRI/bad.png": content},
          leaves=(*LOST, *("out", "out/few_shot*")))
    for what, content in (("empty", b""), ("cut short", png(64)[:-40]), ("a FIFO", FIFO), ("nobody may read it", sealed(png())),
                          ("over the pixel limit", bomb(60_000)))
    for more in ("OPTIM.MAX_EPOCH 9999", "OPTIM.MAX_EPOCH 9999 FEATURES.MODE direct")
]  # fmt: skip

BASE2NEW = "train.py {base} --dataset-config-file own.yaml {method} --task base2new --shots 2 --output-root out {quick}"
FEW = "train.py {base} --dataset-config-file own.yaml {method} {task} --output-root out {quick}"
OWN = "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: own\n"


def own(what: str, command: str, line: str, yaml: str = OWN, leaves: tuple[str, ...] = (), **given: Any) -> Fault:
    """A user's own images: folder -> number of images, or other things."""
    things: dict[str, Any] = {"own.yaml": yaml}
    for place, (name, count) in enumerate(given.items()):
        if isinstance(count, int):
            things |= {f"own/{name}/{n}.png": png(8 + 20 * place + n) for n in range(count)}
        else:
            things[name.replace("__", "/").replace("_dot_", ".")] = count
    return Fault(CLASSES, what, command, line, given=things, leaves=("own/split*", *leaves))


CLASS_ROWS = [
    own("one", FEW, "one class", a=8),
    own("one, base-to-new", BASE2NEW, "one class", a=8),
    Fault(CLASSES, "two: one new class, told before training", BASE2NEW, 'one class ("a")', 0, given={"own.yaml": OWN, **{f"own/{k}/{n}.png": png(8 + n + 30 * (k == "b")) for n in range(8) for k in "ab"}}),
    own("none", FEW, "own", own__readme=""),
    own("names that differ in case only", FEW, "dark", Dark=8, dark=8),
    own("one name for all of four", FEW, "CLASSNAMES", OWN + "  CLASSNAMES: {a: x, b: x, c: x, d: x}\n", a=8, b=8, c=8, d=8),
    own("two images each", FEW, "at least 3", a=2, b=2),
    own("a folder without images", FEW, "b", a=8, own__b=FOLDER),
    own("a folder nobody may read", FEW, "Permission denied", a=8, b=8, own__c=sealed(FOLDER)),
]  # fmt: skip

CSV = "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: own\n  CSV: table.csv\n"


def table(what: str, content: Any, line: str, command: str = FEW) -> Fault:
    """Own images by a CSV of such a content."""
    things: dict[str, Any] = {"own.yaml": CSV, "table.csv": content, "own": lent("images/dark")}
    return Fault(TABLE, what, command, line, given=things, leaves=("own/split*",))


GOOD = "path,label\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(8))
TABLES = [
    table("empty", "", "table.csv"),
    table("no columns of ours", "x,y\n1,2\n", "table.csv"),
    table("NUL", GOOD + "\0.png,a\n", "table.csv"),
    table("no UTF-8", GOOD.encode() + b"\xff\xfe\x80.png,a\n", "table.csv"),
    table("an image that is not there", GOOD + "99.png,a\n", "99.png"),
    table("an empty path", GOOD + ",a\n", "table.csv"),
    table("an empty label", GOOD + "7.png,\n", "table.csv"),
    table("a path above the folder", GOOD + "../../x.png,a\n", "table.csv"),
    table("an image under two labels", GOOD + "0.png,b\n", "0.png"),
    table("a field of a megabyte", GOOD + "x" * 1_000_000 + ",a\n", "table.csv"),
    table("rows of different length", GOOD + "1.png\n", "table.csv"),
    table("a folder", FOLDER, "table.csv"),
    table("a FIFO", FIFO, "table.csv"),
    table("nobody may read it", sealed(GOOD), "table.csv"),
    table("an unknown part", "path,label,split\n" + "".join(f"{n}.png,{'ab'[n % 2]},sometimes\n" for n in range(8)), "sometimes"),
    table("a FIFO", FIFO, "table.csv", "-m datasets.check own.yaml"),
]  # fmt: skip

NEW = [
    Fault(PLACE, "datasets.new: a file that is there", "-m datasets.new {world}/images -o mine.yaml", "is there already", given={"mine.yaml": "x"}),
    Fault(PLACE, "datasets.new: below a file", "-m datasets.new {world}/images -o mine/x.yaml", "mine", given={"mine": "x"}),
    Fault(PLACE, "datasets.new: in /proc", "-m datasets.new {world}/images -o /proc/x.yaml", "/proc"),
    Fault(PLACE, "datasets.new: nobody may write there", "-m datasets.new {world}/images -o there/x.yaml", "Permission denied",
          given={"there": sealed(FOLDER, 0o555)}),
    Fault(NAME, "datasets.new: no such folder", "-m datasets.new nowhere", "nowhere"),
    Fault(NAME, "datasets.new: a file", "-m datasets.new mine", "mine", given={"mine": "x"}),
    Fault(NAME, "datasets.new: a FIFO", "-m datasets.new mine.npz", "mine.npz", given={"mine.npz": FIFO}),
    Fault(NAME, "datasets.new: an .npz of garbage", "-m datasets.new mine.npz", "mine.npz", given={"mine.npz": b"PK\3\4garbage"}),
    Fault(NAME, "datasets.new: no images", "-m datasets.new mine", "mine", given={"mine": FOLDER}),
    Fault(NAME, "datasets.new: an unknown key", "-m datasets.new {world}/images DATASET.FOLDR x", "Did you mean"),
    Fault(NAME, "datasets.new: a name that is no UTF-8", "-m datasets.new mine -o x.yaml", "caf",
          given={f"mine/caf\udce9/{n}.png": png(8 + n) for n in range(8)} | {f"mine/b/{n}.png": png(40 + n) for n in range(8)}),
    Fault(NAME, "datasets.check: no such dataset", "-m datasets.check btmrii", "btmrii"),
    Fault(NAME, "datasets.check: no such folder", "-m datasets.check btmri --root nowhere", "nowhere"),
    Fault(NUMBER, "datasets.check: --workers -1", "-m datasets.check {world}/mine.yaml --workers -1", "--workers"),
    Fault(NUMBER, "datasets.check: --show -1", "-m datasets.check {world}/mine.yaml --show -1", "--show"),
    Fault(PLACE, "datasets.check: --json is a folder", "-m datasets.check {world}/mine.yaml --json there", "there", given={"there": FOLDER}),
    Fault(PLACE, "datasets.check: --json below a file", "-m datasets.check {world}/mine.yaml --json there/x", "there", given={"there": "x"}),
    Fault(NAME, "datasets.download: no such dataset", "-m datasets.download btmrii", "btmrii"),
    Fault(PLACE, "datasets.download: --root is a file", "-m datasets.download btmri --root mine --source http://127.0.0.1:9 --attempts 1", "mine",
          given={"mine": "x"}),
    Fault("the network", "datasets.download: nobody answers",
          "-m datasets.download btmri --root d --source http://127.0.0.1:9 --attempts 1", "no connection", leaves=("d", "d/*")),
    Fault("the network", "datasets.download: no address", "-m datasets.download btmri --root d --source gopher://x --attempts 1",
          "gopher", leaves=("d", "d/*")),
    Fault(NUMBER, "datasets.download: --timeout 0", "-m datasets.download btmri --source http://127.0.0.1:9 --timeout 0", "--timeout"),
    Fault(NUMBER, "datasets.download: --timeout NaN", "-m datasets.download btmri --source http://127.0.0.1:9 --timeout nan", "--timeout"),
    Fault(NUMBER, "datasets.download: --attempts 0", "-m datasets.download btmri --source http://127.0.0.1:9 --attempts 0", "--attempts"),
    Fault(NAME, "datasets.phantom: no such dataset", "-m datasets.phantom --root p --datasets btmrii", "btmrii"),
    Fault(NUMBER, "datasets.phantom: --per-class 0", "-m datasets.phantom --root p --datasets btmri --per-class 0", "per-class"),
    Fault(NUMBER, "datasets.phantom: --size 0", "-m datasets.phantom --root p --datasets btmri --per-class 4 --size 0", "size"),
    Fault(PLACE, "datasets.phantom: --root is a file", "-m datasets.phantom --root p --datasets btmri --per-class 4", "p", given={"p": "x"}),
]  # fmt: skip

CONVERT = "-m datasets.prompts.convert p.json --dataset {world}/mine.yaml -o out.json"


CHECK = "-m datasets.prompts.check p.json --dataset {world}/mine.yaml"


def prompts(what: str, content: Any, line: str, command: str = CHECK) -> Fault:
    """A prompts file of such a content."""
    return Fault(PROMPTS, what, command, line, 1 if command == CHECK else 2, given={"p.json": content})


PROMPT_ROWS = [
    *[prompts(what, content, "p.json", command) for what, content in (
        ("empty", ""), ("nested 100,000 deep", NESTED), ("no UTF-8", b"\xff\xfe\0"), ("a FIFO", FIFO), ("a folder", FOLDER),
        ("nobody may read it", sealed("{}")), ("a list", "[1]"), ("sentences that are numbers", '{"dark": [1], "grey": [2], "bright": [3]}'),
      ) for command in (CHECK, CONVERT)],
    prompts("a Python file that would run", "import os\nos.system('touch pwned')\n", "p.py",
            "-m datasets.prompts.convert p.py --dataset {world}/mine.yaml -o out.json"),
    Fault(NAME, "prompts.check: no such file", "-m datasets.prompts.check nowhere.json", "fault: no prompt file nowhere.json", 1),
    Fault(NAME, "prompts.generate: no such dataset", "-m datasets.prompts.generate --dataset nobody --model m", "nobody"),
    Fault(NUMBER, "prompts.generate: --timeout -1", "-m datasets.prompts.generate --dataset {world}/mine.yaml --model m -o x.json --timeout -1",
          "--timeout"),
    prompts("in training: nested 100,000 deep", NESTED, "p.json",
            "train.py --root {world} --trainer BiomedCoOp --backbone PhantomCLIP {own} {task} --output-root out DATASET.PROMPTS p.json"),
    prompts("in training: a FIFO", FIFO, "p.json",
            "train.py --root {world} --trainer BiomedCoOp --backbone PhantomCLIP {own} {task} --output-root out DATASET.PROMPTS p.json"),
]  # fmt: skip

FAULTS = [*SPLITS, *UNREADABLE, *CLASS_ROWS, *TABLES, *NEW, *PROMPT_ROWS]
