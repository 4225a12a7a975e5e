"""What a GPU computes is what the CPU computes: training, precisions, CUDA graphs, resuming, stores, seeds, programs on runs.

Skipped without a CUDA device. ``GPU_TESTS_ON=cpu`` runs them on the CPU, against the CPU: it shows that the tests work,
and says nothing of a GPU (``benchmarks/gpu.sh run OUT --device cpu`` does that).
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import train
from analysis.predictions import read_predictions
from backbones import VisionLanguageBackbone
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from features.disk import spaces
from runs.config import altered
from runs.seed_batch import stackable_methods
from tests.helpers import QUICK, arguments
from tests.test_seed_batch import ctx, folders, words
from trainers import methods
from trainers.base import VLTrainer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("log_off_stdout", "device")]
CLOSE = 1e-3
FULL_RATE = ("OPTIM.WARMUP_EPOCH", "-1")  # the published first epoch runs at 1e-5 and would hide a wrong gradient
PRECISE = {name: {"TEXT_DROPOUT": False} for name, cls in methods().items() if "TEXT_DROPOUT" in cls.defaults()}


@pytest.fixture(scope="session")
def device() -> str:
    """ "cuda", or "cpu" where that is asked for."""
    name = os.environ.get("GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here: bash benchmarks/gpu.sh run OUT runs this on one")
    return name


@pytest.fixture
def given(device: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> Any:
    """Makes train.py's arguments for a short run on the device, or on the CPU."""

    def make(method: str, out: str, *extra: str, on: str = device, epochs: int = 1, **own: object) -> list[str]:
        cls = methods()[method]
        rate = FULL_RATE if cls.learns and cls.uses_optimizer else ()
        own = QUICK.get(method, {}) | PRECISE.get(method, {}) | own
        return arguments(
            method, tiny_biomedclip, btmri_root, tmp_path / out, split="all", epochs=epochs, cuda=on == "cuda",
            extra=(*rate, *extra), **own,
        )  # fmt: skip

    return make


def run(given: list[str]) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
    """A run's record, what it learned, and its test probabilities (N, C)."""
    assert train.main(given) == 0
    folder = Path(given[given.index("--output-dir") + 1])
    record = json.loads((folder / "results.json").read_text())
    saved = list((folder / "prompt_learner").glob("model.pth.tar-*"))
    learned = torch.load(saved[0], weights_only=True, map_location="cpu")["state_dict"] if saved else {}
    return record, learned, torch.from_numpy(read_predictions(folder / "predictions.csv.gz").probabilities)


def same(found: tuple[Any, dict[str, Tensor], Tensor], wanted: tuple[Any, dict[str, Tensor], Tensor], within: float) -> None:
    """What was learned and what is said of the test images differ by less than ``within``, relative to its largest value."""
    assert found[1].keys() == wanted[1].keys()
    for name, value in wanted[1].items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            found[1][name], value, rtol=0, atol=within * scale, msg=lambda said, name=name: f"{name}: {said}"
        )
    torch.testing.assert_close(found[2], wanted[2], rtol=0, atol=within)


# -- the same numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(methods()))
def test_an_epoch_equals_the_cpu_s(method: str, given: Any, device: str) -> None:
    found, wanted = run(given(method, "gpu")), run(given(method, "cpu", on="cpu"))
    assert found[0]["device"].startswith(device) and wanted[0]["device"] == "cpu"
    same(found, wanted, CLOSE)


@pytest.mark.parametrize("method", ["BiomedDPT", "CoOp", "MaPLe", "VPT", "PromptSRC", "TipAdapterF"])
def test_two_runs_are_equal_to_the_bit(method: str, given: Any) -> None:
    """With the text dropout on where it is published, and every image encoded again."""
    own = {"TEXT_DROPOUT": methods()[method].defaults().TEXT_DROPOUT} if method in PRECISE else {}
    direct = ("FEATURES.MODE", "direct") if methods()[method].frozen_images else ()
    first, second = (run(given(method, name, *direct, epochs=2, **own)) for name in ("first", "second"))
    same(first, second, 0.0)


