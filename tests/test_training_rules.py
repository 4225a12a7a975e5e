"""Rules of a training, each seen in what it leaves behind: checkpoints, losses, starts, choices, what is said to depart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dassl.utils import UserError
from features import FeatureSet
from tests.helpers import build, quick
from trainers import methods
from trainers.base import unit
from trainers.checkpoints import find_checkpoint, stored_tensors, take_over
from trainers.feature_trainer import count_correct
from trainers.tip_adapter import cache_scores, search_blend


@pytest.fixture
def coop(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path):
    trainer = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path, epochs=4, TEXT_DROPOUT=True)
    trainer.epoch = 0
    return trainer


def saved(folder: Path) -> set[str]:
    return {path.name.removeprefix("model.pth.tar-") for path in (folder / "prompt_learner").glob("model.pth.tar-*")}


# -- epochs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_one_loss_that_is_not_finite_ends_the_epoch_before_anything_is_saved(bad: float, coop, tmp_path: Path) -> None:
    coop.before_epoch()
    for value in (1.0, bad, 2.0):
        kept = coop.total({"ce": torch.tensor(value, requires_grad=True)})
        assert kept.requires_grad and not coop._losses.requires_grad  # no step's graph outlives it
    with pytest.raises(UserError, match="in epoch 1: lower OPTIM.LR"):
        coop.after_epoch()
    assert saved(tmp_path) == set()


@pytest.mark.parametrize("every, kept", [(0, {"4"}), (2, {"2", "4"}), (3, {"3", "4"})])
def test_the_last_epoch_and_the_wanted_ones_are_kept(every: int, kept: set[str], coop, tmp_path: Path) -> None:
    coop.cfg.defrost()
    coop.cfg.TRAIN.CHECKPOINT_FREQ = every
    for coop.epoch in range(4):
        coop.after_epoch()
        assert str(coop.epoch + 1) in saved(tmp_path)
    assert saved(tmp_path) == kept


def test_rates_step_once_an_epoch_and_gradients_are_of_this_batch(coop) -> None:
    ctx, rates, grads = coop.prompt_learner.ctx, [], []
    coop.num_batches = 3
    coop.set_model_mode("eval")  # without dropout: each batch has one gradient
    batch = next(iter(coop.train_loader_x))
    start = ctx.detach().clone()
    for coop.batch_idx in range(3):
        with torch.no_grad():
            ctx.copy_(start)
        rates.append(coop.get_current_lr())
        coop.forward_backward(batch)
        grads.append(ctx.grad.clone())
    assert rates[0] == rates[1] == rates[2] != coop.get_current_lr()
    torch.testing.assert_close(grads[2], grads[0])


def test_dropout_is_trainings_alone_and_class_features_follow_the_context(coop) -> None:
    coop.set_model_mode("train")
    assert any(part.training for part in coop.backbone.modules())
    coop.set_model_mode("eval")
    assert not any(part.training for part in coop.backbone.modules())
    first = coop.text_features()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(4))
    features = unit(torch.randn(2, first.shape[1], generator=torch.Generator().manual_seed(0)))
    want = coop.backbone.logit_scale.exp() * features @ first.T
    torch.testing.assert_close(coop.scores(features), want)
    with torch.no_grad():
        coop.prompt_learner.ctx += torch.randn(coop.prompt_learner.ctx.shape, generator=torch.Generator().manual_seed(1))
    coop.set_model_mode("train")
    coop.set_model_mode("eval")
    assert not torch.allclose(coop.text_features(), first, atol=1e-3)


# -- checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("final, want", [("last_step", 12.0), ("best_val", 99.0)])
def test_which_checkpoint_is_loaded(final: str, want: float, coop, tmp_path: Path) -> None:
    folder = tmp_path / "prompt_learner"
    folder.mkdir()
    for name, value in (("model.pth.tar-2", 2.0), ("model.pth.tar-12", 12.0), ("model-best.pth.tar", 99.0)):
        state = {"ctx": torch.full_like(coop.prompt_learner.ctx, value)}
        torch.save({"state_dict": state, "epoch": 1}, folder / name)
    coop.cfg.defrost()
    coop.cfg.TEST.FINAL_MODEL = final
    coop.set_model_mode("eval")
    before = coop.text_features()
    coop.load_model(str(tmp_path))
    assert (coop.prompt_learner.ctx == want).all()
    assert not torch.allclose(coop.text_features(), before, atol=1e-3)  # of the loaded context
    coop.load_model(str(tmp_path), epoch=2)
    assert (coop.prompt_learner.ctx == 2).all()
    assert find_checkpoint(folder, 2, best=True).name == "model.pth.tar-2"
    with pytest.raises(UserError, match="no checkpoint of epoch 5"):
        find_checkpoint(folder, 5)


def test_what_does_not_fit_is_refused_and_nothing_is_taken_over() -> None:
    learner, path = torch.nn.Linear(3, 2), Path("file")
    whole = {name: torch.zeros_like(value) for name, value in learner.state_dict().items()}
    for stored, said in (
        (whole | {"weight": torch.zeros(3, 3)}, "has shape"),
        ({"weight": whole["weight"]}, "lacks bias"),
        ({"weight": whole["weight"], "text_encoder.weight": torch.zeros(1)}, "lacks bias"),
    ):
        with pytest.raises(UserError, match=said):
            take_over(learner, stored, path, "method")
        assert learner.weight.abs().sum() > 0
    prefixed = {f"module.prompt_learner.{name}": value for name, value in whole.items()}
    take_over(learner, stored_tensors({"state_dict": prefixed}, path), path, "method")
    assert learner.weight.abs().sum() == learner.bias.abs().sum() == 0


# -- starts -----------------------------------------------------------------------------------------------


def test_deeper_prompts_of_maple_start_small_and_each_of_its_own(tiny_biomedclip, btmri_root, tmp_path) -> None:
    learner = quick("MaPLe", tiny_biomedclip, btmri_root, tmp_path, N_CTX=4, PROMPT_DEPTH=2).prompt_learner
    deeper = torch.stack(list(learner.compound_prompts_text))
    assert 0.01 < deeper.std() < 0.03 and abs(deeper.mean()) < 0.01


@pytest.mark.parametrize("copies", [False, True])
def test_couplings_of_maple_start_as_copies_only_where_asked_to(copies: bool, coop) -> None:
    from trainers.maple import MultimodalPromptLearner

    words = dict(n_ctx=4, ctx_init="a photo of a", depth=4, copies=copies)
    prompts = ["a photo of a tumor.", "a photo of a brain."]
    learner = MultimodalPromptLearner(coop.backbone, prompts, ["tumor", "brain"], **words)
    assert torch.equal(*(part.weight for part in learner.compound_prompt_projections[:2])) is copies
    assert len(learner.compound_prompts_text) == 3
    texts = torch.stack(list(learner.compound_prompts_text))
    assert 0.01 < texts.std() < 0.03 and not torch.equal(texts[0], texts[1])


def test_where_a_context_starts_and_what_is_too_long(coop) -> None:
    from trainers.prompt_learner import PromptLearner, fill

    backbone, names = coop.backbone, ["brain_tumor", "normal_brain"]
    prompts = fill("a photo of a {}.", names)
    assert prompts == ["a photo of a brain tumor.", "a photo of a normal brain."]
    learner = PromptLearner(backbone, prompts, names, n_ctx=4, ctx_init="a_photo_of_a", name_len="exact")
    words = backbone.tokenize(["a photo of a"])
    torch.testing.assert_close(learner.ctx.detach(), backbone.embed_tokens(words)[0, 1:5])
    assert learner.name_lens == [backbone.name_token_len(name.replace("_", " "), "exact") for name in names]
    published = PromptLearner(backbone, prompts, names, n_ctx=4, name_len="published")
    assert published.name_lens == [1, 1]
    drawn = PromptLearner(backbone, prompts, names, n_ctx=4, csc=True).ctx
    assert drawn.shape[0] == 2 and 0.01 < drawn.std() < 0.03 and not torch.equal(drawn[0], drawn[1])
    room = int(backbone.tokenize(prompts).mask.sum(dim=1).min()) - 2
    assert PromptLearner(backbone, prompts, names, n_ctx=room).ctx.shape[0] == room
    for count, said in ((0, "N_CTX is 0"), (-1, "N_CTX is -1"), (room + 1, f"only {room} tokens")):
        with pytest.raises(UserError, match=said):
            PromptLearner(backbone, prompts, names, n_ctx=count)
    with pytest.raises(UserError, match="has only 4 tokens"):
        PromptLearner(backbone, prompts, names, n_ctx=5, ctx_init="a photo of a")


# -- choices ----------------------------------------------------------------------------------------------


def test_a_search_counts_all_validation_images() -> None:
    drawn = torch.Generator().manual_seed(0)
    count, labels = 1500, torch.randint(3, (1500,), generator=drawn)  # more than are scored at a time
    zero_shot, affinity = torch.randn(count, 3, generator=drawn), torch.rand(count, 6, generator=drawn)
    values = torch.eye(3).repeat(2, 1)
    affinity += 0.2 * (values[:, labels].T) * (torch.arange(count)[:, None] < 1024)  # the cache is right about the first part
    alphas, betas = torch.tensor([0.1, 1.0, 3.0, 9.0]), torch.tensor([0.5, 4.0])
    right = {}
    for beta in betas:
        for alpha in alphas:
            scores = zero_shot + alpha * cache_scores(affinity, values, beta)
            right[float(alpha), float(beta)] = sum(int(row.argmax()) == int(y) for row, y in zip(scores, labels, strict=True))
    most = max(right.values())
    alpha, beta, found = search_blend(zero_shot, affinity, values, labels, alphas, betas)
    assert (found, right[alpha, beta]) == (most, most)


def test_right_images_are_counted_per_candidate() -> None:
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    assert count_correct(logits, torch.tensor([0, 0, 1])).tolist() == [3, 1]


def test_tip_adapter_f_trains_with_its_epsilon_and_tries_alphas_from_one(
    tiny_biomedclip, btmri_root, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path, INIT_ALPHA_SCALE=4, EPS=1e-3)
    assert [group["eps"] for group in trainer.optim.param_groups] == [1e-3]
    tried = []

    def trained(alphas: torch.Tensor):
        tried.append(alphas.tolist())
        return lambda features: torch.zeros(len(alphas), len(features), 4)

    monkeypatch.setattr(trainer, "train_candidates", trained)
    assert trainer.search_initial_alpha() == 1.0  # the first of equals
    assert tried == [[1.0, 2.0, 3.0]]


def test_methods_on_features_take_every_view_and_unit_length(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("GDA", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=2)
    trainer.store.views = lambda epoch, keep=True: FeatureSet(torch.full((3, 2), 1.0 + epoch), torch.tensor([0, 1, epoch]))
    sets = trainer.training_sets()
    features, labels = trainer.normalised(sets)
    assert labels.tolist() == [0, 1, 0, 0, 1, 1]
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6))
    adapter = quick("CLIPAdapter", tiny_biomedclip, btmri_root, tmp_path / "b")
    adapter.set_model_mode("eval")
    images = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    one, other = (adapter.loss_terms(scale * images, torch.tensor([0, 1, 2]))[1] for scale in (1, 7))
    torch.testing.assert_close(one, other)


# -- what is said -----------------------------------------------------------------------------------------


def test_departures_name_what_differs_and_nothing_else(tiny_biomedclip, btmri_root, tmp_path) -> None:
    cls = methods()["BiomedDPT"]
    published = build("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", TEXT_DROPOUT=True).cfg
    names = ("VISUAL.", "TEXT_DROPOUT", "PROMPT_SELECTION", "NAME_LEN")
    assert [text for text in cls.departures(published) if text.startswith(names)] == []
    other = published.clone()
    other.defrost()
    other.TRAINER.BIOMEDDPT.VISUAL.DEPTH, other.TRAINER.BIOMEDDPT.VISUAL.N_TOKENS = "shallow", 2
    other.TRAINER.BIOMEDDPT.TEXT_DROPOUT, other.TRAINER.BIOMEDDPT.PROMPT_SELECTION = False, "greedy"
    said = [text for text in cls.departures(other) if text.startswith(names)]
    assert [text.split()[0] for text in said] == ["TEXT_DROPOUT", "VISUAL.N_TOKENS", "VISUAL.DEPTH", "PROMPT_SELECTION"]
    third = other.clone()
    third.TRAINER.BIOMEDDPT.VISUAL.N_TOKENS = 3
    assert len({cls.variant(cfg) for cfg in (published, other, third)}) == 3
    gda = methods()["GDA"]
    for scale, count in ((0.0, 1), (100.0, 0)):
        own = SimpleNamespace(TRAINER=SimpleNamespace(GDA=gda.defaults() | {}), FEATURES=SimpleNamespace(VIEWS=0))
        own.TRAINER = {"GDA": type(gda.defaults())(gda.defaults() | {"SCALE": scale})}
        own.MODEL = SimpleNamespace(BACKBONE=SimpleNamespace(TF32=False, PRETRAINED=True))
        assert sum("released code: 100" in text for text in gda.departures(own)) == count


def test_a_negative_number_of_views_is_refused(coop) -> None:
    coop.cfg.defrost()
    coop.cfg.FEATURES.VIEWS = -1
    with pytest.raises(UserError, match=r"FEATURES\.VIEWS is -1"):
        coop.check_cfg(coop.cfg)
