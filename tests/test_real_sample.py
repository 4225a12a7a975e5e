"""Methods that learn end above chance on real brain MRI, 16 shots, although PhantomCLIP never saw a real image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

import train
from tests.conftest import REPO, SHARED
from tests.helpers import arguments
from trainers import methods

CHANCE = 25.0  # four classes, equally many test images each
# as in benchmarks/real_sample.sh, with fewer epochs
HARDER = {"OPTIM.NAME": "adam", "OPTIM.LR": "0.02", "INPUT.RRCROP_SCALE": "(0.8,1.0)"}
ADAPTERS = ("CLIPAdapter", "TipAdapterF")
IMAGE_PROMPTS = ("MaPLe", "VPT", "DPT", "BiomedAP")
EPOCHS = {
    "CLIPAdapter": 100, "TipAdapterF": 100, "VPT": 25, "CoCoOp": 3, "CoOp": 30, "ProGrad": 30, "KgCoOp": 30,
}  # fmt: skip
# PromptSRC averages its epochs and is still near its start after a test's time: benchmarks/real_sample.sh trains it longer
# CLIPLoRA and BiomedCCPL take many steps through both towers: too long here
LEARNERS = [name for name, cls in methods().items() if cls.learns and name not in ("PromptSRC", "CLIPLoRA", "BiomedCCPL")]

pytestmark = pytest.mark.skipif(
    not (SHARED / "data" / "BTMRI").is_dir(), reason="no ../shared/data/BTMRI: real images are not here"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Methods share what one of them encoded."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.slow
@pytest.mark.parametrize("method", LEARNERS)
def test_every_learner_beats_chance_on_real_mri(method: str, cache: Path, tmp_path: Path) -> None:
    cls = methods()[method]
    words = arguments(
        method, None, SHARED / "data", tmp_path, split="all", backbone="PhantomCLIP", shots=16,
        epochs=EPOCHS.get(method, 10),
        extra=("--config-file", str(REPO / "configs" / "trainers" / method / "few_shot.yaml")),
    )  # fmt: skip
    words += ["FEATURES.ROOT", str(cache), "FEATURES.VIEWS", "2"] if cls.frozen_images else []
    if cls.uses_optimizer:
        settings = HARDER | ({"OPTIM.LR": "0.001"} if method in ADAPTERS else {})
        words += [word for pair in settings.items() for word in pair]
    if "CSC" in cls.defaults() and method not in IMAGE_PROMPTS:
        words += [f"TRAINER.{cls.section}.CSC", "True"]
    assert train.main(words) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    right = round(results["metrics"]["accuracy"] / 100 * results["num_test"])
    assert binomtest(right, results["num_test"], CHANCE / 100, alternative="greater").pvalue < 0.05
