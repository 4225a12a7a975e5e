"""The one interface behind which every frozen dual encoder stands."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.visual_prompts import VisualPrompt

log = logging.getLogger(__name__)

TEXTS_AT_ONCE = 32  # sentences that pass the text tower together


@dataclass(frozen=True)
class TokenBatch:
    """N tokenised texts, trimmed to the longest.

    Attributes:
        ids: (N, L) int64 token ids.
        mask: (N, L) int64, 1 on real tokens (special ones included), 0 on padding.
    """

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> TokenBatch:
        return TokenBatch(self.ids.to(device), self.mask.to(device))

    def repeat(self, times: int) -> TokenBatch:
        """(times * N, L): the whole batch ``times`` times over."""
        return TokenBatch(self.ids.repeat(times, 1), self.mask.repeat(times, 1))


class VisionLanguageBackbone(nn.Module):
    """A frozen image tower and a frozen text tower with a joint space of ``embed_dim`` dimensions.

    Subclasses set the attributes below and implement the methods that raise ``NotImplementedError``.
    Nothing here is L2-normalised: METHOD-level code normalises before any product.
    """

    name: str
    text_width: int
    visual_width: int
    embed_dim: int
    image_size: int
    context_length: int
    pretrained: bool
    supports_visual_prompts: bool = True
    compiled_as: str = ""  # torch.compile's mode for the text layers
    logit_scale: Tensor  # scalar, log-scale, frozen

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Token ids and mask of ``texts``, trimmed to the longest of them (<= ``context_length``)."""
        raise NotImplementedError

    def trimmed(self, ids: Tensor, mask: Tensor, keep_padding: bool = False) -> TokenBatch:
        """(N, context_length) ids and mask without the padding behind the longest text; a cut text is told.

        Args:
            keep_padding: all of it stays, for a tower whose tokens attend to it.
        """
        length = int(mask.sum(dim=1).max())
        if length == self.context_length:
            log.warning("a text fills all %d tokens of %s and may have been cut", length, self.name)
        if keep_padding:
            return TokenBatch(ids, mask)
        return TokenBatch(ids[:, :length], mask[:, :length])

    def name_token_len(self, classname: str, how: str = "exact") -> int:
        """Word-pieces of a class name. ``how="published"`` counts as the released code did (docs/FIDELITY.md)."""
        raise NotImplementedError

    def embed_tokens(self, tokens: TokenBatch) -> Tensor:
        """(N, L, text_width) word embeddings, before positions are added."""
        raise NotImplementedError

    def encode_embeddings(self, embeddings: Tensor, tokens: TokenBatch, deep_prompts: Tensor | None = None) -> Tensor:
        """(N, L, text_width) -> (N, embed_dim): the text tower on embeddings that may hold learned vectors.

        Args:
            deep_prompts: (J, M, text_width) or (J, N, M, text_width) vectors that take positions 1..M of the hidden
                states before text layers 1..J (:func:`backbones.deep_prompts.deep_text_prompts`).

        Raises:
            ValueError: J deep prompts on a tower of J layers or fewer.
        """
        raise NotImplementedError

    def pooled_places(self, tokens: TokenBatch) -> Tensor:
        """(N,) the place of the token that becomes a text's feature: its last, unless a tower says otherwise."""
        return tokens.mask.sum(dim=1) - 1

    def encode_image(self, images: Tensor, visual_prompt: VisualPrompt | None = None) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, embed_dim).

        Raises:
            ValueError: a visual prompt on a tower without patch tokens.
        """
        raise NotImplementedError

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(N, embed_dim) features of whole sentences.

        Many are encoded in groups of like length, each trimmed to its own longest.
        """
        if len(texts) <= TEXTS_AT_ONCE:
            tokens = self.tokenize(texts).to(self.device)
            return self.encode_embeddings(self.embed_tokens(tokens), tokens)
        order = self.tokenize(texts).mask.sum(dim=1).argsort(stable=True)
        groups = [self.encode_text([texts[place] for place in part]) for part in order.split(TEXTS_AT_ONCE)]
        return torch.cat(groups)[order.argsort().to(self.device)]

    def set_text_dropout(self, on: bool) -> None:
        """Switch the text tower's own dropout on or off; everything else always stays in eval mode."""
        self.text_tower.train(on)

    def compile_text(self, mode: str) -> None:
        """Run the text layers through ``torch.compile``, forward and backward.

        Args:
            mode: "" for none, "default", "reduce-overhead" (CUDA graphs on a GPU) or "max-autotune". With CUDA graphs what a
                layer gives is overwritten once the next step is announced (:func:`announce_step`).
        """
        self.compiled_as = mode
        for layer in self.text_layers:
            layer._compiled_call_impl = None  # a backbone that is handed out again may have been compiled otherwise
            if mode:
                layer.compile(mode=mode, dynamic=False)

    def announce_step(self) -> None:
        """Say that what compiled layers gave before is not needed any more.

        Without being told, CUDA graphs take each call of a layer for a step of its own, and the layer before it for done.
        """
        if self.compiled_as:
            torch.compiler.cudagraph_mark_step_begin()

    @property
    def text_tower(self) -> nn.Module:
        raise NotImplementedError

    @property
    def text_layers(self) -> Sequence[nn.Module]:
        """The text transformer's layers in order."""
        raise NotImplementedError

    @property
    def visual_layers(self) -> Sequence[nn.Module]:
        """The image transformer's blocks in order; empty for a tower without patch tokens."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    def freeze(self) -> VisionLanguageBackbone:
        """Evaluation mode, no gradients for any weight."""
        self.eval()
        return self.requires_grad_(False)

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, types and values of all weights, and the architecture: a cache key."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256(repr(self.architecture()).encode())
            for key, value in sorted(self.state_dict().items()):
                digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def architecture(self) -> dict[str, object]:
        """What besides the weights decides the features."""
        return {"class": type(self).__name__, "image_size": self.image_size, "embed_dim": self.embed_dim}
