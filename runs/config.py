"""A run's config: the defaults of every method, names, config files, settings and overrides, merged in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from backbones import BACKBONES, check_name
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, nearest
from dassl.utils.trackers import DEFAULT as TENSORBOARD
from datasets import by_any_name
from datasets.config import dataset_defaults, merge_file
from runs.overrides import OF_OWN_IMAGES, OWN_IMAGES, merge_overrides
from runs.ranges import check_values
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
    cfg.LOGGER = TENSORBOARD  # where a training's scalars go: tensorboard, wandb, trackio or none
    cfg.MODEL.BACKBONE.PATH = ""  # local folder with the weights (docs/DATASETS.md)
    cfg.MODEL.BACKBONE.COMPILE = ""  # torch.compile's mode for the text tower; "" = not compiled
    cfg.MODEL.BACKBONE.TF32 = False  # on a GPU: float32 products in TF32, faster and coarser
    cfg.TEST.EVALUATOR = "ClassificationPerImage"  # Dassl's Classification, which also keeps what was said of each image
    cfg.TUNED = CfgNode()  # written by python -m sweep.tune into the files that it makes (docs/SWEEP.md)
    cfg.TUNED.KEYS = []  # the method's settings that were chosen on validation images
    cfg.TUNED.HOW = ""  # and how, in words
    cfg.FEATURES = CfgNode()
    cfg.FEATURES.MODE = "store"  # frozen image features are kept on disk; "direct" encodes every image every time
    cfg.FEATURES.ROOT = ""  # folder of the store; "" = ~/.cache/biomed-dpt/features, or below BIOMED_DPT_CACHE
    cfg.FEATURES.VIEWS = 0  # V > 0: training goes round V views of each image instead of a new one each epoch
    dataset_defaults(cfg)
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
    check_values(cfg, section_of(name))
    cfg.freeze()
    return cfg


def section_of(method: str) -> str:
    """The section below TRAINER of a method of this project; empty for another's."""
    cls = methods().get(method)
    return cls.section if cls else ""


def entitle(cfg: CfgNode, named_by: str) -> None:
    """Give own images a title where they have none: the name of the file that names them, else of their folder.

    Raises:
        UserError: a title that a published dataset has, or one in several lines; a key of own images for other ones.
    """
    own, plain = cfg.DATASET, default_config().DATASET
    if own.TRAINED_ON:
        raise UserError(f"DATASET.TRAINED_ON is {own.TRAINED_ON}: the protocol cross_dataset writes it, it is never set")
    if own.TUNING_FOLD:
        raise UserError(f"DATASET.TUNING_FOLD is {own.TUNING_FOLD}: python -m sweep.tune writes it, it is never set")
    if own.NAME != OWN_IMAGES:
        used = [key for key in own if key.startswith(OF_OWN_IMAGES) and key != "CLASSNAMES" and own[key] != plain[key]]
        if used:
            raise UserError(f'DATASET.{used[0]} is read only with DATASET.NAME {OWN_IMAGES}, but it is "{own.NAME}" here')
        return
    own.TITLE = own.TITLE.strip() or named_by or Path(own.FOLDER or own.CSV).expanduser().stem
    if own.TITLE.lower() in by_any_name():
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


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _put(cfg: CfgNode, key: str, value: object) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg[section]
    if leaf not in cfg:
        raise KeyError(key)
    cfg[leaf] = value
