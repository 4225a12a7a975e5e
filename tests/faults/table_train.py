"""train.py: settings, config files, places to write, runs that are there already."""

from __future__ import annotations

from tests.faults.fault import FIFO, FOLDER, Fault, link, run, sealed

NUMBER, NAME, FILE, PLACE, RUN = "a setting's value", "an unknown name", "a config file", "a place to write", "a run's folder"
OUT = ("out", "out/*", "log")
NESTED = "[" * 100_000


def setting(pairs: str, line: str, program: str = "train.py {train}") -> Fault:
    """An override that cannot be."""
    return Fault(NUMBER, pairs[:60], f"{program} {pairs}", line)


def config(what: str, text: str | bytes, line: str) -> Fault:
    """A method's config file of such a content."""
    command = "train.py {base} {own} {task} --config-file bad.yaml --output-root out {quick}"
    return Fault(FILE, what, command, line, given={"bad.yaml": text})


def dataset(what: str, text: str | bytes, line: str) -> Fault:
    """A dataset's file of such a content."""
    command = "train.py {base} --dataset-config-file own.yaml {method} {task} --output-root out {quick}"
    return Fault(FILE, what, command, line, given={"own.yaml": text})


SETTINGS = [
    setting("DATALOADER.NUM_WORKERS -1", "NUM_WORKERS"),
    setting("DATALOADER.NUM_WORKERS 1.5", "NUM_WORKERS"),
    setting("DATALOADER.TRAIN_X.BATCH_SIZE 0", "BATCH_SIZE"),
    setting("DATALOADER.TRAIN_X.BATCH_SIZE -4", "BATCH_SIZE"),
    setting("DATALOADER.TEST.BATCH_SIZE 0", "BATCH_SIZE"),
    setting("OPTIM.LR -1", "OPTIM.LR"),
    setting("OPTIM.LR 0", "OPTIM.LR"),
    setting("OPTIM.LR nan", "OPTIM.LR"),
    setting("OPTIM.LR inf", "OPTIM.LR"),
    setting("OPTIM.LR 1e999", "OPTIM.LR"),
    setting("OPTIM.LR fast", "OPTIM.LR"),
    setting("OPTIM.MOMENTUM -0.5", "MOMENTUM"),
    setting("OPTIM.WEIGHT_DECAY -1", "WEIGHT_DECAY"),
    setting("OPTIM.WARMUP_TYPE cubic", "WARMUP_TYPE"),
    setting("OPTIM.LR_SCHEDULER zigzag", "LR_SCHEDULER"),
    setting("OPTIM.NAME newton", "newton"),
    setting("OPTIM.MAX_EPOCH many", "MAX_EPOCH"),
    setting("OPTIM.MAX_EPOCH", "has no value"),
    setting("TRAINER.COOP.N_CTX 0", "N_CTX"),
    setting("TRAINER.COOP.N_CTX -2", "N_CTX"),
    setting("TRAINER.COOP.N_CTX 500", "N_CTX"),
    setting("TRAINER.COOP.PREC fp8", "PREC"),
    setting("TRAINER.COOP.CLASS_TOKEN_POSITION back", "CLASS_TOKEN_POSITION"),
    setting("TRAINER.BIOMEDDPT.N_CTX 4", "another method's key"),
    setting("TRAIN.PRINT_FREQ 0", "PRINT_FREQ"),
    setting(f"SEED {2**70}", "SEED", "train.py {base} {own} {method} --output-dir out {quick}"),
    setting("INPUT.MAX_PIXELS 0", "MAX_PIXELS"),
    setting("INPUT.SLICE -2", "SLICE"),
    setting("INPUT.WINDOW (5,)", "WINDOW"),
    setting("INPUT.INTERPOLATION magic", "INTERPOLATION"),
    setting("INPUT.TRANSFORMS ['swirl']", "swirl"),
    setting("FEATURES.MODE cloud", "FEATURES.MODE"),
    setting("FEATURES.VIEWS -1", "FEATURES.VIEWS"),
    setting("DATASET.SUBSAMPLE_CLASSES half", "SUBSAMPLE_CLASSES",
            "train.py {base} {own} {method} --output-dir out {quick}"),
    setting("DATASET.SPLIT sideways", "DATASET.SPLIT"),
    setting("DATASET.SPLIT_SEED x", "SPLIT_SEED"),
    setting("DATASET.INCLUDE '[1, 2]'", "INCLUDE"),
    setting("DATASET.CLASSNAMES \"['a', 'a', 'b']\"", "CLASSNAMES"),
    setting("DATASET.CLASSNAMES \"['a', 3, 'b']\"", "CLASSNAMES"),
    setting("DATASET.GROUP_BY '('", "GROUP_BY", "train.py {train} DATASET.SPLIT grouped"),
    setting("TEST.EVALUATOR nobody", "nobody"),
    setting("OPTIM.LR.DEEP 1", "OPTIM.LR.DEEP"),
    setting("OPTIM.LRR 1", "Did you mean"),
    setting("'' 1", "unknown config key"),
    setting("__class__ 1", "unknown config key"),
    setting("OPTIM 1", "unknown config key"),
]  # fmt: skip

