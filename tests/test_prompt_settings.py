"""Settings of KgCoOp, ProGrad and BiomedCoOp: mistakes, folder names, departures, and the published configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dassl.utils import UserError
from runs.config import default_config, merge_file
from tests.conftest import REPO, SHARED
from tests.helpers import build
from trainers import methods

PHOTO = "a photo of a {}."
NAMES = ("KgCoOp", "ProGrad", "BiomedCoOp")

MISTAKES = [
    ("ProGrad", {"TEACHER": "zeroshot"}, r'PROGRAD.TEACHER is "zeroshot".*zero_shot'),
    ("ProGrad", {"T": 0.0}, "PROGRAD.T is 0.0"),
    ("BiomedCoOp", {"TAU": 0.0}, "BIOMEDCOOP.TAU is 0.0"),
    ("BiomedCoOp", {"N_PROMPTS": 51}, "51 are needed"),
]


@pytest.mark.parametrize("method, own, message", MISTAKES)
def test_a_mistake_is_named(method, own, message, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        build(method, tiny_biomedclip, btmri_root, tmp_path, split="base", **own)


def test_folders_and_departures_tell_what_was_not_published() -> None:
    cfg = default_config()
    kg, pro, bio = (methods()[name] for name in NAMES)
    assert {cls.variant(cfg) for cls in (kg, pro, bio)} == {"nctx4_cscFalse_ctpend"}
    assert bio.departures(cfg) == []
    assert any("clinical template" in said for said in kg.departures(cfg))
    assert any("TEACHER zero_shot" in said for said in pro.departures(cfg))
    cfg.DATASET.TEMPLATE, cfg.TRAINER.PROGRAD.TEACHER = PHOTO, "published"
    cfg.TRAINER.BIOMEDCOOP.TEXT_DROPOUT = False
    assert kg.departures(cfg) == pro.departures(cfg) == []
    assert pro.variant(cfg) == "nctx4_cscFalse_ctpend_teacherpublished"
    assert bio.variant(cfg) == "nctx4_cscFalse_ctpend_dropFalse"
    assert bio.departures(cfg) == ["TEXT_DROPOUT False (published: True)"]


PUBLISHED = SHARED / "reference" / "hyperparameters.json"
KEYS = {"ctx_init": "CTX_INIT", "sccm_lambda": "SCCM_LAMBDA", "kdsp_lambda": "KDSP_LAMBDA", "tau": "TAU",
        "n_prompts": "N_PROMPTS", "w": "W", "t": "T", "n_ctx": "N_CTX"}  # fmt: skip


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no ../shared/reference/hyperparameters.json: settings are not here")
@pytest.mark.parametrize("method", NAMES)
def test_configs_hold_the_published_settings(method: str) -> None:
    cls = methods()[method]
    settings = {k: v for k, v in json.loads(PUBLISHED.read_text())["settings"].items() if k.startswith(f"{method}/")}
    for name, published in settings.items():
        cfg = default_config()
        place = name.replace("vit_b16_base2new", "base_to_novel")
        merge_file(cfg, str(REPO / "configs" / "trainers" / f"{place}.yaml"))
        optim, own = cfg.OPTIM, cfg.TRAINER[cls.section]
        have = (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, optim.NAME, optim.LR, optim.MAX_EPOCH, optim.LR_SCHEDULER,
                optim.WARMUP_EPOCH, optim.WARMUP_TYPE, optim.WARMUP_CONS_LR, list(cfg.INPUT.TRANSFORMS))  # fmt: skip
        want = (published["batch_size"], "sgd", published["lr"], published["max_epoch"], published["lr_scheduler"],
                published["warmup_epoch"], published["warmup_type"], float(published["warmup_cons_lr"]),
                published["transforms"])  # fmt: skip
        assert have == want, name
        assert {k: own[KEYS[k]] for k in KEYS if k in published} == {k: published[k] for k in KEYS if k in published}, name
        assert own.N_CTX == 4 and own.CLASS_TOKEN_POSITION == "end" and cfg.DATALOADER.TEST.BATCH_SIZE == 100
    assert len(settings) == {"KgCoOp": 12, "ProGrad": 12, "BiomedCoOp": 21}[method]
