"""What python -m explain refuses, chooses and passes on: prompts, classes, kinds of maps, images with masks, embeddings."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from backbones import VisualPrompt, build_backbone
from backbones.vocabulary import vocabulary
from dassl.utils import UserError
from datasets.phantom.__main__ import generate
from explain import command, compare, embedding
from explain.compare import divided, images_with_masks, measure, zero_vector_effect
from explain.context import interpret, nearest_words
from explain.masks import MASKS, mask_path, read_mask
from explain.saliency import saliency
from tests.helpers import quick

pytestmark = pytest.mark.usefixtures("log_off_stdout")


# -- masks ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rehearsal breast ultrasound, 6 images of each class; normal ones have empty masks."""
    root = tmp_path_factory.mktemp("busi")
    generate(root, "busi", 6, 64, 0)
    return root


def test_images_are_drawn_by_seed_among_those_that_a_mask_divides(busi: Path) -> None:
    several = [images_with_masks(busi, "busi", 100, seed, 64) for seed in (1, 2)]
    assert len(several[0]) == 12 and {path.parent.name for path in several[0]} == {"benign_tumor", "malignant_tumor"}
    assert several[0] != several[1] and sorted(several[0]) == sorted(several[1]) != several[0]
    assert images_with_masks(busi, "busi", 3, 1, 64) == several[0][:3]


def test_data_whose_masks_say_nothing_are_refused(busi: Path, tmp_path: Path) -> None:
    shutil.copytree(busi, tmp_path / "data")
    for path in (tmp_path / "data").glob(f"*/{MASKS}/*/*.png"):
        Image.new("L", (64, 64), 255).save(path)
    with pytest.raises(UserError, match="no mask of .* divides its image"):
        images_with_masks(tmp_path / "data", "busi", 5, 1, 64)
    with pytest.raises(UserError, match="no mask of .* divides its image"):
        divided(tmp_path / "data", ["busi"], 1, 64)


def test_of_all_datasets_those_whose_masks_say_nothing_are_left_out(busi: Path, tmp_path: Path) -> None:
    shutil.copytree(busi, tmp_path / "data")
    whole = tmp_path / "data" / "CHMNIST"
    shutil.copytree(busi / "BUSI", whole)
    (whole / "BUSI").rename(whole / "CHMNIST")
    for path in (whole / MASKS).glob("*/*.png"):
        Image.new("L", (64, 64), 255).save(path)
    assert divided(tmp_path / "data", ["chmnist", "busi"], 1, 64) == ["busi"]


def test_a_mask_that_covers_all_and_a_map_of_zeros_have_no_share(tmp_path: Path) -> None:
    image, mask = tmp_path / "X" / "X" / "c" / "0.png", tmp_path / "X" / MASKS / "c" / "0.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8), 255).save(path)
    ones = torch.ones(2, 2)
    assert measure(image, "rollout", ones, ones, 0.0, 8).inside_without is None
    half = np.zeros((8, 8), np.uint8)
    half[:4] = 255
    Image.fromarray(half).save(mask)
    nothing = measure(image, "rollout", torch.zeros(2, 2), ones, 0.0, 8)
    assert (nothing.moved, nothing.inside_without, nothing.inside_with) == (None, None, 0.5)
    assert mask_path(Path("/0.png")) is None
    wide = np.zeros((8, 16), np.uint8)  # the test transform crops its left and right quarters away
    wide[:, :8] = 255
    Image.fromarray(wide).save(mask)
    assert read_mask(mask, 8).float().mean() == 0.5 and read_mask(mask, 8).shape == (8, 8)


