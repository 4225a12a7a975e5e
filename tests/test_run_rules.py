"""Rules of runs that no training is needed for: which values may be, which keys are read, what names a run, how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dassl.utils import UserError, write_json
from runs.config import altered, configured, split_trainer_name
from runs.departures import changed_settings
from runs.identity import check_same_settings, config_hash, dataset_key, identity, run_folder, save_config, variant_of
from runs.overrides import unread
from runs.progress import begin_anew, discard_unbuilt, finished_epochs, forget_lost, is_complete, mark, marked
from runs.protocols import check_fits, fitting_methods, stage_configs
from runs.seed_batch import SeedBatch, begin, is_stackable, stackable_methods
from runs.settings import CONFIGS, config_file
from runs.tasks import needs_transfer
from tests.synthetic_runs import write_run
from trainers import methods
from trainers.coop import CoOp

BTMRI = CONFIGS / "datasets" / "btmri.yaml"


def config(method: str = "CoOp", *words: object, backbone: str = "BiomedCLIP"):
    return configured(method, backbone, files=[BTMRI, config_file(method, "all", "btmri")], overrides=words)


# -- values -----------------------------------------------------------------------------------------------

EDGES = [
    ("OPTIM.LR", 1e-12, 0.0), ("OPTIM.WEIGHT_DECAY", 0.0, -1e-9), ("OPTIM.MOMENTUM", 0.0, 1.0), ("OPTIM.MOMENTUM", 0.99, -0.1),
    ("DATALOADER.NUM_WORKERS", 0, -1), ("DATALOADER.TRAIN_X.BATCH_SIZE", 1, 0), ("DATALOADER.TEST.BATCH_SIZE", 1, 0),
    ("TRAIN.PRINT_FREQ", 1, 0), ("INPUT.MAX_PIXELS", 1, 0), ("SEED", 2**63 - 1, 2**63), ("SEED", -(2**63), -(2**63) - 1),
    ("TRAINER.COOP.N_CTX", 1, 0), ("INPUT.PIXEL_STD", (1e-3, 1.0, 1.0), (1.0, 0.0, 1.0)),
    ("INPUT.PIXEL_MEAN", (-1.0, 0.0, 2.0), (0.5, 0.5)), ("OPTIM.WARMUP_CONS_LR", 0.0, -1e-9),
    ("OPTIM.LR", 0.5, float("inf")), ("OPTIM.LR", 0.5, float("nan")),
]  # fmt: skip


@pytest.mark.parametrize("key, good, bad", EDGES)
def test_values_at_the_edge(key: str, good: object, bad: object) -> None:
    assert configured("CoOp", files=[BTMRI], settings={key: good})
    with pytest.raises(UserError, match=key):
        configured("CoOp", files=[BTMRI], settings={key: bad})


def test_values_of_other_methods_are_not_looked_at() -> None:
    assert configured("CoOp", files=[BTMRI], settings={"TRAINER.BIOMEDDPT.L1_LAMBDA": float("nan")})
    with pytest.raises(UserError, match="NUL"):
        configured("CoOp", files=[BTMRI], settings={"DATASET.ROOT": "a\0b"})


# -- keys that are read -----------------------------------------------------------------------------------

READ = [
    ("CoOp", "OPTIM.LR", True), ("LinearProbe", "OPTIM.LR", False), ("ZeroshotCLIP", "TRAIN.PRINT_FREQ", False),
    ("ZeroshotCLIP", "DATALOADER.TRAIN_X.BATCH_SIZE", False), ("CoOp", "TRAINER.COOP.N_CTX", True),
    ("CoOp", "TRAINER.BIOMEDDPT.N_CTX", False), ("VPT", "FEATURES.VIEWS", False), ("CoOp", "FEATURES.VIEWS", True),
    ("CoOp", "OPTIM.MOMENTUM", True), ("CoOp", "OPTIM.ADAM_BETA1", False), ("CoOp", "OPTIM.STEPSIZE", False),
    ("CoOp", "MODEL.HEAD.NAME", False), ("CoOp", "DATASET.FOLDER", False), ("CoOp", "DATASET.PROMPTS", False),
    ("BiomedDPT", "DATASET.PROMPTS", True), ("CoOp", "INPUT.CUTOUT_N", False), ("CoOp", "INPUT.RRCROP_SCALE", True),
    ("CoOp", "DATASET.GROUP_BY", False), ("CoOp", "DATASET.RUN_TEMPLATE", False), ("CoOp", "TRAINER.NAME", True),
]  # fmt: skip


@pytest.mark.parametrize("method, key, read", READ)
def test_which_method_reads_which_key(method: str, key: str, read: bool) -> None:
    reason = unread(config(method), key, method)
    assert (reason == "") is read and (read or key in reason)


def test_a_twin_of_another_methods_key_is_named() -> None:
    assert 'Did you mean "TRAINER.COOP.N_CTX"?' in unread(config(), "TRAINER.BIOMEDDPT.N_CTX", "CoOp")
    assert "CoOp reads TRAINER.COOP.*" in unread(config(), "TRAINER.BIOMEDDPT.L1_LAMBDA", "CoOp")
    assert unread(config(), "TRAINER.BIOMEDDPT.N_CTX", "SomebodyElses") == ""


NAMES = {
    "CLIP_Adapter": "CLIPAdapter", "TiP_Adapter": "TipAdapter", "TiP_Adapter_F": "TipAdapterF", "LP": "LinearProbe",
    "LP2": "LPPlusPlus", "Maple": "MaPLe", "CoOp": "CoOp",
}  # fmt: skip


@pytest.mark.parametrize("published, ours", NAMES.items())
def test_names_with_a_backbone(published: str, ours: str) -> None:
    assert split_trainer_name(f"{published}_CLIP") == (ours, "CLIP")
    assert split_trainer_name(published) == (ours, "BiomedCLIP") and split_trainer_name(published, "CLIP") == (ours, "CLIP")
    with pytest.raises(UserError, match="two different backbones"):
        split_trainer_name(f"{published}_CLIP", "BiomedCLIP")
    with pytest.raises(UserError, match="unknown trainer"):
        split_trainer_name(f"{published}_Nonsense")


# -- what names a run -------------------------------------------------------------------------------------


def test_only_what_decides_numbers_is_hashed(tmp_path: Path) -> None:
    plain = config()
    alike = {"OUTPUT_DIR": "x", "DATALOADER.NUM_WORKERS": 3, "TRAIN.PRINT_FREQ": 1, "FEATURES.ROOT": "y", "VERBOSE": False,
             "TRAIN.CHECKPOINT_FREQ": 7, "FEATURES.MODE": "direct", "TRAINER.BIOMEDDPT.N_CTX": 9, "RESUME": "z"}  # fmt: skip
    for key, value in alike.items():
        assert config_hash(altered(plain, {key: value})) == config_hash(plain), key
    other = {"SEED": 9, "DATASET.NUM_SHOTS": 9, "OPTIM.LR": 0.9, "TRAINER.COOP.N_CTX": 9, "FEATURES.VIEWS": 9,
             "DATASET.ROOT": str(tmp_path), "INPUT.PIXEL_MEAN": [0.0, 0.0, 0.0], "DATASET.SPLIT": "grouped",
             "MODEL.BACKBONE.NAME": "CLIP", "DATASET.SUBSAMPLE_CLASSES": "base"}  # fmt: skip
    hashes = {config_hash(altered(plain, {key: value})) for key, value in other.items()}
    assert len(hashes) == len(other) and config_hash(plain) not in hashes
    assert identity(plain)["DATASET.ROOT"] == str(Path(plain.DATASET.ROOT).resolve())


def test_a_runs_folder() -> None:
    cfg = altered(config("CoOp", backbone="open_clip:ViT-B-32/laion2b"), {"DATASET.NUM_SHOTS": 4, "SEED": 7})
    variant = variant_of(cfg)
    expected = f"out/few_shot/btmri/shots_4/CoOp_open_clip-ViT-B-32-laion2b/{variant}/seed7"
    assert run_folder("out", "few_shot", "btmri", cfg).as_posix() == expected
    grouped = altered(cfg, {"DATASET.SPLIT": "grouped", "DATASET.SPLIT_SEED": 2})
    assert variant_of(grouped) == f"{variant}_grouped-seed2"
    assert dataset_key(cfg, "named") == "named"
    own = altered(cfg, {"DATASET.NAME": "ImageFolderSplit", "DATASET.TITLE": "a/b"})
    assert dataset_key(own, "named") == "a_b"


def test_other_settings_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    cfg = config()
    check_same_settings(cfg, tmp_path)
    save_config(cfg, tmp_path)
    check_same_settings(altered(cfg, {"TRAIN.PRINT_FREQ": 77}), tmp_path)
    with pytest.raises(UserError, match=r"OPTIM.LR 0.002 -> 0.5"):
        check_same_settings(altered(cfg, {"OPTIM.LR": 0.5}), tmp_path)
    (tmp_path / "config.yaml").write_text("TRAINER: 3\n")
    with pytest.raises(UserError, match="not the config of a run"):
        check_same_settings(cfg, tmp_path)


def test_changed_settings_are_those_beside_the_config_files() -> None:
    assert changed_settings(config(), "btmri") == {}
    changed = changed_settings(config("CoOp", "OPTIM.LR", 0.5, "TRAINER.COOP.N_CTX", 9), "btmri")
    assert changed == {"OPTIM.LR": {"config_file": 0.002, "run": 0.5}, "TRAINER.COOP.N_CTX": {"config_file": 4, "run": 9}}
    settled = altered(config(), {"SEED": 5, "DATASET.NUM_SHOTS": 3, "DATASET.ROOT": "elsewhere", "USE_CUDA": False})
    assert changed_settings(settled, "btmri") == {}
    assert set(changed_settings(altered(config(), {"DATASET.TEMPLATE": "a {}."}), "btmri")) == {"DATASET.TEMPLATE"}


# -- protocols --------------------------------------------------------------------------------------------


def test_which_methods_fit() -> None:
    assert needs_transfer("base2new") and not needs_transfer("few_shot") and not needs_transfer("cross_dataset")
    assert set(fitting_methods("few_shot")) == set(methods())
    transfer = {name for name, cls in methods().items() if cls.transfers}
    assert set(fitting_methods("base2new")) == transfer and "LinearProbe" not in transfer and "CoOp" in transfer
    check_fits("CoOp", "base2new")
    check_fits("LinearProbe", "few_shot")
    unfit = [
        ("LinearProbe", "base2new", False, "saw"),
        ("CoCoOp", "few_shot", True, "CoCoOp's seeds"),
        ("Other", "few_shot", False, "another project"),
    ]
    for method, task, together, said in unfit:
        with pytest.raises(UserError, match=said):
            check_fits(method, task, together)
    assert set(fitting_methods("seeds-together")) == set(stackable_methods()) == {"BiomedCoOp", "BiomedDPT", "CoOp", "KgCoOp"}
    assert not is_stackable(int) and not is_stackable(methods()["ProGrad"])


def test_stages_of_base_to_new() -> None:
    base, new = stage_configs(altered(config(), {"DATASET.NUM_SHOTS": 16, "SEED": 1}), "base2new", "out", "btmri")
    assert (base.DATASET.SUBSAMPLE_CLASSES, new.DATASET.SUBSAMPLE_CLASSES) == ("base", "new")
    assert base.OUTPUT_DIR.startswith("out/base2new/train_base/btmri/shots_16/") and "test_new" in new.OUTPUT_DIR
    (all_classes,) = stage_configs(config(), "few_shot", "out", "btmri")
    assert all_classes.DATASET.SUBSAMPLE_CLASSES == "all"


# -- how far a run is -------------------------------------------------------------------------------------


def test_how_far_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = write_run(tmp_path)
    assert is_complete(whole) and not is_complete(tmp_path) and finished_epochs(tmp_path) == 0
    begin_anew(whole)
    assert is_complete(whole)
    (whole / "predictions.csv.gz").unlink()
    assert not is_complete(whole)
    begin_anew(whole)
    assert not (whole / "prompt_learner").exists() and "begun anew" in capsys.readouterr().out
    record = json.loads((write_run(tmp_path, seed=2) / "results.json").read_text())
    assert record["complete"] is True


def test_the_mark_of_seeds_together(tmp_path: Path) -> None:
    learned = tmp_path / "prompt_learner"
    learned.mkdir()
    assert marked(tmp_path) == []
    mark(tmp_path, [3, 1])
    mark(tmp_path, [2])
    assert marked(tmp_path) == [1, 2, 3]
    torch.save({"state_dict": {}, "epoch": 4}, learned / "model.pth.tar-4")
    (learned / "checkpoint").write_text("model.pth.tar-4\n")
    assert finished_epochs(tmp_path) == 4
    forget_lost(tmp_path)
    assert marked(tmp_path) == [1, 2, 3]
    (learned / "checkpoint").unlink()
    forget_lost(tmp_path)
    assert marked(tmp_path) == []


def test_a_run_that_was_never_built_leaves_nothing(tmp_path: Path) -> None:
    folder, log = tmp_path / "a" / "b", tmp_path / "a" / "b" / "log.txt"
    folder.mkdir(parents=True)
    log.write_text("x")
    write_json({}, str(folder / "config.yaml"))
    discard_unbuilt(folder, log)
    assert log.is_file()
    (folder / "config.yaml").unlink()
    (tmp_path / "other").write_text("stays")
    discard_unbuilt(folder, log)
    assert not (tmp_path / "a").exists() and (tmp_path / "other").is_file()


# -- seeds trained together -------------------------------------------------------------------------------


def seed(number: int, batches: int = 3, epochs: int = 2, start: int = 0) -> CoOp:
    """A trainer of which only what a batch of seeds looks at is there."""
    trainer = CoOp.__new__(CoOp)
    trainer.cfg = SimpleNamespace(SEED=number, TRAINER=SimpleNamespace(NAME="CoOp"))
    trainer.backbone = TOWER
    tokens = SimpleNamespace(ids=torch.tensor([[1, 2]]))
    trainer.prompt_learner = SimpleNamespace(tokens=tokens, token_batch=lambda: torch.zeros(2))
    trainer.train_loader_x, trainer.max_epoch, trainer.start_epoch = range(batches), epochs, start
    trainer.before_train = lambda: None
    return trainer


TOWER = object()


def test_seeds_that_do_not_fit_each_other() -> None:
    assert SeedBatch([seed(1), seed(2)]).tokens.shape == (4,)
    for other in (seed(2, batches=4), seed(2, epochs=3)):
        with pytest.raises(UserError, match="epochs x batches"):
            SeedBatch([seed(1), other])
    with pytest.raises(UserError, match="different epochs"):
        SeedBatch([seed(1), seed(2, start=1)]).train()
    stranger = seed(2)
    stranger.backbone = object()
    with pytest.raises(UserError, match="on one backbone"):
        SeedBatch([seed(1), stranger])
    assert not is_stackable("CoOp")


def test_an_epoch_of_a_seed_begins_as_a_lone_runs_does() -> None:
    trainer, said = seed(1), []
    trainer.announce_epoch = lambda: said.append(f"announced {trainer.epoch}")
    trainer.before_epoch = lambda: said.append("before")
    trainer.set_model_mode = said.append
    begin(trainer, 1)
    assert said == ["announced 1", "before", "train"] and trainer.num_batches == 3
