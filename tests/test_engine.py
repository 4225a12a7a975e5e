"""The dassl package by itself: config, registry, few-shot draw, samplers, transforms, optimisers, schedules, evaluator."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import f1_score

from dassl.config import clean_cfg, get_cfg_default
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy, compute_distance_matrix
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import Registry, UserError

DEFAULTS = {  # keys and values that published configs and command lines rely on, as Dassl documents them
    "OUTPUT_DIR": "./output", "SEED": -1, "USE_CUDA": True, "INPUT.SIZE": (224, 224), "INPUT.INTERPOLATION": "bilinear",
    "INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406], "INPUT.RRCROP_SCALE": (0.08, 1.0), "INPUT.CROP_PADDING": 4,
    "DATASET.NUM_SHOTS": -1, "DATASET.VAL_PERCENT": 0.1, "DATALOADER.NUM_WORKERS": 4, "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.TRAIN_X.SAMPLER": "RandomSampler", "DATALOADER.TRAIN_X.BATCH_SIZE": 32, "DATALOADER.TRAIN_X.N_INS": 16,
    "DATALOADER.TRAIN_U.SAME_AS_X": True, "DATALOADER.TEST.SAMPLER": "SequentialSampler", "OPTIM.NAME": "adam",
    "OPTIM.LR": 0.0003, "OPTIM.WEIGHT_DECAY": 5e-4, "OPTIM.MOMENTUM": 0.9, "OPTIM.SGD_NESTEROV": False,
    "OPTIM.RMSPROP_ALPHA": 0.99, "OPTIM.ADAM_BETA2": 0.999, "OPTIM.STAGED_LR": False, "OPTIM.BASE_LR_MULT": 0.1,
    "OPTIM.LR_SCHEDULER": "single_step", "OPTIM.STEPSIZE": (-1,), "OPTIM.GAMMA": 0.1, "OPTIM.MAX_EPOCH": 10,
    "OPTIM.WARMUP_EPOCH": -1, "OPTIM.WARMUP_TYPE": "linear", "OPTIM.WARMUP_CONS_LR": 1e-5,
    "OPTIM.WARMUP_RECOUNT": True, "TRAIN.CHECKPOINT_FREQ": 0, "TRAIN.PRINT_FREQ": 10, "TRAIN.COUNT_ITER": "train_x",
    "TEST.EVALUATOR": "Classification", "TEST.FINAL_MODEL": "last_step", "TEST.SPLIT": "test",
}  # fmt: skip


@pytest.mark.parametrize("key", DEFAULTS)
def test_config_defaults(key: str) -> None:
    node = get_cfg_default()
    for part in key.split("."):
        node = node[part]
    assert node == DEFAULTS[key]


def test_defaults_are_a_fresh_copy_and_clean_cfg_keeps_one_section() -> None:
    cfg = get_cfg_default()
    cfg.SEED = 5
    assert get_cfg_default().SEED == -1
    clean_cfg(cfg, "MixMatch")
    assert set(cfg.TRAINER) == {"NAME", "MIXMATCH"}


def test_registry_names_the_nearest_and_refuses_a_second() -> None:
    registry = Registry("THING")

    @registry.register()
    class Apple: ...

    assert registry.get("Apple") is Apple and registry.registered_names() == ["Apple"]
    with pytest.raises(UserError, match='Did you mean "Apple"'):
        registry.get("Appel")
    with pytest.raises(KeyError, match="already registered"):
        registry.register(Apple)
    registry.register(Apple, force=True)


ITEMS = [Datum(f"{n}.png", label=(n * 7 + 2) % 5, domain=n % 3, classname=str((n * 7 + 2) % 5)) for n in range(83)]


@given(st.integers(1, 25), st.integers(0, 1000))
def test_few_shot_draw_is_random_sample_per_label_in_order_of_appearance(shots: int, seed: int) -> None:
    random.seed(seed)
    labels = list(dict.fromkeys(item.label for item in ITEMS))
    want = []
    for label in labels:
        own = [item for item in ITEMS if item.label == label]
        want += random.sample(own, shots) if len(own) >= shots else own
    random.seed(seed)
    assert DatasetBase().generate_fewshot_dataset(ITEMS, num_shots=shots) == want


def test_few_shot_draw_with_repeat_fills_up() -> None:
    drawn = DatasetBase().generate_fewshot_dataset(ITEMS, num_shots=30, repeat=True)
    assert set(Counter(item.label for item in drawn).values()) == {30}
    assert DatasetBase().generate_fewshot_dataset(ITEMS, num_shots=-1) is ITEMS


def sampled(name: str, epoch: int = 0, batch: int = 6, n_domain: int = 0, n_ins: int = 2) -> list[int]:
    cfg = get_cfg_default()
    cfg.SEED = 3
    sampler = build_sampler(name, cfg, ITEMS, batch, n_domain, n_ins)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler)
    return order


def test_samplers() -> None:
    assert sampled("SequentialSampler") == list(range(len(ITEMS)))
    order = sampled("RandomSampler")
    assert sorted(order) == list(range(len(ITEMS))) and order == sampled("RandomSampler") != sampled("RandomSampler", 1)
    for start in range(0, 24, 6):
        by_class = Counter(ITEMS[i].label for i in sampled("RandomClassSampler")[start : start + 6])
        assert sorted(by_class.values()) == [2, 2, 2]
        by_domain = Counter(ITEMS[i].domain for i in sampled("SeqDomainSampler")[start : start + 6])
        assert by_domain == {0: 2, 1: 2, 2: 2}
        two = Counter(ITEMS[i].domain for i in sampled("RandomDomainSampler", n_domain=2)[start : start + 6])
        assert sorted(two.values()) == [3, 3]
    with pytest.raises(UserError, match="RandomSampler"):
        sampled("RandomSamplr")


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
TRANSFORMS = ("random_resized_crop", "random_flip", "random_crop", "random_translation", "center_crop", "normalize",
              "instance_norm", "randaugment", "autoaugment", "cutout", "gaussian_noise", "gaussian_blur", "colorjitter",
              "randomgrayscale")  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_training_transform_is_a_function_of_the_seed(name: str) -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["INPUT.SIZE", (32, 32), "VERBOSE", False, "INPUT.GB_P", 1.0, "INPUT.RGS_P", 1.0, "INPUT.GN_STD", 1.0])
    apply = build_transform(cfg, is_train=True, choices=[name])
    plain = build_transform(cfg, is_train=True, choices=[])(PICTURE)

    def draw(seed: int) -> torch.Tensor:
        random.seed(seed)
        torch.manual_seed(seed)
        return apply(PICTURE)

    views = [draw(seed) for seed in range(8)]
    assert all(view.shape == (3, 32, 32) and view.dtype == torch.float32 for view in views)
    assert torch.equal(views[3], draw(3))
    if name != "center_crop":  # the image has that size already
        assert any(not torch.equal(view, plain) for view in views)


def test_the_test_transform_is_resize_centre_crop_normalise() -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["INPUT.SIZE", (32, 32), "INPUT.INTERPOLATION", "bicubic", "VERBOSE", False])
    got = build_transform(cfg, is_train=False, choices=["random_resized_crop", "normalize"])(PICTURE)
    resized = PICTURE.resize((int(32 * 90 / 70), 32), Image.Resampling.BICUBIC)
    left = round((resized.width - 32) / 2)
    pixels = np.asarray(resized.crop((left, 0, left + 32, 32)), np.float32) / 255
    want = (pixels - np.asarray([0.485, 0.456, 0.406])) / np.asarray([0.229, 0.224, 0.225])
    np.testing.assert_allclose(got.numpy(), want.transpose(2, 0, 1), atol=1e-6)
    with pytest.raises(UserError, match="random_flip"):
        build_transform(cfg, choices=["random_flipp"])


@pytest.mark.parametrize(
    "name, kind",
    [("sgd", "SGD"), ("adam", "Adam"), ("amsgrad", "Adam"), ("adamw", "AdamW"), ("radam", "RAdam"), ("rmsprop", "RMSprop")],
)
def test_optimisers_and_staged_rates(name: str, kind: str) -> None:
    model = torch.nn.Sequential()
    model.add_module("old", torch.nn.Linear(2, 2))
    model.add_module("new", torch.nn.Linear(2, 2))
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list(["NAME", name, "LR", 0.5, "STAGED_LR", True, "NEW_LAYERS", ("new",), "BASE_LR_MULT", 0.1])
    optimiser = build_optimizer(model, cfg)
    assert type(optimiser).__name__ == kind
    assert optimiser.defaults.get("amsgrad", False) == (name == "amsgrad")
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model.parameters()] == pytest.approx([0.05, 0.05, 0.5, 0.5])
    cfg.STAGED_LR = False
    layered = build_optimizer(model, cfg, [{"params": model.old.parameters(), "lr": 0.01}, {"params": model.new.parameters()}])
    assert [group["lr"] for group in layered.param_groups] == [0.01, 0.5]
    with pytest.raises(UserError, match="Did you mean"):
        cfg.NAME = "sdg"
        build_optimizer(model, cfg)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["single_step", "multi_step", "cosine"]), st.sampled_from(["constant", "linear"]), st.integers(0, 4),
    st.booleans(), st.integers(6, 15),
)  # fmt: skip
def test_learning_rates_follow_the_definition(name: str, warm: str, warmup: int, recount: bool, epochs: int) -> None:
    cfg = get_cfg_default().OPTIM
    steps = (2, 5) if name == "multi_step" else (3,)
    cfg.merge_from_list(["LR_SCHEDULER", name, "WARMUP_TYPE", warm, "WARMUP_EPOCH", warmup, "WARMUP_RECOUNT", recount,
                         "MAX_EPOCH", epochs, "STEPSIZE", steps, "WARMUP_CONS_LR", 1e-4, "WARMUP_MIN_LR", 2e-4])  # fmt: skip
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = build_lr_scheduler(optimiser, cfg)

    def factor(e: int) -> float:
        if name == "cosine":
            return (1 + math.cos(math.pi * e / epochs)) / 2
        return 0.1 ** (e // 3 if name == "single_step" else (e >= 2) + (e >= 5))

    for epoch in range(epochs):
        if epoch < warmup:
            want = 1e-4 if warm == "constant" else 2e-4 if epoch == 0 else 0.2 * epoch / warmup
        elif recount:
            want = 0.2 * factor(epoch - warmup)
        else:
            want = 0.2 * factor(epoch) / factor(warmup)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(want, rel=1e-9, abs=1e-15)
        optimiser.step()
        schedule.step()


def test_a_schedule_goes_on_where_its_state_was() -> None:
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list(["LR_SCHEDULER", "cosine", "WARMUP_EPOCH", 1, "MAX_EPOCH", 8])
    first, second = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2) for _ in range(2))
    one = build_lr_scheduler(first, cfg)
    for _ in range(4):
        first.step()
        one.step()
    other = build_lr_scheduler(second, cfg)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"] and other.get_last_lr() == one.get_last_lr()


def test_evaluator_against_the_definitions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path)])
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b", 2: "c"})
    scores, labels = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 4, 0], [0, 1, 9]]), torch.tensor([0, 1, 1, 2])
    with caplog.at_level("INFO", logger="dassl"):
        evaluator.process(scores[:2], labels[:2])
        evaluator.process(scores[2:], labels[2:])
        results = evaluator.evaluate()
    assert results["accuracy"] == 75 and results["error_rate"] == 25
    assert results["macro_f1"] == pytest.approx(100 * f1_score([0, 1, 1, 2], [0, 1, 0, 2], average="macro"))
    assert results["perclass_accuracy"] == pytest.approx((100 + 50 + 100) / 3)
    assert json.loads((tmp_path / "cmat.json").read_text()) == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert "=> result\n" in caplog.text and "* accuracy: 75.00%" in caplog.text
    evaluator.reset()
    with pytest.raises(ValueError, match="nothing"):
        evaluator.evaluate()


def test_small_metrics() -> None:
    scores, labels = torch.tensor([[1.0, 2, 3], [3, 2, 1], [2, 3, 1]]), torch.tensor([2, 1, 0])
    one, two = compute_accuracy(scores, labels, topk=(1, 2))
    assert one.item() == pytest.approx(100 / 3) and two.item() == pytest.approx(100)
    a, b = torch.randn(3, 4), torch.randn(2, 4)
    want = [[((x - y) ** 2).sum() for y in b] for x in a]
    torch.testing.assert_close(compute_distance_matrix(a, b), torch.tensor(want), rtol=1e-4, atol=1e-5)
