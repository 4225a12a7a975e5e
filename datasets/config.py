"""The config of data: defaults of DATASET and INPUT, and files of config keys merged into it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.utils import UserError, nearest, read_text

DATA_SECTIONS = ("DATASET", "INPUT")
# how a value of each type is written on a command line
FORMS: dict[type, str] = {
    list: "a list, as \"['a', 'b']\"",
    tuple: "numbers with commas, as 1,2",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
}
KEY = re.compile(r"[A-Z]+(\.[A-Z_0-9]+)+")


def dataset_defaults(cfg: CfgNode) -> None:
    """Add this project's keys of DATASET and INPUT to Dassl's."""
    # how files become 8-bit RGB, in training and prediction alike
    cfg.INPUT.WINDOW = ()  # lo, hi: values that become 0 and 255 in images of more than 8 bits; (): each image's own range
    cfg.INPUT.EXIF = False  # turn images as their EXIF tag says
    cfg.INPUT.SLICE = -1  # of a volume, from 0; -1: the middle one
    cfg.INPUT.MAX_PIXELS = 100_000_000  # an image with more is refused before it is decoded
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.PROMPTS = ""  # LLM prompts file; "" = datasets/prompts/<dataset>.json
    cfg.DATASET.TEMPLATE = ""  # "" = the dataset's own clinical template
    # ImageFolderSplit, own images (docs/DATASETS.md):
    cfg.DATASET.TITLE = ""  # what results, folders and tables call it; "" = the name of its YAML file
    cfg.DATASET.FOLDER = ""  # of class folders, of train/test folders of such, of a CSV's images; or MedMNIST's .npz
    cfg.DATASET.MODALITY = ""
    cfg.DATASET.ORGAN = ""
    cfg.DATASET.CLASSNAMES = []  # in label order; a file may map folder (or label) to name in its place
    cfg.DATASET.CLASS_FOLDERS = []  # the folder (or label in the CSV) of each class name; [] = by name, or numbers in order
    cfg.DATASET.INCLUDE = []  # globs on the path below FOLDER, or on one part of it: only these images
    cfg.DATASET.EXCLUDE = []  # likewise: not these
    cfg.DATASET.CSV = ""  # a table of images; "" = the folders tell the classes
    cfg.DATASET.CSV_PATH = ""  # its columns; "" = the usual names of each, where there is one
    cfg.DATASET.CSV_LABEL = ""
    cfg.DATASET.CSV_CLASS = ""
    cfg.DATASET.CSV_SPLIT = ""
    cfg.DATASET.CSV_GROUP = ""
    cfg.DATASET.SPLIT_SEED = 1  # of a split that is drawn
    cfg.DATASET.SPLIT = ""  # "grouped": drawn anew, to the same sizes, so that no group is in two parts
    cfg.DATASET.GROUP_BY = ""  # groups: a regular expression on the path, or a CSV; "" = the dataset's own, if it has some
    cfg.DATASET.TRAINED_ON = ""  # written into the config.yaml of a test on another dataset: the one that was trained on
    cfg.DATASET.TUNING_FOLD = 0  # set by sweep.tune: 1 or 2, the fold of the shots that is tried on (datasets.splits)
    cfg.DATASET.RUN_CLASSNAMES = []  # written into a run's config.yaml: its classes in label order
    cfg.DATASET.RUN_TEMPLATE = ""  # and the template that they were put into


def before_pairs(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line in front of its ``KEY VALUE`` pairs, and these."""
    at = next((place for place, word in enumerate(argv) if KEY.fullmatch(word)), len(argv))
    return list(argv[:at]), list(argv[at:])


def data_config(path: str, opts: Sequence[str] = ()) -> CfgNode:
    """DATASET and INPUT, by a dataset's file (none: "") and ``KEY VALUE`` pairs; what else the file sets is not looked at.

    Raises:
        UserError: no such file, an unknown key, or a value of a wrong type.
    """
    cfg = get_cfg_default()
    dataset_defaults(cfg)
    for key in [key for key in cfg if key not in DATA_SECTIONS]:
        del cfg[key]
    if path:
        merge_file(cfg, path, DATA_SECTIONS)
    merge_pairs(cfg, opts)
    return cfg


