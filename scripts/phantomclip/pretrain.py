"""Pre-train PhantomCLIP on captioned phantoms and write it in open_clip's local-dir layout.

    python scripts/phantomclip/pretrain.py                       # writes backbones/weights/phantomclip; --device cuda
    python scripts/phantomclip/pretrain.py --text-only           # only the text tower, beside the present image tower
    python scripts/phantomclip/pretrain.py --evaluate            # zero-shot accuracy on the evaluation seed

CLIP's contrastive loss (Radford et al., 2021, section 2.3) with all captions of an image's class as its positives
(UniCL, Yang et al., CVPR 2022), on phantoms of seeds that evaluation never draws. A table of class vectors, dropped
afterwards, is a second partner of the image tower: from scratch, on two cores, captions alone teach it too slowly.
Then the text tower starts anew beside the frozen image tower (LiT, Zhai et al., CVPR 2022), on captions that tell what
is seen and hardly ever name the class: a model that has read much about findings and little about diagnoses, whose
zero-shot accuracy leaves something to learn.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import backbones.phantomclip_arch  # noqa: F401  (registers the image tower)
from backbones.phantomclip import WEIGHTS
from datasets import by_key, phantom

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE, EMBED, VOCABULARY, CONTEXT = 128, 128, 2000, 64
DATASETS, EACH = 4, 32  # a batch: datasets, and images of each; others of one dataset are the harder negatives
TABLE_SCALE = 20.0
WEIGHTS_FILE, RECORD = "open_clip_model.safetensors", "TRAINING.json"
NAMED_BY_READING = 0.01  # captions that name the class when the text tower starts anew
VISION = {"timm_model_name": "vit_phantom_patch16_128", "timm_model_pretrained": False, "timm_pool": "",
          "timm_proj": "linear", "image_size": SIZE}  # fmt: skip
TEXT = {"hf_model_name": ".", "hf_tokenizer_name": ".", "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": CONTEXT}  # fmt: skip
BERT = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 192, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 768, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": CONTEXT, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 0}  # fmt: skip


def draw_class(task: tuple[str, str, int]) -> tuple[np.ndarray, list[dict[str, str]]]:
    """All pre-training images of one class, uint8 (N, S, S, 3), and what was drawn in each."""
    key, classname, count = task
    drawn = [phantom.draw(key, classname, phantom.PRETRAINING_SEED, index, SIZE) for index in range(count)]
    rgb = [d.image if d.image.ndim == 3 else np.repeat(d.image[..., None], 3, axis=2) for d in drawn]
    return np.stack(rgb), [d.attributes for d in drawn]


class Pool:
    """Images and attributes of all classes, by dataset."""

    def __init__(self, per_class: int) -> None:
        tasks = [(key, name, per_class) for key in phantom.KEYS for name in phantom.module(key).CLASSES]
        with multiprocessing.Pool(os.cpu_count()) as workers:
            drawn = list(workers.imap(draw_class, tasks))
        self.images = torch.from_numpy(np.concatenate([images for images, _ in drawn]))
        self.about = [(t[0], t[1], attributes) for t, (_, many) in zip(tasks, drawn, strict=True) for attributes in many]
        names = sorted({about[:2] for about in self.about})
        self.classes = torch.tensor([names.index(about[:2]) for about in self.about])
        keys = np.array([about[0] for about in self.about])
        self.by_key = {key: np.flatnonzero(keys == key) for key in phantom.KEYS}

    def caption(self, index: int, rng: np.random.Generator, named: float = 0.4) -> str:
        key, name, attributes = self.about[index]
        return phantom.caption(key, name, attributes, rng, named).lower()

    def rows(self, rng: np.random.Generator, datasets: int, each: int) -> np.ndarray:
        chosen = rng.choice(phantom.KEYS, datasets, replace=False)
        return np.concatenate([rng.choice(self.by_key[key], each, replace=False) for key in chosen])

    def batch(self, rng: np.random.Generator, datasets: int, each: int) -> tuple[Tensor, list[str], Tensor]:
        """Images, captions and class numbers of ``each`` images of ``datasets`` datasets (others of one are harder)."""
        rows = self.rows(rng, datasets, each)
        return crop(self.images[rows], rng), [self.caption(row, rng) for row in rows], self.classes[rows]


def crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """uint8 (B, S, S, 3) -> normalised (B, 3, S, S), each a random crop of at least 80 % of the side."""
    pixels = normalise(images)
    theta = torch.zeros(len(pixels), 2, 3)
    scale = torch.from_numpy(rng.uniform(0.8, 1.0, len(pixels))).float()
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.from_numpy(rng.uniform(-1, 1, (len(pixels), 2))).float() * (1 - scale)[:, None]
    return F.grid_sample(pixels, F.affine_grid(theta, list(pixels.shape), align_corners=False), align_corners=False)


def normalise(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def write_layout(folder: Path, captions: list[str]) -> None:
    """Config files and a WordPiece vocabulary trained on ``captions``."""
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(captions, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.save_model(str(folder))
    about = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, "model_max_length": CONTEXT,
             "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]",
             "mask_token": "[MASK]"}  # fmt: skip
    config = {"model_cfg": {"embed_dim": EMBED, "vision_cfg": VISION, "text_cfg": TEXT},
              "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"}}  # fmt: skip
    bert = BERT | {"vocab_size": tokenizer.get_vocab_size()}
    for name, content in (("tokenizer_config", about), ("open_clip_config", config), ("config", bert)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def pretrain(folder: Path, args: argparse.Namespace) -> None:
    """Train both towers, then the text tower anew, and write the folder whole or not at all."""
    import open_clip
    from open_clip.model import CustomTextCLIP
    from safetensors.torch import load_file, save_file

    started = time.time()
    pool = Pool(args.per_class)
    print(f"drew {len(pool.images)} images in {time.time() - started:.0f} s", flush=True)
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp") as scratch:
        new = Path(scratch) / "phantomclip"
        new.mkdir()
        write_layout(new, [pool.caption(i, rng) for i in range(len(pool.about)) for _ in range(2)])
        text = TEXT | {"hf_model_name": str(new), "hf_model_pretrained": False}
        build = lambda: CustomTextCLIP(embed_dim=EMBED, vision_cfg=VISION, text_cfg=text, output_dict=True)  # noqa: E731
        model, tokenizer = build().to(args.device), open_clip.get_tokenizer(f"local-dir:{new}")
        if args.text_only:
            present = load_file(folder / WEIGHTS_FILE)
            model.visual.load_state_dict({k[7:]: v.float() for k, v in present.items() if k.startswith("visual.")})
            loss = json.loads((folder / RECORD).read_text())["last_loss"]
        else:
            loss = fit(model, tokenizer, pool, rng, args.steps)
        model.text = build().text.to(args.device)
        text_loss = read(model, tokenizer, pool, rng, args.text_steps)
        save_file({k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}, new / WEIGHTS_FILE)
        record = {"images": len(pool.images), "seed": args.seed, "steps": args.steps, "text_steps": args.text_steps,
                  "batch": DATASETS * EACH, "last_loss": round(loss, 3), "last_text_loss": round(text_loss, 3),
                  "named": NAMED_BY_READING, "phantom_seed": phantom.PRETRAINING_SEED, "torch": torch.__version__,
                  "parameters": sum(p.numel() for p in model.parameters())}  # fmt: skip
        (new / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)


def fit(model, tokenizer, pool: Pool, rng, steps: int) -> float:
    """AdamW with a cosine over ``steps``, bfloat16 products; the mean loss of the last steps."""
    device = model.logit_scale.device
    table = nn.Embedding(int(pool.classes.max()) + 1, EMBED).to(device)
    text = list(model.text.parameters())
    seen = {id(p) for p in text}
    groups = [
        {"params": [*(p for p in model.parameters() if id(p) not in seen), *table.parameters()], "peak": 1e-3},
        {"params": text, "peak": 3e-4},  # a post-norm BERT from scratch does not bear the image tower's rate
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.05)
    model.train().visual.to(memory_format=torch.channels_last)
    model.text.eval()  # no dropout: there is little text to over-fit
    started, recent = time.time(), []
    for step in range(steps):
        rate = min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["peak"]
        images, captions, classes = pool.batch(rng, DATASETS, EACH)
        loss = contrast(model, table, images.to(device), tokenizer(captions).to(device), classes.to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        recent = [*recent[-19:], loss.item()]
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.3f}  {time.time() - started:.0f} s", flush=True)
    return float(np.mean(recent))


def contrast(model, table: nn.Embedding, images: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
    """Both directions of the contrastive loss, plus cross-entropy against the table of class vectors."""
    with products(images.device):
        out = model(images.contiguous(memory_format=torch.channels_last), trimmed(ids))
    v, t = out["image_features"].float(), out["text_features"].float()
    to_table = TABLE_SCALE * v @ F.normalize(table.weight, dim=-1).T
    return pairs(out["logit_scale"], v, t, classes) + F.cross_entropy(to_table, classes)


def products(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where it is fast: on a processor without instructions for it a step takes ten times as long as in float32."""
    fast = device.type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.autocast(device.type, dtype=torch.bfloat16) if fast else nullcontext()