def test_the_table_is_of_all_images_and_of_attention_alone(busi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backbones import zero_vectors

    backbone = build_backbone("PhantomCLIP")
    cfg = command.default_config()
    command.merge_file(cfg, str(command.SETTINGS))
    cfg.INPUT.SIZE = (backbone.image_size,) * 2
    prompt = zero_vectors(2, backbone.visual_width, "replace")
    monkeypatch.setattr(compare, "BATCH_SIZE", 2)
    seen: list[Any] = []
    monkeypatch.setattr(compare, "measure", lambda path, *rest: seen.append((path, rest[-1])) or measure(path, *rest))
    (found,) = zero_vector_effect(backbone, cfg, prompt, busi, ["busi"], kinds=["rollout"], count=5)
    assert found.images == 5 == len(seen) and {overwritten for _, overwritten in seen} == {2}
    with pytest.raises(UserError, match="asks for no class"):
        zero_vector_effect(backbone, cfg, prompt, busi, ["busi"], kinds=["gradcam"])


# -- words and embeddings ---------------------------------------------------------------------------------


def test_words_are_counted(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    trainer = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path)
    found = interpret(trainer, 2)
    assert [one.position for one in found] == list(range(1, len(trainer.prompt_learner.ctx) + 1))
    with pytest.raises(UserError, match="--words is 0"):
        interpret(trainer, 0)
    everything = nearest_words(trainer.prompt_learner.ctx[:1].detach(), trainer.backbone, 10**9)
    assert len(everything[0]) == len(vocabulary(trainer.backbone))


def test_few_points_make_a_picture_and_fewer_none() -> None:
    points = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    assert embedding.in_the_plane(points, "tsne").shape == embedding.in_the_plane(points, "pca").shape == (6, 2)
    with pytest.raises(UserError, match="4 images and class features are too few"):
        embedding.in_the_plane(points[:4], "pca")
    with pytest.raises(UserError, match='"umap", must be one of tsne, pca'):
        embedding.in_the_plane(points, "umap")


def test_each_class_has_its_points_colour_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[np.ndarray] = []
    places = np.arange(14, dtype=np.float32).reshape(7, 2)
    monkeypatch.setattr(embedding, "in_the_plane", lambda features, method: given.append(features) or places)
    drawn: list[tuple[list[float], Any, float]] = []
    real = Axes.scatter

    def scatter(self: Axes, x: Any, y: Any, **look: Any) -> Any:
        drawn.append((list(x), look.get("c"), look.get("s", 0)))
        return real(self, x, y, **look)

    monkeypatch.setattr(Axes, "scatter", scatter)
    rng = np.random.default_rng(1)
    images, texts = rng.normal(5, 1, (5, 3)).astype(np.float32), rng.normal(-5, 1, (2, 3)).astype(np.float32)
    embedding.draw_embedding(tmp_path / "f.png", images, texts, [1, 0, 1, -1, 0], ["a", "b"], "pca", "title")
    np.testing.assert_allclose(given[0], np.concatenate([embedding.centred(images), embedding.centred(texts)]))
    blue, orange = embedding.PALETTE[:2]
    assert [(xs, colour) for xs, colour, _ in drawn[:5]] == [
        ([2, 8], blue), ([10], blue), ([0, 4], orange), ([12], orange), ([6], "#999999")
    ]  # fmt: skip
    assert drawn[1][2] > drawn[0][2]  # texts are large
    assert embedding.class_of(Path("x/normal brain/1.png"), ["glioma_tumor", "normal_brain"]) == 1


# -- the command ------------------------------------------------------------------------------------------


def asked(**own: object) -> SimpleNamespace:
    return SimpleNamespace(**({"zero_vectors": None, "placement": None, "depth": None} | own))


def test_the_methods_own_prompt_stands_unless_another_is_asked_for(tiny_biomedclip: Path) -> None:
    backbone = build_backbone("BiomedCLIP", str(tiny_biomedclip))
    own = VisualPrompt(torch.ones(3, backbone.visual_width), "replace", True)
    assert command.chosen_prompt(asked(), backbone, own) is own
    published = command.chosen_prompt(asked(), backbone, None)
    assert (published.num_tokens, published.placement, published.deep) == (4, "replace", True)
    for words, facts in (({"placement": "insert"}, (4, "insert", True)), ({"depth": "shallow"}, (4, "replace", False)),
                         ({"zero_vectors": 2}, (2, "replace", True))):  # fmt: skip
        found = command.chosen_prompt(asked(**words), backbone, own)
        assert (found.num_tokens, found.placement, found.deep) == facts and not found.tokens.any()
    with pytest.raises(UserError, match="--zero-vectors is 0"):
        command.chosen_prompt(asked(zero_vectors=0), backbone, own)
    assert command._words(own) == "without and with 3 prompt tokens in place of patches, deep"


def test_attention_is_the_last_blocks_class_token_over_all_heads(tiny_biomedclip: Path) -> None:
    """Beside the roll-out, which has a test by hand of its own: both kinds from their parts."""
    from backbones.attention import image_attention

    backbone = build_backbone("BiomedCLIP", str(tiny_biomedclip))
    images = torch.randn(2, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = saliency("attention", backbone, images)
        last = image_attention(backbone, images)[-1]
    torch.testing.assert_close(found.grid.flatten(1), last.mean(dim=1)[:, 0, 1:])
    with torch.no_grad():
        assert not torch.allclose(saliency("rollout", backbone, images).grid, found.grid)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """No image before two that are."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a_bad.png").write_text("no image")
    for name in ("b", "c"):
        Image.new("RGB", (40, 40)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def loaded(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """BiomedDPT in the place of a run, images one by one."""
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / "run")
    trainer.set_model_mode("eval")
    monkeypatch.setattr(command, "loaded", lambda _: trainer)
    monkeypatch.setattr(command, "BATCH_SIZE", 1)
    return trainer


def test_the_class_and_the_kinds_that_are_asked_for(loaded, images: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    classes: list[int] = []
    real = compare.compare_images

    def noted(*given: Any) -> Any:
        classes.extend(given[-1].tolist())
        return real(*given)

    monkeypatch.setattr(command, "compare_images", noted)
    words = ["run", str(images), "-o", str(tmp_path / "maps"), "--map", "rollout"]
    wanted = loaded.classnames[2]
    assert command.main([*words, "--class", wanted]) == 3  # one could not be read, those behind it are there
    assert classes == [2, 2]
    rows = list(csv.DictReader((tmp_path / "maps" / "shift.csv").open()))
    assert [row["kind"] for row in rows] == ["rollout"] * 2
    said = capsys.readouterr().out
    assert all(f"{100 * float(row['moved']):.1f}" in said for row in rows) and "2 pictures" in said
    assert command.main([*words, "--class", "gliomas tumor"]) == 2
    assert 'no class "gliomas tumor"' in capsys.readouterr().err


def test_an_embedding_of_what_can_be_read(loaded, images: Path, tmp_path: Path, capsys) -> None:
    words = ["run", str(images), "--embedding", "pca", "-o"]
    assert command.main([*words, str(tmp_path / "f.png")]) == 3 and (tmp_path / "f.png").stat().st_size > 0
    assert command.main([*words, str(tmp_path / "f.txt")]) == 2 and "must end in one of" in capsys.readouterr().err
    for name in ("b", "c"):
        (images / f"{name}.png").write_text("no image")
    assert command.main([*words, str(tmp_path / "g.png")]) == 2 and "none of the images" in capsys.readouterr().err


def test_gradcam_without_patches_or_scores_is_refused(tiny_biomedclip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone("BiomedCLIP", str(tiny_biomedclip))
    with pytest.raises(ValueError, match="it needs scores"):
        saliency("gradcam", backbone, torch.zeros(1, 3, backbone.image_size, backbone.image_size))
    monkeypatch.setattr(
        sys.modules["explain.saliency"], "gradient_map", lambda activation, *_: torch.zeros(activation.shape[:2])
    )
    found = saliency("gradcam", backbone, torch.zeros(1, 3, backbone.image_size, backbone.image_size), None,
                     lambda features: features, torch.tensor([0]))  # fmt: skip
    assert float(found.prompt_share) == 0.0  # nothing of nothing is none, not NaN
