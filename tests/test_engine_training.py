"""The engine's epoch loop, on a trainer of one parameter whose every step is known."""

from __future__ import annotations

import logging
import math
import operator
import random
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl import utils
from dassl.engine import TrainerBase, TrainerX, TrainerXU
from dassl.engine.trainer import endless
from dassl.utils import UserError
from tests.engine_helpers import third_party_config, write_toy_images


class Counts:
    """Learns one number, w: its gradient is 1, so w after n steps of rate r is -n r. On validation it scores as told."""

    def build_model(self) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.optim = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.register_model("count", self.model, self.optim)
        self.steps_done, self.order, self.draws = 0, [], []
        self.scores: list[float] = []

    def forward_backward(self, batch, *more):
        self.order.append(batch["index"].tolist())
        self.draws.append((random.random(), torch.rand(1).item(), float(batch["img"].sum())))
        self.model_backward_and_update(self.model.weight.sum())
        self.steps_done += 1
        return {"loss": float(self.steps_done)}

    def model_inference(self, input):
        return torch.nn.functional.one_hot(torch.zeros(len(input), dtype=torch.long), self.num_classes).float()

    def test(self, split=None):
        result = super().test(split)
        return self.scores[self.epoch] if split == "val" else result


class Count(Counts, TrainerX):
    """On labelled images."""


class CountBoth(Counts, TrainerXU):
    """On labelled and unlabelled images."""


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


def built(cls, root: Path, out: Path, *options: object):
    import toy_dataset  # noqa: F401

    cfg = third_party_config("Count", "coop", root, out, *options)
    utils.set_random_seed(cfg.SEED)
    return cls(cfg)


def weight(path: Path) -> float:
    return utils.load_checkpoint(str(path))["state_dict"]["weight"].item()


