"""Unmodified plugin trainers on the dassl package: train, test, resume, reload; the loop's own switches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from yacs.config import CfgNode

import tests.third_party.plugins as plugins
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.modeling import BACKBONE_REGISTRY, Backbone
from dassl.utils import UserError, load_checkpoint, save_checkpoint, set_random_seed


@BACKBONE_REGISTRY.register(force=True)
class pooled(Backbone):  # noqa: N801  (backbones are registered in lower case)
    """Mean colour: enough to run a SimpleNet."""

    _out_features = 3

    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(images).mean(dim=(2, 3))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light", "red")):
        (folder / "stripes" / name).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 60, (24, 24, 3)) + (0, 120, 0)[label]
            pixels[..., 0] += 150 * (name == "red")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "stripes" / name / f"{number}.png")
    return folder


def config(root: Path, out: Path, trainer: str = "ThirdPartyCoOp", **keys: object) -> CfgNode:
    cfg = get_cfg_default()
    cfg.TRAINER.THIRDPARTY = CfgNode({"PREC": "fp32"})
    cfg.merge_from_list([
        "DATASET.ROOT", str(root), "DATASET.NAME", "Stripes", "DATASET.NUM_SHOTS", 4, "OUTPUT_DIR", str(out), "SEED", 1,
        "TRAINER.NAME", trainer, "INPUT.SIZE", (16, 16), "INPUT.TRANSFORMS", ("random_flip", "normalize"), "VERBOSE", False,
        "DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.NAME", "sgd", "OPTIM.LR", 0.1,
        "OPTIM.MAX_EPOCH", 6, "OPTIM.LR_SCHEDULER", "cosine", "USE_CUDA", False, "MODEL.BACKBONE.NAME", "pooled",
    ])  # fmt: skip
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    set_random_seed(1)
    return cfg


def weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(str(folder / "prompt_learner" / f"model.pth.tar-{epoch}"))["state_dict"]


def test_trains_tests_and_reloads(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = build_trainer(config(root, tmp_path, TEST__PER_CLASS_RESULT=True))
    with caplog.at_level("INFO"):
        trainer.train()
    assert trainer.last_results["accuracy"] > 60
    assert re.search(r"\* accuracy: \d+\.\d\d%", caplog.text) and "* average:" in caplog.text
    assert re.search(r"epoch \[6/6\] batch \[3/3\] time .* loss .* acc .* lr .* eta", caplog.text)
    assert list((tmp_path / "tensorboard").glob("events*"))
    other = build_trainer(config(root, tmp_path / "again"))
    other.load_model(str(tmp_path), epoch=6)
    assert other.test() == trainer.last_results["accuracy"]


def test_stops_and_resumes_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    build_trainer(config(root, tmp_path / "whole")).train()
    trainer = build_trainer(config(root, tmp_path / "cut", TRAIN__CHECKPOINT_FREQ=1))
    after = trainer.after_epoch

    def killed_after_the_third() -> None:
        after()
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    trainer.after_epoch = killed_after_the_third
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    build_trainer(config(root, tmp_path / "cut", TRAIN__CHECKPOINT_FREQ=1)).train()
    whole, resumed = weights(tmp_path / "whole", 6), weights(tmp_path / "cut", 6)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_keeps_the_best_epoch_on_validation(root: Path, tmp_path: Path) -> None:
    trainer = build_trainer(config(root, tmp_path, TEST__FINAL_MODEL="best_val"))
    scores = iter([10.0, 50.0, 30.0, 50.0, 20.0, 40.0])
    own = trainer.test
    trainer.test = lambda split=None: next(scores) if split == "val" else own(split)
    trainer.train()
    best = load_checkpoint(str(tmp_path / "prompt_learner" / "model-best.pth.tar"))
    assert best["epoch"] == 2 and best["val_result"] == 50.0
    assert all(torch.equal(best["state_dict"][k], v) for k, v in trainer.model.prompt_learner.state_dict().items())


@pytest.mark.parametrize("count, steps", [("train_x", 3), ("train_u", 6), ("smaller_one", 3)])
def test_count_iter_says_whose_batches_an_epoch_has(count: str, steps: int, root: Path, tmp_path: Path) -> None:
    trainer = build_trainer(config(root, tmp_path, "ThirdPartySemi", TRAIN__COUNT_ITER=count, OPTIM__MAX_EPOCH=2))
    seen: list[int] = []
    own = trainer.forward_backward
    trainer.forward_backward = lambda x, u: (seen.append(trainer.batch_idx), own(x, u))[1]
    trainer.train()
    assert seen == [*range(steps)] * 2
    assert (tmp_path / "model" / "model.pth.tar-2").is_file()


def test_mixed_precision_branch_trains(root: Path, tmp_path: Path) -> None:
    trainer = build_trainer(config(root, tmp_path, TRAINER__THIRDPARTY__PREC="amp"))
    trainer.train()
    assert trainer.last_results["accuracy"] > 60


def test_a_loss_that_is_not_finite_ends_the_run(root: Path, tmp_path: Path) -> None:
    trainer = build_trainer(config(root, tmp_path))
    with pytest.raises(UserError, match="infinite or NaN"):
        trainer.model_backward_and_update(torch.tensor(float("nan"), requires_grad=True))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 1, "scheduler": plugins.PromptedModel(2)}, tmp_path / "evil")
    with pytest.raises(UserError, match="more than tensors"):
        load_checkpoint(str(tmp_path / "evil"))
    path = save_checkpoint({"state_dict": {"module.w": torch.ones(2)}, "epoch": 3}, str(tmp_path))
    assert list(load_checkpoint(path)["state_dict"]) == ["w"]
    Path(path).write_bytes(Path(path).read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)
