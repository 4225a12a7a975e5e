"""The criterion of the rehearsal world: accuracies by hand, and what it calls out of tune."""

from __future__ import annotations

import math

import torch

from scripts.phantomclip.evaluate import Measured, accuracy, faults, published_averages

PUBLISHED = {"base": 50.0, "new": 60.0, "probe": 70.0}


def test_accuracy_by_hand() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.6, 0.8]]])  # of two images each of two classes
    assert accuracy(features, torch.eye(2)) == 75
    assert math.isnan(accuracy(features[:1], torch.eye(2)[:1])), "one class is always right"


def test_what_is_out_of_tune_is_named() -> None:
    averages = {"template": 40.0, "ensemble": 41.0, "base": 57.9, "new": 52.1, "probe": 70.0}
    good = {"busi": Measured(40, 41, 58, 52, 90, 33)}
    assert faults(good, averages, PUBLISHED) == []
    assert faults(good, averages | {"base": 58.1}, PUBLISHED) == ["base: 58.1, published 50.0"]
    assert faults(good, averages | {"ensemble": 39.0}, PUBLISHED) == ["ensemble 39.0 below template 40.0"]
    (chance,) = faults({"busi": Measured(40, 41, 58, 52, 36, 33)}, averages, PUBLISHED)
    (perfect,) = faults({"busi": Measured(40, 41, 58, 52, 97.5, 33)}, averages, PUBLISHED)
    assert "busi: the probe is at chance" in chance and "busi: the probe leaves nothing to learn" in perfect


def test_the_published_averages_are_the_papers() -> None:
    assert published_averages() == {"base": 47.84, "new": 65.42, "probe": 68.7}
