"""Seeds trained together against lone runs: what is learned, what is left behind, what is refused, what is resumed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.predictions import read_predictions
from dassl.engine import build_trainer
from dassl.utils import UserError, set_random_seed
from runs import seed_batch
from runs.progress import MARK
from runs.seed_batch import SeedBatch, is_stackable, stackable_methods
from tests.conftest import REPO
from tests.helpers import arguments
from trainers import methods

SEEDS = (1, 2, 3)
OFF = {"TEXT_DROPOUT": False}


def words(method: str, folder: Path, root: Path, out: Path, *more: str, seeds: tuple[int, ...] = SEEDS,
          task: str = "few_shot", epochs: int = 3, extra: tuple[str, ...] = (), **own: object) -> list[str]:  # fmt: skip
    """train.py's arguments for a task; ``more`` are flags, ``extra`` are config overrides."""
    flags = ("--seeds", *map(str, seeds), "--task", task, *more)
    given = arguments(method, folder, root, out, split="all", epochs=epochs, extra=flags, **own)
    given[given.index("--output-dir")] = "--output-root"
    return given + list(extra)


def go(*args: Any, **kwargs: Any) -> int:
    import train

    return train.main(words(*args, **kwargs))


def folders(out: Path, split: str = "few_shot") -> dict[int, Path]:
    """Run folder by seed."""
    return {int(path.name.removeprefix("seed")): path for path in (out / split).glob("*/*/*/*/seed*")}


def ctx(folder: Path) -> torch.Tensor:
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def batch(tiny_biomedclip, btmri_root, tmp_path):
    """Makes built trainers of three seeds, each as its lone run starts it."""
    import train

    def make(method: str, *extra: str, **own: object) -> list[Any]:
        trainers = []
        for seed in SEEDS:
            out = tmp_path / f"seed{seed}"
            given = arguments(method, tiny_biomedclip, btmri_root, out, split="all", seed=seed, **own)
            cfg = train.setup_cfg(train.parse_arguments(given + list(extra)))
            set_random_seed(seed)
            trainers.append(build_trainer(cfg))
        return trainers

    return make


