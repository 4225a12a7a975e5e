"""A trainer's frozen tower: which backbone, which data, and the features of its images, from disk where they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone, VisualPrompt, build_backbone
from dassl.engine import TrainerX
from dassl.utils import UserError
from datasets.facts import DatasetFacts, facts_of
from datasets.prompts import TEMPLATE_ENSEMBLE, PromptSet, prompts_for
from features import Encoder, FeatureLoader, StoredLoader, build_store, default_root, sentence_features
from trainers.class_words import check_class_words

log = logging.getLogger(__name__)

CPU_IMAGES = 4  # that pass the image tower together on a CPU: what they hold in between stays in its caches
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def unit(features: Tensor) -> Tensor:
    """L2-normalised along the last dimension."""
    return F.normalize(features, dim=-1)


@contextmanager
def reproducible_gradients(backbone: VisionLanguageBackbone) -> Iterator[None]:
    """Gradients through ``backbone`` that are computed inside are equal to the bit in every run.

    On a GPU the gradient of PyTorch's attention is otherwise a sum of parts in the order in which they happen to be ready.
    Compiled layers refuse to go back in another mode than they went forth: with them it stays so.
    """
    device = backbone.device
    if device.type != "cuda" or backbone.compiled_as or not _can_be_strict(device):
        yield
        return
    before, fill = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs a kernel for every tensor
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


@cache
def _can_be_strict(device: torch.device) -> bool:
    """Whether cuBLAS took notice of the workspace that makes its products reproducible, as PyTorch asks of it then."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    except RuntimeError:
        log.warning("a product ran on the GPU before a trainer was built: gradients may differ in their last bits between runs")
        return False
    finally:
        torch.use_deterministic_algorithms(before)
    return True


