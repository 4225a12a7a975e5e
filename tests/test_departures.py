"""Where the methods' own released code does otherwise: class names with underscores, starts of contexts, switches."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from dassl.utils import UserError
from runs.config import default_config
from tests.conftest import write_dataset
from tests.helpers import build, quick
from trainers import lp_plus_plus, methods
from trainers.prompt_learner import PromptLearner

SPELLED = {"glioma_tumor": "glioma tumor", "left_lung_opacity": "left lung opacity"}


def rows_of(trainer, text: str) -> list[Tensor]:
    """Word embeddings of a text's word-pieces, start and end included, padding not."""
    ids = trainer.backbone.tokenizer([text])[0]
    return list(trainer.backbone.model.text.transformer.embeddings.word_embeddings(ids[ids != 0]))


# -- class names with underscores ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def underscored_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("underscores"), "BTMRI", tuple(SPELLED))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_prompt_is_split_behind_the_whole_class_name(position: str, tiny_biomedclip, underscored_root, tmp_path) -> None:
    own = {"CLASS_TOKEN_POSITION": position, "NAME_LEN": "exact", "N_CTX": 4, "CTX_INIT": "a photo of a"}
    trainer = build("CoOp", tiny_biomedclip, underscored_root, tmp_path, split="all", **own)
    assert trainer.classnames == list(SPELLED)  # the names of the split file stay as they are
    ctx = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        prompts, c = trainer.prompt_learner(ctx), list(ctx)
        for prompt, spelling in zip(prompts, SPELLED.values(), strict=True):
            start, *rest = rows_of(trainer, f"a photo of a {spelling}.")
            name, tail = rest[4:-2], rest[-2:]  # behind the four words; before the full stop and the end
            assert len(name) == len(rows_of(trainer, spelling)) - 2 >= 2
            inner = {"end": [*c, *name], "middle": [*c[:2], *name, *c[2:]], "front": [*name, *c]}[position]
            want = torch.stack([start, *inner, *tail])
            assert torch.equal(prompt[: len(want)], want)


# -- where the context starts -------------------------------------------------------------------------------


def learner(trainer, **settings: object) -> PromptLearner:
    names = list(trainer.classnames)
    words = settings.get("ctx_init") or "X X X X"
    torch.manual_seed(3)
    return PromptLearner(trainer.backbone, [f"{words} {name}." for name in names], names, n_ctx=4, **settings)