@pytest.mark.parametrize("precision", ["amp", "fp16", "bf16"])
@pytest.mark.parametrize("method", ["BiomedDPT", "CoOp", "PromptSRC", "CLIPAdapter"])
def test_other_precisions_are_finite_and_named(method: str, precision: str, given: Any) -> None:
    record, learned, probabilities = run(given(method, "run", epochs=2, PREC=precision))
    assert probabilities.isfinite().all() and all(value.isfinite().all() for value in learned.values())
    assert record["changed"][f"TRAINER.{methods()[method].section}.PREC"]["run"] == precision
    exact = run(given(method, "exact", epochs=2))
    assert any(not torch.equal(value, exact[1][name]) for name, value in learned.items())  # it was really used


def test_tf32_is_named_and_its_features_are_kept_apart(given: Any, device: str, tmp_path: Path) -> None:
    root = ("FEATURES.ROOT", str(tmp_path / "store"))
    if device == "cpu":
        assert train.main(given("CoOp", "tf32", "MODEL.BACKBONE.TF32", "True", *root)) == 2
        return
    exact, record = run(given("CoOp", "exact", *root))[0], run(given("CoOp", "tf32", "MODEL.BACKBONE.TF32", "True", *root))[0]
    assert any("TF32" in said for said in record["departures"]) and not any("TF32" in said for said in exact["departures"])
    assert {space["about"]["tf32"] for space in spaces(tmp_path / "store")} == {True, False}
    assert torch.get_float32_matmul_precision() == "high"
    run(given("CoOp", "again", *root))
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("method", ["BiomedDPT", "CoCoOp"])
def test_cuda_graphs_equal_eager(method: str, given: Any, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cpu":  # the same capture, without the minute that generating code for a CPU takes

        def captured(module: nn.Module, mode: str, dynamic: bool) -> None:
            module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager", dynamic=dynamic)

        monkeypatch.setattr(nn.Module, "compile", captured)
    graphs = ("MODEL.BACKBONE.COMPILE", "reduce-overhead")
    wanted = run(given(method, "eager", epochs=3))
    same(run(given(method, "graphs", *graphs, epochs=3)), wanted, 1e-4)
    same(run(given(method, "again", epochs=3)), wanted, 0.0)  # the tower that is handed out again is not compiled


@pytest.mark.parametrize("method", stackable_methods())
def test_seeds_together_equal_lone_runs(
    method: str, device: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    found = {}
    for name, flags in (("alone", ()), ("together", ("--seeds-together",))):
        out = tmp_path / name
        call = words(method, tiny_biomedclip, btmri_root, out, *flags, cuda=device == "cuda", TEXT_DROPOUT=False)
        assert train.main(call) == 0
        found[name] = {seed: ctx(folder) for seed, folder in folders(out).items()}
    for seed, value in found["alone"].items():
        torch.testing.assert_close(found["together"][seed].cpu(), value.cpu(), rtol=0, atol=1e-4)
    assert len(found["alone"]) == 3


# -- one machine after another ------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("gpu_first", [True, False])
def test_a_run_goes_on_where_there_is_no_gpu_and_back(
    gpu_first: bool, given: Any, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if its folder had been moved: the settings are the same, a GPU is there or not."""
    original = VLTrainer.run_epoch

    def dying(self: VLTrainer) -> None:
        if self.epoch == 2:
            raise Killed
        original(self)

    def without_gpu(patch: pytest.MonkeyPatch, without: bool) -> None:
        if without and device == "cuda":
            patch.setattr(torch.cuda, "is_available", lambda: False)

    call = given("BiomedCoOp", "moved", epochs=4)
    with monkeypatch.context() as patch:
        without_gpu(patch, not gpu_first)
        patch.setattr(VLTrainer, "run_epoch", dying)
        with pytest.raises(Killed):
            train.main(call)
    with monkeypatch.context() as patch:
        without_gpu(patch, gpu_first)
        moved = run(call)
    assert "Loading checkpoint" in (Path(call[call.index("--output-dir") + 1]) / "log.txt").read_text()
    assert moved[0]["device"].startswith("cpu" if gpu_first else device)
    same(moved, run(given("BiomedCoOp", "whole", epochs=4)), CLOSE)


def test_a_gpu_s_store_is_its_own_and_is_read_there(
    given: Any, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ("FEATURES.ROOT", str(tmp_path / "store"))
    run(given("BiomedDPT", "first", *root))
    before = {space["folder"] for space in spaces(tmp_path / "store")}
    assert {space["about"]["device"] for space in spaces(tmp_path / "store")} == {device}

    def encoded(*_: Any) -> None:
        raise AssertionError("an image was encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(VLTrainer, "encode", encoded)
        patch.setattr(VisionLanguageBackbone, "encode_text", encoded)
        run(given("BiomedDPT", "second", *root))
    run(given("BiomedDPT", "cpu", *root, on="cpu"))
    after = {space["folder"] for space in spaces(tmp_path / "store")}
    assert len(after) == len(before) * (1 if device == "cpu" else 2)


# -- programs on a trained run ------------------------------------------------------------------------------


def test_predict_says_the_same(given: Any, device: str, btmri_root: Path, tmp_path: Path) -> None:
    import predict

    call = given("BiomedDPT", "run")
    run(call)
    said = []
    for name in (device, "cpu"):
        file = tmp_path / f"{name}.csv"
        words = [call[call.index("--output-dir") + 1], str(btmri_root / "BTMRI"), "-o", str(file), "--device", name]
        assert predict.main(words) == 0
        with open(file, newline="") as text:
            said.append([[float(cell) for cell in row if _is_number(cell)] for row in csv.reader(text)][1:])
    torch.testing.assert_close(torch.tensor(said[0]), torch.tensor(said[1]), rtol=0, atol=CLOSE)
    assert len(said[0]) == len(list((btmri_root / "BTMRI").rglob("*.png"))) and len(said[0][0]) >= 4


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("e-", "", 1).isdigit()


def test_explain_draws(given: Any, device: str, btmri_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not on this machine")
    from explain import command

    call = given("BiomedDPT", "run")
    run(call)
    images = [str(path) for path in sorted((btmri_root / "BTMRI").rglob("*.png"))[:2]]
    folder = call[call.index("--output-dir") + 1]
    shifts = []
    for name in (device, "cpu"):
        assert command.main([folder, *images, "-o", str(tmp_path / name), "--device", name]) == 0
        assert len(list((tmp_path / name).rglob("*.png"))) == len(images)
        shifts.append((tmp_path / name / "shift.csv").read_text())
    numbers = [
        torch.tensor([[float(cell) for cell in row if _is_number(cell)] for row in csv.reader(text.splitlines())][1:])
        for text in shifts
    ]
    torch.testing.assert_close(*numbers, rtol=0, atol=CLOSE)


def test_a_gpu_s_run_is_exported(given: Any, tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not on this machine")
    import export

    call = given("BiomedDPT", "run")
    run(call)
    assert export.main([call[call.index("--output-dir") + 1], "-o", str(tmp_path / "served")]) == 0  # compares itself
    assert (tmp_path / "served" / "model.onnx").is_file()


def test_the_generator_of_a_gpu_is_resumed(device: str, tmp_path: Path, given: Any) -> None:
    """Text dropout on the device: what an interrupted run draws afterwards is what a whole one draws."""
    cfg = train.setup_cfg(train.parse_arguments(given("BiomedDPT", "drawn", epochs=4, TEXT_DROPOUT=True)))
    ends = []
    for interrupted in (False, True):
        folder = tmp_path / f"drawn-{interrupted}"
        own = altered(cfg, {"OUTPUT_DIR": str(folder)})
        set_random_seed(1)
        trainer = build_trainer(own)
        if interrupted:
            trainer.max_epoch = 2
            trainer.train()
            set_random_seed(5)
            trainer = build_trainer(own)
        trainer.train()
        ends.append(trainer.prompt_learner.ctx.detach().cpu())
    torch.testing.assert_close(*ends, rtol=0, atol=0)
