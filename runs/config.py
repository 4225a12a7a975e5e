"""A run's config: the defaults of every method, names, config files, settings and overrides, merged in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from backbones import BACKBONES, check_name
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, nearest
from datasets import by_key
from runs.overrides import OF_OWN_IMAGES, OWN_IMAGES, flat_keys, merge_overrides, require_key
from trainers import methods

DEFAULT_BACKBONE = "BiomedCLIP"
# Names under which methods were published, where they differ from ours
PUBLISHED_NAMES = {
    "CLIP_Adapter": "CLIPAdapter",
    "TiP_Adapter": "TipAdapter",
    "TiP_Adapter_F": "TipAdapterF",
    "LP": "LinearProbe",
    "LP2": "LPPlusPlus",
    "Maple": "MaPLe",
}


def default_config() -> CfgNode:
    """Dassl's defaults plus this project's keys."""
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.PATH = ""  # local folder with the weights (docs/DATASETS.md)
    cfg.MODEL.BACKBONE.COMPILE = ""  # torch.compile's mode for the text tower; "" = not compiled
    cfg.MODEL.BACKBONE.TF32 = False  # on a GPU: float32 products in TF32, faster and coarser
    cfg.TEST.EVALUATOR = "ClassificationPerImage"  # Dassl's Classification, which also keeps what was said of each image
    # how files become 8-bit RGB, in training and prediction alike
    cfg.INPUT.WINDOW = ()  # lo, hi: values that become 0 and 255 in images of more than 8 bits; (): each image's own range
    cfg.INPUT.EXIF = False  # turn images as their EXIF tag says
    cfg.INPUT.SLICE = -1  # of a volume, from 0; -1: the middle one
    cfg.INPUT.MAX_PIXELS = 100_000_000  # an image with more is refused before it is decoded
    cfg.FEATURES = CfgNode()
    cfg.FEATURES.MODE = "store"  # frozen image features are kept on disk; "direct" encodes every image every time
    cfg.FEATURES.ROOT = ""  # folder of the store; "" = ~/.cache/biomed-dpt/features, or below BIOMED_DPT_CACHE
    cfg.FEATURES.VIEWS = 0  # V > 0: training goes round V views of each image instead of a new one each epoch
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
    cfg.DATASET.SPLIT_SEED = 1  # of a split made from class folders
    cfg.DATASET.RUN_CLASSNAMES = []  # written into a run's config.yaml: its classes in label order
    cfg.DATASET.RUN_TEMPLATE = ""  # and the template that they were put into
    for cls in methods().values():
        cfg.TRAINER[cls.section] = cls.defaults()
    return cfg


def split_trainer_name(name: str, backbone: str = "") -> tuple[str, str]:
    """``("BiomedDPT", "BiomedCLIP")`` from either form: two names, or the published ``BiomedDPT_BiomedCLIP``.

    A method may also go by its published name (:data:`PUBLISHED_NAMES`), alone or with a backbone.

    Raises:
        UserError: unknown names, or a backbone that contradicts the published name.
    """
    known = TRAINER_REGISTRY.registered_names()
    name = PUBLISHED_NAMES.get(name, name)
    if name not in known:
        stem, _, suffix = name.rpartition("_")
        stem = PUBLISHED_NAMES.get(stem, stem)
        if stem in known and suffix in BACKBONES:
            if backbone and check_name(backbone) != suffix:
                raise UserError(f"--trainer {name} and --backbone {backbone} name two different backbones")
            name, backbone = stem, suffix
        else:
            raise UserError(f'unknown trainer "{name}".{nearest(name, known)} Valid: {", ".join(known)}')
    return name, check_name(backbone or DEFAULT_BACKBONE)


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file; an unknown key is an error that names file, key and the nearest valid one."""
    if not Path(path).is_file():
        folder = Path(path).parent
        near = nearest(Path(path).name, [p.name for p in folder.glob("*.yaml")]) if folder.is_dir() else ""
        raise UserError(f"no config file {path}.{near}")
    try:
        loaded = CfgNode(_mapped(yaml.safe_load(Path(path).read_text()) or {}))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a YAML mapping of config keys: {' '.join(str(error).split())}") from error
    valid = list(flat_keys(cfg))
    for key in flat_keys(loaded):
        require_key(key, valid, where=f"{path}: ")
    try:
        cfg.merge_from_other_cfg(loaded)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: {error.args[0]}") from error