def test_each_class_draws_its_own_context(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = build("CoOp", tiny_biomedclip, btmri_root, tmp_path, split="all", CSC=True, CTX_INIT="", N_CTX=4)
    started = trainer.prompt_learner.ctx.detach()
    assert started.shape == (4, 4, 32) and len({row.numpy().tobytes() for row in started}) == 4
    assert 0.015 < started.std() < 0.025
    for csc, shape in ((True, (4, 4, 32)), (False, (4, 32))):
        made = learner(trainer, csc=csc).ctx.detach()
        torch.manual_seed(3)
        assert torch.equal(made, torch.nn.init.normal_(torch.empty(shape), std=0.02))
    words = torch.stack(rows_of(trainer, "a photo of a")[1:5])
    assert torch.equal(learner(trainer, csc=True, ctx_init="a_photo of a").ctx.detach(), words.expand(4, -1, -1))


CONTEXT_KEYS = {"MaPLe": "N_CTX", "PromptSRC": "N_CTX_TEXT"}
LONG = "a very clear photo of a"


@pytest.mark.parametrize("method", sorted(CONTEXT_KEYS))
def test_a_context_of_more_than_four_tokens_starts_at_random(method, tiny_biomedclip, btmri_root, tmp_path, caplog) -> None:
    caplog.set_level(logging.WARNING, "trainers.coop")
    own = {CONTEXT_KEYS[method]: 6, "CTX_INIT": LONG} | ({"N_PROMPTS": 3} if method == "PromptSRC" else {})
    trainer = build(method, tiny_biomedclip, btmri_root, tmp_path / "released", split="base", **own)
    assert "start at random, not from CTX_INIT" in caplog.text
    started = trainer.prompt_learner.ctx.detach()
    assert started.shape == (6, 32) and 0.015 < started.std() < 0.025
    want = trainer.backbone.tokenizer(["X X X X X X glioma tumor."])[0]
    ids = trainer.prompt_learner.tokens.ids[0]
    assert torch.equal(ids, want[: len(ids)])

    caplog.clear()
    longer = build(method, tiny_biomedclip, btmri_root, tmp_path / "longer", split="base", CTX_INIT_MAX=6, **own)
    assert not caplog.text
    assert torch.equal(longer.prompt_learner.ctx.detach(), torch.stack(rows_of(trainer, LONG)[1:7]))
    assert type(longer).variant(longer.cfg).endswith("_initmax6")
    assert "CTX_INIT_MAX 6 (released code: 4)" in type(longer).departures(longer.cfg)


@pytest.mark.parametrize("how", ["independent", "copies"])
def test_maple_couplings_start(how: str, btmri_root, tmp_path) -> None:
    phantom = Path(__file__).parents[1] / "backbones" / "weights" / "phantomclip"
    trainer = build("MaPLe", phantom, btmri_root, tmp_path, split="base", backbone="PhantomCLIP", PROJ_INIT=how)
    made = trainer.prompt_learner
    first, *others = made.compound_prompt_projections
    assert len(others) == 2
    for other in others:
        assert torch.equal(first.weight, other.weight) == torch.equal(first.bias, other.bias) == (how == "copies")
        assert first.weight is not other.weight  # each learns by itself
    assert not torch.equal(first.weight, made.proj.weight)


# -- methods on features ------------------------------------------------------------------------------------


def test_lp_plus_plus_starts_from_class_sums_rounded_to_float16(tiny_biomedclip, btmri_root, tmp_path) -> None:
    own = {"ITERATIONS": 1, "SELECT": "last", "MOMENTUM": 0.0}
    trainer = quick("LPPlusPlus", tiny_biomedclip, btmri_root, tmp_path, INIT_PREC="fp16", **own)
    trainer.train()
    v, y = (part.numpy() for part in trainer.normalised([trainer.store.images("train")]))
    text = trainer.text_features().numpy()
    rounded = v.astype(np.float16).astype(np.float32)
    sums = np.stack([rounded[y == k].sum(axis=0) for k in range(4)]).astype(np.float16).astype(np.float32)
    products = v @ text.T
    alpha = 250 * np.mean([products[y == k, k].mean() for k in range(4)])
    logits = v @ sums.T + alpha * products
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    step = 4 * len(v) / np.linalg.eigvalsh(v.T @ v).max()
    want = sums - step * (p - np.eye(4)[y]).T @ v / len(v)
    np.testing.assert_allclose(trainer.prompt_learner.weight, want, rtol=1e-5, atol=1e-5)
    plain = lp_plus_plus.initial(*map(torch.from_numpy, (v, y, products)))[0]
    assert 1e-5 < np.abs(plain.numpy() - sums).max() < 1e-2  # it is the rounding that is seen above


def test_linear_probe_fits_in_float64_with_every_scikit_learn(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("LinearProbe", tiny_biomedclip, btmri_root, tmp_path, SEARCH=False, C=1e4)
    trainer.train()
    v, y = (part.numpy() for part in trainer.normalised([trainer.store.images("train")]))
    fitted = LogisticRegression(C=1e4, max_iter=1000).fit(v.astype(np.float64), y)
    np.testing.assert_array_equal(trainer.prompt_learner.weight.numpy(), fitted.coef_.astype(np.float32))
    assert type(trainer).departures(trainer.cfg) == []


# -- what is said of it -------------------------------------------------------------------------------------

SWITCHES = [
    ("MaPLe", "PROJ_INIT", "copies", "nctx4_depth9_insert", "_projcopies"),
    ("LPPlusPlus", "INIT_PREC", "fp16", "views0_it300_mom0.9_best_val", "_initfp16"),
    ("GDA", "SCALE", 100.0, "views10", "_scale100"),
]


@pytest.mark.parametrize("method, key, released, folder, suffix", SWITCHES)
def test_the_default_is_said_to_depart_and_the_switch_has_a_folder_of_its_own(method, key, released, folder, suffix) -> None:
    cfg, cls = default_config(), methods()[method]
    own = cfg.TRAINER[cls.section]
    assert cls.variant(cfg) == folder
    assert cls.departures(cfg) == [f"{key} {own[key]} (released code: {released})"]
    own[key] = released
    assert (cls.variant(cfg), cls.departures(cfg)) == (folder + suffix, [])


def test_a_context_per_class_from_words_is_said_to_depart() -> None:
    cfg, cls = default_config(), methods()["BiomedDPT"]
    cfg.TRAINER.BIOMEDDPT.CSC = True
    assert [said.split(":")[0] for said in cls.departures(cfg)] == ["CSC True with CTX_INIT"]
    cfg.TRAINER.BIOMEDDPT.CTX_INIT = ""
    assert cls.departures(cfg) == []


@pytest.mark.parametrize("method, own, said", [
    ("MaPLe", {"PROJ_INIT": "copy"}, "Did you mean"),
    ("LPPlusPlus", {"INIT_PREC": "half"}, "must be one of fp32, fp16"),
    ("GDA", {"SCALE": -1.0}, "TRAINER.GDA.SCALE is -1.0, must be 0 or more"),
])  # fmt: skip
def test_a_wrong_value_is_named(method, own, said, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match=f"TRAINER.*{next(iter(own))}.*{said}|{said}"):
        build(method, tiny_biomedclip, btmri_root, tmp_path, split="all", **own)
