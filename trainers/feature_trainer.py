"""What the methods on frozen features share: a feature store, frozen class features, one pass over the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.utils import UserError
from features import FeatureLoader, FeatureSet
from trainers.base import LEARNER, VLTrainer, unit
from trainers.zero_shot import template_features


class Fitted(nn.Module):
    """Tensors that are computed, not trained, held by name as buffers: ``Fitted(weight=torch.zeros(C, D))``."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, value in tensors.items():
            self.register_buffer(name, value)

    @torch.no_grad()
    def fill(self, **tensors: Tensor | float) -> None:
        """Give some of them their values; the shapes stay."""
        for name, value in tensors.items():
            held = self.get_buffer(name)
            held.copy_(torch.as_tensor(value).expand(held.shape))


class FeatureTrainer(VLTrainer):
    """Base of the methods that learn on frozen image features. A method gives ``build_learner``, ``scores``, and either

    * ``fit()``, which fills the learner's buffers in one go (closed form, or an optimisation of the method's own), or
    * ``uses_optimizer = True``: the engine's epoch loop over mini-batches of features, with OPTIM's optimiser.

    Class features F (C, D) are those of the dataset's clinical template, frozen. What is fitted is held by the learner
    as buffers, what is trained as parameters; a checkpoint has both.
    """

    transfers = False
    uses_optimizer = False
    every_class: bool = False  # whether each class is learned from its images alone
    least: Mapping[str, float] = {"AUGMENT_EPOCH": 0}  # smallest value of a key of this method's section

    # -- building -----------------------------------------------------------------------------------------

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.DATASET.SUBSAMPLE_CLASSES == "new":
            raise UserError(
                f"DATASET.SUBSAMPLE_CLASSES is new: {cfg.TRAINER.NAME} learns a classifier of the classes that it saw "
                "and has none for new ones (all and base work)"
            )
        own = cfg.TRAINER[self.section]
        for key, least in self.least.items():
            if own.get(key, least) < least:
                raise UserError(f"TRAINER.{self.section}.{key} is {own[key]}, must be {least:g} or more")

    def build_loaders(self) -> None:
        """The training loader's images are replaced by their features, in the same batches."""
        super().build_loaders()
        if not isinstance(self.train_loader_x, FeatureLoader):
            self.train_loader_x = FeatureLoader(self.train_loader_x, self.store)

    def build_model(self) -> None:
        self._check_every_class()
        self.fixed_features = template_features(self.backbone, self.facts.template, self.facts.classnames)  # F (C, D)
        super().build_model()
        learned = getattr(self, LEARNER).state_dict()
        self.learned_names = list(learned)
        self.learned_count = sum(value.numel() for value in learned.values())
        if not self.uses_optimizer:
            self.max_epoch = 1  # the fit

    def _check_every_class(self) -> None:
        if not (self.every_class and self.trains_here):
            return
        there = {item.label for item in self.dm.dataset.train_x}
        absent = [name for label, name in self.lab2cname.items() if label not in there]
        if absent:
            raise UserError(
                f'no training images of the class "{absent[0]}": {type(self).__name__} learns a class from its images alone; '
                "give it some, or take a method that also reads names (CoOp, Tip-Adapter)"
            )

    def optimizer_and_schedule(self, learner: nn.Module) -> tuple[Any, Any]:
        return super().optimizer_and_schedule(learner) if self.uses_optimizer else (None, None)

    def take_sizes(self, stored: dict[str, Tensor], keys: str, values: str) -> None:
        """Give the learner's ``keys`` (N, D) and ``values`` (N, C) the N of a checkpoint, where there are no images to say it.

        Raises:
            UserError: the checkpoint's are not of this form, D and C.
        """
        if self.trains_here or not {keys, values} <= set(stored):
            return
        shapes, wanted = [stored[name].shape for name in (keys, values)], (self.backbone.embed_dim, len(self.classnames))
        if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0] or (shapes[0][1], shapes[1][1]) != wanted:
            raise UserError(
                f"a cache of keys {tuple(shapes[0])} and values {tuple(shapes[1])} does not fit {self.backbone.name} "
                f"and these classes: (N, {wanted[0]}) and (N, {wanted[1]}) are needed"
            )
        learner = getattr(self, LEARNER)
        for name in (keys, values):
            getattr(learner, name).data = torch.zeros_like(stored[name], device=self.device)

    # -- features -----------------------------------------------------------------------------------------

    def encode_classes(self) -> Tensor:
        return self.fixed_features

    def training_sets(self) -> list[FeatureSet]:
        """AUGMENT_EPOCH views of every training image; with 0 the images under the test transform."""
        views = [self.store.views(epoch) for epoch in range(self.own.AUGMENT_EPOCH)]
        return views or [self.store.images("train")]

    def normalised(self, sets: Sequence[FeatureSet]) -> tuple[Tensor, Tensor]:
        """Unit features (N, D) and labels (N,) of all ``sets`` together, on the device."""
        features = unit(torch.cat([one.features for one in sets]).to(self.device))
        return features, torch.cat([one.labels for one in sets]).to(self.device)

    def validation(self, instead: str) -> tuple[Tensor, Tensor]:
        """Unit features (V, D) and labels (V,) of the validation images, on which settings are chosen.

        Args:
            instead: what to set for a run without a choice.

        Raises:
            UserError: the split has no validation images.
        """
        found = self.store.images("val")
        if found is None:
            raise UserError(
                f"{type(self).__name__} chooses on validation images, and the split has none: "
                f"add some to its val part, or set {instead}"
            )
        return self.normalised([found])

    # -- training -----------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Fill the learner's buffers."""
        raise NotImplementedError

    def run_epoch(self) -> None:
        if self.uses_optimizer:
            super().run_epoch()
            return
        self.set_model_mode("eval")
        with torch.no_grad():
            self.fit()

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Cross-entropy of the scores; ``images`` (B, D) are features, not normalised."""
        logits = self.scores(unit(images))
        return {"ce": F.cross_entropy(logits, labels)}, logits

    # -- classification -----------------------------------------------------------------------------------

    def scores(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def zero_shot(self, features: Tensor) -> Tensor:
        """``s v F^T``: unit features (B, D) -> logits (B, C) of the zero-shot classifier."""
        return super().scores(features)

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        """(B, C) scores: only the image tower runs in PREC, settings were chosen on scores in full precision too."""
        return self.scores(self.image_features(images))


def count_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """(…, V, C) logits and (V,) labels -> (…) images whose largest logit is their label's."""
    return (logits.argmax(dim=-1) == labels).sum(dim=-1)


def blended(zero_shot: Tensor, other: Tensor, alphas: Tensor) -> Tensor:
    """``zero_shot + alpha * other`` for each alpha: (V, C), (V, C), (A,) -> (A, V, C)."""
    return zero_shot + alphas[:, None, None] * other
