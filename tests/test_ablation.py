"""The ablations: what the grids run, the tables per factor, and the script on one dataset."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import parse_results
from analysis.factors import ablated
from runs.config import configured
from runs.settings import config_file
from sweep.grids import known_grids, published_datasets, read_grids
from sweep.jobs import units_of
from tests.conftest import REPO, THREADS
from tests.synthetic_runs import write_run
from trainers.biomed_dpt import BiomedDPT

KEY = "TRAINER.BIOMEDDPT."
LEVELS = {level.label: dict(level.settings) for factor in ablated()[1] for level in factor.levels}


# -- grids ------------------------------------------------------------------------------------------------


def test_the_factors_are_those_of_the_paper_and_share_one_default() -> None:
    method, factors = ablated()
    shown = {factor.name: [level.name for level in factor.levels] for factor in factors}
    assert method == "BiomedDPT"
    assert shown == {
        "parts": ["none", "dual text", "visual", "distillation", "all three"],
        "loss terms": ["CE", "CE + L1", "CE + KL", "CE + L1 + KL"],
        "context": ["the config's words", "4, at random", "8, at random", "16, at random", "32, at random"],
        "LLM prompts per class": ["1", "5", "10", "25", "50"],
        "visual prompts": ["0", "1", "4", "8", "16"],
        "depth of the visual prompts": ["shallow", "deep"],
        "place of the visual prompts": ["replace", "insert"],
        "place of the class name": ["end", "middle", "front"],
        "length of the class name": ["published", "exact"],
        "prompt selection": ["all", "topk", "greedy", "learned"],
        "text dropout": ["on", "off"],
    }
    for factor in factors:
        assert [level.label for level in factor.levels if not level.settings] == ["full"], factor.name
        for level in factor.levels:  # a label is one setting, whatever factor it serves
            assert dict(level.settings) == LEVELS[level.label]


@pytest.mark.parametrize("name, tasks", [("ablation_all", 2), ("ablation", 2), ("ablation_rehearsal", 2)])
def test_a_grid_has_every_level_once(name: str, tasks: int) -> None:
    grid = read_grids([name])
    assert name in known_grids() and len({job.task for job in grid.jobs}) == tasks
    assert len({job.id for job in grid.jobs}) == len(grid.jobs) == len(units_of(grid.jobs))
    per_run: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for job in grid.jobs:
        per_run.setdefault((job.task, job.dataset, job.seed), []).append(dict(job.overrides))
        common = {key: value for key, value in job.overrides if key in ("OPTIM.MAX_EPOCH", "FEATURES.VIEWS")}
        assert dict(job.overrides) == {**LEVELS[job.label], **common} and job.method == "BiomedDPT"
    datasets = {"few_shot": 11, "base2new": 10} if name == "ablation_all" else {"few_shot": 3, "base2new": 3}
    assert len(per_run) == 3 * sum(datasets.values())
    for settings in per_run.values():
        said = {json.dumps(one, sort_keys=True) for one in settings}
        assert len(said) == len(settings) == len(LEVELS)  # no two runs of one setting: the default's among them


@pytest.mark.parametrize("split, task", [("all", "few_shot"), ("base", "base2new")])
def test_every_level_is_a_setting_of_its_own_on_every_dataset(split: str, task: str) -> None:
    """A level whose settings a dataset's config file has anyway would be the default's run a second time."""
    for dataset in published_datasets():
        file = yaml.safe_load(config_file("BiomedDPT", split, dataset).read_text())["TRAINER"]["BIOMEDDPT"]
        own = {f"{KEY}{key}": value for key, value in file.items()}
        for label, settings in LEVELS.items():
            differing = [key for key, value in settings.items() if own.get(key, default_of(key)) != value]
            assert bool(differing) == (label != "full"), (dataset, label)
            assert label in ("full", "context-4") or label.startswith("context") or differing == list(settings)


def default_of(key: str) -> Any:
    node: Any = {"TRAINER": {"BIOMEDDPT": BiomedDPT.defaults()}, "DATASET": {"TEMPLATE": ""}}
    for part in key.split("."):
        node = node[part]
    return node


def test_every_level_can_be_configured() -> None:
    files = [REPO / "configs" / "datasets" / "btmri.yaml", config_file("BiomedDPT", "all", "btmri")]
    for label, settings in LEVELS.items():
        cfg = configured("BiomedDPT", files=files, overrides=[word for pair in settings.items() for word in pair])
        assert settings.get(f"{KEY}N_CTX", 5) == cfg.TRAINER.BIOMEDDPT.N_CTX, label


def test_a_grid_may_train_in_stages(tmp_path: Path) -> None:
    from sweep.outcome import Place
    from sweep.work import config_of

    stages = [{"name": "adapt", "epochs": 40, "l1": 0}, {"name": "tune", "epochs": 60, "lr": 0.001}]
    path = tmp_path / "staged.yaml"
    path.write_text(yaml.safe_dump({"blocks": [{
        "task": "few_shot", "methods": ["BiomedDPT"], "datasets": ["btmri"], "shots": [1], "seeds": [1],
        "settings": {"staged": {f"{KEY}STAGES": stages}},
    }]}))  # fmt: skip
    (job,) = read_grids([str(path)]).jobs
    cfg = config_of(job, Place("data", str(tmp_path)))[0]
    assert stages == cfg.TRAINER.BIOMEDDPT.STAGES and len(BiomedDPT.stages_of(cfg)) == 2


# -- tables -----------------------------------------------------------------------------------------------


def level_run(root: Path, label: str, accuracy: int, seed: int = 1, *, dataset: str = "BTMRI", **more: Any) -> None:
    """A finished run of a level in the grid's folder of its label; the rehearsal's epochs are changed in all of them."""
    extra = more.pop("extra", {"OPTIM.MAX_EPOCH": (100, 10)})
    before = {f"{KEY}L1_LAMBDA": 12.5, f"{KEY}KL_LAMBDA": 0.25, f"{KEY}N_CTX": 5, f"{KEY}CTX_INIT": "a MR photo of a"}
    changed = {key: (before.get(key, default_of(key)), value) for key, value in LEVELS[label].items()}
    write_run(root / label, "BiomedDPT", dataset, accuracy=accuracy, seed=seed, changed=changed | extra, variant=label, **more)


def sheet(root: Path, capsys, *words: str) -> dict[tuple[str, str], dict[str, str]]:
    """(level, column) -> its line of the CSV; one table per factor and kind is asked for."""
    assert parse_results.main([str(root), "--table", "ablation", "--format", "csv", *words]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    factors = {factor.name for factor in ablated()[1]}
    return {(next(row[f] for f in factors if row.get(f)), row["column"]): row for row in rows}


def test_a_factor_has_its_levels_in_order_with_what_they_gain(tmp_path: Path, capsys) -> None:
    for seed, (full, end, front) in enumerate([(60, 62, 50), (70, 73, 61), (80, 84, 69)], start=1):
        for label, accuracy in (("full", full), ("name-at-the-end", end), ("name-in-front", front)):
            level_run(tmp_path, label, accuracy, seed)
    level_run(tmp_path, "full", 30, shots=1)
    level_run(tmp_path, "name-in-front", 31, shots=1)
    got = sheet(tmp_path, capsys)
    few = {level: row for (level, column), row in got.items() if column.endswith("1 shot")}
    got = {key: row for key, row in got.items() if not key[1].endswith("1 shot")}
    assert few["end"]["note"] == "missing" and few["front"]["note"] == "1 of 3 runs"
    assert [level for level, column in got if column == "16 shots"] == ["end", "middle (default)", "front"]
    assert {key: float(row["value"]) for key, row in got.items() if row["value"]} == pytest.approx({
        ("end", "16 shots"): 73, ("end", "Δ 16 shots"): 3, ("middle (default)", "16 shots"): 70,
        ("front", "16 shots"): 60, ("front", "Δ 16 shots"): -10,
    })  # fmt: skip
    # differences 2, 3, 4: paired, so far narrower than the levels' own intervals
    assert float(got["end", "Δ 16 shots"]["ci95"]) == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
    assert float(got["end", "16 shots"]["ci95"]) > 20
    assert got["middle (default)", "Δ 16 shots"]["note"] == "default"
    assert [key for key, row in got.items() if row["best"] == "1"] == [("end", "16 shots")]
    assert "with OPTIM.MAX_EPOCH=10" in got["end", "16 shots"]["table"]


@pytest.mark.parametrize("style", ["terminal", "markdown", "latex"])
def test_the_forms_for_people(style: str, tmp_path: Path, capsys) -> None:
    level_run(tmp_path, "full", 60)
    level_run(tmp_path, "no-kl", 57)
    level_run(tmp_path, "no-distillation", 61)
    assert parse_results.main([str(tmp_path), "--table", "ablation", "--format", style]) == 0
    out = capsys.readouterr().out
    delta = r"$\Delta$" if style == "latex" else "Δ"
    for word in ("loss terms", "CE + L1 + KL (default)", f"{delta} 16 shots", "-3.00", "+1.00", "parts", "all three (default)"):
        assert word in out, word
    assert out.count("missing: ") == 2  # of the factors that were begun
    assert out.count("Few-shot accuracy") == 2  # parts and loss terms share a run; nothing else was run twice
    assert "missing: few-shot, BiomedDPT on BiomedCLIP with OPTIM.MAX_EPOCH=10, loss terms: CE + KL" in out
    assert "missing: few-shot, BiomedDPT on BiomedCLIP with OPTIM.MAX_EPOCH=10, parts: none, dual text, distillation" in out


def test_base_to_new_has_hm_and_its_difference(tmp_path: Path, capsys) -> None:
    for label, base, new in (("full", 80, 60), ("no-text-dropout", 80, 80)):
        level_run(tmp_path, label, base, split="base")
        level_run(tmp_path, label, new, split="new")
    got = sheet(tmp_path, capsys)
    hm = 2 * 80 * 60 / 140
    assert {column: float(row["value"]) for (level, column), row in got.items() if level == "off"} == pytest.approx(
        {"base": 80, "Δ base": 0, "new": 80, "Δ new": 20, "HM": 80, "Δ HM": 80 - hm}
    )
    assert float(got["on (default)", "HM"]["value"]) == pytest.approx(hm)
    assert parse_results.main([str(tmp_path), "--table", "ablation"]) == 0
    out = capsys.readouterr().out
    assert "Base-to-new accuracy" in out and "16 shots, text dropout of BiomedDPT" in out and "+11.43" in out


def test_datasets_are_averaged_and_a_missing_run_is_told(tmp_path: Path, capsys) -> None:
    for dataset, gain in (("BTMRI", 4), ("RETINA", -2)):
        for seed in (1, 2):
            level_run(tmp_path, "full", 50, seed, dataset=dataset)
            if (dataset, seed) != ("RETINA", 2):
                level_run(tmp_path, "insert", 50 + gain, seed, dataset=dataset)
    got = sheet(tmp_path, capsys)
    assert float(got["insert", "Δ 16 shots"]["value"]) == 1
    assert got["insert", "Δ 16 shots"]["note"] == got["insert", "16 shots"]["note"] == "3 of 4 runs"
    alone = sheet(tmp_path, capsys, "--datasets", "RETINA", "--seeds", "1")
    assert float(alone["insert", "Δ 16 shots"]["value"]) == -2 and not alone["insert", "Δ 16 shots"]["note"]


def test_what_else_was_changed_makes_tables_of_its_own(tmp_path: Path, capsys) -> None:
    for extra, root in (({}, "long"), ({"OPTIM.MAX_EPOCH": (100, 10)}, "short")):
        level_run(tmp_path / root, "full", 60, extra=extra)
        level_run(tmp_path / root, "shallow", 50 if extra else 55, extra=extra)
    # two factors at once: no level's run
    level_run(tmp_path / "both", "shallow", 1, extra={f"{KEY}N_PROMPTS": (50, 10)})
    assert parse_results.main([str(tmp_path), "--table", "ablation"]) == 0
    out = capsys.readouterr().out
    assert out.count("Few-shot accuracy") == 2 and "-5.00" in out and "-10.00" in out and "1.00 " not in out.replace("-1", "")


def test_nothing_to_compare_is_one_line(tmp_path: Path, capsys) -> None:
    level_run(tmp_path, "full", 60)
    assert parse_results.main([str(tmp_path), "--table", "ablation"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: no two levels of a factor of BiomedDPT were run: bash scripts/biomed_dpt/ablation.sh")
    with pytest.raises(SystemExit):
        parse_results.main([str(tmp_path), "--table", "ablation", "--ablation", "CoOp"])
    assert "choose one" in capsys.readouterr().err


# -- script -----------------------------------------------------------------------------------------------


def script(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHON": sys.executable, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)} | environment
    call = ["bash", "scripts/biomed_dpt/ablation.sh", *words]
    return subprocess.run(call, cwd=REPO, env=env, capture_output=True, text=True, timeout=300)


def test_the_script_runs_levels_once_and_prints_their_tables(btmri_root: Path, tmp_path: Path) -> None:
    env = {"DATA": str(btmri_root), "BACKBONE": "PhantomCLIP", "OUTPUT": str(tmp_path), "SHOTS": "2", "TASKS": "few_shot"}
    env["LEVELS"] = "full context-32 visual-16"
    quick = ("--", "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "FEATURES.VIEWS", "1")
    done = script("btmri", "7", *quick, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted(path.relative_to(tmp_path / "ablation").parts[0] for path in tmp_path.rglob("results.json"))
    assert found == ["context-32", "full", "visual-16"]
    for words in (
        "context of BiomedDPT on PhantomCLIP",
        "visual prompts of BiomedDPT",
        "32, at random",
        "4 (default)",
        "Δ 2 shots",
    ):
        assert words in done.stdout, done.stdout
    with_short = "BiomedDPT on PhantomCLIP with FEATURES.VIEWS=1, OPTIM.MAX_EPOCH=1"
    assert f"missing: few-shot, {with_short}, context: 4, at random, 8, at random, 16, at random" in done.stdout
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    again = script("btmri", "7", *quick, **env)
    assert again.returncode == 0 and "32, at random" in again.stdout, again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")} == written
    refused = script(str(REPO / "configs" / "datasets" / "example_folder.yaml"), **env)
    assert refused.returncode == 2 and "takes a published dataset" in refused.stderr
