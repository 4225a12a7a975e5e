"""Maps, words and embeddings against their definitions, computed naively."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from backbones import TokenBatch, VisualPrompt, build_backbone, zero_vectors
from backbones.attention import first_norm, image_attention, num_prefix_tokens, recorded_attention
from backbones.vocabulary import vocabulary
from dassl.utils import UserError
from explain.compare import Shift, effect, measure
from explain.context import interpret
from explain.embedding import UNLABELLED, centred, class_of
from explain.figures import Panel, draw
from explain.maps import class_attention, layout_of, mass_inside, rollout, shift
from explain.masks import coverage, is_informative, mask_path
from explain.saliency import attention_maps, saliency
from tests import tiny_backbones
from tests.helpers import build, quick

pytestmark = pytest.mark.usefixtures("log_off_stdout")
close = dict(rtol=1e-5, atol=1e-5)
VITS = ("BiomedCLIP", "CLIP", "PubMedCLIP")  # timm, open_clip's own, transformers


@pytest.fixture(scope="module")
def vits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vits")
    return {name: tiny_backbones.WRITERS[name](root / name) for name in (*VITS, "PMCCLIP")}


def noise(size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


# -- attention --------------------------------------------------------------------------------------------


def queries_and_keys(block: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """q, k (B, N, W) and the number of heads, from the weights that each library keeps."""
    if hasattr(block, "self_attn"):
        own = block.self_attn
        return own.q_proj(x), own.k_proj(x), own.num_heads
    own = block.attn
    joined = own.qkv(x) if hasattr(own, "qkv") else F.linear(x, own.in_proj_weight, own.in_proj_bias)
    q, k, _ = joined.chunk(3, dim=-1)
    return q, k, own.num_heads


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("placement", [None, "replace", "insert"])
def test_attention_is_softmax_of_queries_and_keys_and_reading_changes_nothing(name: str, placement, vits) -> None:
    backbone = build_backbone(name, str(vits[name]))
    prompt = zero_vectors(3, backbone.visual_width, placement) if placement else None
    images, inputs = noise(backbone.image_size), []
    with torch.no_grad():
        before = backbone.encode_image(images, prompt)
        hooks = [first_norm(b).register_forward_hook(lambda _, __, out: inputs.append(out)) for b in backbone.visual_layers]
        maps = image_attention(backbone, images, prompt)
        for hook in hooks:
            hook.remove()
        assert len(maps) == len(backbone.visual_layers)
        for block, x, found in zip(backbone.visual_layers, inputs, maps, strict=True):
            q, k, heads = queries_and_keys(block, x)
            width = q.shape[-1] // heads
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                want = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)).softmax(dim=-1)
                torch.testing.assert_close(found[:, head], want, **close)
        assert torch.equal(backbone.encode_image(images, prompt), before)
        with recorded_attention(backbone.visual_layers) as nothing:
            pass
        assert nothing == []


def test_a_tower_without_patches_says_so(vits) -> None:
    backbone = build_backbone("PMCCLIP", str(vits["PMCCLIP"]))
    for kind in ("attention", "gradcam"):
        with pytest.raises(UserError, match="vision transformer"):
            saliency(kind, backbone, noise(backbone.image_size))
    with pytest.raises(UserError, match='Did you mean "rollout"'):
        saliency("rolout", backbone, noise(backbone.image_size))


# -- maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [None, (2, 4), (3, 2, 4)])
@pytest.mark.parametrize("deep", [False, True])
def test_rollout_by_hand(tokens, deep: bool) -> None:
    drawn = torch.Generator().manual_seed(1)
    blocks, count = 4, 1 + 9
    attention = [torch.rand(1, 2, count, count, generator=drawn).softmax(dim=-1) for _ in range(blocks)]
    prompt = None if tokens is None else VisualPrompt(torch.ones(tokens), "replace", deep)
    layout = layout_of(count, 1, prompt)
    found = rollout(attention, layout, prompt)[0]
    # what token i holds of what stood at place j when it was written: carried along token by token
    holds = np.eye(count)
    for number, weights in enumerate(attention):
        written = [] if prompt is None or not (number == 0 or (deep and (prompt.tokens.ndim == 2 or number < 3))) else [1, 2]
        for place in written:
            holds[place] = np.eye(count)[place]
        mean = (weights[0, 0] + weights[0, 1]).numpy() / 2
        after = np.zeros_like(holds)
        for i in range(count):
            for j in range(count):
                after[i] += 0.5 * (mean[i, j] + (i == j)) * holds[j]
        holds = after
    np.testing.assert_allclose(found.numpy(), holds[0], rtol=1e-5)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)


def test_class_attention_is_the_last_blocks_first_row_averaged_over_heads() -> None:
    drawn = torch.Generator().manual_seed(1)
    attention = [torch.rand(2, 3, 5, 5, generator=drawn).softmax(dim=-1) for _ in range(4)]
    found = class_attention(attention)
    for image in range(2):
        for token in range(5):
            by_head = [float(attention[3][image, head, 0, token]) for head in range(3)]
            assert float(found[image, token]) == pytest.approx(sum(by_head) / 3, rel=1e-5)


def test_each_kind_is_what_it_is_called(vits) -> None:
    backbone = build_backbone("BiomedCLIP", str(vits["BiomedCLIP"]))
    images, prompt = noise(backbone.image_size), zero_vectors(2, backbone.visual_width, "replace")
    attention = image_attention(backbone, images, prompt)
    layout = layout_of(attention[0].shape[-1], num_prefix_tokens(backbone), prompt)
    by_hand = {"attention": class_attention(attention), "rollout": rollout(attention, layout, prompt)}
    found = attention_maps(("attention", "rollout"), backbone, images, prompt)
    for kind, values in by_hand.items():
        torch.testing.assert_close(found[kind].grid, layout.on_patches(values)[0], **close)
        torch.testing.assert_close(saliency(kind, backbone, images, prompt).grid, found[kind].grid, **close)
    assert not torch.allclose(found["attention"].grid, found["rollout"].grid)


def test_a_map_of_zeros_has_no_share_on_prompts(vits) -> None:
    backbone = build_backbone("BiomedCLIP", str(vits["BiomedCLIP"]))
    images, prompt = noise(backbone.image_size), zero_vectors(2, backbone.visual_width, "replace")
    found = saliency("gradcam", backbone, images, prompt, lambda features: 0 * features, torch.zeros(2, dtype=torch.long))
    assert not found.grid.any() and found.prompt_share.tolist() == [0, 0]


@pytest.mark.parametrize("placement", ["replace", "insert"])
def test_patches_are_told_from_prompts(placement: str) -> None:
    prompt = zero_vectors(2, 4, placement)
    count = 1 + 9 + (2 if placement == "insert" else 0)
    layout = layout_of(count, 1, prompt)
    values = torch.arange(1.0, count + 1)[None]  # class token 1, then 2, 3, …
    grid, share = layout.on_patches(values)
    if placement == "insert":
        assert grid.flatten().tolist() == [4, 5, 6, 7, 8, 9, 10, 11, 12]
        assert float(share) == pytest.approx(5 / (5 + sum(range(4, 13))))
    else:
        assert grid.flatten().tolist() == [0, 0, 4, 5, 6, 7, 8, 9, 10]
        assert float(share) == pytest.approx(5 / (5 + sum(range(4, 11))))
    with pytest.raises(UserError, match="square"):
        layout_of(count + 1, 1, prompt)


@pytest.mark.parametrize("placement", [None, "replace", "insert"])
def test_grad_cam_by_hand_on_the_timm_tower(placement, tiny_biomedclip) -> None:
    backbone = build_backbone("BiomedCLIP", str(tiny_biomedclip))
    prompt = zero_vectors(3, backbone.visual_width, placement) if placement else None
    visual, images = backbone.model.visual, noise(backbone.image_size)
    trunk, classes = visual.trunk, torch.tensor([1, 0])
    text = F.normalize(torch.randn(2, backbone.embed_dim, generator=torch.Generator().manual_seed(5)), dim=-1)
    found = saliency("gradcam", backbone, images, prompt, lambda features: 10 * features @ text.T, classes)
    last, start = trunk.blocks[-1], 1 + (3 if prompt else 0)
    for number in range(len(images)):
        x = trunk._pos_embed(trunk.patch_embed(images[number : number + 1]))
        x = trunk.norm_pre(x)
        x = torch.cat([x[:, :1], torch.zeros(1, 3, x.shape[-1]), x[:, 1:]], dim=1) if placement == "insert" else x
        for block in trunk.blocks:
            if prompt:
                x = torch.cat([x[:, :1], torch.zeros(1, 3, x.shape[-1]), x[:, 4:]], dim=1)
            x = block(x) if block is not last else x
        read = last.norm1(x).detach().requires_grad_(True)
        y = x + last.ls1(last.attn(read))
        y = y + last.ls2(last.mlp(last.norm2(y)))
        feature = F.normalize(visual.head(trunk.forward_head(trunk.norm(y))), dim=-1)
        (10 * feature @ text.T)[0, classes[number]].backward()
        weights = read.grad[0, start:].mean(dim=0)
        cam = (read.detach()[0] @ weights).clamp(min=0)
        cam = cam[start:] if placement == "insert" else cam[1:]
        if placement == "replace":
            cam[:3] = 0
        torch.testing.assert_close(found.grid[number].flatten(), cam, **close)
    assert found.grid.sum() > 0


def test_a_name_with_a_dollar_sign_is_no_formula(tmp_path: Path) -> None:
    draw([[Panel(r"a$\frac$b.png", torch.zeros(8, 8, 3))]], tmp_path / "map.png", title=r"$\nothing$")
    assert (tmp_path / "map.png").stat().st_size > 0


def test_mass_and_shift_from_their_definitions() -> None:
    grid = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[2:, 3] = True  # half of the last patch
    covered = coverage(mask, 2)
    assert covered.tolist() == [[0, 0], [0, 0.5]]
    inside = mass_inside(grid, covered)
    assert float(inside[0]) == pytest.approx(0.5 * 4 / 10) and math.isnan(float(inside[1]))
    moved = shift(grid[:1], torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]))
    assert float(moved) == pytest.approx((0.3 + 0.1 + 0.1 + 0.3) / 2)
    assert is_informative(mask) and not is_informative(mask & False) and not is_informative(mask | True)


def test_masks_are_found_beside_the_images(tmp_path) -> None:
    image, mask = tmp_path / "X" / "X" / "a class" / "0.png", tmp_path / "X" / "masks" / "a class" / "0.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True)
        pixels = np.zeros((32, 32), np.uint8)
        pixels[:16, :16] = 255
        Image.fromarray(pixels).save(path)
    assert mask_path(image) == mask
    plain, prompted = torch.ones(2, 2), torch.tensor([[5.0, 1.0], [1.0, 1.0]])
    found = measure(image, "rollout", plain, prompted, 0.125, 64)
    assert found.lesion_area == pytest.approx(0.25) and found.inside_without == pytest.approx(0.25)
    assert found.inside_with == pytest.approx(5 / 8) and found.moved == pytest.approx(3 / 8)
    # with the first patch overwritten, three are left in both maps, none of them on the mask
    without_first = measure(image, "rollout", plain, prompted * torch.tensor([[0, 1], [1, 1]]), 0.125, 64, overwritten=1)
    assert (without_first.inside_without, without_first.inside_with, without_first.moved) == (0, 0, 0)
    mask.unlink()
    assert measure(image, "rollout", plain, prompted, 0.125, 64).inside_with is None


def test_the_effect_is_a_paired_mean_with_a_t_interval() -> None:
    pairs = [(0.10, 0.15), (0.20, 0.18), (0.30, 0.36)]
    shifts = [Shift(Path("x"), "rollout", 0.0, 0.01, 0.05, *pair) for pair in pairs]
    found = effect("btmri", "rollout", shifts)
    differences = [100 * (b - a) for a, b in pairs]
    assert found.without == pytest.approx(20) and found.with_prompt == pytest.approx(23)
    assert found.difference == pytest.approx(statistics.mean(differences))
    assert found.interval == pytest.approx(4.302653 * statistics.stdev(differences) / math.sqrt(3), rel=1e-5)


# -- words and embeddings ---------------------------------------------------------------------------------


def test_a_context_made_of_words_is_read_as_these_words(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = build("CoOp", tiny_biomedclip, btmri_root, tmp_path, split="base", CSC=True, N_CTX=2)
    words = {word: index for index, word in vocabulary(trainer.backbone).items()}
    assert "[CLS]" not in words
    chosen = [["brain", "tumor"], ["normal", "mri"]]
    with torch.no_grad():
        for label, pair in enumerate(chosen):
            ids = torch.tensor([[words[word] for word in pair]])
            trainer.prompt_learner.ctx[label] = trainer.backbone.embed_tokens(TokenBatch(ids, torch.ones_like(ids)))[0]
    found = interpret(trainer, 3)
    assert [(one.classname, one.words[0][0]) for one in found] == [
        (name, word) for name, pair in zip(trainer.classnames, chosen, strict=True) for word in pair
    ]
    for one in found:
        distances = [distance for _, distance in one.words]
        assert distances[0] == 0 and 0 < distances[1] <= distances[2] and len(one.words) == 3
    lengths = trainer.prompt_learner.ctx.detach().norm(dim=-1).flatten().tolist()
    assert [one.length for one in found] == pytest.approx(lengths, rel=1e-5)
    with pytest.raises(UserError, match="no text context"):
        interpret(quick("VPT", tiny_biomedclip, btmri_root, tmp_path), 3)


def test_classes_of_folders_and_centring() -> None:
    names = ["glioma tumor", "normal brain"]
    assert class_of(Path("x/Normal_brain/1.png"), names) == 1 and class_of(Path("x/other/1.png"), names) == UNLABELLED
    moved = centred(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    np.testing.assert_allclose(moved, [[2**-0.5, -(2**-0.5)], [-(2**-0.5), 2**-0.5], [0, 0]], atol=1e-12)
