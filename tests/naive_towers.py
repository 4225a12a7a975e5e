"""The towers written out: one image or text at a time, attention head by head, and each library's own way to features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel, CLIPModel

from backbones import TokenBatch, VisionLanguageBackbone, VisualPrompt
from tests.tiny_backbones import resnet


class LibraryOpenClip:
    """open_clip's own encode_text and encode_image on whole contexts."""

    def __init__(self, backbone: VisionLanguageBackbone, folder: Path | None) -> None:
        self.model, self.tokenizer = backbone.model, backbone.tokenizer

    def text(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)))

    def image(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


class LibraryClip:
    """transformers' own CLIPModel, loaded anew."""

    def __init__(self, backbone: VisionLanguageBackbone, folder: Path) -> None:
        self.model, self.tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def text(self, texts: Sequence[str]) -> Tensor:
        words = self.tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt")
        out = self.model.get_text_features(**words)
        return getattr(out, "pooler_output", out)  # a tensor before transformers 5

    def image(self, images: Tensor) -> Tensor:
        out = self.model.get_image_features(pixel_values=images)
        return getattr(out, "pooler_output", out)


class ReleasedPmcClip:
    """The three files put together as the release's example does; or with the heads and pooling of the training code."""

    def __init__(self, backbone: VisionLanguageBackbone, folder: Path) -> None:
        self.trained = backbone.name == "PMCCLIP-trained"
        self.tower = resnet(heads=4 if self.trained else 8)  # width 8 gives 8 * 32 channels: 4 heads of 64
        self.tower.load_state_dict(torch.load(folder / "image_encoder(resnet50).pth", weights_only=True))
        self.bert = BertModel(BertConfig.from_pretrained(folder))
        state = torch.load(folder / "text_encoder.pth", weights_only=True)
        self.bert.load_state_dict({key: value for key, value in state.items() if "position_ids" not in key})
        self.projection = torch.load(folder / "text_projection_layer.pth", weights_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tower.eval(), self.bert.eval()

    def text(self, texts: Sequence[str]) -> Tensor:
        words = self.tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt")
        out = self.bert(input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        return (out.last_hidden_state[:, 0] if self.trained else out.pooler_output) @ self.projection

    def image(self, images: Tensor) -> Tensor:
        return self.tower(images)


REFERENCES = {
    "open_clip": LibraryOpenClip,
    "PubMedCLIP": LibraryClip,
    "PMCCLIP": ReleasedPmcClip,
    "PMCCLIP-trained": ReleasedPmcClip,
}


def attention(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor], heads: int, allowed: Tensor) -> Tensor:
    """(L, W) -> (L, W) before the output projection; ``allowed[i, j]``: position i may look at j."""
    q, k, v = (x @ matrix.T + bias for matrix, bias in zip(matrices, biases, strict=True))
    size = x.shape[1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = q[:, own] @ k[:, own].T / size**0.5
        parts.append(scores.masked_fill(~allowed, -torch.inf).softmax(1) @ v[:, own])
    return torch.cat(parts, dim=1)


def attended(layer: nn.Module, x: Tensor, allowed: Tensor) -> Tensor:
    """What the attention of a timm, open_clip or transformers layer gives for ``x`` (L, W)."""
    attn = getattr(layer, "attn", None) or getattr(layer, "self_attn", None)
    if attn is None:  # BERT
        own = layer.attention.self
        three, out, heads = (own.query, own.key, own.value), layer.attention.output.dense, own.num_attention_heads
    elif hasattr(attn, "q_proj"):  # transformers' CLIP
        three, out, heads = (attn.q_proj, attn.k_proj, attn.v_proj), attn.out_proj, attn.num_heads
    else:  # timm, open_clip
        weight, bias = (attn.qkv.weight, attn.qkv.bias) if hasattr(attn, "qkv") else (attn.in_proj_weight, attn.in_proj_bias)
        out = attn.proj if hasattr(attn, "proj") else attn.out_proj
        mixed = attention(x, weight.chunk(3), bias.chunk(3), attn.num_heads, allowed)
        return mixed @ out.weight.T + out.bias
    mixed = attention(x, [part.weight for part in three], [part.bias for part in three], heads, allowed)
    return mixed @ out.weight.T + out.bias


def through(layer: nn.Module, x: Tensor, allowed: Tensor) -> Tensor:
    """(L, W) -> (L, W): one transformer layer."""
    if hasattr(layer, "intermediate"):  # BERT normalises behind the sum
        x = layer.attention.output.LayerNorm(x + attended(layer, x, allowed))
        return layer.output.LayerNorm(x + layer.output.dense(layer.intermediate(x)))
    norms = next(names for names in (("ln_1", "ln_2"), ("norm1", "norm2"), ("layer_norm1", "layer_norm2"))
                 if hasattr(layer, names[0]))  # fmt: skip
    first, second = (getattr(layer, name) for name in norms)
    x = x + attended(layer, first(x), allowed)
    return x + layer.mlp(second(x))


@torch.no_grad()
def naive_text(backbone: VisionLanguageBackbone, embedded: Tensor, tokens: TokenBatch, deep: Tensor | None = None) -> Tensor:
    """(N, embed_dim) features of ``embedded``; ``deep`` (J, M, W) is written before layers 1..J."""
    return torch.stack([_text(backbone, *row, deep) for row in zip(embedded, tokens.ids, tokens.mask, strict=True)])


def _text(backbone: VisionLanguageBackbone, x: Tensor, ids: Tensor, mask: Tensor, deep: Tensor | None) -> Tensor:
    length = len(x)
    bert = getattr(backbone, "hf_text", False)
    if bert:
        parts = backbone.text_tower.embeddings
        x = parts.LayerNorm(x + parts.position_embeddings.weight[:length] + parts.token_type_embeddings.weight[0])
        allowed = mask.bool().expand(length, length)
    elif isinstance(backbone.model, CLIPModel):
        x = x + backbone.text_tower.embeddings.position_embedding.weight[:length]
        allowed = torch.ones(length, length).tril().bool()
    else:
        owner = getattr(backbone.model, "text", backbone.model)
        x = x + owner.positional_embedding[:length]
        both_ways = owner.attn_mask is None
        allowed = torch.ones(length, length).bool() if both_ways else torch.ones(length, length).tril().bool()
    for number, layer in enumerate(backbone.text_layers):
        if deep is not None and 1 <= number <= len(deep):
            x = torch.cat([x[:1], deep[number - 1], x[1 + deep.shape[1] :]])
        x = through(layer, x, allowed)
    if bert:
        pooler = getattr(backbone.text_tower, "pooler", None)
        return backbone.model.text.proj(x[0] if pooler is None else torch.tanh(pooler.dense(x[0])))
    last = x[int(mask.sum()) - 1]
    if isinstance(backbone.model, CLIPModel):
        return backbone.model.text_projection(backbone.text_tower.final_layer_norm(last))
    return owner.ln_final(last) @ owner.text_projection


@torch.no_grad()
def naive_image(backbone: VisionLanguageBackbone, image: Tensor, prompt: VisualPrompt) -> Tensor:
    """(embed_dim,) features of one image (3, H, W) with the prompt's tokens put into the ViT by hand."""
    x, blocks, finish = _opened(backbone, image)
    count = prompt.num_tokens
    if prompt.placement == "insert":
        x = torch.cat([x[:1], torch.zeros(count, x.shape[1]), x[1:]])
    for number, block in enumerate(blocks):
        if number == 0 or (prompt.deep and (prompt.tokens.ndim == 2 or number < len(prompt.tokens))):
            tokens = prompt.tokens if prompt.tokens.ndim == 2 else prompt.tokens[number]
            x = torch.cat([x[:1], tokens, x[1 + count :]])
        x = through(block, x, torch.ones(len(x), len(x)).bool())
    return finish(x[0])


def _opened(backbone: VisionLanguageBackbone, image: Tensor):
    """The sequence (N, W) before the first block, the blocks, and what makes a feature of the class token."""
    model = backbone.model
    if isinstance(model, CLIPModel):
        tower = model.vision_model
        parts = tower.embeddings
        x = _patches(image, parts.patch_embedding.weight)
        x = torch.cat([parts.class_embedding[None], x]) + parts.position_embedding.weight
        return tower.pre_layrnorm(x), tower.encoder.layers, lambda cls: model.visual_projection(tower.post_layernorm(cls))
    visual = model.visual
    if hasattr(visual, "trunk"):
        trunk = visual.trunk
        x = torch.cat([trunk.cls_token[0], trunk.patch_embed(image[None]).reshape(-1, trunk.embed_dim)]) + trunk.pos_embed[0]
        return trunk.norm_pre(x), trunk.blocks, lambda cls: visual.head(trunk.norm(cls))
    x = _patches(image, visual.conv1.weight)
    x = torch.cat([visual.class_embedding[None], x]) + visual.positional_embedding
    return visual.ln_pre(x), visual.transformer.resblocks, lambda cls: visual.ln_post(cls) @ visual.proj


def _patches(image: Tensor, weight: Tensor) -> Tensor:
    """(N, W) the patches of an image, row by row, through a bias-free patch projection (W, 3, s, s)."""
    side = weight.shape[-1]
    rows, columns = image.shape[1] // side, image.shape[2] // side
    flat = weight.flatten(1)
    cut = [
        image[:, row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(-1)
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack([flat @ patch for patch in cut])
