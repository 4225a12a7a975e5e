"""Any open_clip model as a :class:`VisionLanguageBackbone`: timm or native image tower, HF or native text tower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import download_pretrained_from_hf
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer, text_global_pool
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from backbones.base import TokenBatch, VisionLanguageBackbone
from backbones.deep_prompts import deep_text_prompts
from backbones.hub import hub, unreachable
from backbones.quick_loading import Undrawn, fill
from backbones.visual_prompts import VisualPrompt
from dassl.utils import UserError, nearest

CONFIG_FILE = "open_clip_config.json"
FILES = f"{CONFIG_FILE}, open_clip_model.safetensors (or open_clip_pytorch_model.bin) and the tokenizer"


class OpenClipBackbone(VisionLanguageBackbone):
    """Wraps a loaded open_clip model and its tokenizer; adds no parameter of its own.

    Args:
        name: what results call this backbone.
        model: an ``open_clip`` CLIP or CustomTextCLIP.
        tokenizer: its tokenizer, called as ``tokenizer(list_of_str) -> (N, context_length)``.
        pretrained: whether real weights were loaded.
    """

    def __init__(self, name: str, model: nn.Module, tokenizer: Any, pretrained: bool) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.pretrained = pretrained
        self.hf_text = isinstance(getattr(model, "text", None), HFTextEncoder)
        if not self.hf_text:
            self._check_native_text()
        self.context_length = tokenizer.context_length
        size = model.visual.image_size
        self.image_size = size[0] if isinstance(size, (tuple, list)) else size
        self.text_width = self.word_embeddings.weight.shape[1]
        self.supports_visual_prompts = isinstance(model.visual, VisionTransformer) or (
            isinstance(model.visual, TimmModel) and isinstance(model.visual.trunk, TimmViT)
        )
        self.visual_width = self._visual_width()
        self.freeze()
        self.embed_dim = self._joint_width()

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale

    # -- text ---------------------------------------------------------------------------------------------

    @property
    def _text(self) -> nn.Module:
        """The module that owns token_embedding, positions and projection: a tower of its own or the CLIP itself."""
        return getattr(self.model, "text", self.model)

    @property
    def _pool(self) -> str:
        """Which position a native text tower pools: "argmax" (the highest id) or "eos"."""
        return getattr(self._text, "text_pool_type", None) or self._text.pool_type

    @property
    def _eos(self) -> int | None:
        return getattr(self._text, "text_eos_id", None) or getattr(self._text, "eos_id", None)

    def _check_native_text(self) -> None:
        appended = getattr(self._text, "cls_emb", None) is not None
        if self._pool in ("argmax", "eos") and not appended and not getattr(self._text, "use_pad_mask", False):
            return
        raise UserError(
            f"the text tower of {self.name} (pooling {'an appended token' if appended else self._pool}) does not end its "
            "texts with a token that is pooled, as learned contexts need it: take a CLIP-style model, e.g. "
            "open_clip:ViT-B-32/laion2b_s34b_b79k"
        )

    @property
    def text_tower(self) -> nn.Module:
        return self._text.transformer

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self._text.transformer.get_input_embeddings() if self.hf_text else self._text.token_embedding

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        ids = self.tokenizer(list(texts))
        if self.hf_text:
            mask = (ids != self._text.config.pad_token_id).long()
        else:  # everything behind the end-of-text token (in CLIP's vocabulary the highest id) is padding
            ends = (ids == self._eos).int() if self._pool == "eos" else ids
            mask = (torch.arange(ids.shape[1]) <= ends.argmax(dim=-1, keepdim=True)).long()
        return self.trimmed(ids, mask, keep_padding=not self.hf_text and self._text.attn_mask is None)

    def name_token_len(self, classname: str, how: str = "exact") -> int:
        if how == "published" and self.hf_text:
            return 1  # the released code takes len() of a padded (1, 256) batch
        return int(self.tokenize([classname]).mask.sum()) - 2

    def embed_tokens(self, tokens: TokenBatch) -> Tensor:
        return self.word_embeddings(tokens.ids)

    @property
    def text_layers(self) -> Sequence[nn.Module]:
        if not self.hf_text:
            return self.text_tower.resblocks
        encoder = getattr(self.text_tower, "encoder", self.text_tower)
        # BERT and RoBERTa, M2M-100, T5: all that open_clip takes as text towers
        return next(getattr(encoder, name) for name in ("layer", "layers", "block") if hasattr(encoder, name))

    def pooled_places(self, tokens: TokenBatch) -> Tensor:
        return torch.zeros_like(tokens.ids[:, 0]) if self.hf_text else super().pooled_places(tokens)

    def encode_embeddings(self, embeddings: Tensor, tokens: TokenBatch, deep_prompts: Tensor | None = None) -> Tensor:
        with deep_text_prompts(self.text_layers, deep_prompts, getattr(self.text_tower, "batch_first", True)):
            return self._through_text_tower(embeddings, tokens)

    def _through_text_tower(self, embeddings: Tensor, tokens: TokenBatch) -> Tensor:
        text = self._text
        if self.hf_text:
            out = text.transformer(inputs_embeds=embeddings, attention_mask=tokens.mask)
            return text.proj(text.pooler(out, tokens.mask))
        length = embeddings.shape[1]
        x = embeddings + text.positional_embedding[:length]
        causal = None if text.attn_mask is None else text.attn_mask[:length, :length]
        x = text.ln_final(text.transformer(x, attn_mask=causal))
        x = text_global_pool(x, tokens.ids, self._pool, eos_token_id=self._eos)
        projection = text.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    # -- images -------------------------------------------------------------------------------------------

    @property
    def visual_layers(self) -> Sequence[nn.Module]:
        if not self.supports_visual_prompts:
            return ()
        visual = self.model.visual
        return visual.trunk.blocks if isinstance(visual, TimmModel) else visual.transformer.resblocks

    def encode_image(self, images: Tensor, visual_prompt: VisualPrompt | None = None) -> Tensor:
        if visual_prompt is None:
            return self.model.encode_image(images)
        if not self.supports_visual_prompts:
            raise ValueError(f"the image tower of {self.name} has no patch tokens to put visual prompts among")
        visual = self.model.visual
        if isinstance(visual, TimmModel):
            return self._encode_timm(visual, images, visual_prompt)
        return self._encode_native(visual, images, visual_prompt)

    @staticmethod
    def _encode_timm(visual: TimmModel, images: Tensor, prompt: VisualPrompt) -> Tensor:
        trunk = visual.trunk
        x = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images))))
        prefix = trunk.num_prefix_tokens
        x = prompt.start(x, prefix)
        for index, block in enumerate(trunk.blocks):
            x = block(prompt.before_block(index, x, prefix))
        return visual.head(trunk.forward_head(trunk.norm(x)))

    @staticmethod
    def _encode_native(visual: VisionTransformer, images: Tensor, prompt: VisualPrompt) -> Tensor:
        x = prompt.start(visual._embeds(images))
        for index, block in enumerate(visual.transformer.resblocks):
            x = block(prompt.before_block(index, x))
        pooled, _ = visual._pool(x)
        return pooled if visual.proj is None else pooled @ visual.proj

    def _visual_width(self) -> int:
        visual = self.model.visual
        if isinstance(visual, TimmModel):
            return visual.trunk.num_features
        if isinstance(visual, VisionTransformer):
            return visual.conv1.out_channels
        return visual.output_dim

    def _joint_width(self) -> int:
        with torch.no_grad():
            return self.encode_text(["a"]).shape[1]

    def architecture(self) -> dict[str, object]:
        return super().architecture() | {"modules": str(self.model)}


def load_open_clip(name: str, identifier: str, path: str, pretrained: bool) -> OpenClipBackbone:
    """Build an open_clip model by name or from a local folder.

    Args:
        name: the backbone's name in results.
        identifier: ``hf-hub:org/repo``, ``MODEL`` or ``MODEL/TAG`` (an open_clip weights tag).
        path: a folder in open_clip's ``local-dir:`` layout; overrides ``identifier`` when given.
        pretrained: ``False`` asks explicitly for random weights.

    Raises:
        UserError: no such folder, name or weights; the message says how to get them.
    """
    if path:
        return _from_folder(name, Path(path).expanduser(), pretrained)
    on_hub = identifier.startswith("hf-hub:")
    if not on_hub:
        model_name, _, tag = identifier.partition("/")
        known = open_clip.list_models()
        if model_name not in known:
            raise UserError(f'open_clip has no model "{model_name}".{nearest(model_name, known)}')
        if pretrained and not tag:
            raise UserError(f"{name} names no weights: open_clip:{model_name}/TAG, or MODEL.BACKBONE.PRETRAINED False")
    else:
        model_name, tag = identifier, ""
    try:
        with hub():
            model = _from_hub(model_name) if on_hub and pretrained else _by_name(model_name, tag, pretrained)
            tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # hub libraries raise a dozen unrelated types for "not reachable"
        raise UserError(unreachable(name, identifier, error, FILES)) from error
    return OpenClipBackbone(name, model, tokenizer, pretrained)


def _by_name(model_name: str, tag: str, pretrained: bool) -> nn.Module:
    return open_clip.create_model(
        model_name,
        pretrained=tag if pretrained and tag else None,
        load_weights=pretrained,
        pretrained_text=False,
        require_pretrained=pretrained,
    )


def _from_hub(identifier: str) -> nn.Module:
    weights = download_pretrained_from_hf(identifier.removeprefix("hf-hub:"))
    with Undrawn():
        model = open_clip.create_model(identifier, load_weights=False, pretrained_text=False)
    fill(model, Path(weights))
    return model


def _from_folder(name: str, folder: Path, pretrained: bool) -> OpenClipBackbone:
    config_path = folder / CONFIG_FILE
    if not config_path.is_file():
        raise UserError(f"MODEL.BACKBONE.PATH {folder}: no {CONFIG_FILE} there, so it is no open_clip local-dir folder")
    try:
        config = json.loads(config_path.read_text())["model_cfg"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{config_path} is not an open_clip config: {error!r}") from error
    text = dict(config["text_cfg"])
    if "hf_model_name" in text:
        # open_clip resolves this name itself; the folder must do without the hub and wherever it was moved
        if (folder / "config.json").is_file():
            text["hf_model_name"] = str(folder.resolve())
        text["hf_model_pretrained"] = False
    weights = [path for ending in ("safetensors", "bin") for path in sorted(folder.glob(f"open_clip_*.{ending}"))]
    if pretrained and not weights:
        raise UserError(
            f"MODEL.BACKBONE.PATH {folder}: no open_clip_model.safetensors or open_clip_pytorch_model.bin there; "
            "put the weights there, or ask for random ones with MODEL.BACKBONE.PRETRAINED False"
        )
    source = f"local-dir:{folder}"
    try:
        with Undrawn() if pretrained else nullcontext():
            model = open_clip.create_model(source, load_weights=False, pretrained_text=False, text_cfg=text)
        if pretrained:
            fill(model, weights[0])
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:  # open_clip, timm, transformers and safetensors each raise their own types
        raise UserError(f"{folder} could not be loaded by open_clip: {' '.join(str(error).split())[:200]}") from error
    return OpenClipBackbone(name, model, tokenizer, pretrained)