def trimmed(ids: Tensor) -> Tensor:
    return ids[:, : int((ids != 0).sum(1).max())]


def pairs(scale: Tensor, v: Tensor, t: Tensor, classes: Tensor) -> Tensor:
    """UniCL's loss of unit features v, t (B, D): all of a class are each other's positives."""
    logits = scale * v @ t.T
    same = (classes[:, None] == classes[None]).float()
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def read(model, tokenizer, pool: Pool, rng, steps: int) -> float:
    """Train the text tower on captions that hardly name a class, beside the frozen image tower; the last mean loss."""
    model.eval()
    device = model.logit_scale.device
    with torch.no_grad():
        parts = [model.encode_image(normalise(part).to(device), normalize=True) for part in pool.images.split(256)]
    features, recent = torch.cat(parts), []
    optimiser = torch.optim.AdamW(model.text.parameters(), weight_decay=0.05)
    for step in range(steps):
        rate = 5e-4 * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = rate
        rows = pool.rows(rng, DATASETS, EACH)
        ids = tokenizer([pool.caption(row, rng, NAMED_BY_READING) for row in rows]).to(device)
        with products(ids.device):
            t = model.encode_text(trimmed(ids))
        t = F.normalize(t.float(), dim=-1)
        loss = pairs(model.logit_scale.detach().exp(), features[rows], t, pool.classes[rows].to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.text.parameters(), 1.0)
        optimiser.step()
        recent = [*recent[-19:], loss.item()]
        if (step + 1) % 100 == 0:
            print(f"text step {step + 1}/{steps}  loss {np.mean(recent):.3f}", flush=True)
    return float(np.mean(recent))


