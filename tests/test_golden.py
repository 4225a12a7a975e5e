"""Equality with numbers recorded from the released trainers, on the same BiomedCLIP-sized random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from tests.conftest import SHARED
from trainers.biomed_dpt import BiomedDPT, prompt_ensemble
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner

REFERENCE = SHARED / "reference"
TOLERANCE = 1e-4  # relative to each array's largest value

pytestmark = pytest.mark.skipif(
    not (REFERENCE / "golden").is_dir(), reason="no ../shared/reference/golden: recorded numbers are not here"
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory):
    from backbones import build_backbone

    folder = tmp_path_factory.mktemp("random_biomedclip")
    script = REFERENCE / "make_random_biomedclip.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return build_backbone("BiomedCLIP", str(folder))


def close(ours, golden, tolerance: float = TOLERANCE) -> None:
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    assert ours.shape == golden.shape
    scale = max(float(np.abs(golden).max()), 1e-12)
    assert float(np.abs(ours - golden).max()) / scale < tolerance


def bare_trainer(cls: type[CoOp], backbone, golden: dict[str, np.ndarray], meta: dict) -> CoOp:
    """The trainer's arithmetic without data: its own loss_terms on recorded images."""
    settings = meta["trainer_cfg"]
    own = cls.defaults()
    for key, value in settings.items():
        if key in own:
            own[key] = value
    trainer = cls.__new__(cls)
    cfg = get_cfg_default()
    cfg.TRAINER[cls.section] = own
    trainer.cfg, trainer.backbone, trainer.device = cfg, backbone, torch.device("cpu")
    trainer.logit_scale = backbone.logit_scale.exp()
    trainer.facts = SimpleNamespace(template="a MR photo of a {} in the brain.")
    trainer._text_features = None
    learner = CoOp.build_learner(trainer, meta["classes"])
    trainer.prompt_learner = learner
    if cls is BiomedDPT:
        trainer.fixed_features = prompt_ensemble(torch.from_numpy(golden["teacher_fixed_embeddings"]))
    return trainer


@pytest.mark.parametrize("cls, file", [(BiomedDPT, "biomed_dpt_2classes"), (CoOp, "coop_2classes")])
def test_reproduces_the_released_trainer(cls, file, backbone) -> None:
    golden = dict(np.load(REFERENCE / "golden" / f"{file}.npz"))
    meta = json.loads(str(golden["meta"]))
    trainer = bare_trainer(cls, backbone, golden, meta)
    learner: PromptLearner = trainer.prompt_learner
    images, labels = torch.from_numpy(golden["images"]), torch.from_numpy(golden["labels"])

    length = learner.tokens.ids.shape[1]
    assert (learner.tokens.ids.numpy() == golden["tokenized_prompts"][:, :length]).all()
    assert not golden["tokenized_prompts"][:, length:].any()
    close(learner.ctx, golden["init/prompt_learner.ctx"])
    close(learner(), golden["eval_prompt_embeds_first64"][:, :length])
    with torch.no_grad():
        close(backbone.encode_image(images, trainer.visual_prompt()), golden["eval_image_features_raw"])
        close(trainer.encode_classes(), golden["eval_text_features_raw"])
    close(trainer.model_inference(images), golden["eval_logits"])

    cfg = get_cfg_default()
    for key, value in meta["optim"].items():
        cfg.OPTIM[key] = value
    optimiser = build_optimizer(learner, cfg.OPTIM)
    scheduler = build_lr_scheduler(optimiser, cfg.OPTIM)
    for step in range(10):
        close(learner.ctx, golden["traj/prompt_learner.ctx"][step])
        assert optimiser.param_groups[0]["lr"] == pytest.approx(golden["lr_per_step"][step], rel=1e-9)
        terms, logits = trainer.loss_terms(images, labels)
        if cls is BiomedDPT:
            for name in ("ce", "l1", "kl"):
                assert terms[name].item() == pytest.approx(golden[f"loss_{name}"][step], rel=TOLERANCE)
        else:
            assert terms["ce"].item() == pytest.approx(golden["rawloss/cross_entropy"][step], rel=TOLERANCE)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        if step == 0:
            close(learner.ctx.grad, golden["grad_step1/prompt_learner.ctx"])
        optimiser.step()
        scheduler.step()
    close(learner.ctx, golden["traj/prompt_learner.ctx"][10])
    trainer._text_features = None
    close(trainer.model_inference(images), golden["final_eval_logits"])


def test_the_recorded_runs_are_runs() -> None:
    """Recorded numbers that never moved, or of two methods that are one file, would agree with anything."""
    runs = {path.stem: dict(np.load(path)) for path in sorted((REFERENCE / "golden").glob("*_*classes.npz"))}
    ends = []
    for name, golden in runs.items():
        steps = golden["traj/prompt_learner.ctx"]
        assert np.isfinite(steps).all() and all((steps[n] != steps[n + 1]).any() for n in range(10)), name
        ends.append(steps[10].tobytes())
    assert len(set(ends)) == len(runs) >= 2
