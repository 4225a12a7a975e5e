"""Training in stages: weights, rates and momentum of each, its boundaries in log and TensorBoard, resuming inside each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import train
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError
from runs.config import configured
from runs.identity import config_hash, variant_of
from tests.conftest import REPO
from tests.helpers import arguments, quick
from trainers.biomed_dpt import BiomedDPT
from trainers.stages import LossStage, StagedSchedule, short_name, stage_at

STAGES = [
    {"name": "alignment", "epochs": 0},
    {"name": "adapt", "epochs": 2, "l1": 0, "kl": 0},
    {"name": "distil", "epochs": 3, "ce": 0, "lr": 0.01},
    {"name": "tune", "epochs": 2, "l1": 1.5, "lr": 0.001},
]
EPOCHS = 7
BTMRI = [REPO / "configs" / "datasets" / "btmri.yaml", REPO / "configs" / "trainers" / "BiomedDPT" / "few_shot" / "btmri.yaml"]


def with_stages(stages: object, epochs: int = EPOCHS, *more: object):
    pairs = ["OPTIM.MAX_EPOCH", epochs, "TRAINER.BIOMEDDPT.STAGES", stages, *more]
    return configured("BiomedDPT", files=BTMRI, overrides=pairs)


def test_what_a_stage_leaves_out_is_the_configs() -> None:
    found = BiomedDPT.stages_of(with_stages(STAGES))
    assert found == [
        LossStage("alignment", 0, 0, 1.0, 12.5, 0.25, 0.0025),
        LossStage("adapt", 0, 2, 1.0, 0.0, 0.0, 0.0025),
        LossStage("distil", 2, 3, 0.0, 12.5, 0.25, 0.01),
        LossStage("tune", 5, 2, 1.0, 1.5, 0.25, 0.001),
    ]
    assert [stage_at(found, epoch) for epoch in range(EPOCHS + 1)] == [1, 1, 2, 2, 2, 3, 3, None]
    assert stage_at([], 0) is None
    given = {"name": "given", "epochs": 0, "ce": 0, "l1": 0, "kl": 0}  # as given, it needs no loss
    assert [stage.epochs for stage in BiomedDPT.stages_of(with_stages([given, *STAGES[1:]]))] == [0, 2, 3, 2]


def changed(**keys: object) -> list[dict[str, object]]:
    return [STAGES[1] | keys, *STAGES[2:]]


WRONG: dict[str, tuple[object, str]] = {
    "no list": (5, "must be a list"),
    "no mapping": ([3], "stage 1 must be like"),
    "unknown key": (changed(epoch=3), 'stage 1: unknown key "epoch". Did you mean "epochs"?'),
    "no name": ([{"epochs": EPOCHS}], "name must be letters"),
    "a name of two words": (changed(name="a b"), "name must be letters"),
    "a name twice": (changed(name="tune"), 'stage 3 "tune": another stage has this name'),
    "no epochs": ([{"name": "a"}], "epochs must be a whole number"),
    "half an epoch": (changed(epochs=1.5), "epochs must be a whole number"),
    "True epochs": (changed(epochs=True), "epochs must be a whole number"),
    "negative epochs": (changed(epochs=-2), "epochs must be a whole number, 0 or more, got -2"),
    "wrong sum": (STAGES[:-1], "has 5 epochs, but OPTIM.MAX_EPOCH is 7"),
    "negative weight": (changed(l1=-1), 'stage 1 "adapt": l1 must be a finite number, 0 or more'),
    "infinite weight": (changed(kl=float("inf")), "kl must be a finite number"),
    "NaN": (changed(ce=float("nan")), "ce must be a finite number"),
    "a word": (changed(ce="much"), "ce must be a finite number"),
    "no rate": (changed(lr=0), "lr must be more than 0"),
    "no loss": (changed(ce=0), "nothing to minimise"),
    "all warm-up": (
        [STAGES[1] | {"epochs": 1}, STAGES[2], STAGES[3] | {"epochs": 3}],
        "epochs is 1, but OPTIM.WARMUP_EPOCH is 1",
    ),
}


@pytest.mark.parametrize("why", sorted(WRONG))
def test_a_mistake_is_told_in_one_line(why: str) -> None:
    stages, words = WRONG[why]
    cfg = with_stages([])
    cfg.defrost()
    cfg.TRAINER.BIOMEDDPT.STAGES = stages
    with pytest.raises(UserError) as told:
        BiomedDPT.stages_of(cfg)
    assert words in str(told.value) and "\n" not in str(told.value) and "TRAINER.BIOMEDDPT.STAGES" in str(told.value)


def test_the_program_ends_in_a_line_and_leaves_nothing(btmri_root, tiny_biomedclip, tmp_path, capsys) -> None:
    words = arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / "run", split="all", epochs=4, STAGES=STAGES)
    assert train.main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["error: TRAINER.BIOMEDDPT.STAGES has 7 epochs, but OPTIM.MAX_EPOCH is 4: the two must be the same"]
    assert not (tmp_path / "run").exists()


def test_the_joint_stage_is_the_default_and_changes_no_earlier_run() -> None:
    joint = with_stages([])
    earlier = joint.clone()
    earlier.defrost()
    del earlier.TRAINER.BIOMEDDPT["STAGES"]
    assert config_hash(joint) == config_hash(earlier) and "stages" not in variant_of(joint)
    assert BiomedDPT.departures(joint) == [] and short_name([]) == ""


def test_stages_are_part_of_what_a_run_is() -> None:
    ways = [STAGES, changed(l1=0.5), changed(lr=0.02), changed(name="other"), changed(ce=2.0), changed(kl=0.5)]
    cfgs = [with_stages([]), *map(with_stages, ways)]
    assert len({variant_of(cfg) for cfg in cfgs}) == len({config_hash(cfg) for cfg in cfgs}) == len(cfgs)
    (said,) = BiomedDPT.departures(with_stages(STAGES))
    assert said == (
        "STAGES alignment: as given, no epoch; adapt: 2 epochs, ce 1, l1 0, kl 0, lr 0.0025; distil: 3 epochs, ce 0, l1 12.5, "
        "kl 0.25, lr 0.01; tune: 2 epochs, ce 1, l1 1.5, kl 0.25, lr 0.001 (published: one joint stage)"
    )
    assert "4stages-" in variant_of(with_stages(STAGES))


@pytest.mark.parametrize("name, total", [("few_shot", 100), ("base_to_novel", 50)])
def test_the_config_files_have_the_four_stages_and_else_the_joint_settings(name: str, total: int) -> None:
    folder = REPO / "configs" / "trainers" / "BiomedDPT"
    staged, joint = (yaml.safe_load(path.read_text()) for path in (folder / "staged" / f"{name}.yaml", folder / f"{name}.yaml"))
    del staged["TRAINER"]["BIOMEDDPT"]["STAGES"]
    assert staged == joint
    cfg = configured("BiomedDPT", files=[BTMRI[0], folder / "staged" / f"{name}.yaml"])
    stages = BiomedDPT.stages_of(cfg)
    assert [stage.name for stage in stages] == ["alignment", "domain-adaptation", "distillation", "fine-tuning"]
    assert stages[0].epochs == 0 and stages[-1].end == total
    assert [(stage.ce, stage.l1, stage.kl) for stage in stages[1:]] == [(1, 0, 0), (0, 12.5, 0.25), (1, 12.5, 0.25)]


# -- schedule ---------------------------------------------------------------------------------------------


def rates(schedule: object, optimizer: torch.optim.Optimizer, epochs: int) -> list[float]:
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_each_stage_has_the_schedule_of_a_run_of_its_own() -> None:
    cfg = with_stages(STAGES)
    layer = torch.nn.Linear(1, 1)
    optimizer = build_optimizer(layer, cfg.OPTIM)
    found = rates(StagedSchedule(optimizer, cfg.OPTIM, BiomedDPT.stages_of(cfg)), optimizer, EPOCHS)
    expected = []
    for epochs, lr in ((2, 0.0025), (3, 0.01), (2, 0.001)):
        own = cfg.OPTIM.clone()
        own.defrost()
        own.MAX_EPOCH, own.LR = epochs, lr
        alone = build_optimizer(layer, own)
        expected += rates(build_lr_scheduler(alone, own), alone, epochs)
    assert found == expected
    assert found[0] == found[2] == found[5] == 1e-5 and found[1] == 0.0025 and found[3] == 0.01 and 0 < found[4] < 0.01


def test_momentum_ends_with_its_stage_and_comes_back_inside_one() -> None:
    cfg = with_stages(STAGES)
    stages = BiomedDPT.stages_of(cfg)
    layer = torch.nn.Linear(1, 1, bias=False)
    whole = build_optimizer(torch.nn.Linear(1, 1), cfg.OPTIM)
    undisturbed = rates(StagedSchedule(whole, cfg.OPTIM, stages), whole, EPOCHS)
    optimizer = build_optimizer(layer, cfg.OPTIM)
    schedule = StagedSchedule(optimizer, cfg.OPTIM, stages)
    held = []
    for epoch in range(EPOCHS - 1):
        layer(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        schedule.step()
        held.append(len(optimizer.state))
        again = build_optimizer(layer, cfg.OPTIM)
        other = StagedSchedule(again, cfg.OPTIM, stages)
        state = json.loads(json.dumps(schedule.state_dict()))  # plain values
        assert other.understands(state) and not other.understands(state["inner"])
        again.load_state_dict(optimizer.state_dict())
        other.load_state_dict(state)
        assert other.get_last_lr() == [again.param_groups[0]["lr"]] == schedule.get_last_lr() and len(again.state) == held[-1]
        assert rates(other, again, EPOCHS - 1 - epoch) == undisturbed[epoch + 1 :]
    assert held == [1, 0, 1, 1, 0, 1]  # nothing is held where a stage begins


# -- training ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_an_epoch_has_the_weights_of_its_stage(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, epochs=EPOCHS, STAGES=STAGES, TEXT_DROPOUT=False)
    joint = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, epochs=EPOCHS, TEXT_DROPOUT=False)
    images, labels = torch.randn(3, trainer.backbone.embed_dim), torch.tensor([0, 1, 2])
    plain = {name: float(term) for name, term in joint.loss_terms(images, labels)[0].items()}
    own = joint.own
    for epoch, (ce, l1, kl) in {1: (1, 0, 0), 4: (0, own.L1_LAMBDA, own.KL_LAMBDA), 5: (1, 1.5, own.KL_LAMBDA)}.items():
        trainer.epoch = epoch
        terms = trainer.loss_terms(images, labels)[0]
        wanted = {"ce": ce * plain["ce"], "l1": l1 * plain["l1"] / own.L1_LAMBDA, "kl": kl * plain["kl"] / own.KL_LAMBDA}
        assert {name: float(term) for name, term in terms.items()} == pytest.approx(wanted, rel=1e-5), epoch


def context(folder: Path, epochs: int) -> torch.Tensor:
    path = folder / "prompt_learner" / f"model.pth.tar-{epochs}"
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


@pytest.fixture(scope="module")
def call(tiny_biomedclip: Path, btmri_root: Path) -> Callable[..., list[str]]:
    def made(out: Path, epochs: int = EPOCHS, **own: object) -> list[str]:
        own.setdefault("STAGES", STAGES)
        return arguments("BiomedDPT", tiny_biomedclip, btmri_root, out, split="base", epochs=epochs, **own)

    return made


@pytest.fixture(scope="module")
def whole(call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged") / "whole"
    assert train.main(call(folder)) == 0
    return folder


# in the middle of the first, second and third stage that trains, and right at a boundary
@pytest.mark.parametrize("cut", [1, 2, 4, 6])
def test_a_run_cut_inside_a_stage_ends_as_the_whole_one(cut: int, whole, call, tmp_path, monkeypatch) -> None:
    epoch = BiomedDPT.run_epoch

    def broken(self) -> None:
        if self.epoch == cut:
            raise KeyboardInterrupt
        epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(BiomedDPT, "run_epoch", broken)
        assert train.main(call(tmp_path)) == 130
    assert train.main(call(tmp_path)) == 0
    assert torch.equal(context(whole, EPOCHS), context(tmp_path, EPOCHS))
    assert (whole / "predictions.csv.gz").read_bytes() == (tmp_path / "predictions.csv.gz").read_bytes()
    log = (tmp_path / "log.txt").read_text()
    at, inside = {1: (2, True), 2: (3, False), 4: (3, True), 6: (4, True)}[cut]
    assert f"stage [{at}/4] {'goes on' if inside else 'begins'} with epoch {cut + 1}; " in log


def test_boundaries_are_in_the_log_tensorboard_and_results(whole: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [line for line in (whole / "log.txt").read_text().splitlines() if "stage" in line]
    begun = [line.partition("stage [")[2] for line in lines if "begins" in line]
    assert [line[:30] for line in begun] == [
        "2/4] begins with epoch 1; adap", "3/4] begins with epoch 3; dist", "4/4] begins with epoch 6; tune"
    ]  # fmt: skip
    assert "training in 4 stages: alignment: as given, no epoch; adapt: 2 epochs" in "\n".join(lines)
    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    told = events.Scalars("train/stage")
    steps = len(events.Scalars("train/loss")) // EPOCHS
    assert [(one.step, one.value) for one in told] == [(epoch * steps, at) for epoch, at in enumerate((2, 2, 3, 3, 3, 4, 4))]
    record = json.loads((whole / "results.json").read_text())
    assert any(said.startswith("STAGES alignment") for said in record["departures"]) and "4stages-" in record["variant"]
    assert record["changed"]["TRAINER.BIOMEDDPT.STAGES"] == {"config_file": None, "run": STAGES}


def test_one_stage_of_all_epochs_is_the_joint_training_to_the_bit(call, tmp_path) -> None:
    assert train.main(call(tmp_path / "joint", epochs=3, STAGES=[])) == 0
    assert train.main(call(tmp_path / "one", epochs=3, STAGES=[{"name": "all", "epochs": 3}])) == 0
    assert torch.equal(context(tmp_path / "joint", 3), context(tmp_path / "one", 3))
    names = ("joint", "one")
    logs = [[line for line in (tmp_path / name / "log.txt").read_text().splitlines() if "stage [" in line] for name in names]
    assert not logs[0] and len(logs[1]) == 1


def test_seeds_as_one_batch_go_through_the_stages_as_lone_runs(tiny_biomedclip, btmri_root, tmp_path) -> None:
    def runs(root: Path, *more: str) -> list[torch.Tensor]:
        words = arguments("BiomedDPT", tiny_biomedclip, btmri_root, root, split="all", epochs=EPOCHS, STAGES=STAGES,
                          TEXT_DROPOUT=False)  # fmt: skip
        for option in ("--output-dir", "--seed"):
            at = words.index(option)
            del words[at : at + 2]
        options = ["--output-root", str(root), "--task", "few_shot", "--seeds", "1", "2", *more]
        assert train.main([*options, *words]) == 0
        return [context(path.parents[1], EPOCHS) for path in sorted(root.rglob("prompt_learner/checkpoint"))]

    alone, together = runs(tmp_path / "alone"), runs(tmp_path / "together", "--seeds-together")
    assert len(alone) == len(together) == 2 and not torch.equal(*alone)
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