@torch.no_grad()
def evaluate(folder: Path, per_class: int) -> None:
    """Zero-shot accuracy of each dataset's clinical template on phantoms of the evaluation seed."""
    from backbones import build_backbone

    model = build_backbone("PhantomCLIP", str(folder))
    for key, cls in by_key().items():
        prompts = [cls.template.format(name) for name in cls.published_classnames]
        text = F.normalize(model.encode_text(prompts), dim=-1)
        correct = total = 0
        for label, name in enumerate(cls.published_classnames):
            images = [phantom.draw(key, name, phantom.EVALUATION_SEED, index, SIZE).image for index in range(per_class)]
            rgb = np.stack([i if i.ndim == 3 else np.repeat(i[..., None], 3, axis=2) for i in images])
            found = F.normalize(model.encode_image(normalise(torch.from_numpy(rgb))), dim=-1) @ text.T
            correct, total = correct + int((found.argmax(1) == label).sum()), total + per_class
        print(f"{key:<11} {100 * correct / total:5.1f} %   chance {100 / len(prompts):4.1f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--text-steps", type=int, default=600)
    parser.add_argument("--text-only", action="store_true")
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--seed", type=int, default=phantom.PRETRAINING_SEED)
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--evaluate", action="store_true")
    args = parser.parse_args()
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    if not args.evaluate:
        pretrain(args.folder, args)
    evaluate(args.folder, 20)


if __name__ == "__main__":
    main()
