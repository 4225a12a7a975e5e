"""Trainers, a dataset and an entry point written for Dassl run on the `dassl` package as they are."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from tests.conftest import REPO
from tests.engine_helpers import THIRD_PARTY, words, write_toy_images

KNOWN = {"dassl", "torch", "yacs"}  # what it may import, besides Python's own and its own modules


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _own_stdout(monkeypatch):
    """The entry point puts a logger in place of standard output, as such entry points do."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)


def run(*arguments: object):
    import main as entry

    return entry.main(entry.parse_args(words(*arguments)))


def test_it_knows_nothing_of_this_project() -> None:
    own = {path.stem for path in THIRD_PARTY.glob("*.py")}
    assert own == {"coop_trainer", "fixmatch_trainer", "main", "toy_dataset"}
    for path in THIRD_PARTY.glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module.split(".")[0])
        assert imported - KNOWN - own <= set(sys.stdlib_module_names), path


def test_prompt_learner_registers_trains_tests_and_reloads(toy_root: Path, tmp_path: Path, capfd) -> None:
    trainer = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "a")
    assert type(trainer) is TRAINER_REGISTRY.get("ThirdPartyCoOp")
    assert trainer.last_results["accuracy"] >= 75, "it learns: three classes, chance is 33 %"
    log = (tmp_path / "a" / "log.txt").read_text()
    assert "=> result\n* total: 12\n" in log and f"* accuracy: {trainer.last_results['accuracy']:.2f}%" in log
    assert "Loading trainer: ThirdPartyCoOp" in log and "Loading dataset: ToyStripes" in log
    learned = trainer.model.prompt_learner.ctx.detach().clone()
    moved = [name for name, p in trainer.model.named_parameters() if p.grad is not None]
    assert moved == ["prompt_learner.ctx"]
    folder = tmp_path / "a" / "prompt_learner"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "model.pth.tar-6"]

    again = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "b", "--eval-only", "--model-dir", tmp_path / "a",
                "--load-epoch", 6)  # fmt: skip
    assert torch.equal(again.model.prompt_learner.ctx, learned) and again.last_results == trainer.last_results
    with pytest.raises(FileNotFoundError, match="model-best.pth.tar"):
        again.load_model(str(tmp_path / "a"))
    started = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "c", "MODEL.INIT_WEIGHTS", folder / "model.pth.tar-6",
                  "OPTIM.MAX_EPOCH", 0)  # fmt: skip
    assert torch.equal(started.model.prompt_learner.ctx, learned)


def test_best_model_on_validation_is_found_by_its_own_load_model(toy_root: Path, tmp_path: Path, capfd) -> None:
    options = ("OPTIM.MAX_EPOCH", 3, "TEST.FINAL_MODEL", "best_val", "TEST.PER_CLASS_RESULT", True)
    trainer = run("ThirdPartyCoOp", "coop", toy_root, tmp_path, *options)
    assert (tmp_path / "prompt_learner" / "model-best.pth.tar").is_file() and trainer.best_result > 0
    log = (tmp_path / "log.txt").read_text()
    assert log.count("Evaluate on the *val* set") == 3 and "=> per-class result" in log
    assert "* class: 0 (no_stripes)\ttotal: 4\t" in log


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of torch.cuda.amp: it has a new name
def test_mixed_precision_branch(toy_root: Path, tmp_path: Path, capfd) -> None:
    """`torch.cuda.amp`'s scaler and autocast, which do nothing on a CPU: the same numbers as without."""
    mixed = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "amp", "TRAINER.COOP.PREC", "amp", "OPTIM.MAX_EPOCH", 2)
    full = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "fp32", "OPTIM.MAX_EPOCH", 2)
    assert mixed.scaler is not None and full.scaler is None
    assert torch.equal(mixed.model.prompt_learner.ctx, full.model.prompt_learner.ctx)


def test_few_shot_images_are_drawn_once_and_kept(toy_root: Path, tmp_path: Path, capfd) -> None:
    drawn = []
    for name in ("a", "b"):
        trainer = run("ThirdPartyCoOp", "coop", toy_root, tmp_path / name, "DATASET.NUM_SHOTS", 2, "OPTIM.MAX_EPOCH", 1)
        drawn.append([item.impath for item in trainer.dm.dataset.train_x])
    assert len(drawn[0]) == 6 and drawn[0] == drawn[1]
    assert "few-shot images from" in (tmp_path / "b" / "log.txt").read_text()


