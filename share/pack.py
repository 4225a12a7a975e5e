"""The folder of a shared run: what was learned, the config, the results and a card, scrubbed; no image, no image's name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor
from yacs.config import CfgNode

from analysis.results import CONFIG, RESULTS, DamagedRun, read_whole_record
from dassl.utils import UserError, load_checkpoint, require_writable, write_json
from runs.config import default_config, merge_file
from runs.packed import CARD, LIMITS, TENSORS, is_packed
from share.card import card
from share.scrub import Secrets, places_of, secrets, shared_name, shared_settings
from share.siblings import siblings_of
from trainers import methods
from trainers.checkpoints import LEARNER, find_checkpoint, stored_tensors

FILES = (TENSORS, CONFIG, RESULTS, CARD)
# methods whose learned tensors are image features: section -> name
KEEP_FEATURES = {"TIPADAPTER": "Tip-Adapter", "TIPADAPTERF": "Tip-Adapter-F", "PROKER": "ProKeR"}
PRIVATE = ("notes", "files")  # of the results file: they name images, and files that are not shared


@dataclass(frozen=True)
class Packed:
    """A folder that was written, and what its owner should know of it."""

    folder: Path
    notes: list[str]


def pack(run: Path, folder: Path, licence: str = "", repository: str = "", epoch: int | None = None) -> Packed:
    """Write the four files of a finished run into ``folder``, all or none.

    Args:
        run: folder of a trained and tested run.
        folder: new, empty, or one that was packed before.
        licence: of what was learned, by the hub's short name ("mit"); "" says that none was chosen.
        repository: ``ORG/NAME`` where it will be, for the card.
        epoch: of the checkpoint; by default the one that the run tested.

    Raises:
        UserError: no finished run, one that is damaged or learned nothing itself, a folder with something else in it.
    """
    cfg, record = _config(run), _whole_record(run)
    require_packable(run, cfg)
    require_room(folder)
    path = find_checkpoint(run / LEARNER, epoch, best=cfg.TEST.FINAL_MODEL == "best_val")
    tensors = stored_tensors(load_checkpoint(str(path)), path)
    hidden = secrets([run, *places_of(cfg)])
    notes = _notes(cfg, record, hidden)
    if not licence:
        notes.append("no licence is named, and without one nobody may use it: --license mit, cc-by-4.0, …")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        temporary = Path(made) / folder.name
        temporary.mkdir(mode=0o755)
        _write_tensors(temporary / TENSORS, tensors)
        text = yaml.safe_dump(yaml.safe_load(shared_settings(cfg).dump()), allow_unicode=True)
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        shared = _shared_record(record, hidden, temporary)
        write_json(shared, str(temporary / RESULTS))
        text = card(shared, siblings_of(run), licence, repository, learned=sum(t.numel() for t in tensors.values()))
        (temporary / CARD).write_text(text, encoding="utf-8")
        if folder.is_dir():
            for name in FILES:
                os.replace(temporary / name, folder / name)
        else:
            os.rename(temporary, folder)
    return Packed(folder, notes)


def _config(run: Path) -> CfgNode:
    if not (run / CONFIG).is_file():
        raise UserError(f"{run} is not the folder of a run: no {CONFIG} there")
    cfg = default_config()
    merge_file(cfg, str(run / CONFIG))
    return cfg


def _whole_record(run: Path) -> dict[str, Any]:
    """The results of a run whose files are all as they were when it ended; else its folder is named with what is not so."""
    try:
        return read_whole_record(run)
    except DamagedRun as error:
        raise UserError(f"{run}: {error}") from error


def require_packable(run: Path, cfg: CfgNode) -> None:
    """
    Raises:
        UserError: another project's method, one that learns nothing, or a run that only tested what another one learned.
    """
    cls = methods().get(cfg.TRAINER.NAME)
    if cls is None:
        raise UserError(f"{run}: {cfg.TRAINER.NAME} is no method of this project, and nobody could load what it learned")
    if not cls.learns:
        raise UserError(f"{run}: {cfg.TRAINER.NAME} learns nothing, so there is nothing to share but the command that ran it")
    if not (run / LEARNER).is_dir():
        raise UserError(
            f"{run} only tested what another run learned: pack that one (of base-to-new the run in train_base, of "
            "cross-dataset that in few_shot)"
        )


def require_room(folder: Path) -> None:
    """
    Raises:
        UserError: something else than an earlier package lies there, or nothing can be written there.
    """
    require_writable(folder, folder=True)
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if there and not (is_packed(folder) and set(there) <= set(FILES)):
        raise UserError(f"{folder} holds other things ({', '.join(there[:3])}): name a new or an empty folder with -o")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    # one entry of metadata, as the library writes several in an order that changes
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, path, {"format": "pt"})
    if path.stat().st_size > LIMITS[TENSORS]:
        raise UserError(f"what was learned has {path.stat().st_size} bytes: more than {LIMITS[TENSORS]} are not shared")


def _shared_record(record: Mapping[str, Any], hidden: Secrets, folder: Path) -> dict[str, Any]:
    """The results without what names images or places; ``files`` are those of the package."""
    kept = {key: value for key, value in record.items() if key not in PRIVATE}
    kept["backbone"] = shared_name(str(record.get("backbone", "")))
    files = {name: (folder / name).stat().st_size for name in (CONFIG, TENSORS)}
    return hidden.clean(kept) | {"files": files}


def _notes(cfg: CfgNode, record: Mapping[str, Any], hidden: Secrets) -> list[str]:
    """What its owner should know before giving it away."""
    said = []
    own = cfg.DATASET
    for what, text in (
        ("a class name", "\n".join([*own.RUN_CLASSNAMES, *map(str, record.get("classnames", []))])),
        ("the prompt's template", f"{own.TEMPLATE}\n{own.RUN_TEMPLATE}"),
        ("the dataset's title", f"{own.TITLE}\n{record.get('dataset', '')}"),
    ):
        for name in hidden.left_in(text):
            said.append(f'{what} holds "{name}", a name of this machine or account; it stays, as predictions depend on it')
    kept = KEEP_FEATURES.get(methods()[cfg.TRAINER.NAME].section)
    if kept:
        said.append(f"what {kept} keeps are the features of its training images: who may not have these should not have it")
    return said
