"""Frozen features: the store, what is kept of a run, and that nothing is chosen with the test images."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from dassl.data.datasets import DatasetBase, Datum
from dassl.engine import SimpleTrainer
from dassl.engine.trainer import set_loader_epoch
from dassl.utils import UserError
from features import FeatureStore
from runs.config import split_trainer_name
from tests.conftest import BTMRI_CLASSES, write_dataset
from tests.helpers import quick
from trainers import methods

SHOTS, WIDTH = 2, 32


# -- the store --------------------------------------------------------------------------------------------


def test_views_are_those_of_the_image_loader_each_encoded_once(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("CLIPAdapter", tiny_biomedclip, btmri_root, tmp_path)
    encoded = []
    trainer.encoder.root = None  # what another test left on disk is not asked for
    trainer.encoder.encode = lambda images: encoded.append(len(images)) or trainer.encode(images)
    trainer.store.ahead = 1
    images = trainer.dm.train_loader_x
    for epoch in (3, 0):
        set_loader_epoch(trainer.train_loader_x, epoch)
        ours = list(trainer.train_loader_x)
        set_loader_epoch(images, epoch)
        theirs = list(images)
        assert len(ours) == len(theirs) == len(trainer.train_loader_x)
        for ours_one, theirs_one in zip(ours, theirs, strict=True):
            assert torch.equal(ours_one["label"], theirs_one["label"])
            want = trainer.backbone.encode_image(theirs_one["img"])
            torch.testing.assert_close(ours_one["img"], want, rtol=1e-5, atol=1e-5)
    assert sum(encoded) == 2 * len(trainer.dm.dataset.train_x)
    for _ in range(2):
        assert torch.equal(trainer.store.views(5).features, trainer.store.views(5).features)
        assert len(trainer.store.images("train")) == SHOTS * 4 and len(trainer.store.images("val")) == SHOTS * 4
    assert sum(encoded) == 5 * len(trainer.dm.dataset.train_x)
    assert not torch.equal(trainer.store.views(5).features, trainer.store.views(6).features)


def test_views_do_not_depend_on_where_the_data_lies(tiny_biomedclip, btmri_root, tmp_path) -> None:
    (tmp_path / "link").symlink_to(btmri_root)
    shutil.copytree(btmri_root, tmp_path / "copy")
    names = []
    for place in (btmri_root, tmp_path / "link", tmp_path / "copy"):
        dataset = quick("CLIPAdapter", tiny_biomedclip, place, tmp_path / f"run{len(names)}").dm.train_loader_x.dataset
        names.append([dataset.view_name(number, 3) for number in range(len(dataset))])
    assert names[0] == names[1] == names[2] and len(set(names[0])) == SHOTS * 4


def test_the_store_has_no_way_in_for_test_images(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("GDA", tiny_biomedclip, btmri_root, tmp_path)
    with pytest.raises(ValueError, match="only test"):
        trainer.store.images("test")
    with pytest.raises(ValueError, match="only test"):
        FeatureStore(trainer.encoder, {"test": trainer.test_loader.dataset}, trainer.dm.train_loader_x.dataset)


class Sealed(Datum):
    """A test image that tells who reads its label or its file, and when."""

    open = False
    read: list[str] = []

    @property
    def label(self) -> int:
        assert Sealed.open, "a test label was read before the final evaluation"
        Sealed.read.append(self._impath)
        return self._label

    @property
    def impath(self) -> str:
        assert Sealed.open, "a test image was read before the final evaluation"
        return self._impath


@pytest.mark.parametrize("method", sorted(methods()))
def test_no_method_reads_a_test_label_before_the_final_evaluation(
    method, tiny_biomedclip, btmri_root, tmp_path, monkeypatch
) -> None:
    plain, evaluate, evaluated = DatasetBase.__init__, SimpleTrainer.test, []

    def sealing(self, train_x=None, train_u=None, val=None, test=None) -> None:
        sealed = [Sealed(item.impath, item.label, item.domain, item.classname) for item in test or []]
        plain(self, train_x=train_x, train_u=train_u, val=val, test=test)  # which names the classes of all parts
        self._test = sealed

    def opening(self, split=None):
        evaluated.append((split, self.epoch + 1))
        Sealed.open = split in (None, "test")
        try:
            return evaluate(self, split)
        finally:
            Sealed.open = False

    monkeypatch.setattr(DatasetBase, "__init__", sealing)
    monkeypatch.setattr(SimpleTrainer, "test", opening)
    monkeypatch.setattr(Sealed, "read", [])
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path, split="base", epochs=1)
    trainer.train()
    assert evaluated == [(None, trainer.max_epoch if trainer.learns else 1)]
    assert set(Sealed.read) == {item._impath for item in trainer.dm.dataset.test}


# -- what is learned --------------------------------------------------------------------------------------

SIZE, C, D = SHOTS * 4, 4, WIDTH
CACHE = {"keys": (SIZE, D), "values": (SIZE, C), "alpha": (), "beta": ()}
LEARNED = {  # method -> trained, fitted
    "CLIPAdapter": ({"down.weight": (D // 4, D), "up.weight": (D, D // 4)}, {}),
    "TipAdapter": ({}, CACHE),
    "TipAdapterF": ({"keys": (SIZE, D)}, {key: shape for key, shape in CACHE.items() if key != "keys"}),
    "LinearProbe": ({}, {"weight": (C, D), "bias": (C,)}),
    "LPPlusPlus": ({}, {"weight": (C, D), "alpha": (C,)}),
    "GDA": ({}, {"weight": (C, D), "bias": (C,), "alpha": ()}),
    "TIMO": ({}, {"text": (C, D), "weight": (C, D), "bias": (C,), "alpha": ()}),
    "TIMOS": ({}, {"text": (C, D), "weight": (C, D), "bias": (C,), "alpha": ()}),
    "ProKeR": ({}, {"keys": (2 * SIZE, D), "values": (2 * SIZE, C), "text": (C, D), "beta": ()}),
    "SSText": ({}, {"weight": (C, D)}),
}


@pytest.mark.parametrize("method", sorted(LEARNED))
def test_exactly_this_is_learned_kept_and_taken_up_again(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path)
    (trained, fitted), learner = LEARNED[method], trainer.prompt_learner
    assert {name: tuple(p.shape) for name, p in learner.named_parameters() if p.requires_grad} == trained
    assert {name: tuple(value.shape) for name, value in learner.named_buffers()} == fitted
    assert trainer.learned_count == sum(math.prod(shape) for shape in (trained | fitted).values())
    assert not methods()[method].transfers

    before = {name: value.clone() for name, value in learner.state_dict().items()}
    trainer.train()
    after = {name: value.clone() for name, value in learner.state_dict().items()}
    assert all(not torch.equal(after[name], before[name]) for name in after if after[name].ndim)
    learner.load_state_dict(before)
    trainer.load_model(str(tmp_path))
    assert all(torch.equal(value, after[name]) for name, value in learner.state_dict().items())


def test_a_checkpoint_must_hold_what_is_fitted_unless_it_is_a_released_one(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path)
    trainer.prompt_learner.register_buffer("own", torch.ones(2))
    (tmp_path / "prompt_learner").mkdir()
    for extra, loads in (({}, False), ({"text_encoder.weight": torch.zeros(3)}, True)):
        state = {"prompt_learner.ctx": torch.full_like(trainer.prompt_learner.ctx, 7.0), **extra}
        torch.save({"state_dict": state, "epoch": 1}, tmp_path / "prompt_learner" / "model.pth.tar-1")
        if loads:
            trainer.load_model(str(tmp_path))
            assert (trainer.prompt_learner.ctx == 7).all() and (trainer.prompt_learner.own == 1).all()
        else:
            with pytest.raises(UserError, match="lacks own"):
                trainer.load_model(str(tmp_path))


# -- settings ---------------------------------------------------------------------------------------------

WITHOUT_VAL = {
    "GDA": ({"SEARCH": False}, "SEARCH False"),
    "LinearProbe": ({"SEARCH": False, "C": 0.5}, "SEARCH False"),
    "LPPlusPlus": ({"SELECT": "last"}, "SELECT last"),
    "ProKeR": ({"SELECT": "loo"}, "SELECT loo, or fixed"),
    "TIMO": ({"SEARCH": False}, "SEARCH False"),
    "TIMOS": ({"SEARCH": False}, "SEARCH False"),
    "TipAdapter": ({"SEARCH": False}, "SEARCH False"),
    "TipAdapterF": ({"SEARCH": False, "GRID_SEARCH": False}, "GRID_SEARCH False"),
}


@pytest.mark.parametrize("method", sorted(WITHOUT_VAL))
def test_without_validation_images_a_setting_must_be_named(method, tiny_biomedclip, tmp_path) -> None:
    root = write_dataset(tmp_path, "BTMRI", BTMRI_CLASSES)
    split = root / "BTMRI" / "split_BTMRI.json"
    split.write_text(json.dumps(json.loads(split.read_text()) | {"val": []}))
    instead, said = WITHOUT_VAL[method]
    asked = {"SELECT": "val"} if method == "ProKeR" else {}  # which by itself asks for none
    trainer = quick(method, tiny_biomedclip, root, tmp_path / "out", **asked)
    with pytest.raises(UserError, match=said):
        trainer.train()
    trainer.cfg.defrost()
    for key, value in instead.items():
        trainer.own[key] = value
    trainer.train()
    _, labels, probabilities = trainer.evaluator.predictions()
    assert labels.tolist() == [item.label for item in trainer.dm.dataset.test] and len(labels)
    assert trainer.last_results["accuracy"] == pytest.approx(100 * (probabilities.argmax(1) == labels).mean())


@pytest.mark.parametrize("method", sorted(LEARNED))
def test_new_classes_are_refused(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match="has none for new ones"):
        quick(method, tiny_biomedclip, btmri_root, tmp_path, split="new")


@pytest.mark.parametrize(
    "published, ours",
    [("CLIP_Adapter", "CLIPAdapter"), ("TiP_Adapter", "TipAdapter"), ("TiP_Adapter_F", "TipAdapterF"),
     ("LP", "LinearProbe"), ("LP2", "LPPlusPlus"), ("Maple", "MaPLe")],
)  # fmt: skip
def test_published_names_are_understood(published: str, ours: str) -> None:
    assert split_trainer_name(published) == (ours, "BiomedCLIP")
    assert split_trainer_name(f"{published}_PhantomCLIP") == (ours, "PhantomCLIP")
