"""Config: defaults of every method, published names, and overrides that would silently do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

import trainers  # noqa: F401  (registers the methods)
from backbones import ALIASES, BACKBONES, check_name
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, nearest
from trainers.base import VLTrainer

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


def methods() -> dict[str, type[VLTrainer]]:
    """The registered trainers of this project by name."""
    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    return {name: cls for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, VLTrainer)}


def default_config() -> CfgNode:
    """Dassl's defaults plus this project's keys."""
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.PATH = ""  # local folder with the weights (docs/DATASETS.md)
    cfg.MODEL.BACKBONE.COMPILE = ""  # torch.compile's mode for the text tower; "" = not compiled
    cfg.MODEL.BACKBONE.TF32 = False  # on a GPU: float32 products in TF32, faster and coarser
    cfg.TEST.EVALUATOR = "ClassificationPerImage"  # Dassl's Classification, which also keeps what was said of each image
    cfg.FEATURES = CfgNode()
    cfg.FEATURES.MODE = "store"  # frozen image features are kept on disk; "direct" encodes every image every time
    cfg.FEATURES.ROOT = ""  # folder of the store; "" = ~/.cache/biomed-dpt/features, or below BIOMED_DPT_CACHE
    cfg.FEATURES.VIEWS = 0  # V > 0: training goes round V views of each image instead of a new one each epoch
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.PROMPTS = ""  # LLM prompts file; "" = datasets/prompts/<dataset>.json
    cfg.DATASET.TEMPLATE = ""  # "" = the dataset's own clinical template
    cfg.DATASET.FOLDER = ""  # ImageFolderSplit: the folder of class folders
    cfg.DATASET.MODALITY = ""
    cfg.DATASET.ORGAN = ""
    cfg.DATASET.CLASSNAMES = []
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


def flat_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """All leaf keys, dotted."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file; an unknown key is an error that names file, key and the nearest valid one."""
    if not Path(path).is_file():
        folder = Path(path).parent
        near = nearest(Path(path).name, [p.name for p in folder.glob("*.yaml")]) if folder.is_dir() else ""
        raise UserError(f"no config file {path}.{near}")
    try:
        loaded = CfgNode(yaml.safe_load(Path(path).read_text()) or {})
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a YAML mapping of config keys: {' '.join(str(error).split())}") from error
    valid = list(flat_keys(cfg))
    for key in flat_keys(loaded):
        _require_key(key, valid, where=f"{path}: ")
    try:
        cfg.merge_from_other_cfg(loaded)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: {error.args[0]}") from error


def merge_overrides(cfg: CfgNode, opts: Sequence[str], trainer: str) -> None:
    """Merge ``KEY VALUE`` pairs.

    Raises:
        UserError: a key without value, an unknown key, one the method does not read, or a value of a wrong type.
    """
    if len(opts) % 2:
        raise UserError(f'overrides are KEY VALUE pairs, but "{opts[-1]}" has no value')
    valid = list(flat_keys(cfg))
    for key in opts[::2]:
        _require_key(key, valid)
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, KeyError) as error:
            raise UserError(f"{key} {value}: {' '.join(str(error.args[0]).split())}") from error
    for key in opts[::2]:
        reason = unread(cfg, key, trainer)
        if reason:
            raise UserError(reason)