def merge_file(cfg: CfgNode, path: str, sections: Sequence[str] = ()) -> None:
    """Merge a YAML file, or only some ``sections`` of it; an unknown key is an error that names file, key and the nearest."""
    if not Path(path).is_file():
        folder = Path(path).parent
        near = nearest(Path(path).name, [p.name for p in folder.glob("*.yaml")]) if folder.is_dir() else ""
        raise UserError(f"no config file {path}.{near}")
    try:
        loaded = CfgNode(_mapped(read_yaml(path)))
        loaded = CfgNode({key: loaded[key] for key in loaded if key in sections}) if sections else loaded
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a YAML mapping of config keys: {' '.join(str(error).split())}") from error
    valid = list(flat_keys(cfg))
    for key in flat_keys(loaded):
        require_key(key, valid, where=f"{path}: ")
        _require_value(cfg, key, _value(loaded, key), f"{path}: ")
    try:
        cfg.merge_from_other_cfg(loaded)
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(f"{path}: {error.args[0]}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping, at every level of which the keys are text; empty for an empty file.

    Raises:
        UserError: it cannot be read, or is no such file.
    """
    try:
        loaded = yaml.safe_load(read_text(path))
        _require_mapping({} if loaded is None else loaded)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a YAML mapping of config keys: it is nested too deep, or holds itself") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a YAML mapping of config keys: {' '.join(str(error).split())}") from error
    return loaded or {}


def _require_mapping(loaded: Any) -> None:
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds {type(loaded).__name__} and not keys with values")
    for key, value in loaded.items():
        if isinstance(value, dict) and key != "CLASSNAMES":  # whose keys are folders
            _require_mapping(value)
        if not isinstance(key, str):
            raise ValueError(f"the key {str(key)[:40]!r} is no text")


def _mapped(loaded: Any) -> Any:
    """A file's content with a mapping CLASSNAMES (folder: name) as the two lists that the config has for it."""
    own = loaded.get("DATASET") if isinstance(loaded, dict) else None
    names = own.get("CLASSNAMES") if isinstance(own, dict) else None
    if not isinstance(names, dict):
        return loaded
    if own.get("CLASS_FOLDERS"):
        raise ValueError("DATASET.CLASSNAMES maps folders already: leave out DATASET.CLASS_FOLDERS")
    if any(name is None or isinstance(name, (dict, list)) for name in names.values()):
        raise ValueError("DATASET.CLASSNAMES maps a folder to no name")
    lists = {"CLASSNAMES": [str(name) for name in names.values()], "CLASS_FOLDERS": [str(key) for key in names]}
    return loaded | {"DATASET": own | lists}


def merge_pairs(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Merge ``KEY VALUE`` pairs; a value in words is read as Python where it can be.

    Raises:
        UserError: a key without value, an unknown key, or a value of a wrong type.
    """
    if len(opts) % 2:
        raise UserError(f'overrides are KEY VALUE pairs, but "{opts[-1]}" has no value')
    valid = list(flat_keys(cfg))
    for key in opts[::2]:
        if str(key).startswith("-"):
            raise UserError(f"{key} stands behind KEY VALUE pairs: options come first")
        require_key(key, valid)
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        _require_value(cfg, key, None if value == "None" else value)
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, KeyError, AssertionError, RecursionError, MemoryError) as error:
            said = " ".join(str(error.args[0]).split()) if error.args else "cannot be read"
            form = FORMS.get(type(_value(cfg, key)), "") if said.startswith("Type mismatch") else ""
            raise UserError(f"{key} {str(value)[:80]}: {f'must be {form}' if form else said}") from error


def _value(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node[part]
    return node


def _require_value(cfg: CfgNode, key: str, value: Any, where: str = "") -> None:
    """Refuse nothing (``~``, None) where the config has something, which yacs takes."""
    if value is None and _value(cfg, key) is not None:
        raise UserError(f"{where}{key} has no value")


def flat_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """All leaf keys, dotted."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def require_key(key: str, valid: Sequence[str], where: str = "") -> None:
    """Raise ``UserError`` for a key that is not among ``valid``, with the nearest one; ``where`` stands in front."""
    if key in valid:
        return
    same_leaf = [known for known in valid if known.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    raise UserError(f'{where}unknown config key "{key}".{nearest(key, list(valid)) or nearest(key, same_leaf)}')
