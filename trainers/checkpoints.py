"""What was learned, in files: finding a run's checkpoint, and the tensors of one that a learner takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dassl.utils import UserError

LEARNER = "prompt_learner"
BEST = "model-best.pth.tar"


def find_checkpoint(folder: Path, epoch: int | None = None, best: bool = False) -> Path:
    """The checkpoint of ``epoch``, else the one kept as best where ``best`` asks for it, else the last.

    Raises:
        UserError: none of that epoch, or none at all.
    """
    if epoch is None and best and (folder / BEST).is_file():
        return folder / BEST
    saved = {int(p.name.rsplit("-", 1)[1]): p for p in folder.glob("model.pth.tar-*") if p.name[-1].isdigit()}
    if epoch in saved:
        return saved[epoch]
    if epoch is None and saved:
        return saved[max(saved)]
    have = ", ".join(map(str, sorted(saved))) or "none"
    raise UserError(f"no checkpoint{'' if epoch is None else f' of epoch {epoch}'} in {folder} (epochs there: {have})")


def stored_tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the learner's own names.

    Raises:
        UserError: it holds none.
    """
    weights = state.get("state_dict") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} has no tensors by name under state_dict: it was not written by a training")
    return {key.removeprefix("module.").removeprefix(f"{LEARNER}."): value for key, value in weights.items()}


def take_over(learner: nn.Module, stored: dict[str, Tensor], path: Path, method: str) -> None:
    """Load what was learned into ``learner``.

    A released checkpoint holds the rest of its model too, and knows only parameters: buffers then keep their state.

    Raises:
        UserError: tensors are missing, or do not fit this run's classes.
    """
    wanted = learner.state_dict()
    found = {name: stored[name] for name in wanted if name in stored}
    released = bool(set(stored) - set(wanted))
    missing = sorted(set(dict(learner.named_parameters()) if released else wanted) - set(found))
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: it was not written by {method}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"{path}: {name} has shape {tuple(value.shape)}, this run needs {tuple(wanted[name].shape)} "
                "(another backbone, N_CTX, number of shots or set of classes; what is per class fits no new classes)"
            )
    learner.load_state_dict(found, strict=False)
