"""PMC-CLIP (Lin et al., MICCAI 2023): CLIP's modified ResNet-50 and PubMedBERT, trained on PubMed Central figures.

Its release is three files of tensors without a model around them; the BERT that they fit comes from another repository.
A local folder (``MODEL.BACKBONE.PATH``) holds all of it:

    image_encoder(resnet50).pth     any name image_encoder*.safetensors or image_encoder*.pth
    text_encoder.pth                or text_encoder.safetensors
    text_projection_layer.pth       or text_projection_layer.safetensors; one (text width, joint width) tensor
    config.json                     of microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract
    vocab.txt, tokenizer_config.json  of the same (or tokenizer.json)

A ``.pth`` is read as tensors only, never unpickled. The ResNet's size is read off its tensors.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file
from torch import Tensor

from backbones.hub import fetch, require_files
from backbones.open_clip_tower import OpenClipBackbone
from dassl.utils import UserError, load_checkpoint
from dassl.utils.inert import unread

HUB = "axiong/pmc_oa"  # a dataset repository
BERT_HUB = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
WEIGHTS = {
    "image encoder": ("image_encoder*.safetensors", "image_encoder*.pth"),
    "text encoder": ("text_encoder.safetensors", "text_encoder.pth"),
    "text projection": ("text_projection_layer.safetensors", "text_projection_layer.pth"),
}
BERT = {"BERT configuration": ("config.json",), "BERT tokenizer": ("tokenizer.json", "vocab.txt")}
FILES = (
    "image_encoder*.pth, text_encoder.pth, text_projection_layer.pth (or .safetensors), and config.json and the "
    f"tokenizer of {BERT_HUB}"
)
LOGIT_SCALE = 4.4292  # of the release's own example; the files do not hold it
CONTEXT_LENGTH = 77
RESNET50 = {"layers": [3, 4, 6, 3], "width": 64, "image_size": 224}
EMBED_DIM = 768
PUBLISHED_HEADS = 8
CLS = "cls_last_hidden_state_pooler"  # open_clip's names
POOLER_OUTPUT = "cls_pooler"


def pmcclip(path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """As the published runs (BiomedCoOp) and the release's example use it.

    The attention pooling has 8 heads and the text feature is BERT's pooler output. The model was trained with other
    ones: :func:`pmcclip_as_trained`.
    """
    return _pmcclip("PMCCLIP", path, pretrained, heads=PUBLISHED_HEADS, pooler=POOLER_OUTPUT)


def pmcclip_as_trained(path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """As PMC-CLIP's training code builds it: heads of width 64 (32 of them), and the last hidden state of [CLS]."""
    return _pmcclip("PMCCLIP-trained", path, pretrained, heads=None, pooler=CLS)


def _pmcclip(name: str, path: str, pretrained: bool, heads: int | None, pooler: str) -> OpenClipBackbone:
    """
    Args:
        heads: of the attention pooling; ``None``: as many as heads of width 64 make.
        pooler: open_clip's name of what becomes the text feature.

    Raises:
        UserError: not reachable, a file is missing, damaged or of another model.
    """
    folder = bert = Path(path).expanduser()
    if not path:
        bert = fetch(name, BERT_HUB, ("config.json", "vocab.txt", "tokenizer*.json"), FILES)
        patterns = [pattern for group in WEIGHTS.values() for pattern in group]
        folder = fetch(name, HUB, patterns, FILES, repo_type="dataset") if pretrained else bert
    require_files(name, bert, BERT)
    state = _read(require_files(name, folder, WEIGHTS)) if pretrained else {}
    try:
        vision, embed_dim = _resnet(state) if pretrained else (RESNET50, EMBED_DIM)
        vision = vision | {"head_width": vision["width"] * 32 // heads if heads else 64}
        text = {
            "hf_model_name": str(bert),
            "hf_model_pretrained": False,
            "hf_proj_type": "linear",
            "hf_pooler_type": pooler,
            "context_length": CONTEXT_LENGTH,
        }
        model = CustomTextCLIP(embed_dim, vision, text, init_logit_scale=LOGIT_SCALE)
        if pretrained:
            _load(model, state)
        tokenizer = HFTokenizer(str(bert), context_length=CONTEXT_LENGTH)
    except Exception as error:  # open_clip, transformers and torch each raise their own types
        raise UserError(f"{folder} does not fit PMC-CLIP: {' '.join(str(error).split())[:200]}") from error
    return OpenClipBackbone(name, model, tokenizer, pretrained)


def _read(files: dict[str, Path]) -> dict[str, Tensor]:
    """The tensors of the three files under the names that they have in open_clip's model."""
    image, text, projection = (_tensors(files[purpose]) for purpose in WEIGHTS)
    if len(projection) != 1:
        raise UserError(f"{files['text projection']} holds {len(projection)} tensors, the text projection is one")
    (matrix,) = projection.values()
    state = {f"visual.{key}": value for key, value in image.items()}
    state |= {f"text.transformer.{key}": value for key, value in text.items()}
    return state | {"text.proj.weight": matrix.T.contiguous(), "logit_scale": torch.tensor(LOGIT_SCALE)}


def _tensors(path: Path) -> dict[str, Tensor]:
    """Name to tensor; a ``.pth`` that holds one bare tensor gives it the name ""."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # safetensors raises a type of its own, written in Rust
            raise UserError(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from error
    loaded = load_checkpoint(str(path))
    for _, pickled in unread(loaded):
        raise UserError(f"{path} holds more than tensors: a pickled {pickled}")
    tensors = {"": loaded} if isinstance(loaded, Tensor) else loaded
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} is not a mapping of names to tensors")
    return {key.removeprefix("module."): value.detach() for key, value in tensors.items()}


def _resnet(state: dict[str, Tensor]) -> tuple[dict[str, object], int]:
    """open_clip's description of the ResNet whose tensors these are, and its joint width."""
    blocks = [{key.split(".")[2] for key in state if key.startswith(f"visual.layer{n}.")} for n in (1, 2, 3, 4)]
    cells = state["visual.attnpool.positional_embedding"].shape[0] - 1  # of the last feature map, 1/32 of the image
    size = {
        "layers": [len(names) for names in blocks],
        "width": 2 * state["visual.conv1.weight"].shape[0],
        "image_size": 32 * math.isqrt(cells),
    }
    return size, state["visual.attnpool.c_proj.weight"].shape[0]


def _load(model: CustomTextCLIP, state: dict[str, Tensor]) -> None:
    """Strict, but for what older transformers saved (position ids) and a BERT pooler that is not used."""
    own = model.state_dict()
    spare = ("text.transformer.embeddings.position_ids", "text.transformer.pooler.")
    model.load_state_dict({key: value for key, value in state.items() if key in own or not key.startswith(spare)})