def _mapped(loaded: Any) -> Any:
    """A file's content with a mapping CLASSNAMES (folder: name) as the two lists that the config has for it."""
    own = loaded.get("DATASET") if isinstance(loaded, dict) else None
    names = own.get("CLASSNAMES") if isinstance(own, dict) else None
    if not isinstance(names, dict):
        return loaded
    if own.get("CLASS_FOLDERS"):
        raise ValueError("DATASET.CLASSNAMES maps folders already: leave out DATASET.CLASS_FOLDERS")
    lists = {"CLASSNAMES": [str(name) for name in names.values()], "CLASS_FOLDERS": [str(key) for key in names]}
    return loaded | {"DATASET": own | lists}


def configured(
    trainer: str = "",
    backbone: str = "",
    *,
    files: Sequence[str | Path] = (),
    settings: Mapping[str, object] | None = None,
    overrides: Sequence[object] = (),
) -> CfgNode:
    """Defaults <- files <- names and settings <- overrides; frozen.

    Args:
        trainer, backbone: names in any form that :func:`split_trainer_name` knows; "" leaves them to the files.
        files: YAML files of config keys, the dataset's and the method's, each over the one before.
        settings: dotted key -> value, taken as it is.
        overrides: ``KEY VALUE`` pairs, checked by :func:`runs.overrides.merge_overrides`.

    Raises:
        UserError: an unknown file, key or name, an override that the method does not read, no method or no dataset.
    """
    cfg = default_config()
    named_by = ""
    for path in files:
        before, cfg.DATASET.NAME = cfg.DATASET.NAME, ""
        merge_file(cfg, str(path))
        named_by = Path(path).stem if cfg.DATASET.NAME else named_by
        cfg.DATASET.NAME = cfg.DATASET.NAME or before
    if not (trainer or cfg.TRAINER.NAME):
        raise UserError("no method named: give --trainer")
    name, backbone = split_trainer_name(trainer or cfg.TRAINER.NAME, backbone or cfg.MODEL.BACKBONE.NAME)
    for key, value in {"TRAINER.NAME": name, "MODEL.BACKBONE.NAME": backbone, **(settings or {})}.items():
        _put(cfg, key, value)
    merge_overrides(cfg, overrides, name)
    if not cfg.DATASET.NAME:
        raise UserError("no dataset named: give --dataset-config-file configs/datasets/NAME.yaml")
    entitle(cfg, named_by)
    cfg.freeze()
    return cfg


def entitle(cfg: CfgNode, named_by: str) -> None:
    """Give own images a title where they have none: the name of the file that names them, else of their folder.

    Raises:
        UserError: a title that a published dataset has, or one in several lines; a key of own images for other ones.
    """
    own, plain = cfg.DATASET, default_config().DATASET
    if own.NAME != OWN_IMAGES:
        used = [key for key in own if key.startswith(OF_OWN_IMAGES) and key != "CLASSNAMES" and own[key] != plain[key]]
        if used:
            raise UserError(f'DATASET.{used[0]} is read only with DATASET.NAME {OWN_IMAGES}, but it is "{own.NAME}" here')
        return
    own.TITLE = own.TITLE.strip() or named_by or Path(own.FOLDER or own.CSV).expanduser().stem
    taken = {name.casefold() for key, cls in by_key().items() for name in (key, cls.__name__, cls.dataset_dir)}
    if own.TITLE.casefold() in taken:
        raise UserError(f'"{own.TITLE}" is a published dataset: give your images another name, DATASET.TITLE')
    if "\n" in own.TITLE:
        raise UserError(f"DATASET.TITLE must be one line, got {own.TITLE!r}")


def altered(cfg: CfgNode, settings: Mapping[str, object]) -> CfgNode:
    """A frozen copy of ``cfg`` with other values of some dotted keys."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in settings.items():
        _put(cfg, key, value)
    cfg.freeze()
    return cfg


def _put(cfg: CfgNode, key: str, value: object) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg[section]
    if leaf not in cfg:
        raise KeyError(key)
    cfg[leaf] = value