class FrozenTowers(TrainerX):
    """Loads the backbone, then the data; images become features here, and only here."""

    section: str  # the method's part of the config: cfg.TRAINER.<section>
    frozen_images: bool = True  # whether an image's features stay the same throughout training
    reads_names: bool = True  # whether the class names are read by the text tower

    def __init__(self, cfg: CfgNode, facts: DatasetFacts | None = None) -> None:
        """
        Args:
            facts: of a dataset whose images are not at hand. Then there is nothing to train or test on: ``load_model``
                and ``model_inference`` are what such a trainer is built for.
        """
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product on a GPU
        self.facts = facts
        self.has_images = facts is None
        super().__init__(cfg)

    @property
    def own(self) -> CfgNode:
        """This method's section of the config."""
        return self.cfg.TRAINER[self.section]

    @property
    def trains_here(self) -> bool:
        """Whether it has images, and those that it is trained on: not a test of what was learned on another dataset."""
        return self.has_images and not self.cfg.DATASET.get("TRAINED_ON")

    @property
    def feature_root(self) -> Path | None:
        """Folder of the stored features; ``None`` with FEATURES.MODE direct."""
        if self.cfg.FEATURES.MODE != "store":
            return None
        return Path(self.cfg.FEATURES.ROOT).expanduser() if self.cfg.FEATURES.ROOT else default_root()

    # -- building -----------------------------------------------------------------------------------------

    def build_data_loader(self) -> None:
        """Load the backbone before the data: it knows the image size, and a missing one is told at once."""
        bb = self.cfg.MODEL.BACKBONE
        self.backbone: VisionLanguageBackbone = build_backbone(bb.NAME, bb.PATH, bb.PRETRAINED, self.device)
        self.speed_up(bb)
        size = self.backbone.image_size
        if tuple(self.cfg.INPUT.SIZE) != (size, size):
            log.info("INPUT.SIZE is %s, as %s takes it", (size, size), self.backbone.name)
        self.cfg.defrost()
        self.cfg.INPUT.SIZE = (size, size)
        if self.has_images:
            self.build_loaders()
            self.facts = facts_of(self.dm.dataset, self.cfg)
        else:
            self.dm = self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.lab2cname = dict(enumerate(self.facts.classnames))
            self.num_classes, self.num_source_domains = len(self.lab2cname), 0
        # into config.yaml: a run is usable without its data
        self.cfg.DATASET.RUN_CLASSNAMES, self.cfg.DATASET.RUN_TEMPLATE = list(self.facts.classnames), self.facts.template
        self.cfg.freeze()

    def speed_up(self, bb: CfgNode) -> None:
        """MODEL.BACKBONE.COMPILE and TF32."""
        if bb.COMPILE and bb.COMPILE not in COMPILE_MODES:
            raise UserError(f'MODEL.BACKBONE.COMPILE is "{bb.COMPILE}", must be empty or one of {", ".join(COMPILE_MODES)}')
        self.backbone.compile_text(bb.COMPILE)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if bb.TF32 else "highest")
            torch.backends.cudnn.allow_tf32 = bool(bb.TF32)
        elif bb.TF32:
            raise UserError("MODEL.BACKBONE.TF32 is True, but TF32 is a GPU's: set it to False here")

    def build_loaders(self) -> None:
        """The dataset and its loaders: of features in place of images, where those are frozen and FEATURES.MODE is store."""
        super().build_data_loader()
        if not self.frozen_images:
            return
        stored, at_once = self.cfg.FEATURES.MODE == "store", self.cfg.DATALOADER.TEST.BATCH_SIZE
        self.encoder = Encoder(
            self.encode,
            min(at_once, CPU_IMAGES) if self.device.type == "cpu" else at_once,
            self.cfg.DATALOADER.NUM_WORKERS,
            self.feature_root,
            self.about_features,
        )
        self.store = build_store(self.cfg, self.dm, self.encoder)
        if stored:
            self.train_loader_x = FeatureLoader(self.train_loader_x, self.store)
            self.test_loader = StoredLoader(self.test_loader, self.encoder)
            self.val_loader = StoredLoader(self.val_loader, self.encoder) if self.val_loader is not None else None

    def about_features(self) -> dict[str, Any]:
        """What decides an image's features, besides the image and its transform."""
        prompt = self.visual_prompt()
        return {
            **self.about_texts(),
            "kind": "image",
            "visual_prompt": prompt.describe() if prompt is not None else "",
            "precision": self.own.get("PREC", "fp32"),
        }

    def about_texts(self) -> dict[str, Any]:
        """What decides a sentence's features, besides the sentence."""
        return {
            "kind": "text",
            "backbone": self.backbone.name,
            "weights": self.backbone.fingerprint(),
            "precision": "fp32",
            "tf32": bool(self.cfg.MODEL.BACKBONE.TF32),
            "device": self.device.type,
        }

    # -- texts --------------------------------------------------------------------------------------------

    def what_to_know(self) -> list[str]:
        """What stands below every table that this run is in.

        Raises:
            UserError: two class names that the text tower cannot tell apart.
        """
        said = list(self.facts.warnings)
        if self.reads_names:
            said += check_class_words(self.backbone, self.classnames, self.facts.template)
        if self.trains_here and self.cfg.DATASET.PROMPTS == TEMPLATE_ENSEMBLE and self.uses_prompts(self.cfg):
            said.append(f"{type(self).__name__} with templates in place of LLM-written prompts (DATASET.PROMPTS template)")
        for warning in said:
            log.warning("%s: %s", self.facts.name, warning)
        return said

    @classmethod
    def uses_prompts(cls, cfg: CfgNode) -> bool:
        """Whether a run with this config reads a dataset's LLM-written prompts."""
        return "N_PROMPTS" in cfg.TRAINER[cls.section]

    def load_prompts(self, classnames: Sequence[str]) -> PromptSet:
        """The first N_PROMPTS LLM-written sentences of each class, or what DATASET.PROMPTS puts in their place.

        Raises:
            UserError: there are none, or too few.
        """
        facts = self.facts
        return prompts_for(
            self.cfg.DATASET.PROMPTS,
            facts.key,
            classnames,
            self.own.N_PROMPTS,
            template=facts.template,
            modality=facts.modality,
            organ=facts.organ,
        )

    def encode_prompts(self, texts: Mapping[str, Sequence[str]], classnames: Sequence[str]) -> Tensor:
        """F_k (C, K, D): the K sentences of each class through the frozen text tower, not normalised."""
        sentences = [text for name in classnames for text in texts[name]]
        with torch.no_grad():
            rows = sentence_features(sentences, self.backbone, self.feature_root, self.about_texts)
        return rows.view(len(classnames), -1, rows.shape[1]).to(self.device)

    # -- images -------------------------------------------------------------------------------------------

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast of TRAINER.<section>.PREC ("amp" and "fp16" mean float16 on a GPU, bfloat16 on a CPU)."""
        chosen = self.own.get("PREC", "fp32")
        if chosen == "fp32":
            return nullcontext()
        half = torch.float16 if chosen != "bf16" and self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def visual_prompt(self) -> VisualPrompt | None:
        """What the method puts among the patches of an image."""
        return None

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) on any device -> (B, D) float32 features of the frozen image tower, not normalised."""
        with torch.no_grad(), self.precision():
            return self.backbone.encode_image(images.to(self.device), self.visual_prompt()).float()

    def image_features(self, images: Tensor) -> Tensor:
        """(B, D) normalised features of images (B, 3, H, W), or of stored features (B, D); without gradients."""
        return unit(images if images.ndim == 2 else self.encode(images))
