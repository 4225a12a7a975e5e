"""Building a trainer, for the first time in its process."""

from __future__ import annotations

from typing import Any

from benchmarks.setting import Setting
from benchmarks.units import build, config, mode_context, need_data, timed


def build_once(setting: Setting, mode: str, store: str) -> dict[str, Any]:
    """Seconds of building BiomedDPT on btmri's base classes, with the features stored in the folder ``store``."""
    need_data(setting, "btmri")
    with mode_context(mode):
        run = setting.folder("runs") / "build"
        cfg = config(setting, "BiomedDPT", "btmri", "base", run, FEATURES__ROOT=setting.folder(store))
        return {"build_s": timed(lambda: build(cfg))}
