"""The config files against the published settings, and every script and config against the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backbones import BACKBONES
from runs.config import PUBLISHED_NAMES, default_config, merge_file, split_trainer_name
from tests.conftest import REPO, SHARED
from trainers import methods

PUBLISHED = SHARED / "reference" / "hyperparameters.json"
ENTRIES: dict[str, dict[str, Any]] = json.loads(PUBLISHED.read_text())["settings"] if PUBLISHED.is_file() else {}
NAMES = PUBLISHED_NAMES | {"TiP_Adapter": "TipAdapterF"}  # one published entry for both: the search and the training of keys
RENAMED = {"alpha_ca": "ALPHA"}
# Published keys that say nothing of the method: its optimiser's name in the released code, switches that it never reads
UNREAD = {
    "ProGrad": {"name"},
    "CoCoOp": {"csc"},
    "MaPLe": {"csc"},
    "VPT": {"ctx_init", "n_ctx", "csc"},
    "LPPlusPlus": {"num_step"},
}
OF_THE_OPTIMISER = {"lr", "train_epoch", "batch_size"}
SHARED_KEYS = {
    "batch_size": "DATALOADER.TRAIN_X.BATCH_SIZE",
    "name": "OPTIM.NAME",
    "lr": "OPTIM.LR",
    "max_epoch": "OPTIM.MAX_EPOCH",
    "train_epoch": "OPTIM.MAX_EPOCH",
    "lr_scheduler": "OPTIM.LR_SCHEDULER",
    "warmup_epoch": "OPTIM.WARMUP_EPOCH",
    "warmup_type": "OPTIM.WARMUP_TYPE",
    "warmup_cons_lr": "OPTIM.WARMUP_CONS_LR",
    "transforms": "INPUT.TRANSFORMS",
}


def value_of(cfg: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        cfg = cfg[part]
    return list(cfg) if isinstance(cfg, tuple) else cfg


@pytest.mark.skipif(not ENTRIES, reason="no ../shared/reference/hyperparameters.json: published settings are not here")
@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_configs_hold_the_published_settings(entry: str) -> None:
    stem, _, below = entry.partition("/")
    method = NAMES.get(stem, stem)
    task, _, dataset = below.partition("/")
    folder = "base_to_novel" if "base" in task else "few_shot"
    path = REPO / "configs" / "trainers" / method / (f"{folder}/{dataset}.yaml" if dataset else f"{folder}.yaml")
    cfg = default_config()
    merge_file(cfg, str(path))
    cls = methods()[method]
    for key, want in ENTRIES[entry].items():
        dotted = SHARED_KEYS.get(key, f"TRAINER.{cls.section}.{RENAMED.get(key, key.upper())}")
        if key in UNREAD.get(method, ()) or (key in OF_THE_OPTIMISER and not cls.uses_optimizer):
            continue
        want = float(want) if key == "warmup_cons_lr" else want
        assert value_of(cfg, dotted) == want, dotted


@pytest.mark.skipif(not ENTRIES, reason="no ../shared/reference/hyperparameters.json: published settings are not here")
@pytest.mark.parametrize("published", sorted({entry.partition("/")[0] for entry in ENTRIES}))
def test_every_published_name_is_understood(published: str) -> None:
    name, backbone = split_trainer_name(published)
    assert name in methods() and backbone == "BiomedCLIP"
    for suffix in BACKBONES:
        assert split_trainer_name(f"{published}_{suffix}") == (name, suffix)


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_has_configs_and_scripts(method: str) -> None:
    tasks = ["few_shot", *(["base_to_novel"] if methods()[method].transfers else [])]
    for task in tasks:
        cfg = default_config()
        merge_file(cfg, str(REPO / "configs" / "trainers" / method / f"{task}.yaml"))
    mentioned = [p for p in Path(REPO / "scripts").glob("*/few_shot.sh") if f"few_shot {method} " in p.read_text()]
    if method != "ZeroshotCLIP2":  # CoOp's name for a setting of ZeroshotCLIP
        assert len(mentioned) == 1, f"no scripts/<method>/few_shot.sh runs {method}"


SCRIPTS = [path for path in sorted((REPO / "scripts").glob("*/*.sh")) if path.name != "ablation.sh"]  # which runs a grid


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_script_names_a_registered_method(script: Path) -> None:
    call = script.read_text().strip().splitlines()[-1].split()
    assert call[0] in ("few_shot", "base2new", "xd") and call[0] == script.stem.removeprefix("eval_")
    assert call[1] in methods()
    assert ("--eval-only" in call) == script.stem.startswith("eval_")
