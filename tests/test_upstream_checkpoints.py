"""Checkpoints as upstream writes them, with a schedule pickled into them, are evaluated and resumed."""

from __future__ import annotations

import copy
import json
import logging
import sys
import types
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from dassl import utils
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError
from dassl.utils.inert import Unread
from tests.engine_helpers import third_party_config, words, write_toy_images
from tests.helpers import arguments


class OfAFork(CosineAnnealingLR):
    """A schedule whose class lies in a module that is not there when the file is read."""


def upstream_schedule(optimizer, epochs: int, max_epoch: int, warmup: int, cls=CosineAnnealingLR) -> dict:
    """What upstream's warm-up schedule gives as its state after ``epochs`` epochs: its successor is an object."""
    base = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    successor = cls(optimizer, float(max_epoch))
    for _ in range(epochs - warmup):
        successor.step()
    return {
        "successor": successor,
        "warmup_epoch": warmup,
        "cons_lr": 1e-5,
        "base_lrs": base,
        "last_epoch": min(epochs, warmup),
        "verbose": False,
        "_step_count": 2,
        "_get_lr_called_within_step": False,
        "_last_lr": successor.get_last_lr() if epochs >= warmup else [1e-5],
    }


def as_upstream(path: Path, max_epoch: int, warmup: int, cls=CosineAnnealingLR, **how: object) -> None:
    """Write a checkpoint of ours anew as upstream would have written it."""
    ours = torch.load(path, weights_only=True)
    optimizer = torch.optim.SGD([nn.Parameter(ours["state_dict"]["ctx"].clone())], lr=0.3, momentum=0.9)
    schedule = upstream_schedule(optimizer, ours["epoch"], max_epoch, warmup, cls)
    kept = {name: ours[name] for name in ("state_dict", "epoch", "optimizer")}
    torch.save(kept | {"scheduler": schedule, "val_result": np.float64(81.25)}, path, **how)


