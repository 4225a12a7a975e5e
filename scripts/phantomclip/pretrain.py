"""Pre-train PhantomCLIP on captioned phantoms and write it in open_clip's local-dir layout.

    python scripts/phantomclip/pretrain.py                       # writes backbones/weights/phantomclip; --device cuda
    python scripts/phantomclip/pretrain.py --text-only           # only the text tower, beside the present image tower
    python scripts/phantomclip/evaluate.py                       # what they leave to learn

On phantoms of seeds that evaluation never draws, first the image tower learns to tell the classes apart and which of
its patches show the finding (two tables of class vectors, dropped afterwards): on two cores, captions alone would teach
it too slowly. Then a text tower learns beside the frozen image tower (LiT, Zhai et al., CVPR 2022) by CLIP's
contrastive loss (Radford et al., 2021, section 2.3) with all captions of an image's class as its positives (UniCL, Yang
et al., CVPR 2022). Its captions tell what is seen and seldom name the class: a model that has read much about findings
and little about diagnoses, whose zero-shot accuracy leaves something to learn.
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
from scripts.phantomclip.evaluate import MEAN, SIZE, STD, normalise, planes

PATCH, WIDTH, EMBED, VOCABULARY, CONTEXT = 16, 192, 128, 2000, 64
DATASETS, EACH = 4, 32  # a batch: datasets, and images of each
HARD = {"btmri": 2.0, "covid": 2.0, "ctkidney": 2.0, "kneexray": 2.0, "octmnist": 2.0, "retina": 2.0}  # drawn more often
TABLE_SCALE, SHOWN = 20.0, 0.08  # a patch shows the finding from this part of its area on
WEIGHTS_FILE, RECORD = "open_clip_model.safetensors", "TRAINING.json"
NAMED = {"base": 0.0, "new": 0.01}  # captions that name a class, by the half of its dataset's classes
VISION = {"timm_model_name": "vit_phantom_patch16_128", "timm_model_pretrained": False, "timm_pool": "",
          "timm_proj": "linear", "image_size": SIZE}  # fmt: skip
TEXT = {"hf_model_name": ".", "hf_tokenizer_name": ".", "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": CONTEXT}  # fmt: skip
BERT = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 192, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 768, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": CONTEXT, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 0}  # fmt: skip


def draw_class(task: tuple[str, str, int]) -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
    """All pre-training images of one class, uint8 (N, S, S, 3), where the finding is, (N, S, S), and what was drawn."""
    key, classname, count = task
    drawn = [phantom.draw(key, classname, phantom.PRETRAINING_SEED, index, SIZE) for index in range(count)]
    return np.stack([planes(d.image) for d in drawn]), np.stack([d.mask for d in drawn]), [d.attributes for d in drawn]


class Pool:
    """Images, masks and attributes of all classes, by dataset."""

    def __init__(self, per_class: int) -> None:
        tasks = [(key, name, per_class) for key in phantom.KEYS for name in phantom.module(key).CLASSES]
        with multiprocessing.Pool(os.cpu_count()) as workers:
            drawn = list(workers.imap(draw_class, tasks))
        self.images = torch.from_numpy(np.concatenate([images for images, _, _ in drawn]))
        self.masks = torch.from_numpy(np.concatenate([masks for _, masks, _ in drawn]))
        self.about = [(t[0], t[1], attributes) for t, (*_, many) in zip(tasks, drawn, strict=True) for attributes in many]
        names = sorted({about[:2] for about in self.about})
        self.classes = torch.tensor([names.index(about[:2]) for about in self.about])
        keys = np.array([about[0] for about in self.about])
        self.by_key = {key: np.flatnonzero(keys == key) for key in phantom.KEYS}

    def caption(self, index: int, rng: np.random.Generator) -> str:
        key, name, attributes = self.about[index]
        names = by_key()[key].published_classnames
        half = "base" if names.index(name) < math.ceil(len(names) / 2) else "new"
        return phantom.caption(key, name, attributes, rng, NAMED[half]).lower()

    def rows(self, rng: np.random.Generator, hard: bool = False) -> np.ndarray:
        """``EACH`` images of ``DATASETS`` datasets: others of one dataset are the harder negatives."""
        weight = np.array([HARD.get(key, 1.0) if hard else 1.0 for key in phantom.KEYS])
        chosen = rng.choice(phantom.KEYS, DATASETS, replace=False, p=weight / weight.sum())
        return np.concatenate([rng.choice(self.by_key[key], EACH, replace=False) for key in chosen])


def crop(images: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random crop of each image, of at least 80 % of the side.

    Args:
        images: uint8 (B, S, S, 3).
        masks: bool (B, S, S).

    Returns:
        Normalised pixels (B, 3, S, S), and the part of each patch that the mask covers, (B, P, P) in [0, 1].
    """
    theta = torch.zeros(len(images), 2, 3)
    scale = torch.from_numpy(rng.uniform(0.8, 1.0, len(images))).float()
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.from_numpy(rng.uniform(-1, 1, (len(images), 2))).float() * (1 - scale)[:, None]
    both = torch.cat([normalise(images), masks[:, None].float()], dim=1)
    both = F.grid_sample(both, F.affine_grid(theta, list(both.shape), align_corners=False), align_corners=False)
    return both[:, :3], F.avg_pool2d(both[:, 3], PATCH)


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
        model = CustomTextCLIP(embed_dim=EMBED, vision_cfg=VISION, text_cfg=text, output_dict=True).to(args.device)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{new}")
        if args.text_only:
            present, record = load_file(folder / WEIGHTS_FILE), json.loads((folder / RECORD).read_text())
            model.visual.load_state_dict({k[7:]: v.float() for k, v in present.items() if k.startswith("visual.")})
            args.steps, loss = record["steps"], record["last_loss"]
        else:
            loss = fit(model.visual, pool, rng, args.steps, args.device)
        text_loss = read(model, tokenizer, pool, rng, args.text_steps)
        save_file({k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}, new / WEIGHTS_FILE)
        record = {"images": len(pool.images), "seed": args.seed, "steps": args.steps, "text_steps": args.text_steps,
                  "batch": DATASETS * EACH, "last_loss": round(loss, 3), "last_text_loss": round(text_loss, 3),
                  "named": NAMED, "phantom_seed": phantom.PRETRAINING_SEED, "torch": torch.__version__,
                  "parameters": sum(p.numel() for p in model.parameters())}  # fmt: skip
        (new / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)


