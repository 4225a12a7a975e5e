"""The learned text context: initialisation and assembly (CoOp, section 3.1; Biomed-DPT, "text prompt")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbones import TokenBatch, VisionLanguageBackbone
from dassl.utils import UserError, nearest
from datasets.names import spelled

POSITIONS = ("end", "middle", "front")
NAME_LENS = ("published", "exact")
INIT_STD = 0.02


class PromptLearner(nn.Module):
    """M context vectors that take the places of tokens 1..M of each class's template prompt.

    ``ctx`` is the only parameter: (M, W), or (C, M, W) with one context per class (CSC). At random each class draws its
    own start; from words all start alike (the released CoOp has no CSC there).

    Args:
        backbone: frozen; gives tokens and word embeddings.
        prompts: C template prompts, the class names filled in.
        classnames: C class names (their lengths in tokens split the prompt for "middle" and "front").
        n_ctx: M. With ``ctx_init`` the first M word-pieces of it are taken, so a longer one is cut.
        ctx_init: words to start from; empty: N(0, 0.02).
        csc: one context per class.
        position: "end", "middle" or "front" of the class name.
        name_len: "exact", or "published" (1 on HF tokenizers, as in the released code).

    Raises:
        UserError: an unknown position or name length, a prompt with fewer than M tokens.
    """

    def __init__(
        self,
        backbone: VisionLanguageBackbone,
        prompts: Sequence[str],
        classnames: Sequence[str],
        *,
        n_ctx: int,
        ctx_init: str = "",
        csc: bool = False,
        position: str = "end",
        name_len: str = "exact",
    ) -> None:
        super().__init__()
        check_choice("CLASS_TOKEN_POSITION", position, POSITIONS)
        check_choice("NAME_LEN", name_len, NAME_LENS)
        self.n_ctx, self.position = n_ctx, position
        self.name_lens = [backbone.name_token_len(spelled(name), name_len) for name in classnames]
        self.tokens = backbone.tokenize(prompts).to(backbone.device)
        shortest = int(self.tokens.mask.sum(dim=1).min())
        if n_ctx < 1 or shortest < n_ctx + 2:
            raise UserError(f"N_CTX is {n_ctx}, but the shortest prompt has only {shortest - 2} tokens to replace")
        with torch.no_grad():
            self.register_buffer("embeddings", backbone.embed_tokens(self.tokens), persistent=False)
            self.ctx = nn.Parameter(self._initial(backbone, ctx_init, (len(prompts),) if csc else ()))

    def _initial(self, backbone: VisionLanguageBackbone, ctx_init: str, classes: tuple[int, ...]) -> Tensor:
        """The start of ``ctx``; ``classes`` is (C,) for one context per class, else empty."""
        if not ctx_init:
            drawn = torch.empty(*classes, self.n_ctx, backbone.text_width)
            return nn.init.normal_(drawn, std=INIT_STD).to(backbone.device)
        words = backbone.tokenize([spelled(ctx_init)]).to(backbone.device)
        pieces = int(words.mask.sum()) - 2
        if pieces < self.n_ctx:
            raise UserError(f'N_CTX is {self.n_ctx}, but CTX_INIT "{ctx_init}" has only {pieces} tokens')
        return backbone.embed_tokens(words)[0, 1 : 1 + self.n_ctx].expand(*classes, -1, -1).clone()

    def forward(self, ctx: Tensor | None = None) -> Tensor:
        """(C, L, W) prompt embeddings with the context in place.

        Args:
            ctx: (M, W) or (C, M, W) a context to use instead of the learned one.
        """
        ctx = self.ctx if ctx is None else ctx
        start, rest = self.embeddings[:, :1], self.embeddings[:, 1 + self.n_ctx :]
        if ctx.ndim == 2:
            ctx = ctx.expand(len(rest), -1, -1)
        if self.position == "end":
            return torch.cat([start, ctx, rest], dim=1)
        half = self.n_ctx // 2 if self.position == "middle" else 0
        rows = [
            torch.cat([c[:half], r[:length], c[half:], r[length:]])
            for c, r, length in zip(ctx, rest, self.name_lens, strict=True)
        ]
        return torch.cat([start, torch.stack(rows)], dim=1)

    def token_batch(self) -> TokenBatch:
        """Ids and mask of the template prompts: the text tower keeps their mask."""
        return self.tokens


def fill(template: str, classnames: Sequence[str]) -> list[str]:
    """The template with each class name in its ``{}``, as prompts spell it."""
    return [template.format(spelled(name)) for name in classnames]


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise a :class:`UserError` when ``value`` of the config key ``key`` is none of ``choices``."""
    if value not in choices:
        raise UserError(f'{key} is "{value}", must be one of {", ".join(choices)}.{nearest(value, choices)}')