def _require_key(key: str, valid: Sequence[str], where: str = "") -> None:
    if key in valid:
        return
    same_leaf = [known for known in valid if known.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    raise UserError(f'{where}unknown config key "{key}".{nearest(key, list(valid)) or nearest(key, same_leaf)}')


# Keys of the engine that only some choice of another key reads: prefix -> (key, values that read it)
READ_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "OPTIM.MOMENTUM": ("OPTIM.NAME", ("sgd", "rmsprop")),
    "OPTIM.SGD_": ("OPTIM.NAME", ("sgd",)),
    "OPTIM.RMSPROP_": ("OPTIM.NAME", ("rmsprop",)),
    "OPTIM.ADAM_": ("OPTIM.NAME", ("adam", "amsgrad", "adamw", "radam")),
    "OPTIM.STEPSIZE": ("OPTIM.LR_SCHEDULER", ("single_step", "multi_step")),
    "OPTIM.GAMMA": ("OPTIM.LR_SCHEDULER", ("single_step", "multi_step")),
    "OPTIM.WARMUP_CONS_LR": ("OPTIM.WARMUP_TYPE", ("constant",)),
    "OPTIM.WARMUP_MIN_LR": ("OPTIM.WARMUP_TYPE", ("linear",)),
    "OPTIM.NEW_LAYERS": ("OPTIM.STAGED_LR", (True,)),
    "OPTIM.BASE_LR_MULT": ("OPTIM.STAGED_LR", (True,)),
    "DATASET.FOLDER": ("DATASET.NAME", ("ImageFolderSplit",)),
    "DATASET.CLASSNAMES": ("DATASET.NAME", ("ImageFolderSplit",)),
    "DATASET.MODALITY": ("DATASET.NAME", ("ImageFolderSplit",)),
    "DATASET.ORGAN": ("DATASET.NAME", ("ImageFolderSplit",)),
}
TRANSFORM_KEYS = {
    "INPUT.CUTOUT_": "cutout",
    "INPUT.GN_": "gaussian_noise",
    "INPUT.RANDAUGMENT_": "randaugment",
    "INPUT.COLORJITTER_": "colorjitter",
    "INPUT.RGS_": "randomgrayscale",
    "INPUT.GB_": "gaussian_blur",
    "INPUT.RRCROP_": "random_resized_crop",
    "INPUT.CROP_PADDING": "random_crop",
}
# What no method of this project reads: Dassl keeps it for domain adaptation and its own backbones
NEVER_READ = (
    "MODEL.HEAD.",
    "MODEL.INIT_WEIGHTS",
    "DATALOADER.TRAIN_U.",
    "DATASET.STL10_FOLD",
    "DATASET.CIFAR_C_",
    "DATASET.NUM_LABELED",
    "DATASET.VAL_PERCENT",
    "DATASET.ALL_AS_UNLABELED",
    "DATASET.SOURCE_DOMAINS",
    "DATASET.TARGET_DOMAINS",
    "DATASET.RUN_",
)
TRAINING_KEYS = ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN_X.")


def unread(cfg: CfgNode, key: str, trainer: str) -> str:
    """Why this run would not read ``key``, with what to set instead; empty when it would."""
    cls = methods().get(trainer)
    if cls is None:  # a third-party trainer reads what it likes
        return ""
    if key.startswith("TRAINER."):
        section = key.split(".")[1]
        own = f"TRAINER.{cls.section}."
        if section in (cls.section, "NAME"):
            return ""
        twin = own + key.split(".", 2)[-1]
        hint = f' Did you mean "{twin}"?' if twin in flat_keys(cfg) else f" {trainer} reads {own}*"
        return f"{key} is another method's key: {trainer} does not read it.{hint}"
    if key.startswith("FEATURES.") and not cls.frozen_images:
        return f"{key} is not read by {trainer}: it learns in the image tower, so no features of images can be kept"
    if key.startswith(NEVER_READ) or (not (cls.learns and cls.uses_optimizer) and key.startswith(TRAINING_KEYS)):
        return f"{key} is not read by {trainer}; leave it out"
    for prefix, (switch, values) in READ_ONLY_WITH.items():
        if key.startswith(prefix) and _get(cfg, switch) not in values:
            wanted = " or ".join(map(str, values))
            return f'{key} is read only with {switch} {wanted}, but it is "{_get(cfg, switch)}" here'
    for prefix, transform in TRANSFORM_KEYS.items():
        if key.startswith(prefix) and transform not in cfg.INPUT.TRANSFORMS:
            return f"{key} is read only with the transform {transform}, which INPUT.TRANSFORMS does not hold"
    if key == "DATASET.PROMPTS" and "N_PROMPTS" not in cls.defaults():
        return f"DATASET.PROMPTS is not read by {trainer}: it uses no LLM prompts"
    return ""


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


__all__ = ["ALIASES", "default_config", "merge_file", "merge_overrides", "methods", "split_trainer_name", "unread"]