def fit(visual: nn.Module, pool: Pool, rng: np.random.Generator, steps: int, device: str) -> float:
    """Train the image tower: AdamW with a cosine over ``steps``, bfloat16 products; the mean loss of the last steps."""
    classes = int(pool.classes.max()) + 1
    whole, parts = nn.Linear(EMBED, classes, bias=False).to(device), nn.Linear(WIDTH, classes + 1).to(device)
    learned = [p for module in (visual, whole, parts) for p in module.parameters()]
    optimiser = torch.optim.AdamW(learned, weight_decay=0.05)
    visual.train().to(memory_format=torch.channels_last)
    started, recent = time.time(), []
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * warm_cosine(step, steps)
        rows = pool.rows(rng, hard=True)
        pixels, covered = (x.to(device) for x in crop(pool.images[rows], pool.masks[rows], rng))
        loss = told_apart(visual, whole, parts, pixels, covered, pool.classes[rows].to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        recent = [*recent[-19:], loss.item()]
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.3f}  {time.time() - started:.0f} s", flush=True)
    return float(np.mean(recent))


def warm_cosine(step: int, steps: int) -> float:
    return min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))


def told_apart(visual: Any, whole: nn.Linear, parts: nn.Linear, pixels: Tensor, covered: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of the image's class, and of each patch's: that class where the finding is, else none.

    Patches with and without a finding weigh the same, however small the finding is.
    """
    with products(pixels.device):
        tokens = visual.trunk.forward_features(pixels.contiguous(memory_format=torch.channels_last))
        v = visual.head(visual.trunk.forward_head(tokens))
    v = F.normalize(v.float(), dim=-1)
    of_image = F.cross_entropy(TABLE_SCALE * F.linear(v, F.normalize(whole.weight, dim=-1)), classes)
    shown = covered.flatten() > SHOWN
    patches = parts(tokens[:, 1:].float()).flatten(0, 1)
    target = torch.where(shown, classes.repeat_interleave(covered[0].numel()), parts.out_features - 1)
    each = F.cross_entropy(patches, target, reduction="none")
    return of_image + (each[shown].mean() + each[~shown].mean()) / 2


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


def read(model: Any, tokenizer: Any, pool: Pool, rng: np.random.Generator, steps: int) -> float:
    """Train the text tower and the scale on captions beside the frozen image tower; the last mean loss."""
    model.eval()  # no dropout in the text either: there is little to over-fit
    device = model.logit_scale.device
    with torch.no_grad():
        parts = [model.encode_image(normalise(part).to(device), normalize=True) for part in pool.images.split(256)]
    features, recent = torch.cat(parts), []
    learned = [*model.text.parameters(), model.logit_scale]
    optimiser = torch.optim.AdamW(learned, weight_decay=0.05)
    for step in range(steps):
        # a post-norm BERT from scratch does not bear the image tower's rate
        optimiser.param_groups[0]["lr"] = 5e-4 * warm_cosine(step, steps)
        rows = pool.rows(rng)
        ids = tokenizer([pool.caption(row, rng) for row in rows]).to(device)
        with products(ids.device):
            t = model.encode_text(trimmed(ids))
        t = F.normalize(t.float(), dim=-1)
        loss = pairs(model.logit_scale.exp(), features[rows], t, pool.classes[rows].to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        recent = [*recent[-19:], loss.item()]
        if (step + 1) % 100 == 0:
            print(f"text step {step + 1}/{steps}  loss {np.mean(recent):.3f}", flush=True)
    return float(np.mean(recent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--text-steps", type=int, default=600)
    parser.add_argument("--text-only", action="store_true")
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--seed", type=int, default=phantom.PRETRAINING_SEED)
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    pretrain(args.folder, args)


if __name__ == "__main__":
    main()
