"""The `dassl` package against upstream's interface: config, names, signatures, registries, small tools."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
from pathlib import Path

import pytest
import torch

import dassl.utils as utils
from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import Registry, UserError

# Upstream's interface, written out: config keys with their defaults; module -> names that code written for it imports
# from there; "module:name" -> parameters with their defaults
INTERFACE = json.loads(Path(__file__).with_name("dassl_interface.json").read_text())
DEFAULTS, NAMES, SIGNATURES = (INTERFACE[part] for part in ("defaults", "names", "signatures"))


def flat(node, prefix: str = "") -> dict:
    found = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def plain(node) -> dict:
    """As JSON has it: no tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in flat(node).items()}


def test_config_keys_and_defaults_are_upstreams() -> None:
    ours = plain(get_cfg_default())
    assert ours == DEFAULTS
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in DEFAULTS.items()}
    lists = {key for key, value in flat(get_cfg_default()).items() if isinstance(value, list)}
    assert lists == {"INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD"}  # the others are tuples


def test_each_config_is_a_copy_of_its_own() -> None:
    one = get_cfg_default()
    one.OPTIM.LR, one.INPUT.PIXEL_MEAN[0] = 7.0, 9.0
    assert plain(get_cfg_default()) == DEFAULTS
    assert not one.is_frozen()


def test_clean_cfg_leaves_one_trainers_section() -> None:
    cfg = get_cfg_default()
    clean_cfg(cfg, "FixMatch")
    assert sorted(cfg.TRAINER) == ["FIXMATCH", "NAME"]


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", NAMES)
def test_upstreams_names_are_where_upstream_has_them(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in NAMES[module] if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("where", SIGNATURES)
def test_upstreams_signatures(where: str) -> None:
    module, _, path = where.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    shown = []
    for name, parameter in inspect.signature(found).parameters.items():
        shown.append(name if parameter.default is parameter.empty else f"{name}={parameter.default!r}")
    assert ", ".join(shown) == SIGNATURES[where]


def test_star_import_of_the_trainers_gives_what_upstreams_does() -> None:
    found: dict[str, object] = {}
    exec("from dassl.engine.trainer import *", found)
    assert [name for name in NAMES["dassl.engine.trainer"] if name not in found] == []
    with pytest.raises(ImportError):
        exec("from dassl.engine.trainer import NoSuchTrainer", {})


def test_a_trainer_by_another_name_than_the_configs() -> None:
    @TRAINER_REGISTRY.register(force=True)
    class ByItsName:
        def __init__(self, cfg) -> None:
            self.cfg = cfg

    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "NoSuchTrainer"
    assert type(build_trainer(cfg, "ByItsName")) is type(build_trainer(cfg, name="ByItsName")) is ByItsName
    assert cfg.TRAINER.NAME == "NoSuchTrainer"
    with pytest.raises(UserError, match="NoSuchTrainer"):
        build_trainer(cfg)


# -- registries and errors --------------------------------------------------------------------------------


def test_registry_gives_what_it_was_given_and_names_the_nearest() -> None:
    fruits = Registry("FRUIT")

    @fruits.register()
    class Apple: ...

    def pear() -> None: ...

    fruits.register(pear)
    assert fruits.get("Apple") is Apple and fruits.get("pear") is pear
    assert fruits.registered_names() == ["Apple", "pear"]
    with pytest.raises(UserError, match='"Aple" is not in the FRUIT registry. Did you mean "Apple"') as caught:
        fruits.get("Aple")
    assert "\n" not in str(caught.value) and isinstance(caught.value, KeyError)


def test_registry_refuses_a_second_of_the_name_unless_forced() -> None:
    fruits = Registry("FRUIT")

    def make():
        class Apple: ...

        return Apple

    first, second = make(), make()
    fruits.register(first)
    with pytest.raises(KeyError, match="already registered"):
        fruits.register(second)
    with pytest.raises(KeyError, match="already registered"):
        fruits.register()(second)
    fruits.register(force=True)(second)
    assert fruits.get("Apple") is second


@pytest.mark.parametrize(
    "mistake, kind",
    [
        (lambda: utils.check_availability("adan", ["adam", "sgd"]), ValueError),
        (lambda: utils.load_checkpoint("/no/such/file"), FileNotFoundError),
        (lambda: Registry("X").get("y"), KeyError),
    ],
)
def test_a_mistake_is_one_readable_line_of_upstreams_type(mistake, kind) -> None:
    with pytest.raises(kind) as caught:
        mistake()
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value) and str(caught.value)


