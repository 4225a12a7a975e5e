"""The benchmarks: the reference mode computes what the code computes, pieces add up, every line of the table is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import backbones
import train
from backbones.cpu_linear import AVAILABLE, product
from backbones.open_clip_tower import OpenClipBackbone
from benchmarks import jobs, reference, rows
from benchmarks.__main__ import BEGIN, END, main
from benchmarks.compute import best_rates, count_flops, product_rate
from benchmarks.equality import METHOD, same_numbers, train_steps
from benchmarks.parts import PARTS, at_shots, wanted_parts
from benchmarks.setting import MeasurementFailed, Setting, in_process
from benchmarks.units import build, config, mode_context
from dassl.utils import UserError
from tests.conftest import BTMRI_CLASSES, write_dataset
from tests.helpers import arguments, last_tokens

KVASIR = ("dyed lifted polyps", "dyed resection margins", "esophagitis", "normal cecum", "normal pylorus", "normal z line",
          "polyps", "ulcerative colitis")  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark_data")
    write_dataset(folder, "BTMRI", BTMRI_CLASSES, per_class=40)
    return write_dataset(folder, "Kvasir", KVASIR)


@pytest.fixture
def tiny(tiny_biomedclip: Path, root: Path, tmp_path: Path) -> Iterator[Setting]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # toy sizes: a second thread only waits, and for long where the machine is busy
    yield Setting("BiomedCLIP", str(tiny_biomedclip), str(root), str(tmp_path), threads=1, repeats=1, quick=True)
    torch.set_num_threads(threads)


def trainer_of(setting: Setting, mode: str, **keys: object):
    run = setting.folder(f"run-{mode}")
    return build(config(setting, METHOD, "btmri", "base", run, FEATURES__ROOT=setting.folder("store"), **keys))


# -- the reference mode -----------------------------------------------------------------------------------


def test_both_paths_compute_the_same(tiny: Setting) -> None:
    found = same_numbers(tiny, steps=12, images=8)
    assert found["ctx_moved"] > 1e-5  # else there would be nothing to compare
    assert max(found["text_features"], found["image_features"], found["view_features"]) <= 1e-5
    assert found["ctx"] <= 1e-4
    assert found["ctx"] <= found["ctx_moved"] / 100
    assert found["different_predictions"] == 0


def test_the_reference_does_the_repeated_work(tiny: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    images: list[int] = []
    text, image = OpenClipBackbone.encode_embeddings, OpenClipBackbone.encode_image
    monkeypatch.setattr(
        OpenClipBackbone, "encode_embeddings", lambda self, e, *rest: passes.append(e.shape[1]) or text(self, e, *rest)
    )
    monkeypatch.setattr(OpenClipBackbone, "encode_image", lambda self, x, *rest: images.append(len(x)) or image(self, x, *rest))
    keys = {"DATALOADER__TEST__BATCH_SIZE": 4, "OPTIM__MAX_EPOCH": 2}
    counts = {}
    for mode in ("reference", "ours", "ours"):
        with mode_context(mode):
            trainer = trainer_of(tiny, mode, **keys)
            assert ("direct" if mode == "reference" else "store") == trainer.cfg.FEATURES.MODE
            passes.clear()
            images.clear()
            train_steps(trainer, 3)
            trainer.test()
            counts[mode] = len(passes), set(passes), sum(images)
            tests = len(trainer.test_loader)
            if mode == "reference":
                assert not list(tiny.folder("store").iterdir())
    context = trainer.backbone.context_length
    assert tests > 1
    assert counts["reference"][:2] == (3 + tests, {context})
    assert counts["reference"][2] == 4 * 3 + len(trainer.dm.dataset.test)
    assert counts["ours"][0] == 4
    assert max(counts["ours"][1]) < context
    assert counts["ours"][2] == 0  # the third time everything is stored


def test_the_reference_computes_all_tokens(tiny: Setting) -> None:
    found = {}
    for mode in ("reference", "ours"):
        with mode_context(mode):
            found[mode] = last_tokens(trainer_of(tiny, mode).backbone)
    assert min(found["reference"]) > 1 and 1 in found["ours"]


def test_the_reference_saves_the_whole_model_and_loads_it_again(tiny: Setting) -> None:
    sizes = {}
    for mode in ("ours", "reference"):
        with mode_context(mode):
            trainer = trainer_of(tiny, mode, OPTIM__MAX_EPOCH=1)
            trainer.train()
            path = next((Path(trainer.output_dir) / "prompt_learner").glob("model.pth.tar-*"))
            sizes[mode] = path.stat().st_size
            learned = trainer.prompt_learner.ctx.detach().clone()
            with torch.no_grad():
                trainer.prompt_learner.ctx.zero_()
            trainer.load_model(trainer.output_dir)
            assert torch.equal(trainer.prompt_learner.ctx, learned)
    weights = sum(p.numel() * p.element_size() for p in trainer.backbone.parameters())
    assert sizes["ours"] < weights < sizes["reference"]


def test_the_reference_leaves_nothing_behind(tiny: Setting) -> None:
    before = [OpenClipBackbone.trimmed, reference.VLTrainer.text_features, reference.VLTrainer.after_epoch,
              reference.FrozenTowers.build_loaders, reference.VLTrainer.save_model]  # fmt: skip
    with reference.reference_mode():
        first = trainer_of(tiny, "reference").backbone
        assert trainer_of(tiny, "reference").backbone is not first
        with pytest.raises(UserError, match=r"FEATURES\.VIEWS"):
            trainer_of(tiny, "reference", FEATURES__VIEWS=2)
    after = [OpenClipBackbone.trimmed, reference.VLTrainer.text_features, reference.VLTrainer.after_epoch,
             reference.FrozenTowers.build_loaders, reference.VLTrainer.save_model]  # fmt: skip
    assert before == after
    assert not backbones._loaded
    assert trainer_of(tiny, "ours").backbone is trainer_of(tiny, "ours").backbone


@pytest.mark.usefixtures("log_off_stdout")
def test_the_reference_takes_the_arguments_of_train_py(tiny: Setting, tmp_path: Path) -> None:
    results = {}
    for name, run in (("reference", reference.main), ("ours", train.main)):
        words = arguments(METHOD, Path(tiny.path), Path(tiny.root), tmp_path / name, split="base", TEXT_DROPOUT=False)
        assert run(words) == 0
        results[name] = json.loads((tmp_path / name / "results.json").read_text())
    assert (results["reference"]["features"], results["ours"]["features"]) == ("direct", "store")
    assert results["reference"]["metrics"] == pytest.approx(results["ours"]["metrics"], abs=1e-3)


# -- what is counted and added up -------------------------------------------------------------------------


def test_flops_of_a_vit_b16() -> None:
    import timm

    tower = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    tokens, width, hidden, layers = 197, 768, 3072, 12
    products = layers * tokens * (4 * width**2 + 2 * width * hidden) + (tokens - 1) * width * (3 * 16 * 16)
    attention = layers * 2 * tokens**2 * width
    with torch.no_grad():
        counted = count_flops(lambda: tower(torch.zeros(1, 3, 224, 224)))
    assert counted == 2 * (products + attention)
    assert 17.4e9 < counted / 2 < 17.7e9


@pytest.mark.skipif(not AVAILABLE, reason="this PyTorch has no oneDNN product")
def test_flops_are_counted_whichever_library_multiplies() -> None:
    x, weight = torch.randn(2, 7, 5), torch.randn(3, 5)
    assert torch.allclose(product(x, weight), x @ weight.T, atol=1e-5)
    assert count_flops(lambda: product(x, weight)) == count_flops(lambda: x @ weight.T) == 2 * 2 * 7 * 5 * 3


def test_the_rate_is_that_of_each_library_at_its_best_size() -> None:
    found = product_rate(torch.device("cpu"), (16, 64), 2, torch.float32)
    assert set(found) == ({"torch.mm", "oneDNN"} if AVAILABLE else {"torch.mm"})
    assert all(set(by_size) == {16, 64} and min(by_size.values()) > 0 for by_size in found.values())
    turns = [{"mm": {1: one, 2: two}} for one, two in ((1.0, 5.0), (9.0, 4.0), (2.0, 6.0))]
    assert best_rates(turns) == {"mm": 5.0}  # the size that suits: medians 2 and 5; not the luckiest turn


COSTS = {
    "mode": "ours", "build_s": 5.0, "rebuild_s": 1.0, "stored_rebuild_s": 0.5, "epochs": 10, "train_images": 8,
    "steps_per_epoch": 2, "epoch_s": [4.0], "stored_epoch_s": [1.0, 2.0, 9.0], "save_s": [0.25], "load_s": [0.5],
    "view_s": 0.5, "read_s": 0.01, "test_images": 10, "test_s": [21.0], "second_test_s": [1.5], "text_s": [1.0],
    "test_batch": 5, "results_s": [3.0, 1.0], "published_test_images": 40, "tower": "a", "views": "a",
}  # fmt: skip
REFERENCE = COSTS | {"mode": "reference", "test_s": [22.0]}


def test_pieces_of_base2new_add_up() -> None:
    sizes = jobs.published(COSTS, 2)
    assert sizes == jobs.Sizes(10, (20, 20))
    first = jobs.base2new_seconds(COSTS, sizes)
    assert first == {"build": 6.0, "train": 10 * 2.25 + 80 * 0.5, "test": 2 * (20 * 2.0 + 1.0), "load": 0.5, "files": 4.0}
    again = jobs.base2new_seconds(COSTS, sizes, stored=True, build_s=2.0)
    assert again == pytest.approx({"build": 2.5, "train": 22.5 + 0.8, "test": 2 * (20 * 0.05 + 1.0), "load": 0.5, "files": 4.0})
    released = jobs.base2new_seconds(REFERENCE, sizes)
    # (22 - 2 batches of text) / 10 images; four batches of five in each test
    assert released == {"build": 6.0, "train": 40.25, "test": 2 * (20 * 2.0 + 4 * 1.0), "load": 0.5, "files": 4.0}


def test_a_comparison_encodes_views_and_test_images_once_per_tower() -> None:
    one = jobs.compare_seconds([COSTS], 1)
    shared = jobs.compare_seconds([COSTS, COSTS], 1) - one
    other = jobs.compare_seconds([COSTS, COSTS | {"tower": "b", "views": "b"}], 1) - one
    assert other == pytest.approx(one)
    assert one - shared == pytest.approx(80 * (0.5 - 0.01) + 40 * (2.0 - 0.05))
    assert jobs.compare_seconds([REFERENCE, REFERENCE], 2) == pytest.approx(4 * jobs.compare_seconds([REFERENCE], 1) - 4.0)
    exact, bank = jobs.compare_seconds([COSTS], 3), jobs.compare_seconds([COSTS], 3, bank=4)
    assert exact - bank == pytest.approx(3 * 6 * 8 * (0.5 - 0.01))


def test_fewer_shots_stand_for_more_steps_of_the_same_kind() -> None:
    scaled = at_shots(COSTS, 2, 16)
    assert (scaled["train_images"], scaled["steps_per_epoch"]) == (64, 16)
    assert scaled["epoch_s"] == [32.0]
    assert scaled["view_s"] == COSTS["view_s"]


# -- the command ------------------------------------------------------------------------------------------


def test_parts_that_are_needed_come_first() -> None:
    assert wanted_parts(["job"]) == ["step", "build", "job"]
    assert wanted_parts([]) == list(PARTS)


@pytest.mark.usefixtures("log_off_stdout")
@pytest.mark.slow
def test_a_quick_run_has_every_line(tiny: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, raw = tmp_path / "page.md", tmp_path / "raw.json"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    words = ["--backbone-path", tiny.path, "--root", tiny.root, "--work", tiny.work, "--threads", "1", "--repeats", "1"]
    assert main([*words, "--quick", "--json", str(raw), "--out", str(page)]) == 0
    results = json.loads(raw.read_text())
    assert results["parts"] == list(PARTS) == list(results["took_s"])
    text = page.read_text()
    assert text.startswith(f"above\n{BEGIN}\n") and text.endswith(f"{END}\nbelow\n") and "\nold\n" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    expected = {name: list(made(results)) for name, made in rows.ROWS.items()}
    assert all(expected.values()) and set(expected) == set(PARTS)
    assert len(lines) == sum(map(len, expected.values())) >= 25
    assert all(what in text for made in expected.values() for what, *_ in made)
    assert "no GPU here" in text or torch.cuda.is_available()
    assert "| what " in capsys.readouterr().out


@pytest.mark.slow
def test_a_measuring_process_tells_its_memory_and_its_errors(tiny: Setting) -> None:
    found = in_process(tiny, "machine:describe")
    process = found["process"]
    assert process["import_s"] > 0
    assert 0 < process["start_bytes"] < process["import_bytes"] <= process["peak_bytes"]
    with pytest.raises(MeasurementFailed, match="no_such_mode"):
        in_process(tiny, "building:build_once", mode="no_such_mode", store="store")
