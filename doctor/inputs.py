"""What runs load from outside the project: the hub, backbones' weights, datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from doctor.findings import FAIL, OK, WARN, Asked, Finding


def check_names(asked: Asked) -> None:
    """
    Raises:
        UserError: no such dataset or backbone.
    """
    from backbones import check_name
    from datasets import of_name

    for name in asked.datasets:
        if not name.endswith((".yaml", ".yml")):
            of_name(name)
    if asked.backbone:
        check_name(asked.backbone)


def hub(_: Asked) -> Iterator[Finding]:
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    from dassl.utils.sources import reachable

    host = urlsplit(constants.ENDPOINT).hostname
    if constants.HF_HUB_OFFLINE:
        yield Finding(WARN, "hub", "HF_HUB_OFFLINE is set: only what is in its cache can be loaded", "unset HF_HUB_OFFLINE")
    elif reachable(constants.ENDPOINT):
        yield Finding(OK, "hub", f"{host} is reachable")
    else:
        mend = "docs/DATASETS.md, Local weights; HTTPS_PROXY names a proxy, HF_ENDPOINT another hub"
        yield Finding(WARN, "hub", f"{host} is not reachable: what is not in its cache cannot be loaded", mend)


def weights(asked: Asked) -> Iterator[Finding]:
    from backbones import check_name
    from backbones.download import Place, absent

    folder = Path(asked.backbone_path).expanduser() if asked.backbone_path else None
    for name in [check_name(asked.backbone)] if asked.backbone else ["PhantomCLIP", "BiomedCLIP", "CLIP"]:
        lacking = absent(name, Place(folder))
        where = folder or ("the project" if name == "PhantomCLIP" else "the hub's cache")
        if not lacking:
            yield Finding(OK, name, f"its files are in {where}")
            continue
        state = FAIL if asked.backbone else WARN
        to = f" --to {folder}" if folder else ""
        mend = f"python -m backbones.download {name}{to}; or rehearse with --backbone PhantomCLIP"
        yield Finding(state, name, f"{', '.join(lacking)} is not in {where}", mend)


def data(asked: Asked) -> Iterator[Finding]:
    from datasets import by_key, of_name
    from datasets.archives import report

    root = asked.root.expanduser()
    known = by_key()
    for name in asked.datasets or sorted(known):
        if name.endswith((".yaml", ".yml")):
            yield _own_images(name, root)
            continue
        cls = of_name(name)
        if not (root / cls.dataset_dir / cls.dataset_dir).is_dir():
            said = f"not in {root}"
            mend = f"python -m datasets.download {cls.key} --root {root}"
            yield Finding(FAIL if asked.datasets else WARN, cls.key, said, mend)
            continue
        again = f"if it should be the published one: move {root / cls.dataset_dir} away, python -m datasets.download {cls.key}"
        yield _tried(cls.key, lambda cls=cls: report(root, cls), again)


def _own_images(name: str, root: Path) -> Finding:
    from dassl.data.datasets import DATASET_REGISTRY
    from datasets.check.__main__ import config_of
    from datasets.splits import PARTS

    def counted() -> tuple[str, list[str]]:
        cfg = config_of(name, str(root), ())
        dataset, split = DATASET_REGISTRY.get(cfg.DATASET.NAME).opened(cfg)
        parts = ", ".join(f"{part} {len(split[part])}" for part in PARTS)
        return f"{sum(map(len, split.values()))} images ({parts}) in {dataset.image_folder}", []

    return _tried(Path(name).stem, counted)


def _tried(what: str, look: Callable[[], tuple[str, list[str]]], mend: str = "") -> Finding:
    """What ``look`` says of a dataset, with its notes, for which there is a ``mend``; or why it cannot be read."""
    from dassl.utils import UserError

    try:
        said, notes = look()
    except UserError as error:  # which says what to do
        return Finding(FAIL, what, str(error))
    return Finding(WARN, what, "; ".join([said, *notes]), mend) if notes else Finding(OK, what, said)