# -- equal to lone runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", stackable_methods())
def test_each_seed_ends_as_its_lone_run_does(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    given = (method, tiny_biomedclip, btmri_root)
    assert go(*given, tmp_path / "alone", **OFF) == 0
    assert go(*given, tmp_path / "together", "--seeds-together", **OFF) == 0
    alone, together = folders(tmp_path / "alone"), folders(tmp_path / "together")
    assert set(alone) == set(together) == set(SEEDS)
    for seed in SEEDS:
        torch.testing.assert_close(ctx(together[seed]), ctx(alone[seed]), rtol=0, atol=1e-5)
        mine, own = record(together[seed]), record(alone[seed])
        assert mine["metrics"] == pytest.approx(own["metrics"], abs=1e-3)
        assert mine["confusion_matrix"] == own["confusion_matrix"] and mine["config_hash"] == own["config_hash"]
        assert mine["train"] == own["train"] | {"seeds_together": list(SEEDS)}
        assert mine["departures"] == own["departures"]
        predicted = [read_predictions(one[seed] / "predictions.csv.gz") for one in (together, alone)]
        assert predicted[0].paths == predicted[1].paths
        assert (predicted[0].probabilities.argmax(1) == predicted[1].probabilities.argmax(1)).all()
    assert (ctx(together[1]) - ctx(together[2])).abs().max() > 1e-4  # 1e-5 can tell seeds apart


STEP = re.compile(r"^(epoch \S+ batch \S+) .* loss (\S+) .* (lr \S+)", re.MULTILINE)


def test_each_seed_has_the_log_of_its_lone_run(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    given = ("CoOp", tiny_biomedclip, btmri_root)
    assert go(*given, tmp_path / "alone") == 0
    assert go(*given, tmp_path / "together", "--seeds-together") == 0
    alone, together = folders(tmp_path / "alone"), folders(tmp_path / "together")
    for seed in SEEDS:
        log = (together[seed] / "log.txt").read_text()
        assert log.count("trained together: seeds 1 2 3") == 1 and "seed 2: " not in log
        assert re.findall(r"fixed seed: (\d)", log) == [str(seed)]
        steps, own = STEP.findall(log), STEP.findall((alone[seed] / "log.txt").read_text())
        assert [(at, rate) for at, _, rate in steps] == [(at, rate) for at, _, rate in own] and len(steps) == 3
        assert [float(loss) for _, loss, _ in steps] == pytest.approx([float(loss) for _, loss, _ in own], abs=2e-4)
        for message in ("Building transform_train", "* accuracy: ", "Finish training"):
            assert log.count(message) == (alone[seed] / "log.txt").read_text().count(message) > 0
        assert {path.name for path in together[seed].iterdir()} == {path.name for path in alone[seed].iterdir()}
    assert "seed 2: epoch [3/3]" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["CoOp", "BiomedDPT"])
def test_one_text_pass_per_step_for_all_seeds(method, batch, monkeypatch) -> None:
    trainers = batch(method)
    together = SeedBatch(trainers)
    backbone, sizes = trainers[0].backbone, []
    original = backbone.encode_embeddings

    def counted(embeddings, tokens, *more):
        sizes.append(len(embeddings))
        return original(embeddings, tokens, *more)

    together.each(lambda trainer: seed_batch.begin(trainer, 0))
    monkeypatch.setattr(backbone, "encode_embeddings", counted)
    together.run_epoch()
    assert sizes == [len(SEEDS) * 4] * trainers[0].num_batches


def test_images_that_are_encoded_anew_each_time(batch) -> None:
    extra = ("FEATURES.MODE", "direct")
    first, second = batch("CoOp", *extra), batch("CoOp", *extra)
    SeedBatch(first).train()
    for one, alone in zip(first, second, strict=True):
        alone.train()
        torch.testing.assert_close(one.prompt_learner.ctx, alone.prompt_learner.ctx, rtol=0, atol=1e-5)


def test_each_seed_has_its_own_grad_scaler(batch) -> None:
    """A factor that overflows leaves its own seed's step out, and halves; the others step."""
    factors = (8.0, 2.0**127, 1024.0)
    first, second = batch("KgCoOp"), batch("KgCoOp")
    start = first[1].prompt_learner.ctx.detach().clone()
    for trainers in (first, second):
        for trainer, factor in zip(trainers, factors, strict=True):
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=factor)
            seed_batch.begin(trainer, 0)
            trainer.batch_idx = 0
    batches = [next(iter(trainer.train_loader_x)) for trainer in first]
    SeedBatch(first).step(batches)
    for one, alone, given, factor in zip(first, second, batches, factors, strict=True):
        alone.forward_backward(given)
        torch.testing.assert_close(one.prompt_learner.ctx, alone.prompt_learner.ctx, rtol=0, atol=1e-6)
        assert one.scaler.get_scale() == alone.scaler.get_scale() == (factor / 2 if factor == 2.0**127 else factor)
    assert torch.equal(first[1].prompt_learner.ctx, start) and not torch.equal(first[0].prompt_learner.ctx, start)


# -- whole tasks, and what is done already --------------------------------------------------------------------


