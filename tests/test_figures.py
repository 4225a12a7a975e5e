"""Figures: the numbers drawn, what titles tell, looks that can be told apart, curves from logs, what is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis import figures
from analysis.cast import cast_of, chance_of, limits
from analysis.curves import moving_average, read_curves
from analysis.figure_style import DARK, PAGE_WIDTH, balanced, svg, wrapped
from analysis.method_looks import METHODS, PALETTE, looks, outline
from analysis.plots_modalities import radar_plot
from analysis.plots_runs import confusions, reliability, whole_percents
from analysis.plots_shots import average_plot, spread
from analysis.results import read_runs
from analysis.summaries import Scope
from analysis.words import cut_inside, shortened
from tests.synthetic_runs import write_run
from trainers import methods

# Machado et al. (2009), severity 1, linear RGB
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
LOG = (
    "epoch [1/3] batch [5/10] time 0.1 (0.2) data 0.0 (0.0) loss 4.0 (4.0) acc 10.0 (10.0) lr 2.0e-03 eta 0:00:01\n"
    "epoch [1/3] batch [10/10] time 0.1 (0.2) data 0.0 (0.0) loss 9.0 (3.0) acc 50.0 (40.0) lr 2.0e-03 eta 0:00:01\n"
    "epoch [2/3] batch [10/10] time 0.1 (0.2) data 0.0 (0.0) loss 9.0 (2.5) acc 50.0 (45.0) lr 2.0e-03 eta 0:00:01\n"
    "killed and resumed\n"
    "epoch [2/3] batch [10/10] time 0.1 (0.2) data 0.0 (0.0) loss 9.0 (2.0) acc 50.0 (55.0) lr 2.0e-03 eta 0:00:01\n"
)


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two datasets and both protocols; one run of CoOp on BUSI is cut short."""
    root = tmp_path_factory.mktemp("runs")
    for method, plus in (("CoOp", 0), ("BiomedDPT", 5)):
        for dataset, modality in (("BTMRI", "MRI"), ("BUSI", "ultrasound")):
            for seed in (1, 2):
                for shots in (1, 16):
                    folder = write_run(root, method, dataset, shots=shots, seed=seed, accuracy=40 + plus + seed + shots,
                                       modality=modality, rehearsal=True)  # fmt: skip
                    (folder / "log.txt").write_text(LOG + (folder / "log.txt").read_text())
                for split in ("base", "new"):
                    write_run(root, method, dataset, split=split, seed=seed, accuracy=60 + plus + seed, modality=modality,
                              rehearsal=True)  # fmt: skip
    broken = root / "few_shot" / "busi" / "shots_16" / "CoOp_BiomedCLIP" / "nctx4" / "seed2"
    (broken / "predictions.csv.gz").write_bytes(b"cut")
    return root