FORMATS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of steps out of order
@pytest.mark.parametrize("how", FORMATS, ids=["zip", "legacy", "protocol4"])
def test_what_is_plain_is_given_back(how: dict, tmp_path: Path, caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    fork = types.ModuleType("a_fork_of_dassl")
    monkeypatch.setitem(sys.modules, fork.__name__, fork)
    fork.OfAFork = OfAFork
    monkeypatch.setattr(OfAFork, "__module__", fork.__name__)
    weight = nn.Parameter(torch.randn(2, 3))
    optimizer = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
    schedule = upstream_schedule(optimizer, 3, 6, 1, OfAFork)
    weight.sum().backward()
    optimizer.step()
    others = {"set": {1, 2}, "tuple": (1, [2.5, None]), "complex": 1j, "bytes": b"\x00\xff", "size": torch.Size([2]),
              "device": torch.device("cpu"), "dtype": torch.float16, "numbers": [np.int64(3), np.float32(0.5), np.bool_(True)],
              "drops": Counter([2, 2, 4]), "by_key": defaultdict(list, {"a": [1]}), "array": np.arange(3),
              "weight": weight}  # fmt: skip
    state = {"state_dict": OrderedDict(a=weight.detach(), b=weight[0].detach()), "epoch": 3, "scheduler": schedule}
    torch.save(state | {"optimizer": optimizer.state_dict(), "others": others}, tmp_path / "file", **how)
    monkeypatch.delitem(sys.modules, fork.__name__)

    read = utils.load_checkpoint(str(tmp_path / "file"))
    assert list(read["state_dict"]) == ["a", "b"] and torch.equal(read["state_dict"]["a"], weight)
    assert torch.equal(read["state_dict"]["b"], weight[0]) and read["epoch"] == 3
    assert read["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    assert torch.equal(read["optimizer"]["state"][0]["momentum_buffer"], torch.ones(2, 3))
    successor = read["scheduler"].pop("successor")
    assert isinstance(successor, Unread) and successor.origin == "a_fork_of_dassl.OfAFork"
    assert read["scheduler"] == {key: value for key, value in schedule.items() if key != "successor"}
    array, learned = read["others"].pop("array"), read["others"].pop("weight")
    assert isinstance(array, Unread) and isinstance(learned, nn.Parameter) and torch.equal(learned, weight)
    assert read["others"] == {name: others[name] for name in others if name not in ("array", "weight")}
    assert [type(number) for number in read["others"]["numbers"]] == [int, float, bool]
    assert "a_fork_of_dassl" not in sys.modules
    (said,) = [line for line in caplog.messages if line.startswith("Not read")]
    assert "scheduler.successor (a_fork_of_dassl.OfAFork)" in said and "others.array" in said
    assert copy.deepcopy(successor).origin == successor.origin and "not read" in repr(successor)


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


def run(*arguments: object):
    import main as entry

    stdout = sys.stdout
    try:
        return entry.main(entry.parse_args(words(*arguments)))
    finally:
        sys.stdout = stdout


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("how", FORMATS, ids=["zip", "legacy", "protocol4"])
@pytest.mark.parametrize("epoch, warmup", [(1, 3), (3, 3), (5, 3), (4, 1)])
def test_a_third_party_run_of_upstreams_evaluates_and_resumes(
    epoch: int, warmup: int, how: dict, toy_root: Path, tmp_path: Path, capfd
) -> None:
    options = ["OPTIM.WARMUP_EPOCH", warmup, "TRAIN.CHECKPOINT_FREQ", 1]
    whole = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "whole", *options)
    ctx = whole.model.prompt_learner.ctx.detach()
    folder = tmp_path / "upstream" / "prompt_learner"
    folder.mkdir(parents=True)
    for name in (f"model.pth.tar-{epoch}", "model.pth.tar-6"):
        (folder / name).write_bytes((tmp_path / "whole" / "prompt_learner" / name).read_bytes())
        as_upstream(folder / name, 6, warmup, **how)
    (folder / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")

    tested = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "tested", "--eval-only", "--model-dir", tmp_path / "upstream",
                 "--load-epoch", 6, *options)  # fmt: skip
    assert tested.last_results == whole.last_results and torch.equal(tested.model.prompt_learner.ctx, ctx)
    started = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "started", "OPTIM.MAX_EPOCH", 0, "MODEL.INIT_WEIGHTS",
                  folder / "model.pth.tar-6")  # fmt: skip
    assert torch.equal(started.model.prompt_learner.ctx, ctx)
    again = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "again", "--resume", tmp_path / "upstream", *options)
    assert again.start_epoch == epoch and torch.equal(again.model.prompt_learner.ctx, ctx)
    log = (tmp_path / "again" / "log.txt").read_text()
    assert f"Rebuilt scheduler: {epoch} epochs of this run's own" in log and "Loaded optimizer" in log


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_our_methods_evaluate_and_resume_too(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    """Upstream's CoOp saves the embeddings around its context with it; of those nothing is taken."""
    import train

    def call(out: Path, *extra: str) -> dict:
        words = arguments("CoOp", tiny_biomedclip, btmri_root, out, split="all", extra=extra, epochs=3)
        assert train.main([*words, "TRAIN.CHECKPOINT_FREQ", "1"]) == 0
        return json.loads((out / "results.json").read_text())

    whole = call(tmp_path / "whole")
    trained = tmp_path / "whole" / "prompt_learner"
    last = torch.load(trained / "model.pth.tar-3", weights_only=True)["state_dict"]["ctx"]
    for name, epoch in (("upstream", 3), ("begun", 1)):
        folder = tmp_path / name / "prompt_learner"
        folder.mkdir(parents=True)
        state = torch.load(trained / f"model.pth.tar-{epoch}", weights_only=True)
        if name == "upstream":
            state["state_dict"] |= {"token_prefix": torch.zeros(4, 1, 32), "token_suffix": torch.zeros(4, 9, 32)}
        torch.save(state, folder / f"model.pth.tar-{epoch}")
        as_upstream(folder / f"model.pth.tar-{epoch}", 3, 1)
        (folder / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")
    tested = call(tmp_path / "tested", "--eval-only", "--model-dir", str(tmp_path / "upstream"))
    assert tested["metrics"] == whole["metrics"]
    resumed = call(tmp_path / "resumed", "--resume", str(tmp_path / "begun"))
    assert resumed["metrics"] == whole["metrics"]
    path = tmp_path / "resumed" / "prompt_learner" / "model.pth.tar-3"
    assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["ctx"], last)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rebuilt_schedules_have_the_rates_of_those_that_ran(tmp_path: Path) -> None:
    """Ours from upstream's plain state, without a warm-up; and PyTorch's around an object that is not read."""
    cfg = third_party_config("none", "coop", tmp_path, tmp_path, "OPTIM.WARMUP_EPOCH", 0).OPTIM

    def made(kind):
        model = nn.Linear(2, 1)
        optimizer = build_optimizer(model, cfg)
        return model, optimizer, kind(optimizer)

    def with_object(optimizer):
        schedule = CosineAnnealingLR(optimizer, 6.0)
        schedule.somebody = MultiStepLR(optimizer, [9])  # as where a fork keeps a schedule within its own
        return schedule

    for kind in (lambda optimizer: build_lr_scheduler(optimizer, cfg), with_object):
        model, optimizer, schedule = made(kind)
        upstream = CosineAnnealingLR(torch.optim.SGD(model.parameters(), lr=cfg.LR), 6.0)
        for _ in range(4):
            schedule.step(), upstream.step()
        state = upstream.state_dict() if kind is not with_object else schedule.state_dict()
        utils.save_checkpoint({"state_dict": model.state_dict(), "epoch": 4, "optimizer": optimizer.state_dict(),
                               "scheduler": state}, str(tmp_path))  # fmt: skip
        model, resumed, fresh = made(kind)
        assert utils.resume_from_checkpoint(str(tmp_path), model, resumed, fresh) == 4
        for _ in range(3):
            assert resumed.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
            schedule.step(), fresh.step()


def test_what_does_not_fit_is_told_in_a_line(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = {"state_dict": model.state_dict(), "epoch": 1, "optimizer": {"state": {0: OfAFork}, "param_groups": []}}
    utils.save_checkpoint(state, str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be resumed from: optimizer.state.0 is a pickled tests.*OfAFork"):
        utils.resume_from_checkpoint(str(tmp_path), model, optimizer)
    with pytest.raises(RuntimeError, match="cannot be resumed from") as caught:
        utils.resume_from_checkpoint(str(tmp_path), nn.Linear(3, 1))
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)
    torch.save(nn.Linear(2, 1), tmp_path / "whole")
    with pytest.raises(UserError, match=r"whole is a pickled torch.nn.modules.linear.Linear, not its tensors"):
        utils.load_pretrained_weights(model, str(tmp_path / "whole"))