def context(folder: Path, epoch: int) -> torch.Tensor:
    return torch.load(folder / "prompt_learner" / f"model.pth.tar-{epoch}", weights_only=True)["state_dict"]["ctx"]


def test_a_killed_run_resumes_and_ends_the_same(toy_root: Path, tmp_path: Path, capfd) -> None:
    options = ("OPTIM.MAX_EPOCH", 40, "TRAIN.CHECKPOINT_FREQ", 1)
    call = [
        sys.executable,
        str(THIRD_PARTY / "main.py"),
        *words("ThirdPartyCoOp", "coop", toy_root, tmp_path / "killed", *options),
    ]
    first = subprocess.Popen(call, cwd=THIRD_PARTY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    folder, deadline = tmp_path / "killed" / "prompt_learner", time.time() + 300
    while not list(folder.glob("model.pth.tar-[2-9]")) and time.time() < deadline and first.poll() is None:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    output, _ = first.communicate()
    assert not (folder / "model.pth.tar-40").exists(), output
    assert run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "killed", *options).start_epoch >= 1
    log = (tmp_path / "killed" / "log.txt").read_text()
    assert "will resume training" in log and "Loaded scheduler\nPrevious epoch: " in log and "* accuracy:" in log
    run("ThirdPartyCoOp", "coop", toy_root, tmp_path / "whole", *options)
    assert torch.equal(context(tmp_path / "whole", 40), context(tmp_path / "killed", 40))


def test_semi_supervised_trainer_on_simple_net(toy_root: Path, tmp_path: Path, capfd) -> None:
    trainer = run("ThirdPartyFixMatch", "fixmatch", toy_root, tmp_path)
    assert trainer.num_batches == 3 and trainer.last_results["accuracy"] > 50
    log = (tmp_path / "log.txt").read_text()
    assert "Backbone: third_party_cnn" in log and "* Using custom transform for training" in log
    assert "+ randaugment_fixmatch (n=2)" in log and "# train_u  24" in log
    assert "loss_x " in log and "mask_u " in log
    before = trainer.model.state_dict()
    trainer.load_model(str(tmp_path))  # no best model was kept: the last one
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    counted = run(
        "ThirdPartyFixMatch", "fixmatch", toy_root, tmp_path / "u", "TRAIN.COUNT_ITER", "train_u", "OPTIM.MAX_EPOCH", 1
    )
    assert counted.num_batches == 4


def test_through_this_projects_own_entry_point(btmri_root: Path, tmp_path: Path) -> None:
    """A third-party trainer beside our methods: `import` it, then `train.py --trainer` its name."""
    import coop_trainer  # noqa: F401

    import train

    common = ["--root", btmri_root, "--seed", 1, "--trainer", "ThirdPartyCoOp", "--dataset-config-file",
              REPO / "configs" / "datasets" / "btmri.yaml", "--transforms", "normalize", "--output-dir"]  # fmt: skip
    options = ["DATASET.NUM_SHOTS", 2, "TRAINER.COOP.N_CTX", 4, "OPTIM.MAX_EPOCH", 2, "DATALOADER.NUM_WORKERS", 0,
               "INPUT.SIZE", "(32, 32)", "USE_CUDA", "False"]  # fmt: skip
    assert train.main([str(word) for word in (*common, tmp_path / "a", *options)]) == 0
    log = (tmp_path / "a" / "log.txt").read_text()
    assert "epoch [2/2] batch [1/1]" in log and "=> result" in log and "BTMRI" in log
    again = [*common, tmp_path / "b", "--eval-only", "--model-dir", tmp_path / "a", "--load-epoch", 2, *options]
    assert train.main([str(word) for word in again]) == 0
    results = [text[text.index("=> result") :].split("\nElapsed")[0].strip() for text in
               (log, (tmp_path / "b" / "log.txt").read_text())]  # fmt: skip
    assert results[0] == results[1]
    missing = [*common, tmp_path / "c", "--eval-only", "--model-dir", tmp_path / "a", "--load-epoch", 9, *options]
    assert train.main([str(word) for word in missing]) != 0
