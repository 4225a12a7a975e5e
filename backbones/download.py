"""Fetch a backbone's weights, configuration and tokenizer from the hub, so that runs load it without network.

    python -m backbones.download BiomedCLIP                    # into the hub's cache, where --backbone BiomedCLIP finds it
    python -m backbones.download BiomedCLIP --to weights/bc    # into a folder, for MODEL.BACKBONE.PATH weights/bc

Each file is verified (size; SHA-256 of large ones) and put in place whole; what was cut goes on where it was, at the next call
too. Of weights in several formats the safetensors file is taken. HF_ENDPOINT in the environment names another hub, HF_HOME
another place of its cache, HTTPS_PROXY a proxy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backbones import BACKBONES, check_name
from backbones.biomedclip import HUB as BIOMEDCLIP
from backbones.clip import IDENTIFIER as CLIP
from backbones.open_clip_tower import CONFIG_FILE
from backbones.pmcclip import BERT_HUB
from backbones.pmcclip import HUB as PMC_HUB
from backbones.pubmedclip import HUB as PUBMED_HUB
from dassl.utils import UserError, write_json
from dassl.utils.fetching import ATTEMPTS, alone, fetch
from dassl.utils.sources import TIMEOUT, AbsentError, Remote, SourceError, hub_file, need_space, reachable, reason
from entry import program

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
VOCABULARY = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
BESIDE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class Source:
    """What is wanted of a repository.

    Attributes:
        repository: ``org/repo``.
        files: for each purpose the names that serve it, the preferred one first.
        optional: fetched where they exist, before ``files``: once those are there, so are these.
        repo_type: ``"model"`` or ``"dataset"``.
    """

    repository: str
    files: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    repo_type: str = "model"


@dataclass(frozen=True)
class Place:
    """Where the files go: the hub's cache, or ``folder``; ``timeout`` in seconds and ``attempts`` of a transfer."""

    folder: Path | None = None
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS

    def have(self, source: Source, name: str) -> Path | None:
        """The file, if it is there; only whole ones are."""
        if self.folder is not None:
            path = self.folder / name
            return path if path.is_file() else None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(source.repository, name, repo_type=source.repo_type)
        return Path(found) if isinstance(found, str) else None

    def bring(self, source: Source, name: str) -> None:
        """
        Raises:
            AbsentError: the repository has no such file.
            SourceError: no answer, cut for good, another file than listed.
        """
        remote = hub_file(source.repository, name, source.repo_type, min(self.timeout, 10))
        print(f"{source.repository}: {name}", flush=True)
        if self.folder is not None:
            self._fetch(remote, self.folder / name, self.folder / ".download.lock")
        else:
            self._into_cache(remote, source, name)

    def _into_cache(self, remote: Remote, source: Source, name: str) -> None:
        """The hub library keeps its cache; of large files it finds the blob, which it would not go on with, there already."""
        from huggingface_hub import constants, hf_hub_download

        if remote.sha256:
            repository = f"{source.repo_type}s--{source.repository.replace('/', '--')}"
            cache = Path(constants.HF_HUB_CACHE)
            lock = cache / ".locks" / repository / f"{remote.sha256}.lock"  # the library's own
            self._fetch(remote, cache / repository / "blobs" / remote.sha256, lock)
        try:
            hf_hub_download(source.repository, name, repo_type=source.repo_type)
        except Exception as error:  # the hub library raises a dozen unrelated types
            raise SourceError(reason(error)) from error

    def _fetch(self, remote: Remote, target: Path, lock: Path) -> None:
        with alone(lock, remote.name):
            if not target.exists():  # another process may have brought it meanwhile
                fetch(remote, target, self.timeout, self.attempts, lambda size: need_space(target.parent, size, remote.name))


def sources(name: str, place: Place) -> Iterator[Source]:
    """What a backbone loads, the weights last; the next one may depend on what was fetched of the one before.

    Raises:
        UserError: nothing to fetch for this name.
    """
    if name == "PubMedCLIP":
        yield Source(PUBMED_HUB, (("config.json",), ("tokenizer.json", "vocab.json")), BESIDE)
        yield Source(PUBMED_HUB, (("model.safetensors", "pytorch_model.bin"),))
    elif name.startswith("PMCCLIP"):
        yield Source(BERT_HUB, (("config.json",), ("tokenizer.json", "vocab.txt")), BESIDE)
        parts = ("image_encoder(resnet50)", "text_encoder", "text_projection_layer")
        yield Source(PMC_HUB, tuple((f"{part}.safetensors", f"{part}.pth") for part in parts), repo_type="dataset")
    elif name == "PhantomCLIP":
        raise UserError("PhantomCLIP comes with the project (backbones/weights/phantomclip): there is nothing to fetch")
    elif name.startswith("local-dir:"):
        raise UserError(f"{name} is a folder already: there is nothing to fetch")
    else:
        identifier = _identifier(name)
        if identifier.startswith("hf-hub:"):
            yield from _repository(identifier.removeprefix("hf-hub:"), place)
        else:
            yield from _named(identifier)


def _identifier(name: str) -> str:
    """Of a backbone that open_clip loads: ``hf-hub:org/repo`` or ``MODEL/TAG``."""
    return {"BiomedCLIP": BIOMEDCLIP, "CLIP": CLIP}.get(name, name.removeprefix("open_clip:"))