ARGUMENTS = [
    Fault(NUMBER, "a seed beyond 64 bit", f"train.py {{few}} --seeds {2**64} --output-root out {{quick}}", "seed"),
    Fault(NUMBER, "a seed of 4400 digits", f"train.py {{few}} --seeds {'9' * 4400} --output-root out {{quick}}", "seeds"),
    Fault("arguments that do not fit", "an option behind overrides", "train.py {train} --trainer CoOpp", "options come first"),
    Fault(NAME, "method", "train.py --trainer CoOpp {own} --output-dir out", 'unknown trainer "CoOpp". Did you mean'),
    Fault(NAME, "backbone", "train.py --trainer CoOp --backbone Clipp {own} --output-dir out", "Clipp"),
    Fault(NAME, "dataset file", "train.py --trainer CoOp --dataset-config-file nowhere.yaml --output-dir out", "no config file"),
    Fault(NAME, "no method", "train.py {own} --output-dir out", "give --trainer"),
    Fault(NAME, "no dataset", "train.py --trainer CoOp --output-dir out", "give --dataset-config-file"),
    Fault(NAME, "dataset's folder", "train.py --root nowhere --trainer CoOp --backbone PhantomCLIP --dataset-config-file "
          "{configs}/datasets/busi.yaml --output-dir out", "BUSI"),
    Fault("arguments that do not fit", "--task without --output-root", "train.py {few}", "belong together"),
    Fault("arguments that do not fit", "--seeds without --task", "train.py {base} {own} --seeds 1 2 --output-dir out", "--task"),
    Fault("arguments that do not fit", "--eval-only of nothing", "train.py {base} {own} --eval-only --output-dir out",
          "--model-dir"),
    Fault("arguments that do not fit", "a word for a number", "train.py --seed one", "--seed"),
    Fault("arguments that do not fit", "a method that knows no new classes",
          "train.py --root {world} --trainer LinearProbe --backbone PhantomCLIP {own} --task base2new --output-root out",
          "none for new ones"),
]  # fmt: skip

