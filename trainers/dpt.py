"""DPT: CoOp's text context and VPT's visual tokens, learned together (Xing et al., IEEE TMM 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from yacs.config import CfgNode

from backbones import VisualPrompt
from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner
from trainers.visual_prompt_learner import VisualPromptTrainer, visual_defaults, visual_variant


@TRAINER_REGISTRY.register()
class DPT(VisualPromptTrainer, CoOp):
    """Cross-entropy on ``s * v(p) t(ctx)^T``; ``ctx`` and the visual tokens p are learned, uncoupled.

    This is the paper's dual prompt (arXiv 2208.08340) and the DPT baseline of Biomed-DPT; the paper's class-aware
    visual prompts are not part of that baseline. The released file of this name writes its visual tokens over the
    first patches, once (VISUAL.DEPTH shallow, VISUAL.PLACEMENT replace), and by default stands the class name in the
    middle of the context (CLASS_TOKEN_POSITION middle).
    """

    section = "DPT"

    @classmethod
    def defaults(cls) -> CfgNode:
        own = CoOp.defaults()
        own.N_CTX, own.CTX_INIT = 4, "a photo of a"
        own.TEXT_DROPOUT = True  # the released code registers the whole model: its dropout is on in training
        own.VISUAL = CfgNode(visual_defaults())
        return own

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        return f"{super().variant(cfg)}_{visual_variant(cfg.TRAINER[cls.section])}"

    def build_learner(self, classnames: Sequence[str]) -> PromptLearner:
        learner = super().build_learner(classnames)
        learner.add_module("visual", self.new_visual_learner())
        return learner

    def visual_prompt(self) -> VisualPrompt:
        return self.prompt_learner.visual()