def _repository(repository: str, place: Place) -> Iterator[Source]:
    """A repository in open_clip's layout, and those that its configuration names."""
    config = Source(repository, ((CONFIG_FILE,),))
    yield config
    path = place.have(config, CONFIG_FILE)
    try:
        yield from _text(json.loads(path.read_text())["model_cfg"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an open_clip config: {error!r}") from error
    yield Source(repository, (WEIGHTS,))


def _named(identifier: str) -> Iterator[Source]:
    """``MODEL/TAG`` of open_clip's own list."""
    config, weights = _listed(identifier)
    repository, _, file = weights.get("hf_hub", "").rpartition("/")
    if not config or not repository or file:
        raise UserError(
            f"open_clip:{identifier} cannot be fetched by this command: open_clip lists no hub repository of it alone"
        )
    yield from _text(config)
    yield Source(repository, (WEIGHTS,))


def _listed(identifier: str) -> tuple[dict, dict]:
    """What open_clip knows of ``MODEL/TAG``: the model's configuration, and where its weights lie; empty where it does not."""
    import open_clip

    model, _, tag = identifier.partition("/")
    return open_clip.get_model_config(model) or {}, open_clip.pretrained.get_pretrained_cfg(model, tag)


def _write_config(identifier: str, folder: Path) -> None:
    """A folder gets the configuration of a model of open_clip's list, which is part of the library."""
    config, weights = _listed(identifier)
    preprocess = {key: weights[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in weights}
    write_json({"model_cfg": config, "preprocess_cfg": preprocess}, str(folder / CONFIG_FILE))


def _text(model_cfg: dict) -> Iterator[Source]:
    """Tokenizer and configuration of a Hugging Face text tower, which lie in its own repository; a native one has none."""
    text = model_cfg["text_cfg"]
    if text.get("hf_tokenizer_name"):
        yield Source(text["hf_tokenizer_name"], (VOCABULARY,), BESIDE)
    if text.get("hf_model_name"):
        yield Source(text["hf_model_name"], (("config.json",),))


def download(name: str, place: Place) -> bool:
    """Have all files of a backbone; whether any had to be fetched.

    Raises:
        UserError: unknown name, a source that does not give a file (with what to do by hand), no room.
    """
    from huggingface_hub import constants

    name, fetched, answers = check_name(name), False, False
    for source in sources(name, place):
        missing = [group for group in source.files if not any(place.have(source, file) for file in group)]
        try:
            if missing and not answers:
                answers = constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT)
                if not answers:
                    raise SourceError(f"{urlsplit(constants.ENDPOINT).hostname} is not reachable")
            for group in missing and [*((file,) for file in source.optional), *missing]:
                fetched = _first(source, group, place, needed=group in missing) or fetched
        except SourceError as error:
            wanted = ", ".join(" or ".join(group) for group in missing)
            raise UserError(
                f"{name}: {source.repository} does not give it ({error}). By hand: get {wanted} in a browser from "
                f"https://huggingface.co/{'datasets/' if source.repo_type == 'dataset' else ''}{source.repository}, put it "
                "into a folder with the others and name that by MODEL.BACKBONE.PATH (docs/DATASETS.md, Local weights)"
            ) from error
    named = name == "CLIP" or name.startswith("open_clip:")
    if named and place.folder is not None and not (place.folder / CONFIG_FILE).is_file():
        _write_config(_identifier(name), place.folder)
    return fetched


def absent(name: str, place: Place) -> list[str]:
    """The files of a backbone that are not there, as far as those that are there tell what it needs; nothing is fetched.

    Raises:
        UserError: unknown name.
    """
    name = check_name(name)
    if name == "PhantomCLIP":
        return []
    for source in sources(name, place):
        missing = [" or ".join(group) for group in source.files if not any(place.have(source, file) for file in group)]
        if missing:
            return [f"{source.repository}: {file}" for file in missing]
    return []


def _first(source: Source, names: tuple[str, ...], place: Place, needed: bool) -> bool:
    """Fetch the first of these files that exists; whether there was one to fetch."""
    if any(place.have(source, name) for name in names):
        return False
    for name in names:
        try:
            place.bring(source, name)
        except AbsentError:
            continue
        return True
    if needed:
        raise SourceError(f"there is no {' or '.join(names)} for everyone")
    return False


@program
def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all there, 2 not."""
    parser = argparse.ArgumentParser(
        prog="python -m backbones.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(name for name in BACKBONES if name != "PhantomCLIP")
    parser.add_argument("name", metavar="BACKBONE", help=f"{known}, open_clip:MODEL/TAG or hf-hub:ORG/REPO")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="a folder in place of the hub's cache")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="S", help="seconds without a byte (%(default)g)")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, metavar="N", help="without progress (%(default)d)")
    args = parser.parse_args(argv)
    folder = args.to.expanduser() if args.to else None
    try:
        if args.timeout <= 0 or args.attempts < 1:
            raise UserError("--timeout must be above 0, --attempts 1 or more")
        fetched = download(args.name, Place(folder, args.timeout, args.attempts))
    except (UserError, OSError) as error:
        print(f"error: {reason(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on there", file=sys.stderr)
        return 130
    print(f"{'' if fetched else 'there already: '}{_use(check_name(args.name), folder)}")
    return 0


def _use(name: str, folder: Path | None) -> str:
    if folder is not None:
        return f"{name} is in {folder}; use it by --backbone {name} MODEL.BACKBONE.PATH {folder}"
    from huggingface_hub import constants

    return f"{name} is in the hub's cache ({constants.HF_HUB_CACHE}); --backbone {name} finds it there, without network too"


if __name__ == "__main__":
    sys.exit(main())
