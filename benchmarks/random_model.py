"""A folder with a model of BiomedCLIP's shape and random weights, for measuring where the weights cannot be had.

    python -m benchmarks.random_model FOLDER

Speed depends on shapes alone; what such a model says of an image means nothing. The WordPiece vocabulary is PhantomCLIP's,
padded to BiomedCLIP's size, so that texts have about as many tokens as with PubMedBERT's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
# huggingface: microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, open_clip_config.json; and BERT-base
VISION = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
          "image_size": 224}  # fmt: skip
TEXT = {"hf_model_name": ".", "hf_tokenizer_name": ".", "hf_proj_type": "mlp", "context_length": 256,
        "hf_pooler_type": "cls_last_hidden_state_pooler"}  # fmt: skip
BERT = {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30522, "hidden_size": 768,
        "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0}  # fmt: skip
EMBED_DIM = 512
# both towers at half their width
HALVED = ({"timm_model_name": "vit_small_patch16_224"},
          {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536})  # fmt: skip


def write_random_model(folder: Path, seed: int = 0, halved: bool = False) -> Path:
    """``folder`` in open_clip's local-dir layout, whole or not at all; one that is there is left alone.

    Args:
        halved: both towers have half of BiomedCLIP's width.
    """
    from backbones.phantomclip import WEIGHTS

    folder = Path(folder)
    if (folder / "open_clip_model.safetensors").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / folder.name
        new.mkdir()
        for name in TOKENIZER:
            shutil.copy(WEIGHTS / name, new / name)
        own_vision, own_text = HALVED if halved else ({}, {})
        vision: dict[str, Any] = VISION | own_vision
        (new / "config.json").write_text(json.dumps(BERT | own_text, indent=1))
        config = {
            "model_cfg": {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": TEXT},
            "preprocess_cfg": {"mean": MEAN, "std": STD},
        }
        (new / "open_clip_config.json").write_text(json.dumps(config, indent=1))
        _write_weights(new, seed, vision)
        new.rename(folder)
    return folder


def _write_weights(folder: Path, seed: int, vision: dict[str, Any]) -> None:
    import torch
    from open_clip.model import CustomTextCLIP
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    text: dict[str, Any] = TEXT | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    model = CustomTextCLIP(embed_dim=EMBED_DIM, vision_cfg=vision, text_cfg=text)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def make(setting: Any, folder: str) -> dict[str, Any]:
    """:func:`write_random_model` as a measuring process calls it."""
    return {"folder": str(write_random_model(Path(folder)))}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 no folder named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="to be written, 750 MB; one that is there is left alone")
    print(write_random_model(parser.parse_args(argv).folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
