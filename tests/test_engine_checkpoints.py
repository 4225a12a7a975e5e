"""The engine's checkpoints, registered models and module tools."""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from dassl import utils
from dassl.config import get_cfg_default
from dassl.engine import SimpleNet, TrainerBase
from dassl.utils import UserError


class Opens:
    """A pickle that would leave a trace when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_checkpoints_hold_what_was_saved(tmp_path: Path) -> None:
    state = {
        "state_dict": OrderedDict([("module.a", torch.arange(3.0)), ("b", torch.ones(1))]),
        "epoch": 4,
        "val_result": np.float64(83.25),
        "more": {"values": [np.int64(3), (np.bool_(True), "text")]},
    }
    path = utils.save_checkpoint(state, str(tmp_path), is_best=True)
    assert Path(path).name == "model.pth.tar-4" and (tmp_path / "checkpoint").read_text() == "model.pth.tar-4\n"
    for name in ("model.pth.tar-4", "model-best.pth.tar"):
        loaded = utils.load_checkpoint(str(tmp_path / name))
        assert list(loaded["state_dict"]) == ["a", "b"] and torch.equal(loaded["state_dict"]["a"], torch.arange(3.0))
        assert (loaded["epoch"], loaded["val_result"]) == (4, 83.25)
        assert loaded["more"] == {"values": [3, (True, "text")]}
    utils.save_checkpoint({"state_dict": {}, "epoch": 5}, str(tmp_path), model_name="other.pth.tar")
    assert (tmp_path / "checkpoint").read_text() == "other.pth.tar\n", "what was saved last is what is resumed from"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint", "model-best.pth.tar", "model.pth.tar-4", "other.pth.tar",
    ]  # fmt: skip


def test_a_pickled_object_is_left_unread_and_a_missing_file_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 1, "x": Opens(tmp_path / "trace")}, tmp_path / "pickled")
    read = utils.load_checkpoint(str(tmp_path / "pickled"))
    assert read.pop("x").origin in ("io.open", "_io.open") and read == {"state_dict": {}, "epoch": 1}
    assert not (tmp_path / "trace").exists(), "the pickle was executed"
    for missing in ("", None, str(tmp_path / "none")):
        with pytest.raises(FileNotFoundError):
            utils.load_checkpoint(missing)


def test_random_sources_go_on_where_they_were() -> None:
    utils.set_random_seed(3)
    random.gauss(0, 1), np.random.standard_normal(3), torch.rand(2)
    state = utils.rng_state()
    first = random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item()
    utils.set_random_seed(9)
    utils.set_rng_state(state)
    assert first == (random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item())


def test_pretrained_weights_go_where_name_and_shape_fit(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    model = nn.Linear(3, 2)
    bias = model.bias.detach().clone()
    weights = {"module.weight": torch.full((2, 3), 7.0), "bias": torch.zeros(5), "extra": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "w")
    utils.load_pretrained_weights(model, str(tmp_path / "w"))
    assert (model.weight == 7).all() and torch.equal(model.bias, bias)
    assert caplog.messages == [
        f"Successfully loaded pretrained weights from {tmp_path / 'w'}",
        "Layers discarded due to unmatched keys or size: ['bias', 'extra']",
    ]
    torch.save({"other": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(UserError, match="no tensor .* fits"):
        utils.load_pretrained_weights(model, str(tmp_path / "w"))


def test_module_tools() -> None:
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.InstanceNorm2d(2, affine=True), bn=nn.BatchNorm2d(2)))
    assert utils.count_num_param(model) == 20 + 4 + 4
    assert utils.count_num_param(params=model.parameters()) == 28
    assert utils.count_num_param(params=[{"params": p} for p in model.parameters()]) == 28
    assert utils.count_num_param(params=[{"params": list(model.parameters())}]) == 28
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(5)
    utils.init_network_weights(model, "orthogonal", gain=2.0)
    rows = model.conv.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, 4 * torch.eye(2))
    assert not model.conv.bias.any() and (model.norm.weight == 1).all() and not model.norm.bias.any()
    assert (model.bn.weight == 1).all() and not model.bn.bias.any()
    utils.open_specified_layers(nn.DataParallel(model), "norm")
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, False, False]
    assert model.norm.training and not model.conv.training
    with pytest.raises(AttributeError):
        utils.open_specified_layers(model, ["head"])
    utils.open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters()) and model.bn.training
    model.apply(utils.set_bn_to_eval)
    assert not model.bn.training and model.norm.training
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for kwargs, want in (({}, 0.5 * 0.1**2), ({"linear_decay": True, "final_lr": 0.1}, 0.45 * 0.1 + 0.55 * 0.5)):
        utils.adjust_learning_rate(optimizer, 0.5, 45, **kwargs)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(want)


def test_models_by_name(tmp_path: Path) -> None:
    trainer = TrainerBase()
    nets = [nn.Linear(1, 1), nn.Linear(1, 1)]
    for name, net in zip("ab", nets, strict=True):
        trainer.register_model(name, net)
    assert trainer.get_model_names() == ["a", "b"] and trainer.get_model_names("b") == ["b"]
    trainer.set_model_mode("eval", ["a"])
    assert not nets[0].training and nets[1].training
    with pytest.raises(KeyError):
        trainer.set_model_mode("evaluate")
    with pytest.raises(KeyError):
        trainer.get_model_names("c")
    with pytest.raises(ValueError, match="duplicate"):
        trainer.register_model("a", nets[0])
    with pytest.raises(AttributeError):
        TrainerBase.register_model(object.__new__(TrainerBase), "a", nets[0])
    trainer.save_model(0, str(tmp_path))
    with torch.no_grad():
        nets[1].weight.add_(1)
    kept = nets[1].weight.item() - 1
    trainer.load_model(str(tmp_path), epoch=1)
    assert nets[1].weight.item() == pytest.approx(kept)
    with pytest.raises(FileNotFoundError):
        trainer.load_model(str(tmp_path), epoch=7)
    trainer.load_model("")  # says so and does nothing
    utils.save_checkpoint({"state_dict": nets[1].state_dict(), "epoch": 5}, str(tmp_path / "b"))
    with pytest.raises(UserError, match="saved after different epochs"):
        trainer.resume_model_if_exist(str(tmp_path))


def test_simple_net_with_and_without_head() -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.PRETRAINED", False])
    images = torch.randn(2, 3, 32, 32)
    plain = SimpleNet(cfg, cfg.MODEL, 5).eval()
    scores, features = plain(images, return_feature=True)
    assert scores.shape == (2, 5) and features.shape == (2, 512) == (2, plain.fdim)
    torch.testing.assert_close(plain.classifier(features), plain(images))
    assert SimpleNet(cfg, cfg.MODEL, 0).eval()(images).shape == (2, 512)
    net = torchvision.models.resnet18()
    names = {f"backbone.{name}" for name in net.state_dict() if not name.startswith("fc.")}
    assert {name for name in plain.state_dict() if name.startswith("backbone.")} == names, "upstream's names"
    net.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in plain.state_dict().items() if "backbone" in k}, strict=False
    )
    net.fc = nn.Identity()
    torch.testing.assert_close(net.eval()(images), features)
    cfg.merge_from_list(["MODEL.HEAD.NAME", "mlp", "MODEL.HEAD.HIDDEN_LAYERS", (7, 6), "MODEL.HEAD.DROPOUT", 0.5])
    headed = SimpleNet(cfg, cfg.MODEL, 5)
    assert [type(layer).__name__ for layer in headed.head.mlp] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2
    assert headed.fdim == 6 and headed.eval()(images).shape == (2, 5)
