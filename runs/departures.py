"""In what a run is not the published one: its method's settings, what was forced on it, and what the config files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yacs.config import CfgNode

from runs.config import value_of
from runs.identity import identity
from runs.settings import as_configured
from trainers.base import VLTrainer

# What says which run it is or where things lie, rather than how it is done
NOT_SETTINGS = ("DATASET.", "SEED", "TRAINER.NAME", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.PATH", "USE_CUDA")
SETTINGS_OF_DATASETS = ("DATASET.PROMPTS", "DATASET.TEMPLATE")


@dataclass(frozen=True)
class Departures:
    """In what a run is not the published one.

    Attributes:
        chosen: settings of the method that are not the published ones, in words.
        forced: what the backbone or the data forced on it, in words.
        changed: settings that are not as the config files set them (:func:`changed_settings`).
    """

    chosen: list[str]
    forced: list[str]
    changed: dict[str, dict[str, Any]] | None


def departures_of(trainer: VLTrainer, train: Mapping[str, Any]) -> Departures:
    """What a trained run says of itself.

    Args:
        train: how it was trained; ``seeds_together`` names the seeds that shared a batch, where some did.
    """
    changed = changed_settings(trainer.cfg, trainer.facts.key)
    return Departures(chosen_departures(trainer, train), forced_departures(trainer), changed)


def chosen_departures(trainer: VLTrainer, train: Mapping[str, Any]) -> list[str]:
    """Settings that are not the published ones, and what training several seeds together changed against lone runs."""
    said = type(trainer).departures(trainer.cfg)
    tuned = trainer.cfg.TUNED
    if tuned.KEYS:
        names = ", ".join(f"{key.rsplit('.', 1)[-1]} {value_of(trainer.cfg, key)}" for key in tuned.KEYS)
        said.insert(0, f"tuned: {names} by {tuned.HOW or 'a search that is not told'}")
    seeds = train.get("seeds_together", [])
    if seeds and trainer.own.get("TEXT_DROPOUT", False):
        together = " ".join(map(str, seeds))
        said.append(f"seeds {together} trained together: the text dropout's masks differ from those of lone runs")
    return said


def forced_departures(trainer: VLTrainer) -> list[str]:
    """What the backbone or the data forced on the method."""
    if trainer.writes_visual_prompts and not trainer.backbone.supports_visual_prompts:
        return ["text side only: this image tower has no patch tokens for visual prompts"]
    return list(getattr(trainer, "forced", []))


def changed_settings(cfg: CfgNode, dataset_key: str) -> dict[str, dict[str, Any]] | None:
    """``{key: {"config_file": value, "run": value}}`` for every setting that is not as the config files set it.

    ``None`` for a method that has no config file here.
    """
    configured = as_configured(cfg, dataset_key)
    if configured is None:
        return None
    # by way of YAML, as two files that say the same may differ in lists and tuples
    run, files = (identity(CfgNode(yaml.safe_load(one.dump()))) for one in (cfg, configured))
    kept = [key for key in run if key in SETTINGS_OF_DATASETS or not key.startswith(NOT_SETTINGS)]
    return {key: {"config_file": files.get(key), "run": run[key]} for key in sorted(kept) if files.get(key) != run[key]}
