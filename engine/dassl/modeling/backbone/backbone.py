"""What a feature extractor offers."""

from torch import nn


class Backbone(nn.Module):
    """A module that turns images (B, 3, H, W) into features (B, ``out_features``); a subclass sets ``_out_features``."""

    @property
    def out_features(self) -> int | None:
        return self.__dict__.get("_out_features")