def test_base2new_trains_once_and_says_what_dropout_changed(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    given = ("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, "--seeds-together")
    assert go(*given, task="base2new", seeds=(1, 2), epochs=2) == 0
    base, new = folders(tmp_path, "base2new/train_base"), folders(tmp_path, "base2new/test_new")
    for seed in (1, 2):
        for one in (record(base[seed]), record(new[seed])):
            assert one["train"]["seeds_together"] == [1, 2]
            assert any("trained together" in said for said in one["departures"])
        assert "not the published setting: seeds 1 2 trained together" in (base[seed] / "log.txt").read_text()
    before = (base[1] / "results.json").stat().st_mtime_ns
    capsys.readouterr()
    assert go(*given, task="base2new", seeds=(1, 2, 3, 4), epochs=2) == 0
    assert capsys.readouterr().out.count("done already") == 4
    base = folders(tmp_path, "base2new/train_base")
    assert (base[1] / "results.json").stat().st_mtime_ns == before
    assert record(base[3])["train"]["seeds_together"] == record(base[4])["train"]["seeds_together"] == [3, 4]


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_in_epoch(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SeedBatch.run_epoch

    def dying(self: SeedBatch) -> None:
        if self.first.epoch == number:
            raise Killed
        original(self)

    monkeypatch.setattr(SeedBatch, "run_epoch", dying)


def test_a_killed_batch_goes_on_and_ends_the_same(tiny_biomedclip, btmri_root, tmp_path, monkeypatch, capsys) -> None:
    given = ("BiomedCoOp", tiny_biomedclip, btmri_root)
    assert go(*given, tmp_path / "whole", "--seeds-together", seeds=(1, 2), epochs=4) == 0
    with monkeypatch.context() as patch:
        kill_in_epoch(2, patch)
        with pytest.raises(Killed):
            go(*given, tmp_path / "broken", "--seeds-together", seeds=(1, 2), epochs=4)
    assert not list((tmp_path / "broken").rglob("results.json"))
    capsys.readouterr()
    assert go(*given, tmp_path / "broken", "--seeds-together", seeds=(1, 2, 3), epochs=4) == 0
    assert "seed 3 trains alone" in capsys.readouterr().out  # it has no checkpoint, they have one of epoch 2
    whole, broken = folders(tmp_path / "whole"), folders(tmp_path / "broken")
    assert "Loading checkpoint" in (broken[1] / "log.txt").read_text()
    for seed in (1, 2):
        assert torch.equal(ctx(broken[seed]), ctx(whole[seed]))
    assert "seeds_together" not in record(broken[3])["train"] and record(broken[1])["train"]["seeds_together"] == [1, 2]


def test_a_seed_that_went_on_alone_still_says_with_whom_it_began(tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    given = ("BiomedCoOp", tiny_biomedclip, btmri_root, tmp_path)
    with monkeypatch.context() as patch:
        kill_in_epoch(1, patch)
        with pytest.raises(Killed):
            go(*given, "--seeds-together", seeds=(1, 2))
    (folders(tmp_path)[2] / "prompt_learner" / "checkpoint").unlink()
    assert go(*given, seeds=(1, 2)) == 0
    assert record(folders(tmp_path)[1])["train"] == {"epochs": 3, "seeds_together": [1, 2]}
    assert any("trained together" in said for said in record(folders(tmp_path)[1])["departures"])
    assert record(folders(tmp_path)[2])["train"] == {"epochs": 3}  # nothing was left of it: it began again, alone
    assert not (folders(tmp_path)[2] / "prompt_learner" / MARK).exists()


# -- refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(name for name, cls in methods().items() if not is_stackable(cls)))
def test_a_method_that_cannot_is_told_in_one_line(method, btmri_root, tmp_path, capsys) -> None:
    assert go(method, None, btmri_root, tmp_path / "out", "--seeds-together") == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error: {method}'s seeds cannot be trained together") and "\n" not in said
    assert all(name in said for name in ("CoOp", "KgCoOp", "BiomedCoOp", "BiomedDPT"))
    assert not (tmp_path / "out").exists()


def test_the_methods_that_can() -> None:
    assert set(stackable_methods()) == {"CoOp", "KgCoOp", "BiomedCoOp", "BiomedDPT"}


@pytest.mark.parametrize("more", [("--eval-only",), ("--resume", "somewhere")])
def test_together_is_for_training(more, btmri_root, tmp_path, capsys) -> None:
    assert go("CoOp", None, btmri_root, tmp_path / "out", "--seeds-together", *more) == 2
    assert "--seeds-together" in capsys.readouterr().err


def test_seeds_that_do_not_fit_each_other(batch) -> None:
    one, other = batch("CoOp")[:2], batch("KgCoOp")[0]
    with pytest.raises(UserError, match="one method on one backbone"):
        SeedBatch([*one, other])
    one[1].max_epoch = 7
    with pytest.raises(UserError, match="seeds 1 and 2 have 2 x 1 and 7 x 1 epochs x batches"):
        SeedBatch(one)


def test_a_loss_that_is_not_finite_names_its_seed(batch) -> None:
    trainers = batch("CoOp")
    with torch.no_grad():
        trainers[1].prompt_learner.ctx.fill_(float("nan"))
    with pytest.raises(UserError, match="seed 2: the loss is nan in epoch 1"):
        SeedBatch(trainers).train()
    assert all(trainers[0].prompt_learner.ctx.isfinite().flatten())  # the others did not catch it


def test_scripts_pass_it_on_for_methods_that_can(tmp_path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nif [ "$2" = --list-methods ]; then echo CoOp KgCoOp; else echo "called: $*"; fi\n')
    python.chmod(0o755)

    def said(script: str, **environment: str) -> str:
        env = os.environ | {"PYTHON": str(python)} | environment
        done = subprocess.run(
            ["bash", f"scripts/{script}", "btmri"], cwd=REPO, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "--seeds-together" in said("coop/few_shot.sh", SEEDS_TOGETHER="1")
    assert "--seeds-together" not in said("coop/few_shot.sh")
    assert "--seeds-together" not in said("coop/eval_few_shot.sh", SEEDS_TOGETHER="1")
    refused = said("cocoop/few_shot.sh", SEEDS_TOGETHER="1")
    assert "--seeds-together" not in refused and "CoCoOp: its seeds cannot be trained together" in refused