# -- small tools ------------------------------------------------------------------------------------------


def test_meters() -> None:
    meter = utils.MetricMeter()
    meter.update({"loss": 1.0, "acc": torch.tensor([50.0])})
    meter.update(None)
    meter.update({"loss": 2.0, "acc": 100.0})
    assert str(meter) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    with pytest.raises(TypeError):
        meter.update([("loss", 1.0)])
    average, moving = utils.AverageMeter(), utils.AverageMeter(ema=True)
    for value, times in ((2.0, 1), (5.0, 3)):
        average.update(value, times)
        moving.update(value)
    assert (average.avg, average.sum, average.count) == (17 / 4, 17.0, 4)
    assert moving.avg == pytest.approx(0.9 * (0.1 * 2) + 0.1 * 5)


def test_files_and_names(tmp_path: Path) -> None:
    utils.mkdir_if_missing(str(tmp_path / "a" / "b"))
    utils.mkdir_if_missing(str(tmp_path / "a" / "b"))
    path = str(tmp_path / "a" / "new" / "x.json")
    utils.write_json({"ä": [1, 2.5, None]}, path)
    assert utils.read_json(path) == {"ä": [1, 2.5, None]} and utils.check_isfile(path)
    with pytest.raises(TypeError):
        utils.write_json({"x": object()}, path)
    assert utils.read_json(path) == {"ä": [1, 2.5, None]}, "a failed write must leave the old file"
    (tmp_path / ".hidden").touch()
    (tmp_path / "Z").touch()
    assert utils.listdir_nohidden(str(tmp_path), sort=True) == ["Z", "a"]
    with pytest.warns(UserWarning, match="No file found"):
        assert not utils.check_isfile(str(tmp_path / "none"))
    assert utils.get_most_similar_str_to_a_from_b("coup", ["maple", "coop", "vpt"]) == "coop"
    assert utils.tolist_if_not("a") == ["a"] and utils.tolist_if_not(["a"]) == ["a"]


def logged(output: Path, monkeypatch, *lines: str) -> None:
    """A program that sets up its log, and prints."""
    monkeypatch.setattr(logging.getLogger(), "handlers", list(logging.getLogger().handlers))
    stdout = sys.stdout
    try:
        utils.setup_logger(str(output))
        for line in lines:
            print(line)
        logging.getLogger("dassl.somewhere").info("=> result")
        sys.stdout.close()
    finally:
        sys.stdout = stdout


def test_logger_puts_the_log_of_an_unfinished_run_aside(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "log.txt").write_text("before\n")
    logged(tmp_path, monkeypatch, "printed")
    assert (tmp_path / "log.txt").read_text() == "printed\n=> result\n"
    (old,) = tmp_path.glob("log.txt-*")
    assert old.read_text() == "before\n"


@pytest.mark.parametrize("name", ["log.txt", "own.log"])
def test_logger_leaves_the_log_of_a_finished_training_alone(name: str, tmp_path: Path, monkeypatch) -> None:
    finished = "epoch [1/1]\nFinish training\n=> result\n* accuracy: 83.21%\n"
    (tmp_path / name).write_text(finished)
    logged(tmp_path if name == "log.txt" else tmp_path / name, monkeypatch, "* accuracy: 11.00%")
    assert (tmp_path / name).read_text() == finished
    (new,) = tmp_path.glob(f"{name}-*")
    assert new.read_text() == "* accuracy: 11.00%\n=> result\n"


def test_lines_are_shown_where_nobody_set_up_logging(monkeypatch, capsys) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger("dassl.somewhere").info("=> result")
    assert capsys.readouterr() == ("", "=> result\n")
