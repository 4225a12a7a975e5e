"""PromptSRC re-computed by naive code, and its average over the epochs, in an undisturbed run and in a killed one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers import arguments, build
from tests.test_formulas import CLASSES, images_and_labels
from tests.test_visual_methods import NaivePrompted, assert_all_learn, close, cross_entropy, move, shapes
from trainers.promptsrc import PromptSRC, gaussian_weights


@pytest.mark.parametrize("prompts", ["ensemble", "template"])
def test_promptsrc(prompts: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    own = {"PROMPT_DEPTH_VISION": 4, "PROMPT_DEPTH_TEXT": 2, "N_CTX_VISION": 3, "PROMPTS": prompts, "N_PROMPTS": 7}
    trainer = build("PromptSRC", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    assert shapes(trainer) == {"ctx": (4, 32), "deep_text": (1, 4, 32), "visual.ctx": (4, 3, 64)}
    move(trainer.prompt_learner)
    naive, (images, labels), learner = NaivePrompted(trainer), images_and_labels(trainer), trainer.prompt_learner
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        t, fixed = [], []
        for name in CLASSES:
            embedded, mask = naive.prompt(f"a photo of a {name}.", name, learner.ctx, "end", "exact")
            t.append(naive.deep_text(embedded, mask, list(learner.deep_text)))
            sentences = [f"a MR photo of a {name} in the brain."]
            if prompts == "ensemble":
                sentences = trainer.prompts.texts[name]
                assert len(sentences) == 7
            mean = sum(naive.model.encode_text(naive.tokenizer([text]))[0] for text in sentences) / len(sentences)
            fixed.append(mean / mean.norm())
        v = [naive.prompted_image(image, list(learner.visual.ctx), "insert") for image in images]
        plain = [naive.model.encode_image(image[None])[0] for image in images]
        plain = [feature / feature.norm() for feature in plain]
        want, frozen = naive.logits(v, t), naive.logits(plain, fixed)
        p, q = want.softmax(1), frozen.softmax(1)
        kl = sum(q[b, c] * (q[b, c].log() - p[b, c].log()) for b in range(3) for c in range(2)) / 6
        l1_text = sum((a - b).abs().sum() for a, b in zip(t, fixed, strict=True)) / (2 * 32)
        l1_image = sum((a - b).abs().sum() for a, b in zip(v, plain, strict=True)) / (3 * 32)
    close(logits, want)
    close(terms["ce"], cross_entropy(want, labels))
    close(terms["scl_text"], 25 * l1_text)
    close(terms["scl_image"], 10 * l1_image)
    close(terms["scl_logits"], kl)
    close(trainer.model_inference(images), want)
    assert_all_learn(trainer, terms)


def test_gaussian_weights() -> None:
    density = [math.exp(-((e - 15) ** 2) / 2) / math.sqrt(2 * math.pi) for e in range(1, 21)]
    assert gaussian_weights(20, 15, 1) == pytest.approx([value / sum(density) for value in density], abs=1e-12)
    assert gaussian_weights(3, 900, 1) == pytest.approx([0, 0, 1])  # all densities round to 0


def run_promptsrc(folder: Path, root: Path, out: Path) -> dict[str, Tensor]:
    """Four epochs through train.py; what its last checkpoint holds."""
    import train

    own = {"GPA_MEAN": 2.5, "GPA_STD": 1.5, "PROMPT_DEPTH_TEXT": 2, "PROMPT_DEPTH_VISION": 2, "PROMPTS": "template"}
    assert train.main(arguments("PromptSRC", folder, root, out, split="base", epochs=4, **own)) == 0
    (path,) = (out / "prompt_learner").glob("model.pth.tar-*")
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole_run(tiny_biomedclip, btmri_root, tmp_path_factory) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """An undisturbed run's last checkpoint, and its parameters behind the last step of each epoch."""
    begun, ended = [], []

    def remembering(original, seen):
        def call(self, *args):
            seen.append({name: value.detach().clone() for name, value in self.prompt_learner.named_parameters()})
            original(self, *args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptSRC, "before_epoch", remembering(PromptSRC.before_epoch, begun))
        patch.setattr(PromptSRC, "update_lr", remembering(PromptSRC.update_lr, ended))
        last = run_promptsrc(tiny_biomedclip, btmri_root, tmp_path_factory.mktemp("whole"))
    for one, other in zip(ended, begun[1:], strict=False):  # averaging leaves what is being trained alone
        assert all(torch.equal(one[name], other[name]) for name in one)
    return last, ended


def test_promptsrc_ends_with_the_gaussian_average(whole_run) -> None:
    last, seen = whole_run
    weights = [math.exp(-0.5 * ((e - 2.5) / 1.5) ** 2) for e in (1, 2, 3, 4)]
    assert len(seen) == 4 and set(seen[0]) == {"ctx", "deep_text", "visual.ctx"}
    for name in seen[0]:
        assert not torch.equal(seen[2][name], seen[3][name])
        want = sum(weight * epoch[name].double() for weight, epoch in zip(weights, seen, strict=True)) / sum(weights)
        torch.testing.assert_close(last[name].double(), want, rtol=1e-6, atol=1e-7)


class Killed(BaseException):
    """Stands for the end of the process: no program turns it into a line."""


@pytest.mark.parametrize("where", ["forward_backward", "after_train"])  # within epoch 3; behind the last checkpoint
def test_promptsrc_killed_and_resumed_ends_the_same(where, whole_run, tiny_biomedclip, btmri_root, tmp_path) -> None:
    original = getattr(PromptSRC, where)

    def killed(self, *args):
        if self.epoch >= 2:
            raise Killed
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PromptSRC, where, killed)
        run_promptsrc(tiny_biomedclip, btmri_root, tmp_path)
    assert not (tmp_path / "results.json").exists()
    whole, resumed = whole_run[0], run_promptsrc(tiny_biomedclip, btmri_root, tmp_path)
    assert set(whole) == set(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
