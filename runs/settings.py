"""The project's config files: which of them belong to a method, task and dataset, and what they set."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from runs.config import default_config, merge_file

CONFIGS = Path(__file__).parents[1] / "configs"


def config_file(method: str, split: str, dataset_key: str) -> Path | None:
    """The method's config file that the scripts use: of the task and dataset, of the task, or of few-shot."""
    folder = CONFIGS / "trainers" / method
    task = "few_shot" if split == "all" else "base_to_novel"
    places = (folder / task / f"{dataset_key}.yaml", folder / f"{task}.yaml", folder / "few_shot.yaml")
    return next((path for path in places if path.is_file()), None)


def as_configured(cfg: CfgNode, dataset_key: str) -> CfgNode | None:
    """``cfg``'s method as the project's config files set it; ``None`` for a method that has none here."""
    path = config_file(cfg.TRAINER.NAME, cfg.DATASET.SUBSAMPLE_CLASSES, dataset_key)
    if path is None:
        return None
    plain = default_config()
    plain.TRAINER.NAME = cfg.TRAINER.NAME
    of_dataset = CONFIGS / "datasets" / f"{dataset_key}.yaml"
    for file in (of_dataset, path):
        if file.is_file():
            merge_file(plain, str(file))
    return plain