def test_epochs_steps_and_what_is_said_of_them(toy_root: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    trainer = built(Count, toy_root, tmp_path, "OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 3, "TRAIN.PRINT_FREQ", 2)
    caplog.clear()
    trainer.train()
    assert trainer.model.weight.item() == -12 and len(trainer.order) == 12  # 24 images in batches of 8
    epochs = [sum(trainer.order[at : at + 3], []) for at in range(0, 12, 3)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs) and len({tuple(epoch) for epoch in epochs}) == 4
    assert sorted(p.name for p in (tmp_path / "count").iterdir()) == ["checkpoint", "model.pth.tar-3", "model.pth.tar-4"]
    assert weight(tmp_path / "count" / "model.pth.tar-3") == -9
    said = caplog.messages
    assert said[0] == "No checkpoint found, train from scratch"
    assert said[1] == f"Initialize tensorboard (log_dir={tmp_path / 'tensorboard'})"
    steps = [line for line in said if line.startswith("epoch ")]
    assert [line.split(" time ")[0] for line in steps] == [f"epoch [{n}/4] batch [2/3]" for n in range(1, 5)]
    number = r"\d+\.\d{3}"
    assert re.fullmatch(
        rf"epoch \[1/4\] batch \[2/3\] time {number} \({number}\) data {number} \({number}\) "
        r"loss 2\.0000 \(1\.5000\) lr 1\.0000e\+00 eta \d+:\d\d:\d\d",
        steps[0],
    )
    end = said[said.index("Finish training") :]
    assert end[1:3] == ["Deploy the last-epoch model", "Evaluate on the *test* set"]
    assert end[3].split("\n")[0] == "=> result" and end[4].startswith("Elapsed: 0:00:")
    assert f"Checkpoint saved to {tmp_path / 'count' / 'model.pth.tar-4'}" in said


def test_every_step_of_a_short_epoch_is_printed(toy_root: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    built(Count, toy_root, tmp_path, "OPTIM.MAX_EPOCH", 1).train()  # PRINT_FREQ 5, three batches
    assert sum(line.startswith("epoch ") for line in caplog.messages) == 3


def test_tensorboard_holds_losses_rates_and_results(toy_root: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    built(Count, toy_root, tmp_path, "OPTIM.MAX_EPOCH", 2).train()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["test/accuracy", "test/error_rate", "test/macro_f1", "train/loss", "train/lr"]
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(0, 1), (1, 1.5), (2, 2), (3, 4), (4, 4.5), (5, 5)]  # running averages of the epoch
    assert [(event.step, event.value) for event in events.Scalars("train/lr")] == [(step, 1.0) for step in range(6)]
    assert [event.step for event in events.Scalars("test/accuracy")] == [1]


@pytest.mark.parametrize("resume", [False, True])
def test_a_killed_run_goes_on_with_the_same_numbers(resume: bool, toy_root: Path, tmp_path: Path) -> None:
    options = ("OPTIM.MAX_EPOCH", 5, "TRAIN.CHECKPOINT_FREQ", 1)
    whole = built(Count, toy_root, tmp_path / "whole", *options)
    whole.train()
    killed = built(Count, toy_root, tmp_path / "killed", *options)
    killed.before_epoch = lambda: exec("raise KeyboardInterrupt") if killed.epoch == 3 else None
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    where = ("RESUME", tmp_path / "killed") if resume else ()
    again = built(Count, toy_root, tmp_path / ("elsewhere" if resume else "killed"), *options, *where)
    random.random(), torch.rand(5)
    again.train()
    assert again.start_epoch == 3 and again.model.weight.item() == whole.model.weight.item() == -15
    assert killed.order == whole.order[:9] and again.order == whole.order[9:] and again.draws == whole.draws[9:]


def test_best_on_validation_is_kept_tested_and_resumed(toy_root: Path, tmp_path: Path, caplog) -> None:
    options = ("OPTIM.MAX_EPOCH", 5, "TEST.FINAL_MODEL", "best_val")
    trainer = built(Count, toy_root, tmp_path, *options)
    trainer.scores = [10.0, 30.0, 20.0, 30.0, 25.0]
    trainer.before_epoch = lambda: exec("raise KeyboardInterrupt") if trainer.epoch == 3 else None
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    again = built(Count, toy_root, tmp_path, *options)
    again.scores = trainer.scores
    caplog.set_level(logging.INFO, logger="dassl")
    caplog.clear()
    again.train()
    assert again.start_epoch == 2, "the last thing saved was the best model, after two epochs"
    assert again.best_result == 30 and again.model.weight.item() == -6, "the second epoch's, not the equal fourth's"
    assert weight(tmp_path / "count" / "model-best.pth.tar") == -6 and weight(tmp_path / "count" / "model.pth.tar-5") == -15
    best = tmp_path / "count" / "model-best.pth.tar"
    assert f"Load {best} to count (epoch=2, val_result=30.0)" in caplog.messages
    assert "Deploy the model with the best val performance" in caplog.messages
    assert caplog.messages.count("Evaluate on the *val* set") == 3 and "Evaluate on the *test* set" in caplog.messages


def test_which_images_are_tested(toy_root: Path, tmp_path: Path) -> None:
    trainer = built(Count, toy_root, tmp_path, "TEST.SPLIT", "val", "TEST.NO_TEST", True, "OPTIM.MAX_EPOCH", 1)
    trainer.test = lambda split=None: pytest.fail("NO_TEST")
    trainer.train()
    del trainer.test
    counted = []
    trainer.evaluator.process = lambda scores, labels: counted.append(len(labels))
    trainer.evaluator.evaluate = lambda: {"accuracy": float(sum(counted))}
    assert TrainerX.test(trainer) == 12 and not trainer.model.training  # TEST.SPLIT val
    trainer.val_loader = trainer.val_loader.__class__(trainer.val_loader.dataset, batch_size=5)
    assert TrainerX.test(trainer, "test") == 24 and TrainerX.test(trainer, "val") == 36
    trainer.val_loader = None
    assert TrainerX.test(trainer, "val") == 48, "without validation images, the test images"


def test_each_test_is_of_the_images_of_its_part_alone(toy_root: Path, tmp_path: Path) -> None:
    trainer, seen = built(Count, toy_root, tmp_path), []
    parse = trainer.parse_batch_test
    trainer.parse_batch_test = lambda batch: seen.extend(batch["impath"]) or parse(batch)
    for split, part in ((None, trainer.dm.dataset.test), ("val", trainer.dm.dataset.val), ("test", trainer.dm.dataset.test)):
        seen.clear()
        TrainerX.test(trainer, split)
        assert seen == [item.impath for item in part] and len(trainer.evaluator.y_true) == len(part)


@pytest.mark.parametrize("same", [True, False])
def test_unlabelled_images_come_in_batches_as_labelled_ones_do(same: bool, toy_root: Path, tmp_path: Path) -> None:
    options = ("DATASET.ALL_AS_UNLABELED", True, "DATALOADER.TRAIN_U.SAME_AS_X", same, "DATALOADER.TRAIN_U.BATCH_SIZE", 5)
    trainer = built(CountBoth, toy_root, tmp_path, *options)
    assert trainer.train_loader_u.batch_size == (trainer.train_loader_x.batch_size if same else 5)
    assert trainer.train_loader_x.batch_size != 5


@pytest.mark.parametrize("count_iter, steps", [("train_x", 3), ("train_u", 4), ("smaller_one", 3)])
def test_whose_batches_an_epoch_counts(count_iter: str, steps: int, toy_root: Path, tmp_path: Path) -> None:
    options = ("DATASET.ALL_AS_UNLABELED", True, "DATALOADER.TRAIN_U.SAME_AS_X", False, "DATALOADER.TRAIN_U.BATCH_SIZE", 6)
    trainer = built(CountBoth, toy_root, tmp_path, *options, "OPTIM.MAX_EPOCH", 2, "TRAIN.COUNT_ITER", count_iter)
    trainer.train()
    assert trainer.steps_done == 2 * steps
    if steps == 4:  # the labelled images have run out and come round again, in another order
        first, turned = sum(trainer.order[:3], []), trainer.order[3]
        assert sorted(first) == list(range(24)) and turned != trainer.order[0]


def test_unusable_settings_of_both_kinds_of_images(toy_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs unlabelled images"):
        built(CountBoth, toy_root, tmp_path).train()
    with pytest.raises(UserError, match='Did you mean "smaller_one"'):
        built(CountBoth, toy_root, tmp_path, "DATASET.ALL_AS_UNLABELED", True, "TRAIN.COUNT_ITER", "smaler_one").train()
    assert [next(batches) for batches in [endless([1, 2])] for _ in range(5)] == [1, 2, 1, 2, 1]


def test_a_loss_that_is_not_finite_stops_before_the_step(toy_root: Path, tmp_path: Path) -> None:
    trainer = built(Count, toy_root, tmp_path)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!") as caught:
            trainer.model_backward_and_update(trainer.model.weight.sum() * bad)
        assert isinstance(caught.value, UserError) and trainer.model.weight.item() == 0


# -- a step of two losses ---------------------------------------------------------------------------------


class Pair(nn.Module):
    """Two learned vectors, one that stays, and one that no loss reads."""

    def __init__(self, one: list[float], two: list[float]) -> None:
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.tensor(values)) for values in (one, two))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.unread = nn.Parameter(torch.ones(2))


def two_models() -> TrainerBase:
    trainer = TrainerBase()
    for name, rate, values in (("a", 0.5, ([1.0, -2.0], [0.5, 3.0])), ("b", 0.25, ([2.0, 1.0], [-1.0, 4.0]))):
        model = Pair(*values)
        trainer.register_model(name, model, torch.optim.SGD(model.parameters(), lr=rate))
    return trainer


def linear(trainer: TrainerBase, gradients: dict[str, list[float]]) -> torch.Tensor:
    """A loss with these gradients: "a.one" and so on; what is not named it does not depend on."""
    terms = [
        (trainer._models[k.split(".")[0]].get_parameter(k.split(".")[1]) * torch.tensor(g)).sum() for k, g in gradients.items()
    ]
    return torch.stack(terms).sum()


A = {"a.one": [1.0, 0.0], "a.two": [0.0, 2.0], "b.one": [3.0, 1.0], "b.two": [1.0, -1.0]}
B = {"a.one": [-1.0, 1.0], "a.two": [1.0, 5.0], "b.one": [-2.0, -2.0]}  # against, along, against, not at all


@pytest.mark.parametrize("strength", [1, 0.5, 0])
@pytest.mark.parametrize("names", [None, "b", ["a"]])
def test_a_step_does_not_go_against_the_second_loss(strength: float, names) -> None:
    trainer = two_models()
    before = {name: parameter.tolist() for n in "ab" for name, parameter in trainer._models[n].named_parameters(prefix=n)}
    trainer.prograd_backward_and_update(linear(trainer, A), linear(trainer, B), strength, names)
    for name in "ab":
        rate = trainer._optims[name].param_groups[0]["lr"]
        for key, parameter in trainer._models[name].named_parameters(prefix=name):
            g_a, g_b = A.get(key, [0.0, 0.0]), B.get(key, [0.0, 0.0])
            dot, square = sum(map(operator.mul, g_a, g_b)), sum(map(operator.mul, g_b, g_b))
            against = strength * dot / square if dot < 0 else 0.0
            step = [rate * (x - against * y) if names is None or name in names else 0.0 for x, y in zip(g_a, g_b, strict=True)]
            want = [x - y for x, y in zip(before[key], step, strict=True)]
            assert parameter.tolist() == pytest.approx(want, abs=1e-6), key


def test_a_second_loss_that_is_not_finite_takes_no_step() -> None:
    trainer = two_models()
    for losses in ((A, {"a.one": [math.nan, 0.0]}), ({"a.one": [math.inf, 0.0]}, B)):
        with pytest.raises(FloatingPointError):
            trainer.prograd_backward_and_update(*(linear(trainer, one) for one in losses))
    assert trainer._models["a"].one.tolist() == [1.0, -2.0]
