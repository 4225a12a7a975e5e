"""Tables from run folders: numbers by hand, what is missing is named, the four formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from pathlib import Path

import pytest

import parse_results
from analysis import check
from analysis.counted import published
from analysis.render import Cell, Table, render, render_tables
from tests.synthetic_runs import write_run

T3 = 4.302652729911275  # 97.5 % quantile of Student's t, 2 degrees of freedom


def half(values: list[float]) -> float:
    return T3 * statistics.stdev(values) / math.sqrt(3)


def sheet(root: Path, capsys, *words: str) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """The CSV of parse_results by (table's dataset part, method, variant, column)."""
    assert parse_results.main([str(root), "--format", "csv", *words]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    found = {}
    for row in rows:
        what = "per modality" if "per modality" in row["table"] else row["table"].split(", ", 1)[1].split(":")[0]
        found[what, row.get("method", ""), row.get("variant", ""), row["column"]] = row
    return found


def text(root: Path, capsys, *words: str) -> str:
    assert parse_results.main([str(root), *words]) == 0
    return capsys.readouterr().out


def value(row: dict[str, str]) -> float:
    return float(row["value"])


@pytest.fixture
def two_datasets(tmp_path: Path) -> Path:
    """CoOp and BiomedDPT on two datasets, three seeds, 1 and 16 shots, all whole."""
    for dataset, modality, shift in (("BTMRI", "MRI", 0), ("BUSI", "ultrasound", 20)):
        for shots in (1, 16):
            for seed in (1, 2, 3):
                write_run(
                    tmp_path, "CoOp", dataset, shots=shots, seed=seed, accuracy=40 + shift + seed + shots, modality=modality
                )
                variant = "nctx5_ctpmiddle" if dataset == "BTMRI" else "nctx4_ctpmiddle"
                write_run(tmp_path, "BiomedDPT", dataset, shots=shots, seed=seed, accuracy=45 + shift + seed**2 + shots,
                          modality=modality, variant=variant)  # fmt: skip
    return tmp_path


def test_few_shot_by_hand(two_datasets: Path, capsys) -> None:
    got = sheet(two_datasets, capsys)
    cell = got["BUSI", "BiomedDPT", "nctx4_ctpmiddle", "16 shots"]
    values = [45 + 20 + seed**2 + 16 for seed in (1, 2, 3)]
    assert value(cell) == pytest.approx(statistics.mean(values)) and float(cell["ci95"]) == pytest.approx(half(values))
    assert (cell["best"], cell["note"]) == ("1", "") and got["BUSI", "CoOp", "nctx4", "16 shots"]["best"] == "0"
    # the config files give the two datasets other variants: still one method in the average
    average = got["average over 2 datasets", "BiomedDPT", "nctx4|nctx5_ctpmiddle", "1 shot"]
    per_seed = [statistics.mean([45 + shift + seed**2 + 1 for shift in (0, 20)]) for seed in (1, 2, 3)]
    assert value(average) == pytest.approx(statistics.mean(per_seed)) and float(average["ci95"]) == pytest.approx(
        half(per_seed)
    )


def test_base_to_new_and_its_three_averages(tmp_path: Path, capsys) -> None:
    numbers = {"BTMRI": ((80, 82, 87), (60, 50, 55)), "RETINA": ((90, 91, 95), (30, 34, 41))}
    for dataset, (base, new) in numbers.items():
        for seed in (1, 2, 3):
            write_run(tmp_path, dataset=dataset, split="base", seed=seed, accuracy=base[seed - 1])
            write_run(tmp_path, dataset=dataset, split="new", seed=seed, accuracy=new[seed - 1])
    got = sheet(tmp_path, capsys)
    hm = {
        d: 2 * statistics.mean(b) * statistics.mean(n) / (statistics.mean(b) + statistics.mean(n))
        for d, (b, n) in numbers.items()
    }
    btmri = got["BTMRI, 16 shots", "CoOp", "nctx4", "HM"]
    assert value(btmri) == pytest.approx(hm["BTMRI"])
    singles = [2 * b * n / (b + n) for b, n in zip(*numbers["BTMRI"], strict=True)]
    assert float(btmri["ci95"]) == pytest.approx(half(singles))
    columns = {c: value(row) for (what, _, _, c), row in got.items() if what == "average over 2 datasets, 16 shots"}
    base, new = (83 + 92) / 2, (55 + 35) / 2
    assert columns == pytest.approx({"base": base, "new": new, "HM of averages": 2 * base * new / (base + new),
                                     "average of HMs": sum(hm.values()) / 2, "arithmetic mean": (base + new) / 2})  # fmt: skip
    one = text(tmp_path, capsys, "--hm", "arithmetic")
    assert "arithmetic mean of base and new (as printed by Biomed-DPT)" in one and "average of HMs" not in one


def test_modalities_and_metrics_that_are_not_better_when_higher(two_datasets: Path, capsys) -> None:
    write_run(two_datasets, "CoOp", "Other", modality="MRI", shots=16, seed=1, accuracy=10)
    got = sheet(two_datasets, capsys, "--modalities", "--shots", "16", "--seeds", "1")
    title = "per modality"
    assert value(got[title, "CoOp", "nctx4", "MRI"]) == pytest.approx((40 + 1 + 16 + 10) / 2)
    assert value(got[title, "CoOp", "nctx4", "ultrasound"]) == pytest.approx(40 + 20 + 1 + 16)
    dpt = got[title, "BiomedDPT", "nctx4|nctx5_ctpmiddle", "MRI"]
    assert (dpt["note"], dpt["best"], dpt["ci95"]) == ("1 of 2 datasets", "0", "")
    errors = sheet(two_datasets, capsys, "--metric", "error_rate", "--shots", "16", "--datasets", "btmri")
    assert errors["BTMRI", "BiomedDPT", "nctx5_ctpmiddle", "16 shots"]["best"] == "1"
    assert "Cohen's kappa, BTMRI" in text(two_datasets, capsys, "--metric", "cohen_kappa", "--datasets", "BTMRI")


def test_what_is_not_defined_is_left_out_and_said(tmp_path: Path, capsys) -> None:
    for method in ("CoOp", "KgCoOp"):
        for split in ("base", "new"):
            write_run(tmp_path, method, "BTMRI", split=split, accuracy=70)
            write_run(tmp_path, method, "RETINA", split=split, accuracy=60)
            write_run(tmp_path, method, "BUSI", split=split, accuracy=100, classes=1 if split == "new" else 2)
    out = text(tmp_path, capsys, "--metric", "macro_auroc")
    assert "macro one-vs-rest AUROC is not defined on BUSI (new): left out (one class, which any method classifies" in out
    got = sheet(tmp_path, capsys, "--metric", "macro_auroc")
    assert got["BUSI, 16 shots", "CoOp", "nctx4", "new"]["note"] == "not defined"
    cell = got["average over 2 datasets, 16 shots", "CoOp", "nctx4", "new"]
    assert (cell["note"], cell["best"]) == ("", "1")


def test_changed_settings_are_rows_of_their_own_and_make_the_ablation(tmp_path: Path, capsys) -> None:
    key = "TRAINER.BIOMEDDPT.N_CTX"
    for dataset, configured in (("BTMRI", 5), ("RETINA", 4)):
        for n_ctx in (4, 5, 8):
            changed = {} if n_ctx == configured else {key: (configured, n_ctx)}
            write_run(
                tmp_path,
                "BiomedDPT",
                dataset,
                accuracy=50 + n_ctx + (dataset == "BTMRI"),
                variant=f"nctx{n_ctx}",
                changed=changed,
            )
    got = sheet(tmp_path, capsys)
    average = {variant: row for (what, _, variant, _), row in got.items() if what.startswith("average")}
    assert value(average["nctx4|nctx5"]) == (54 + 56) / 2 and value(average["nctx8 (N_CTX=8)"]) == 58.5
    assert average["nctx4 (N_CTX=4)"]["note"] == "1 of 2 datasets"
    assert parse_results.main([str(tmp_path), "--ablation", "BiomedDPT", "--format", "csv"]) == 0
    rows = {row["N_CTX"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert {name: value(row) for name, row in rows.items()} == pytest.approx({"4|5": 55, "4": 54.5, "5": 55.5, "8": 58.5})
    assert all(row["note"] == "" for row in rows.values()) and rows["8"]["best"] == "1"
    assert parse_results.main([str(tmp_path), "--ablation", "CoOp"]) == 2
    assert "BiomedDPT" in capsys.readouterr().err


FILES = ("config.yaml", "log.txt", "results.json", "predictions.csv.gz", "prompt_learner/model.pth.tar-50",
         "prompt_learner/checkpoint", "tensorboard/events.out")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [None, 0.0, 0.5])
def test_a_run_without_one_of_its_files_is_named_and_not_averaged(name, keep, tmp_path: Path, capsys) -> None:
    for seed, accuracy in ((1, 60), (2, 70), (3, 95)):
        folder = write_run(tmp_path, seed=seed, accuracy=accuracy)
    path = folder / name
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(FILES)
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    out = text(tmp_path, capsys, "--seeds", "1", "2", "3", "--published")
    assert f"not averaged: {folder}: " in out and name in out.split(f"{folder}: ")[1].splitlines()[0]
    assert "65.00 ± 63.53 [2 of 3 runs]" in out and "95.00" not in out
    assert re.search(r"missing: CoOp / BiomedCLIP / nctx4, all, 16 shots: BTMRI seed 3$", out, re.M)
    assert parse_results.main([str(tmp_path), "--paired", "CoOp", "CoOp"]) == 0
    assert check.main([str(tmp_path)]) == 2  # one dataset is not the papers' average
    assert str(folder) in capsys.readouterr().out


@pytest.mark.parametrize("record", ["[]", "{}", '{"complete": true}', '{"complete": true, "files": 3}', "\x00"])
def test_a_results_file_with_anything_in_it_crashes_nothing(record, tmp_path: Path, capsys) -> None:
    write_run(tmp_path, seed=1, accuracy=60)
    folder = write_run(tmp_path, seed=2)
    (folder / "results.json").write_text(record)
    assert f"not averaged: {folder}: damaged: results.json" in text(tmp_path, capsys)


def test_a_log_that_grew_or_was_put_aside_is_whole(tmp_path: Path, capsys) -> None:
    folder = write_run(tmp_path)
    (folder / "log.txt").rename(folder / "log.txt-2025-01-01-00-00-00")
    (folder / "log.txt").write_text("shorter")
    assert "not averaged" not in text(tmp_path, capsys)


def test_incomplete_cells_are_never_the_best_and_unfinished_runs_are_named(two_datasets: Path, capsys) -> None:
    write_run(two_datasets, "KgCoOp", "BTMRI", shots=16, seed=1, accuracy=99)
    begun = write_run(two_datasets, "ProGrad", "BTMRI", shots=16, seed=1)
    (begun / "results.json").unlink()
    got = sheet(two_datasets, capsys)
    cell = got["BTMRI", "KgCoOp", "nctx4", "16 shots"]
    assert (value(cell), cell["note"], cell["best"], cell["ci95"]) == (99, "1 of 3 runs", "0", "")
    assert got["average over 2 datasets", "KgCoOp", "nctx4", "16 shots"]["note"] == "1 of 2 datasets"
    assert got["BTMRI", "KgCoOp", "nctx4", "1 shot"]["note"] == "missing"
    out = text(two_datasets, capsys, "--methods", "KgCoOp", "ProGrad", "CoOp", "--shots", "16")
    assert "KgCoOp / BiomedCLIP / nctx4, all, 16 shots: BTMRI seed 2 3, BUSI" in out
    assert f"not averaged: {begun}: unfinished" in out and "missing: all runs of ProGrad" in out
    assert str(begun) not in text(two_datasets, capsys, "--methods", "CoOp")


def test_a_copied_run_counts_once(tmp_path: Path, capsys) -> None:
    first = write_run(tmp_path / "a", accuracy=60)
    second = write_run(tmp_path / "b", accuracy=80)
    out = text(tmp_path, capsys)
    assert f"not averaged: {second}: the same run as {first}" in out and "60.00" in out and "70.00" not in out


def test_runs_from_before_a_metric_are_named(tmp_path: Path, capsys) -> None:
    write_run(tmp_path, seed=1)
    old = write_run(tmp_path, seed=2)
    record = json.loads((old / "results.json").read_text())
    del record["metrics"]["macro_auroc"], record["files"], record["changed"]
    (old / "results.json").write_text(json.dumps(record))
    assert f"not averaged: {old}: it was run before macro_auroc" in text(tmp_path, capsys, "--metric", "macro_auroc")
    assert "not averaged" not in text(tmp_path, capsys)


def test_published_numbers_and_differences_stand_beside_ours(tmp_path: Path, capsys) -> None:
    for number, name in enumerate(published()["datasets"]["few_shot"]):
        for seed in (1, 2, 3):
            write_run(tmp_path, "CoOp", name, seed=seed, accuracy=60 + number)
    got = sheet(tmp_path, capsys, "--published")
    theirs = [printed["few_shot"]["CoOp"][4] for printed in published()["papers"].values()]
    rows = [row for (what, *_, column), row in got.items() if column == "16 shots" and row["published"]]
    assert [float(row["published"]) for row in rows] == theirs[-1:]  # the sheet above keeps the last of equal titles
    assert all(value(row) == 65 and float(row["difference"]) == pytest.approx(65 - float(row["published"])) for row in rows)
    out = text(tmp_path, capsys, "--published")
    assert f"65.00 ± 0.00 / {theirs[0]:.2f} ({65 - theirs[0]:+.2f})" in out and "as printed by" not in out
    write_run(tmp_path, "CoOp", "D11", accuracy=60)
    out = text(tmp_path, capsys, "--published")
    assert "No run of ours beside these: other datasets among them: D11." in out and "ours / " not in out
    assert re.search(rf"^CoOp +.* {theirs[0]:.2f}$", out, re.MULTILINE) and f"({65 - theirs[0]:+.2f})" not in out
    write_run(tmp_path, "CoOp", "D12", accuracy=60, rehearsal=True)
    out = text(tmp_path, capsys, "--published")
    assert "Published averages are not printed: ours are no such numbers (rehearsal (synthetic); other datasets" in out
    assert f"{theirs[0]:.2f}" not in out and "as printed by" not in out and "PARTLY rehearsal" in out


def test_busi_is_in_no_average_of_base_to_new_and_in_those_of_few_shot(tmp_path: Path, capsys) -> None:
    """Ten datasets are compared with the papers; BUSI has a table of its own with the reason; own datasets count."""
    every, ten = published()["datasets"]["few_shot"], published()["datasets"]["base_to_new"]
    assert set(every) - set(ten) == set(published()["apart"]["base_to_new"]) == {"BUSI"} and len(ten) == 10
    for name in every:
        for seed in (1, 2, 3):
            for split in ("base", "new"):
                accuracy = 100 if name == "BUSI" and split == "new" else 70
                write_run(tmp_path, dataset=name, split=split, seed=seed, accuracy=accuracy, modality=f"of {name}")
    got = sheet(tmp_path, capsys, "--modalities")
    average = {c: value(row) for (what, _, _, c), row in got.items() if what == "average over 10 datasets, 16 shots"}
    assert set(average.values()) == {70.0}
    assert value(got["BUSI, 16 shots", "CoOp", "nctx4", "new"]) == 100
    columns = {column for what, _, _, column in got if what == "per modality"}
    assert columns == {f"of {name}" for name in ten}
    out = text(tmp_path, capsys, "--published")
    assert "No run of ours beside" not in out and "BUSI is shown apart: 3 classes, so that its new part is one class" in out
    own = text(tmp_path, capsys, "--published", "--datasets", "BUSI")
    assert "average over" not in own and "Base-to-new, 16 shots" not in own and "shown apart" in own
    for split in ("base", "new"):
        write_run(tmp_path, dataset="Mine", split=split, seed=1, accuracy=70)
    out = text(tmp_path, capsys, "--published")
    assert "average over 11 datasets" in out and "No run of ours beside these: other datasets among them: Mine" in out
    assert "BUSI" in text(tmp_path, capsys, "--ablation", "CoOp", "--datasets", "BUSI")
    ablation = text(tmp_path, capsys, "--ablation", "CoOp")
    assert "BTMRI, CHMNIST" in ablation and "BUSI is shown apart" in ablation


# -- for readers ------------------------------------------------------------------------------------------


def test_labels_are_short_and_a_legend_tells_what_differs(tmp_path: Path, capsys) -> None:
    long = "TRAINER.COOP.CTX_INIT"
    write_run(tmp_path, "CoOp", variant="nctx4_cscFalse_ctpend", accuracy=50)
    write_run(tmp_path, "CoOp", variant="nctx8", accuracy=60, changed={"TRAINER.COOP.N_CTX": (4, 8)})
    write_run(tmp_path, "CoOp", variant="words", accuracy=70, changed={long: ("", "a photo of a " * 30)})
    write_run(tmp_path, "KgCoOp", accuracy=40, changed={"OPTIM.MAX_EPOCH": (50, 3)})
    out = text(tmp_path, capsys)
    rows = [line.split("  ")[0] for line in out.splitlines() if line.startswith(("CoOp", "KgCoOp"))]
    assert rows == ["CoOp", "CoOp (a)", "CoOp (b)", "KgCoOp"] and "Backbone: BiomedCLIP." in out
    assert "N_CTX=8 (unlike the config files): CoOp (b)." in out and "nctx4_cscFalse" not in out
    assert "OPTIM.MAX_EPOCH=3 (unlike the config files): KgCoOp." in out
    assert max(map(len, out.splitlines())) < 200, "a template of 390 characters is cut"
    full = text(tmp_path, capsys, "--long")
    assert "nctx4_cscFalse_ctpend" in full and "nctx8 (N_CTX=8)" in full and "a photo of a " * 30 in full
    write_run(tmp_path, "CoOp", backbone="PhantomCLIP", variant="nctx4_cscFalse_ctpend")
    out = text(tmp_path, capsys)
    assert "CoOp, PhantomCLIP" in out and "CoOp, BiomedCLIP (a)" in out and "Backbone:" not in out


def test_what_all_rows_have_is_said_once(tmp_path: Path, capsys) -> None:
    for method in ("CoOp", "KgCoOp"):
        write_run(tmp_path, method, changed={"OPTIM.MAX_EPOCH": (50, 3)})
    assert text(tmp_path, capsys).count("OPTIM.MAX_EPOCH=3 (unlike the config files): all rows.") == 1


def test_one_shot_is_no_shots(tmp_path: Path, capsys) -> None:
    for split in ("all", "base", "new"):
        write_run(tmp_path, split=split, shots=1)
    write_run(tmp_path, shots=2)
    write_run(tmp_path, "KgCoOp", split="base", shots=1)
    out = text(tmp_path, capsys, "--modalities") + text(tmp_path, capsys, "--paired", "CoOp", "CoOp")
    assert "1 shots" not in out and "1 shot" in out and "2 shots" in out


def test_a_test_of_one_class_has_no_number(tmp_path: Path, capsys) -> None:
    for method, base in (("CoOp", 70), ("KgCoOp", 60)):
        write_run(tmp_path, method, "Mine", split="base", accuracy=base)
        write_run(tmp_path, method, "Mine", split="new", accuracy=100, classes=1)
    out = text(tmp_path, capsys)
    assert re.search(r"^CoOp +70.00\* +– +–$", out, re.MULTILINE) and "100.00" not in out
    assert "accuracy is not defined on Mine (new): left out (one class, which any method classifies right)." in out
    cell = sheet(tmp_path, capsys)["Mine, 16 shots", "CoOp", "nctx4", "new"]
    assert (cell["value"], cell["note"]) == ("", "not defined")
    assert "not compared: Mine: one class" in text(tmp_path, capsys, "--paired", "CoOp", "KgCoOp")


def on_data(folder: Path, split_hash: str) -> None:
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(record | {"fingerprints": {"split": split_hash}}))


def test_no_star_across_other_data(tmp_path: Path, capsys) -> None:
    """One method was tested on other images: the star goes to the best of those on the same; of two and two to nobody."""
    for method, accuracy, data in (("A", 50, "x"), ("B", 60, "x"), ("C", 90, "y")):
        on_data(write_run(tmp_path, method, accuracy=accuracy), data)
    stars = {method: row["best"] for (_, method, _, _), row in sheet(tmp_path, capsys).items()}
    assert stars == {"A": "0", "B": "1", "C": "0"}
    on_data(write_run(tmp_path, "D", accuracy=80), "y")
    assert {row["best"] for row in sheet(tmp_path, capsys).values()} == {"0"}
    write_run(tmp_path, "E", accuracy=99)  # an older run, which does not tell, is taken to be on the others' data
    assert "NOT COMPARABLE, its runs differ" in text(tmp_path, capsys)
    assert sum(row["best"] == "1" for row in sheet(tmp_path, capsys).values()) == 1


# -- formats ----------------------------------------------------------------------------------------------

SAMPLE = Table("A_title with 50 % & more", ("method",), ("x", "y"),
               ((("a_|<b>",), (Cell(1.004, 0.5), Cell(note="not defined"))), (("b",), (Cell(1.0), Cell(2.0, published=3.0))),
                (("c",), (Cell(9.0, note="1 of 3 runs"), Cell()))), notes=("A note.",))  # fmt: skip


def test_terminal() -> None:
    plain, bold = render_tables([SAMPLE], "terminal", colour=False), render_tables([SAMPLE], "terminal", colour=True)
    assert "1.00* ± 0.50" in plain and "(* best)" in plain and "9.00 [1 of 3 runs]" in plain and "missing" in plain
    assert "\033[1m1.00\033[0m ± 0.50" in bold and "(* best)" not in bold and "\033[1m9" not in bold
    assert "2.00 / 3.00 (-1.00)" in plain and plain.endswith("A note.")


def test_markdown() -> None:
    out = render_tables([SAMPLE], "markdown")
    assert "**1.00** ± 0.50" in out and r"a_\|&lt;b>" in out
    body = [line for line in out.splitlines() if line.startswith("|")]
    assert len(body) == 5 and {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {4}


def test_latex_is_booktabs_and_escaped() -> None:
    out = render_tables([SAMPLE], "latex")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}", r"\end{table}"):
        assert out.count(rule) == 1
    assert r"\textbf{1.00} $\pm$ 0.50" in out and r"A\_title with 50 \% \& more" in out
    assert r"a\_\textbar{}\textless{}b\textgreater{}" in out
    rows = [line for line in out.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4 and all(len(re.findall(r"(?<!\\)&", row)) == 2 for row in rows)


def test_csv_is_one_sheet_of_full_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(render_tables([SAMPLE, SAMPLE], "csv"))))
    assert len(rows) == 12 and rows[0] == rows[6]
    assert (rows[0]["value"], rows[0]["ci95"], rows[0]["best"], rows[0]["method"]) == ("1.004", "0.5", "1", "a_|<b>")
    assert (rows[3]["published"], rows[3]["difference"]) == ("3.0", "-1.0") and rows[5]["note"] == "missing"


@pytest.mark.parametrize("style", ["terminal", "markdown", "latex", "csv"])
def test_every_format_of_every_table(style, two_datasets: Path, capsys) -> None:
    for words in ([], ["--published", "--modalities"], ["--ablation", "CoOp"], ["--paired", "CoOp", "BiomedDPT"]):
        out = text(two_datasets, capsys, "--format", style, *words)
        assert "CoOp" in out and "Traceback" not in out
    assert "a" in render("t", ["h"], [["a_|"]], style)


# -- Dassl's classic form ---------------------------------------------------------------------------------


def test_classic_logs(tmp_path: Path, capsys) -> None:
    for seed, accuracy in ((1, 60.0), (2, 70.0)):
        (tmp_path / f"seed{seed}").mkdir()
        (tmp_path / f"seed{seed}" / "log.txt").write_text(f"=> result\n* accuracy: {accuracy:.2f}%\n")
    (tmp_path / "seed3").mkdir()
    (tmp_path / "seed3" / "log.txt").write_text("epoch [1/50]\n")
    for words in ([], ["--test-log"]):
        out = text(tmp_path, capsys, *words)
        assert "* accuracy: 65.00% +- 63.53%" in out and f"unfinished, not averaged: {tmp_path / 'seed3'}" in out
    assert parse_results.main([str(tmp_path / "nothing")]) == 2
