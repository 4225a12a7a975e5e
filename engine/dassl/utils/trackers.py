"""Where a training's scalars go: TensorBoard, Weights & Biases, Trackio, or nowhere. The one place that knows their packages.

Upstream writes TensorBoard's file and nothing else, which stays the default. A tracker has TensorBoard's ``add_scalar`` and
``close``. Trackers are other people's servers, or can be: of the config they get settings, never places or files' names.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from dassl.utils.errors import MissingFileError, SettingError
from dassl.utils.tools import check_availability, mkdir_if_missing

log = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "wandb", "trackio", "none")
DEFAULT = "tensorboard"
PROJECT = "biomed-dpt"
PARTS = ("train", "val", "test")  # what tags begin with; each counts steps (or epochs) of its own
# sections and keys of a config that say how a run is done, and last words of keys that say where things lie
SETTINGS = ("SEED", "INPUT.", "DATASET.", "MODEL.", "OPTIM.", "TRAIN.", "TRAINER.", "DATALOADER.TRAIN_X.", "FEATURES.")
PLACES = {"ROOT", "FOLDER", "PATH", "CSV", "PROMPTS", "GROUP_BY", "INCLUDE", "EXCLUDE", "CLASS_FOLDERS", "INIT_WEIGHTS"}
# of itself wandb sends the log, the command line with its paths, the checkout and the machine's name
UNSEEN = {
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
}


class Tracker(Protocol):
    """What takes the scalars of one training."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Keep a value; ``tag`` is ``train/…``, ``val/…`` or ``test/…``."""

    def close(self) -> None:
        """Nothing more comes."""


def require_tracker(name: str) -> None:
    """Whether a tracker can be had, before any work is done.

    Raises:
        UnknownNameError: there is none of that name.
        MissingFileError: its package is not installed. For the default there is a warning when it opens.
    """
    check_availability(name, TRACKERS, "LOGGER")
    if name in ("wandb", "trackio") and find_spec(name) is None:
        raise MissingFileError(f"LOGGER is {name}, and the package {name} is not installed: pip install {name}")


def open_tracker(name: str, folder: str, about: Mapping[str, Any] | None = None, title: str = "") -> Tracker | None:
    """Open a tracker for one training; ``None`` for none, and where TensorBoard is not installed.

    Args:
        folder: for what a tracker keeps on disk.
        about: settings, flat.
        title: the run's name among others.

    Raises:
        SettingError: the tracker refuses to start (no login, say).
    """
    if name == "none":
        return None
    if name == "tensorboard":
        return _tensorboard(folder)
    require_tracker(name)
    log.info("Initialize %s", name)
    try:
        return (_Wandb if name == "wandb" else _Trackio)(folder, dict(about or {}), title)
    except Exception as error:  # both raise types of their own
        said = " ".join(str(error).split())[:160] or type(error).__name__
        mend = "wandb login once, or set WANDB_MODE=offline" if name == "wandb" else "see its documentation, or LOGGER none"
        raise SettingError(f"LOGGER is {name}, and it does not start ({said}): {mend}") from error


def _tensorboard(folder: str) -> Tracker | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("TensorBoard is not installed: no scalars are written (pip install tensorboard)")
        return None
    log.info("Initialize tensorboard (log_dir=%s)", folder)
    mkdir_if_missing(folder)
    return SummaryWriter(log_dir=folder)


def settings_of(cfg: Mapping[str, Any], method: str = "") -> dict[str, Any]:
    """What a tracker is told of a config: settings, flat, with those of this ``method``'s section; no place, no file's name."""
    found = {}
    for key, value in _flat(cfg):
        last = key.rpartition(".")[2]
        other = key.startswith("TRAINER.") and not key.startswith(("TRAINER.NAME", f"TRAINER.{method}."))
        if key.startswith(SETTINGS) and last not in PLACES and not last.startswith("CSV_") and not other:
            found[key] = list(value) if isinstance(value, tuple) else value
    # a backbone may be named by its folder
    name = str(found.get("MODEL.BACKBONE.NAME", ""))
    return found | ({"MODEL.BACKBONE.NAME": "local-dir"} if name.startswith("local-dir:") else {})


def title_of(cfg: Mapping[str, Any]) -> str:
    """A run's name among others: ``CoOp_BiomedCLIP BTMRI all 16 shots seed 1``."""
    data, backbone = cfg["DATASET"], str(cfg["MODEL"]["BACKBONE"]["NAME"]).partition(":")
    model = backbone[0] if backbone[0] == "local-dir" else "".join(backbone)
    part = data.get("SUBSAMPLE_CLASSES", "")
    words = [f"{cfg['TRAINER']['NAME']}_{model}", data.get("TITLE") or data["NAME"], part, f"{data['NUM_SHOTS']} shots"]
    return " ".join(word for word in [*words, f"seed {cfg['SEED']}"] if word)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class _Rows:
    """Scalars of one step go together as a row, with the step's number under the tag's own part (``train/step``).

    Their own step cannot be used: it must never go back, and ours counts steps in training and epochs in tests.
    """

    def __init__(self) -> None:
        self._at: tuple[str, int | None] | None = None
        self._row: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        part = tag.partition("/")[0]
        if (part, global_step) != self._at or tag in self._row:
            self._flush()
            self._at = part, global_step
        self._row[tag] = float(scalar_value)

    def close(self) -> None:
        self._flush()
        self._end()

    def _flush(self) -> None:
        if self._at is not None and self._row:
            part, step = self._at
            self._send(self._row | ({} if step is None else {f"{part}/step": step}))
        self._row = {}

    def _send(self, row: dict[str, float]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class _Wandb(_Rows):
    """Weights & Biases; WANDB_MODE, WANDB_PROJECT and its other variables hold. Its files are in ``folder``."""

    def __init__(self, folder: str, about: dict[str, Any], title: str) -> None:
        import wandb

        super().__init__()
        mkdir_if_missing(folder)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=title,
            dir=folder,
            config=about,
            reinit="create_new",  # seeds that are trained together have a run each, in one process
            settings=dict(UNSEEN),
        )
        for part in PARTS:
            self._run.define_metric(f"{part}/*", step_metric=f"{part}/step")

    def _send(self, row: dict[str, float]) -> None:
        self._run.log(row)

    def _end(self) -> None:
        self._run.finish()


class _Trackio(_Rows):
    """Trackio, which keeps its runs in a folder of the user's cache (TRACKIO_DIR names another)."""

    def __init__(self, folder: str, about: dict[str, Any], title: str) -> None:
        import trackio

        super().__init__()
        self._run = trackio.init(project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=title, config=about)

    def _send(self, row: dict[str, float]) -> None:
        self._run.log(row)

    def _end(self) -> None:
        self._run.finish()