FILES = [
    config("no YAML", "OPTIM: [1", "bad.yaml is not a YAML mapping"),
    config("a list", "- OPTIM\n- LR\n", "bad.yaml is not a YAML mapping"),
    config("a number", "7\n", "bad.yaml is not a YAML mapping"),
    config("keys that are no text", "1: 2\nOPTIM:\n  3: 4\n", "bad.yaml"),
    config("a key that is nothing", "~: 2\n", "bad.yaml"),
    config("a list as key", "? [a, b]\n: 2\n", "bad.yaml"),
    config("NUL bytes", b"OPTIM:\n  LR: \0\n", "bad.yaml"),
    config("no UTF-8", b"OPTIM:\n  NAME: \"\xff\xfe\"\n", "bad.yaml"),
    config("nested 100,000 deep", NESTED, "bad.yaml"),
    config("an object to be built", "OPTIM: !!python/object/apply:os.system ['touch pwned']\n", "bad.yaml"),
    config("references without end", "a: &a [*a]\nOPTIM: *a\n", "bad.yaml"),
    config("a section as number", "OPTIM: 3\n", "OPTIM"),
    config("a section in place of a value", "OPTIM:\n  LR:\n    x: 1\n", "OPTIM.LR"),
    config("LR NaN", "OPTIM:\n  LR: .nan\n", "OPTIM.LR"),
    config("LR minus infinity", "OPTIM:\n  LR: -.inf\n", "OPTIM.LR"),
    config("LR a text", "OPTIM:\n  LR: fast\n", "LR"),
    config("LR nothing", "OPTIM:\n  LR: ~\n", "LR"),
    config("LR 0", "OPTIM:\n  LR: 0\n", "OPTIM.LR"),
    config("a seed of 70 bit", f"SEED: {2**70}\n", "SEED"),
    config("a mean of 400 digits", f"INPUT:\n  PIXEL_MEAN: [{10**400}, 0.5, 0.5]\n", "PIXEL_MEAN"),
    config("a date", "OPTIM:\n  LR: 2024-01-01\n", "LR"),
    config("another method's key", "TRAINER:\n  COOPP:\n    N_CTX: 4\n", "TRAINER.COOPP.N_CTX"),
    Fault(FILE, "a folder", "train.py {base} {own} --config-file bad.yaml --output-dir out", "no config file",
          given={"bad.yaml": FOLDER}),
    Fault(FILE, "a FIFO", "train.py {base} {own} --config-file bad.yaml --output-dir out", "no config file",
          given={"bad.yaml": FIFO}),
    Fault(FILE, "unreadable", "train.py {base} {own} --config-file bad.yaml --output-dir out", "Permission denied",
          given={"bad.yaml": sealed("OPTIM: {}")}),
    Fault(FILE, "a link to itself", "train.py {base} {own} --config-file bad.yaml --output-dir out", "bad.yaml",
          given={"bad.yaml": link("bad.yaml")}),
    dataset("a folder that is not there", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: gone\n", "gone"),
    dataset("an unknown dataset", "DATASET:\n  NAME: Nobody\n", "Nobody"),
    dataset("a title with line breaks", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: images\n  TITLE: \"a\\nb\"\n", "TITLE"),
    dataset("a title with NUL", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: images\n  TITLE: \"a\\0b\"\n", "TITLE"),
    dataset("a folder with NUL", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: \"ima\\0ges\"\n", "FOLDER"),
    dataset("a folder that is a number", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: 7\n", "FOLDER"),
    dataset("a class name that is nothing", "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: images\n"
            "  CLASSNAMES: {bright: ~, dark: x, grey: y}\n", "CLASSNAMES"),
]  # fmt: skip

PLACES = [
    Fault(PLACE, "--output-dir is a file", "train.py {base} {own} {method} --output-dir out {quick}", "out",
          given={"out": "mine"}),
    Fault(PLACE, "--output-root is a file", "train.py {train}", "out", given={"out": "mine"}),
    Fault(PLACE, "--output-root below a file", "train.py {few} --output-root out/deep {quick}", "out", given={"out": "mine"}),
    Fault(PLACE, "--output-root nobody may write to", "train.py {train}", "out", given={"out": sealed(FOLDER, 0o555)}),
    Fault(PLACE, "--output-root is a FIFO", "train.py {train}", "out", given={"out": FIFO}),
    Fault(PLACE, "--output-root is a link to nothing", "train.py {train}", "out", given={"out": link("gone/deep")},
          leaves=("gone*",)),
    Fault(PLACE, "--output-root is a link to itself", "train.py {train}", "out", given={"out": link("out")}),
    Fault(PLACE, "--output-root in /proc", "train.py {few} --output-root /proc/out {quick}", "/proc/out"),
    Fault(PLACE, "--output-root too long", f"train.py {{few}} --output-root {'x' * 300} {{quick}}", "File name too long"),
    Fault(PLACE, "a feature store nobody may write to", "train.py {train} FEATURES.ROOT store", "store",
          given={"store": sealed(FOLDER, 0o555)}, leaves=OUT),
    Fault(PLACE, "a feature store that is a file", "train.py {train} FEATURES.ROOT store", "store",
          given={"store": "mine"}, leaves=OUT),
]  # fmt: skip

SAME = "train.py {few} {quick} --output-root out"
WHERE = "out/few_shot/mine/shots_2/CoOp_PhantomCLIP/ctx4_random_end_generic/seed1"


def there(what: str, line: str, **changes: object) -> Fault:
    """A run in the folder that this one would have."""
    return Fault(RUN, what, "train.py {base} {own} {method} --seed 1 --output-dir out {quick} DATASET.NUM_SHOTS 2", line,
                 given={"out": run(**changes)})  # fmt: skip


RUNS = [
    there("config.yaml of another run", "other settings", config={"OPTIM.LR": 0.5}),
    there("config.yaml cut short", "config.yaml", config="DATASET: {NAME: Im"),
    there("config.yaml empty", "config.yaml", config=""),
    there("config.yaml a list", "config.yaml", config="[1, 2]"),
    there("config.yaml without sections", "config.yaml", config="OPTIM: 3\n"),
    there("config.yaml no UTF-8", "config.yaml", config=b"\xff\xfe\x00"),
    there("config.yaml a FIFO", "config.yaml", config_dot_yaml=FIFO),
    there("config.yaml unreadable", "config.yaml", config_dot_yaml=sealed("x")),
    there("config.yaml with keys that are no text", "config.yaml", config="1: 2\n"),
    there("config.yaml nested 100,000 deep", "config.yaml", config=NESTED),
    Fault(RUN, "log.txt is a folder", "train.py {base} {own} {method} --output-dir out {quick}", "log.txt",
          given={"out/log.txt/x": "mine"}, leaves=("out/log.txt-*",)),
]  # fmt: skip

RESULTS = "a results file"
AGAIN = "train.py --from-results out/results.json --output-dir new"


def results(what: str, line: str, command: str = AGAIN, **changes: object) -> Fault:
    """A finished run that is to be made again, with something wrong in its files."""
    return Fault(RESULTS, f"made again: {what}", command, line, given={"out": run(**changes)})


AGAINS = [
    results("no --output-dir", "needs --output-dir", "train.py --from-results out/results.json"),
    results(
        "into the run's own folder", "folder of the run itself", "train.py --from-results out/results.json --output-dir out"
    ),
    results(
        "another file than results.json", "name the results.json", "train.py --from-results out/config.yaml --output-dir new"
    ),
    results("a file that is not there", "no results.json", "train.py --from-results gone/results.json --output-dir new"),
    results("another seed", "leave out --seed", AGAIN + " --seed 2"),
    results("a setting", "would make it another run", AGAIN + " OPTIM.LR 1"),
    results("another protocol", "leave out --task", AGAIN + " --task few_shot"),
    results("--despite-differences alone", "belongs to --from-results", "train.py --despite-differences --output-dir new"),
    results("results.json empty", "out/results.json", results=""),
    results("results.json cut short", "cannot be read", results='{"schema": 2, "comp'),
    results("results.json a list", "not complete", results="[]"),
    results("results.json nested 100,000 deep", "cannot be read", results=NESTED),
    results("results.json no UTF-8", "cannot be read", results=b"\xff\xfe"),
    results("results.json a FIFO", "results.json", results_dot_json=FIFO),
    results("results.json a link to itself", "results.json", results_dot_json=link("results.json")),
    results("schema 1", "of schema 1", results={"schema": 1}),
    results("schema 99", "schema 99", results={"schema": 99}),
    results("no fingerprints", "fingerprints must be", results={"fingerprints": None}),
    results("fingerprints a list", "fingerprints must be", results={"fingerprints": [1]}),
    results("versions numbers", "versions must be", results={"versions.torch": 3}),
    results("another data hash", "data not as in", results={"fingerprints.data": "0"}),
    results("another backbone", "backbone not as in", results={"fingerprints.backbone": "0"}),
    results("another split", "split not as in", results={"fingerprints.split": "0"}),
    results("a method that is not known", "no method of this project", results={"method": "Nobody"}),
    results("another seed than the config", "seed 7 there", results={"seed": 7}),
    results("config.yaml not there", "no config file", config_dot_yaml=FOLDER),
    results("config.yaml empty", "config.yaml", config=""),
    results("config.yaml cut short", "config.yaml", config="DATASET: {NAME: Im"),
    results("config.yaml nested 100,000 deep", "config.yaml", config=NESTED),
    results("config.yaml a FIFO", "config.yaml", config_dot_yaml=FIFO),
]

CROSS = "train.py {base} {own} {method} --task cross_dataset --shots 2 --seeds 1 --output-root out"


def target(what: str, text: str, line: str, method: str = "CoOp") -> Fault:
    """A target's file of such a content."""
    command = CROSS if method == "CoOp" else CROSS.replace("{base}", "--root {world} --backbone PhantomCLIP").replace(
        "{method}", f"--trainer {method} --config-file {{configs}}/trainers/{method}/few_shot.yaml")  # fmt: skip
    quick = "DATALOADER.NUM_WORKERS 0 USE_CUDA False"
    return Fault("a target", what, f"{command} --targets other.yaml {quick}", line, given={"other.yaml": text})


OWN = "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: {}\n"
TARGETS = [
    target("a file of garbage", "DATASET: [", "other.yaml is not a YAML mapping"),
    target("no dataset", "DATASET:\n  FOLDER: images\n", "names no dataset"),
    target("a folder that is not there", OWN.format("gone"), "gone"),
    target("a key of the protocol's own", OWN.format("images") + "  TRAINED_ON: x\n", "it is never set"),
    target("the source's own images", OWN.format("images"), "is the source itself"),
    target("an unknown dataset", "DATASET:\n  NAME: Nobody\n", "Nobody"),
    target("other classes for a classifier", "DATASET:\n  NAME: BTMRI\n", "no BTMRI images", "LinearProbe"),
    Fault("a target", "a name that is not known", CROSS + " --targets busii {quick}", "Did you mean"),
    Fault("a target", "none at all", CROSS + " {quick}", "no target"),
    Fault("a target", "of another protocol", "train.py {few} --targets busi --output-root out {quick}", "are tested by --task"),
]  # fmt: skip

FAULTS = [*SETTINGS, *ARGUMENTS, *FILES, *PLACES, *RUNS, *AGAINS, *TARGETS]
