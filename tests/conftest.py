"""Fixtures: a BiomedCLIP of reduced depth and width with random weights, and small datasets in the published layout."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.utils.logger import _Stdout

REPO = Path(__file__).parents[1]
# also of programs that tests start: what is equal to the bit has equal threads
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
SHARED = REPO.parent / "shared"
sys.path.insert(0, str(REPO))

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the slow ones out, unless SLOW=1."""
    for item in items if os.environ.get("SLOW", "0") != "1" else ():
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: SLOW=1 runs it"))


@pytest.fixture(scope="session", autouse=True)
def _small_and_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two threads, or one where two test processes share the machine, and a feature store of the session's own."""
    torch.set_num_threads(THREADS)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)  # said by the user: no backbone decides
    os.environ["BIOMED_DPT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def write_tiny_biomedclip(folder: Path, seed: int = 0, weights: bool = True) -> Path:
    """BiomedCLIP's architecture (timm ViT, BERT, MLP projection) at toy size, in open_clip's local-dir layout."""
    from open_clip.model import CustomTextCLIP
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = REPO / "backbones" / "weights" / "phantomclip"
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder / name)
    vocabulary = len((folder / "vocab.txt").read_text().split("\n"))
    bert = {
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocabulary, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 256,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(bert))
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
              "image_size": 160}  # fmt: skip
    text = {"hf_model_name": ".", "hf_tokenizer_name": ".", "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}  # fmt: skip
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}}  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if weights:
        torch.manual_seed(seed)
        local = text | {"hf_model_name": str(folder), "hf_model_pretrained": False}
        model = CustomTextCLIP(embed_dim=32, vision_cfg=vision, text_cfg=local)
        with torch.no_grad():
            for value in model.parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=0.3 if value.shape[-1] < 300 else 0.1)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_biomedclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_biomedclip(tmp_path_factory.mktemp("backbone") / "tiny_biomedclip")


def write_dataset(root: Path, name: str, classnames: tuple[str, ...], per_class: int = 12, size: int = 48) -> Path:
    """A dataset in the published layout whose classes differ in brightness and stripes."""
    rng = np.random.default_rng(0)
    split: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    for label, classname in enumerate(classnames):
        folder = root / name / name / classname.replace(" ", "_")
        folder.mkdir(parents=True)
        for index in range(per_class):
            base = np.full((size, size), 30 + 200 * label // len(classnames), np.float32)
            base[:: label + 2] += 25
            pixels = np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03d}.png")
            part = "train" if index < per_class // 2 else "val" if index < per_class * 7 // 10 else "test"
            split[part].append([f"{folder.name}/{index:03d}.png", label, classname])
    (root / name / f"split_{name}.json").write_text(json.dumps(split))
    return root


BTMRI_CLASSES = ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain")


@pytest.fixture(scope="session")
def btmri_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), "BTMRI", BTMRI_CLASSES)


@pytest.fixture
def log_off_stdout() -> Iterator[None]:
    """The log, which a run of train.py sent to standard output for the rest of the process, stays off it."""
    root = logging.getLogger()
    noisy = [handler for handler in root.handlers if isinstance(handler, _Stdout)]
    for handler in noisy:
        root.removeHandler(handler)
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, _Stdout)]:  # of a run inside the test
        root.removeHandler(handler)
    for handler in noisy:
        root.addHandler(handler)
