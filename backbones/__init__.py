"""Frozen vision-language backbones behind one interface; ``build_backbone`` is the only door.

Here belong the towers: loading their weights, tokens, texts and images to features, places where prompts are put in, and what
makes a frozen tower fast. No method, no dataset and no training is known here; features are kept by ``features``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from backbones.base import TokenBatch, VisionLanguageBackbone
from backbones.biomedclip import biomedclip
from backbones.clip import any_open_clip, clip
from backbones.cpu_linear import quicken
from backbones.foreign import check_folder, check_vocabulary, no_foreign_code
from backbones.phantomclip import phantomclip
from backbones.pmcclip import pmcclip, pmcclip_as_trained
from backbones.pooled_only import skip_what_is_not_pooled
from backbones.pubmedclip import pubmedclip
from backbones.threads import set_threads
from backbones.visual_prompts import VisualPrompt, zero_vectors
from dassl.data.loader import scoped_seed
from dassl.utils import UserError, nearest

BACKBONES: dict[str, Callable[..., VisionLanguageBackbone]] = {
    "BiomedCLIP": biomedclip,
    "CLIP": clip,
    "PhantomCLIP": phantomclip,
    "PMCCLIP": pmcclip,
    "PMCCLIP-trained": pmcclip_as_trained,
    "PubMedCLIP": pubmedclip,
}
ALIASES = {"ViT-B/16": "CLIP", "PMC-CLIP": "PMCCLIP", "PMC-CLIP-trained": "PMCCLIP-trained"}  # other common names
SCHEMAS = ("open_clip:", "hf-hub:", "local-dir:")

_loaded: dict[tuple[str, str, bool, str], VisionLanguageBackbone] = {}

__all__ = ["BACKBONES", "TokenBatch", "VisionLanguageBackbone", "VisualPrompt", "build_backbone", "zero_vectors"]


def check_name(name: str) -> str:
    """The registered name for ``name``.

    Raises:
        UserError: an unknown name, with the nearest valid one.
    """
    name = ALIASES.get(name, name)
    if name in BACKBONES or name.startswith(SCHEMAS):
        return name
    same = [known for known in BACKBONES if known.lower() == name.lower()]
    if same:
        return same[0]
    raise UserError(
        f'unknown backbone "{name}".{nearest(name, list(BACKBONES))} '
        f"Valid: {', '.join(BACKBONES)}, open_clip:MODEL/TAG, hf-hub:ORG/REPO, local-dir:FOLDER"
    )


def build_backbone(
    name: str, path: str = "", pretrained: bool = True, device: torch.device | str = "cpu"
) -> VisionLanguageBackbone:
    """A frozen backbone in evaluation mode on ``device``; the last one built is kept and handed out again.

    Raises:
        UserError: unknown name, no weights, unreadable folder, one that asks for code of its own to be run.
    """
    name = check_name(name)
    key = (name, path, pretrained, str(device))
    if key not in _loaded:
        factory = BACKBONES.get(name)
        folder = path or (name.removeprefix("local-dir:") if name.startswith("local-dir:") else "")
        if folder:
            check_folder(Path(folder).expanduser())
        # open_clip narrates its loading on the root logger
        logging.getLogger().addFilter(_quiet)
        try:
            # one that is handed out again draws nothing: nor may one that is built, or a run would depend on what ran before
            with scoped_seed(f"{name} {path}"), no_foreign_code():
                backbone = factory(path, pretrained) if factory else any_open_clip(name, path, pretrained)
        finally:
            logging.getLogger().removeFilter(_quiet)
        check_vocabulary(backbone, folder or name)
        if torch.device(device).type == "cpu":  # elsewhere it would only make each layer another one to torch.compile
            quicken(backbone)
        skip_what_is_not_pooled(backbone)
        _loaded.clear()
        _loaded[key] = backbone.to(device)
    if torch.device(device).type == "cpu":
        set_threads(_loaded[key])
    return _loaded[key]


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
