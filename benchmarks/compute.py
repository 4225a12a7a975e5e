"""How near the towers come to what the machine can multiply, and the least time that a job's tower passes take at that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backbones.cpu_linear import AVAILABLE, product
from benchmarks.jobs import published, typical
from benchmarks.setting import Setting
from benchmarks.units import build, config, need_data, repeated

SIZES = (1024, 2048, 3072, 4096)
LARGER = (*SIZES, 8192)  # a GPU
SMALL = (256,)  # a quick run
PRODUCTS = 7  # of each size, before each encoding
BATCH = 100  # images, which the store encodes in parts


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions of ``call``: 2 per multiply-add.

    Attention runs unfused while counting, as the counter knows no fused attention of a CPU; it multiplies the same.
    """
    counter = FlopCounterMode(display=False, custom_mapping=ONEDNN)
    with sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return counter.get_total_flops()


def _linear_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]  # (..., K) by (N, K)


ONEDNN = {torch.ops.mkldnn._linear_pointwise: _linear_flops} if AVAILABLE else {}  # PyTorch's counter does not know it


def product_rate(device: torch.device, sizes: tuple[int, ...], repeats: int, dtype: torch.dtype) -> dict[str, dict[int, float]]:
    """FLOP/s of square matrix products by library and size, the median of ``repeats``.

    On a CPU in float32 both of PyTorch's libraries are tried: which is faster depends on the processor.
    """
    libraries: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"torch.mm": torch.mm}
    if device.type == "cpu" and dtype == torch.float32 and AVAILABLE:
        libraries["oneDNN"] = product
    by_size: dict[str, dict[int, float]] = {name: {} for name in libraries}
    for size in sizes:
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for name, multiply in libraries.items():
            seconds = typical(repeated(lambda a=a, b=b, multiply=multiply: multiply(a, b), repeats))
            by_size[name][size] = 2 * size**3 / seconds
    return by_size


def best_rates(products: Sequence[dict[str, dict[int, float]]]) -> dict[str, float]:
    """FLOP/s of each library at the size that suits it best: of each size the median of what was found."""
    return {
        name: max(typical([one[name][size] for one in products]) for size in by_size) for name, by_size in products[0].items()
    }


def rates(setting: Setting, precision: str = "fp32") -> dict[str, Any]:
    """Image encoding by BiomedDPT's tower: seconds and FLOPs per image; the machine's rate; FLOPs of a base2new job.

    Args:
        precision: fp32, tf32 (on a GPU) or bf16.
    """
    need_data(setting, "btmri")
    folder = setting.folder("runs") / "rates"
    keys = {"FEATURES__ROOT": setting.folder("rates"), "TRAINER__BIOMEDDPT__PREC": "fp32" if precision == "tf32" else precision}
    if precision == "tf32":
        keys["MODEL__BACKBONE__TF32"] = True
    trainer = build(config(setting, "BiomedDPT", "btmri", "base", folder, **keys))
    size, count = trainer.backbone.image_size, 4 if setting.quick else BATCH
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)).to(trainer.device)

    def encode(some: Tensor) -> None:
        with torch.inference_mode():
            for part in some.split(trainer.encoder.batch_size):
                trainer.encode(part)

    dtype = torch.float32 if precision in ("fp32", "tf32") else torch.bfloat16
    sizes = SMALL if setting.quick else SIZES if trainer.device.type == "cpu" else LARGER
    products, seconds = [], []
    for _ in range(setting.repeats):  # in turns: a machine's speed drifts
        products.append(product_rate(trainer.device, sizes, PRODUCTS, dtype))
        seconds += repeated(lambda: encode(images), 1)
    per_image = count_flops(lambda: encode(images[:1]))
    trainer_new = build(config(setting, "BiomedDPT", "btmri", "new", folder, **keys))
    return {
        "precision": precision,
        "device": str(trainer.device),
        "images": count,
        "encode_s": seconds,
        "flops_per_image": per_image,
        "products": products,
        "rates": best_rates(products),
        "flops": {"image": per_image} | text_flops(trainer, trainer_new),
    }


def text_flops(base: Any, new: Any) -> dict[str, int]:
    """FLOPs of the text tower in a base2new job: a training step there and back, class features of both splits, and all
    of their prompts (K per class)."""

    def step() -> None:
        base.set_model_mode("train")
        base.encode_classes().sum().backward()
        base.optim.zero_grad()

    def prompts(trainer: Any) -> None:
        texts = trainer.prompts.texts
        for name in trainer.classnames:
            trainer.backbone.encode_text(texts[name])

    with torch.no_grad():
        classes = sum(count_flops(trainer.encode_classes) for trainer in (base, new))
        ensembles = sum(count_flops(lambda trainer=trainer: prompts(trainer)) for trainer in (base, new))
    return {"step": count_flops(step), "classes": classes, "prompts": ensembles}


def floor_seconds(found: dict[str, Any], costs: dict[str, Any]) -> float:
    """The least seconds of a base2new job at published sizes: its tower passes at the machine's rate, and nothing else."""
    sizes, flops = published(costs, 2), found["flops"]
    images = sizes.epochs * costs["train_images"] + sum(sizes.test_images)
    steps = sizes.epochs * costs["steps_per_epoch"]
    work = images * flops["image"] + steps * flops["step"] + flops["classes"] + flops["prompts"]
    return work / max(found["rates"].values())
