"""PubMedCLIP (Eslami et al., EACL Findings 2023): CLIP ViT-B/32 fine-tuned on the radiology figures of ROCO."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from backbones.base import TokenBatch, VisionLanguageBackbone
from backbones.deep_prompts import deep_text_prompts
from backbones.hub import fetch, require_files
from backbones.visual_prompts import VisualPrompt
from dassl.utils import UserError

HUB = "flaviagiammarino/pubmed-clip-vit-base-patch32"
CONFIG = {"configuration": ("config.json",), "tokenizer": ("tokenizer.json", "vocab.json")}
WEIGHTS = {"weights": ("model.safetensors", "pytorch_model.bin")}
FILES = "config.json, model.safetensors (or pytorch_model.bin) and the tokenizer (tokenizer.json, or vocab.json and merges.txt)"


class HuggingFaceClip(VisionLanguageBackbone):
    """Wraps a transformers ``CLIPModel`` and its tokenizer; adds no parameter of its own.

    The library's own forward passes run; what a method puts in (embeddings for the word look-up, prompt tokens for the
    blocks) enters by hooks that are there only during the call. So positions, causal mask and pooling are the model's.

    Args:
        name: what results call this backbone.
        model: the CLIP.
        tokenizer: its tokenizer.
        pretrained: whether real weights were loaded.
    """

    def __init__(self, name: str, model: CLIPModel, tokenizer: Any, pretrained: bool) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "right"
        self.pretrained = pretrained
        text, vision = model.config.text_config, model.config.vision_config
        self.context_length = text.max_position_embeddings
        self.image_size = vision.image_size
        self.text_width, self.visual_width = text.hidden_size, vision.hidden_size
        self.embed_dim = model.config.projection_dim
        self.freeze()

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale

    # -- text ---------------------------------------------------------------------------------------------

    @property
    def text_tower(self) -> nn.Module:
        return self.model.text_model

    @property
    def text_layers(self) -> Sequence[nn.Module]:
        return self.model.text_model.encoder.layers

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.model.text_model.embeddings.token_embedding

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        # CLIP pads with its end-of-text token: only the tokenizer knows which one is the text's own
        words = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.context_length, return_tensors="pt"
        )
        return self.trimmed(words["input_ids"], words["attention_mask"])

    def name_token_len(self, classname: str, how: str = "exact") -> int:
        return int(self.tokenize([classname]).mask.sum()) - 2  # the released code counts CLIP's tokens exactly

    def embed_tokens(self, tokens: TokenBatch) -> Tensor:
        return self.word_embeddings(tokens.ids)

    def encode_embeddings(self, embeddings: Tensor, tokens: TokenBatch, deep_prompts: Tensor | None = None) -> Tensor:
        with ExitStack() as stack:
            stack.enter_context(deep_text_prompts(self.text_layers, deep_prompts))
            stack.enter_context(self.word_embeddings.register_forward_hook(lambda *_: embeddings))
            # the ids tell only where the text ends; no mask: nothing before that attends to the padding behind it
            pooled = self.model.text_model(input_ids=tokens.ids).pooler_output
        return self.model.text_projection(pooled)

    # -- images -------------------------------------------------------------------------------------------

    @property
    def visual_layers(self) -> Sequence[nn.Module]:
        return self.model.vision_model.encoder.layers

    def encode_image(self, images: Tensor, visual_prompt: VisualPrompt | None = None) -> Tensor:
        tower = self.model.vision_model
        with ExitStack() as stack:
            if visual_prompt is not None:
                make_room = tower.pre_layrnorm.register_forward_hook(lambda _, __, out: visual_prompt.start(out))
                stack.enter_context(make_room)
                for index, block in enumerate(self.visual_layers):
                    stack.enter_context(block.register_forward_pre_hook(partial(_write, visual_prompt, index)))
            pooled = tower(pixel_values=images).pooler_output
        return self.model.visual_projection(pooled)

    def architecture(self) -> dict[str, object]:
        heads = [part.num_attention_heads for part in (self.model.config.text_config, self.model.config.vision_config)]
        return super().architecture() | {"modules": str(self.model), "heads": heads}


def _write(prompt: VisualPrompt, index: int, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook: the block's arguments with the prompt's tokens in its sequence."""
    return prompt.before_block(index, args[0]), *args[1:]


def pubmedclip(path: str = "", pretrained: bool = True) -> HuggingFaceClip:
    """By hub name, or from a local folder ``path`` that holds what the hub repository holds.

    Raises:
        UserError: not reachable, a file is missing or does not fit; the message says what a folder must hold.
    """
    wanted = CONFIG | (WEIGHTS if pretrained else {})
    if path:
        folder = Path(path).expanduser()
    else:
        weights = WEIGHTS["weights"] if pretrained else ()
        folder = fetch("PubMedCLIP", HUB, ("*.json", "merges.txt", *weights), FILES)
    require_files("PubMedCLIP", folder, wanted)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not pretrained:
            return HuggingFaceClip("PubMedCLIP", CLIPModel(CLIPConfig.from_pretrained(folder)), tokenizer, pretrained)
        model, info = CLIPModel.from_pretrained(folder, local_files_only=True, weights_only=True, output_loading_info=True)
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own types
        raise UserError(f"{folder} could not be loaded as a CLIPModel: {' '.join(str(error).split())[:200]}") from error
    if info["missing_keys"]:
        raise UserError(f"{folder}: the weights lack {', '.join(sorted(info['missing_keys'])[:3])}: they are no CLIPModel's")
    return HuggingFaceClip("PubMedCLIP", model.float(), tokenizer, pretrained)