@pytest.fixture(scope="module")
def drawn(runs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures")
    assert figures.main([str(runs_folder), "-o", str(out)]) == 0
    return out


def numbers(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_is_there_in_every_format(drawn: Path) -> None:
    names = {path.stem for path in drawn.iterdir()}
    expected = {"few_shot_accuracy", "few_shot_average_accuracy", "base_new_average_16shots_accuracy",
                "base_new_16shots_accuracy", "bars_all_16shots_accuracy", "confusion_btmri_all_16shots",
                "reliability_busi_all_16shots", "training_btmri_all_16shots"}  # fmt: skip
    assert expected <= names
    assert not any(name.startswith("radar") for name in names)  # two modalities
    assert not any(name.startswith("training") and "_new_" in name for name in names)
    for name in names:
        assert (drawn / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        text = (drawn / f"{name}.svg").read_text()
        assert "<svg" in text and "rehearsal" in text


def test_shots_figure_has_the_means_and_says_what_is_missing(drawn: Path) -> None:
    rows = {(r["panel"], r["method"], r["shots"]): r for r in numbers(drawn / "few_shot_accuracy.csv")}
    assert len(rows) == 3 * 2 * 2
    whole = rows["BTMRI", "CoOp", "16"]
    assert float(whole["accuracy"]) == pytest.approx((57 + 58) / 2) and not whole["note"]
    cut = rows["BUSI", "CoOp", "16"]
    assert float(cut["accuracy"]) == pytest.approx(57) and cut["note"] == "1 of 2 runs"
    assert rows["average over 2 datasets", "CoOp", "16"]["note"] == "3 of 4 runs"
    assert float(rows["average over 2 datasets", "BiomedDPT", "1"]["accuracy"]) == pytest.approx((47 + 48) / 2)


def test_base_new_has_the_harmonic_mean(drawn: Path) -> None:
    rows = {(r["panel"], r["method"]): r for r in numbers(drawn / "base_new_16shots_accuracy.csv")}
    assert not any(panel.startswith("average") for panel, _ in rows)  # BUSI is in none, and one dataset has none
    row = rows["BTMRI", "BiomedDPT"]
    base, new = float(row["base"]), float(row["new"])
    assert (base, new) == pytest.approx((66.5, 66.5)) and float(row["HM"]) == pytest.approx(2 * base * new / (base + new))


def test_confusion_is_the_sum_over_whole_runs(drawn: Path, runs_folder: Path) -> None:
    rows = [r for r in numbers(drawn / "confusion_busi_all_16shots.csv") if r["method"] == "CoOp"]
    assert sum(int(r["images"]) for r in rows) == 100  # one of two seeds is cut
    right = sum(int(r["images"]) for r in rows if r["true class"] == r["predicted class"])
    assert right == 57


def test_runs_with_other_classes_are_not_added_up(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path, seed=seed)
    other = write_run(tmp_path, seed=3) / "results.json"
    record = json.loads(other.read_text())
    other.write_text(json.dumps(record | {"classnames": ["b", "a"]}))
    names, total = confusions(read_runs(tmp_path)[0])
    assert names == ["class 0", "class 1"] and total is not None and total.sum() == 200


def test_reliability_bins_give_the_ece(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.uniform(0.2, 1, 400), rng.uniform(size=400) < 0.6
    bins = reliability(confidence, correct)
    gaps = 0.0
    for b in range(15):
        inside = [i for i in range(400) if b / 15 < confidence[i] <= (b + 1) / 15]
        if inside:
            gaps += abs(sum(correct[i] for i in inside) - sum(confidence[i] for i in inside))
    assert sum(n * abs(acc - conf) for n, conf, acc in bins) == pytest.approx(gaps)
    assert sum(n for n, _, _ in bins) == 400


def test_curves_are_epoch_averages_and_the_resumed_epoch_counts(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(LOG)
    curves = read_curves(tmp_path)
    assert curves.epochs == (1, 2)
    assert curves.meters == {"loss": (3.0, 2.0), "acc": (40.0, 55.0)}
    # a later call put the log aside
    (tmp_path / "log.txt").rename(tmp_path / "log.txt-2026-01-01")
    (tmp_path / "log.txt").write_text("=> result\n* accuracy: 50.00%\n")
    assert read_curves(tmp_path) == curves
    assert not read_curves(tmp_path / "nowhere").epochs
    assert moving_average((1.0, 2.0, 6.0), 3) == [1.5, 3.0, 4.0]


def test_training_figure_has_the_mean_over_seeds(drawn: Path) -> None:
    rows = numbers(drawn / "training_btmri_all_16shots.csv")
    loss = {(r["method"], r["epoch"]): float(r["value"]) for r in rows if r["meter"] == "loss"}
    assert loss == {(m, e): v for m in ("CoOp", "BiomedDPT") for e, v in (("1", 3.0), ("2", 2.0))}


def series(*methods: str, setting: str = "") -> list[tuple[str, str, str]]:
    return [(method, "BiomedCLIP", setting) for method in methods]


def test_every_method_has_a_look_of_its_own_whoever_else_is_drawn() -> None:
    assert set(METHODS) == {name for name, cls in methods().items() if cls.__module__.startswith("trainers.")}
    every = looks(series(*METHODS))
    assert len({(look.color, look.marker) for look in every.values()}) == len(METHODS)
    assert {look.color for look in every.values()} == set(PALETTE)
    for number, one in enumerate(every):
        others = series(*sorted(METHODS)[: number % 5], "Unknown")
        assert looks([one, *(o for o in others if o != one)])[one] == every[one]
    new = looks(series("Mine", "Yours", *METHODS))
    assert len({(look.color, look.marker) for look in new.values()}) == len(METHODS) + 2
    assert looks(series("Mine"))[series("Mine")[0]].color == new[series("Mine")[0]].color


def test_settings_of_a_method_keep_its_colour_and_are_told_apart() -> None:
    own = [("CoOp", "BiomedCLIP", setting) for setting in ("b", "", "a", "c", "d")]
    found = looks(own, "CoOp")
    assert {look.color for look in found.values()} == {METHODS["CoOp"].color}
    assert found[own[1]].marker == METHODS["CoOp"].marker and len({look.marker for look in found.values()}) == 5
    assert {look.width for look in found.values()} == {2.0} and looks(own)[own[0]].width < 2


def test_outlines_are_those_of_the_figures() -> None:
    for marker in {look.marker for look in METHODS.values()}:
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", outline(marker))]
        assert outline(marker).startswith("M") and max(map(abs, numbers)) == pytest.approx(1)
    top = [float(n) for n in re.findall(r"-?[\d.]+", outline("^"))]
    assert top[:2] == [0, -1], "y grows downwards in SVG"


@pytest.mark.parametrize("kind", DICHROMATS)
def test_palette_is_told_apart_by_colour_blind_readers(kind: str) -> None:
    rgb = np.array([to_rgb(color) for color in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[kind]).T, 0, 1)
    xyz = seen @ XYZ.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    assert min(np.linalg.norm(lab[i] - lab[j]) for i, j in combinations(range(len(lab)), 2)) > 12


def test_real_runs_are_not_called_rehearsal_and_mixed_ones_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, "CoOp")
    runs, _ = read_runs(tmp_path)
    assert all("rehearsal" not in plot.title for plot in figures.plots(runs))
    write_run(tmp_path, "BiomedDPT", rehearsal=True)
    runs, _ = read_runs(tmp_path)
    titles = [plot.title for plot in figures.plots(runs)]
    assert titles and all("PARTLY rehearsal (synthetic)" in title for title in titles)


def test_class_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "results.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"classnames": ["$x_", "<b>&"]}))
    (plot,) = figures.plots(read_runs(tmp_path)[0], kinds=["confusion"])
    text = svg(plot)
    assert "$x_" in text and "&lt;b&gt;&amp;" in text and "<b>" not in text


def test_one_class_has_no_confusion_and_same_runs_give_same_bytes(tmp_path: Path) -> None:
    write_run(tmp_path / "a", classes=1, split="new")
    assert not list(figures.plots(read_runs(tmp_path / "a")[0], kinds=["confusion"]))
    write_run(tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    first, second = ([svg(p) for p in figures.plots(read_runs(tmp_path / part)[0])] for part in "bc")
    assert first == second and len(first) > 2


def test_radar_needs_three_modalities_and_keeps_the_highlighted(tmp_path: Path) -> None:
    modalities = {"BTMRI": "MRI", "BUSI": "ultrasound", "RETINA": "fundus"}
    for number in range(8):
        for dataset, modality in modalities.items():
            accuracy = 30 if number == 0 else 50 + number
            write_run(tmp_path, "BiomedDPT" if number == 0 else f"M{number}", dataset, modality=modality, accuracy=accuracy)
    runs, _ = read_runs(tmp_path)
    scope = Scope("accuracy", tuple(modalities), (1,))
    plot = radar_plot(runs, scope, cast_of(runs, "BiomedDPT"), "16 shots", "x")
    assert plot is not None
    assert {row[1] for row in plot.rows} == {"BiomedDPT", "M7", "M6", "M5", "M4", "M3"} and "6 of 8" in plot.title
    two = [run for run in runs if run.dataset != "RETINA"]
    assert radar_plot(two, scope, cast_of(two, "BiomedDPT"), "16 shots", "x") is None


def test_exit_status_and_filters(runs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main([str(tmp_path / "nowhere"), "-o", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    assert figures.main([str(runs_folder), "-o", str(tmp_path), "--only", "radar"]) == 2
    words = ["--only", "few_shot", "--methods", "CoOp", "--formats", "svg"]
    assert figures.main([str(runs_folder), "-o", str(tmp_path / "few"), *words]) == 0
    assert "left out: " in capsys.readouterr().out
    assert {r["method"] for r in numbers(tmp_path / "few" / "few_shot_accuracy.csv")} == {"CoOp"}
    assert {path.suffix for path in (tmp_path / "few").iterdir()} == {".svg", ".csv"}


def test_long_words_are_cut() -> None:
    assert shortened("pneumonia", 5) == "pneu…" and shortened("lungs", 5) == "lungs"
    assert cut_inside("CoOp, hf-hub:organisation/model-one", 20) == "CoOp, hf-hub:…el-one"
    assert wrapped("few shot accuracy", 9) == "few shot\naccuracy"
    assert max(map(len, wrapped("a " * 30 + "b" * 50, 20).split("\n"))) <= 20
    assert (
        wrapped("one two three four", 14) == "one two three\nfour"
        and balanced("one two three four", 14) == "one two\nthree four"
    )
    assert balanced("b" * 50, 20) == "b" * 19 + "…" and balanced("one", 20) == "one"


# -- what a reader may rely on ----------------------------------------------------------------------------


def test_a_curve_runs_only_through_cells_with_all_datasets(tmp_path: Path) -> None:
    for shots in (1, 2, 4):
        write_run(tmp_path, "CoOp", "BTMRI", shots=shots, accuracy=50 + shots)
        if shots != 2:
            write_run(tmp_path, "CoOp", "RETINA", shots=shots, accuracy=60 + shots)
    runs, _ = read_runs(tmp_path)
    scope = Scope("accuracy", ("BTMRI", "RETINA"), (1,))
    plot = average_plot(runs, scope, cast_of(runs, ""))
    (axis,) = plot.figure.axes
    curve = next(line for line in axis.get_lines() if len(line.get_xdata()) == 3 and line.get_color() == METHODS["CoOp"].color)
    assert np.isnan(curve.get_ydata()[1]) and list(curve.get_ydata()[[0, 2]]) == [56, 59]
    assert [row[5] for row in plot.rows] == ["", "1 of 2 datasets", ""] and "hollow: runs missing" in plot.title
    assert axis.get_ylim() == (50, 60) and chance_of(runs, scope) == 50, "two classes: chance is in the picture"
    assert "hollow" not in average_plot([r for r in runs if r.shots != 2], scope, cast_of(runs, "")).title


def test_panels_share_their_axis_and_nothing_is_beyond_100(drawn: Path, runs_folder: Path) -> None:
    runs, _ = read_runs(runs_folder)
    found = {plot.name: plot for plot in figures.plots(runs, kinds=["few_shot", "base_new", "bars", "reliability", "training"])}
    shots = found["few_shot_accuracy"].figure.axes
    assert len({axis.get_ylim() for axis in shots}) == 1 and len(shots) == 3
    assert len({axis.get_xlim() for axis in found["bars_all_16shots_accuracy"].figure.axes}) == 1
    for name, plot in found.items():
        assert plot.figure.get_figwidth() <= PAGE_WIDTH, "as wide as a printed page"
        if not name.startswith("training"):
            assert all(axis.get_ylim()[1] <= 100 for axis in plot.figure.axes if name[:4] in ("few_", "base", "reli"))
    for axis in found["training_btmri_all_16shots"].figure.axes:
        assert all(float(tick).is_integer() for tick in axis.get_xticks()), "there is no half epoch"


def test_limits_are_whole_tens_within_0_and_100() -> None:
    scope = Scope("accuracy", ("A",), (1,))
    assert limits(scope, [43.2, 99.9]) == (40, 100) and limits(scope, [100.0, 3.0]) == (0, 100)
    assert limits(scope, [50.0]) == (50, 60) and limits(scope, []) is None
    assert limits(Scope("cohen_kappa", ("A",), (1,)), [0.3]) is None


def test_percents_of_a_class_add_up_to_100() -> None:
    assert whole_percents(np.array([33.5, 66.5])) in ([34, 66], [33, 67])
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = 100 * rng.dirichlet(np.ones(7))
        found = whole_percents(shares)
        assert sum(found) == 100 and all(abs(a - b) < 1 for a, b in zip(found, shares, strict=True))
    assert whole_percents(np.zeros(3)) == [0, 0, 0]


def test_names_at_curves_do_not_overlap_and_stay_near() -> None:
    heights = np.array([10.0, 10.1, 10.2, 50.0, 99.0, 99.5])
    places = spread(heights, 4.0, 0, 100)
    assert np.diff(places).min() >= 4 - 1e-9 and places.max() <= 100 and places[3] == 50
    assert abs(places[:3].mean() - heights[:3].mean()) < 1e-9
    assert spread(np.array([5.0]), 4.0, 0, 100).tolist() == [5.0]
    assert spread(np.array([0.0, 0.0]), 4.0, 0, 100).min() >= 0


def test_paper_and_ink_change_places_on_a_dark_page(runs_folder: Path) -> None:
    plot = next(figures.plots(read_runs(runs_folder)[0], kinds=["few_shot"]))
    text = svg(plot)
    assert "prefers-color-scheme:dark" in text
    assert all(f"fill: {light}" in text or f"stroke: {light}" in text for light in DARK)


def test_intervals_end_within_the_axis(tmp_path: Path) -> None:
    for seed, accuracy in ((1, 74), (2, 79)):  # 76.5 +- 31.8
        write_run(tmp_path, seed=seed, accuracy=accuracy)
    runs = read_runs(tmp_path)[0]
    (axis,) = next(figures.plots(runs, "accuracy", ["few_shot"])).figure.axes
    assert axis.get_ylim() == (40, 100)
