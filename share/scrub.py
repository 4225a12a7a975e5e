"""What must not leave the machine: paths, and the names of its user and of itself."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from datasets.config import flat_keys
from runs.config import default_config, section_of
from runs.packed import LOCAL

PLACE, NAME = "<path>", "<name>"
# keys of the config that name places of this machine, or pick files by their names: a shared run has the defaults there
PLACES = (
    "OUTPUT_DIR",
    "RESUME",
    "MODEL.BACKBONE.PATH",
    "MODEL.INIT_WEIGHTS",
    "FEATURES.ROOT",
    "DATASET.ROOT",
    "DATASET.FOLDER",
    "DATASET.CSV",
    "DATASET.PROMPTS",
    "DATASET.GROUP_BY",
    "DATASET.INCLUDE",
    "DATASET.EXCLUDE",
    "DATASET.CLASS_FOLDERS",
)
# account and host names that tell nobody anything, and are words of other texts
ANYBODY = {"root", "user", "users", "home", "admin", "ubuntu", "debian", "runner", "jovyan", "nobody", "localhost", "docker"}
SHORTEST = 3  # characters of a name that is looked for
# an absolute path: a slash, a drive or a tilde where a word begins, and more than one part or a name behind it
ABSOLUTE = re.compile(r"""(?<![\w.:/\\<>~-])(?:~?/(?=[\w.])|~\\|[A-Za-z]:[\\/]|\\\\(?=\w))[^\s'",;()\[\]{}<>|]*""")


@dataclass(frozen=True)
class Secrets:
    """What is looked for in texts.

    Attributes:
        places: paths as they are written, longest first.
        names: of the user, the home folder and the machine.
    """

    places: tuple[str, ...]
    names: tuple[str, ...]

    def without_places(self, text: str) -> str:
        """The text with every absolute path as ``<path>``."""
        for place in self.places:
            text = re.sub(re.escape(place) + r"""[^\s'",;()\[\]{}<>|]*""", PLACE, text)
        return ABSOLUTE.sub(PLACE, text)

    def without_names(self, text: str) -> str:
        """The text with every name as ``<name>``."""
        for name in self.names:
            text = _word(name).sub(NAME, text)
        return text

    def clean(self, value: Any, sentences: bool = False) -> Any:
        """Nested lists and dictionaries without paths, and without names in what the project wrote about files.

        Elsewhere a name is a word like others (an account may be called "test"), and class names are the user's own.
        """
        if isinstance(value, str):
            text = self.without_places(value)
            return self.without_names(text) if sentences else text
        if isinstance(value, Mapping):
            return {
                self.without_places(key): item if key in SAID else self.clean(item, sentences or key in SENTENCES)
                for key, item in value.items()
            }
        return [self.clean(item, sentences) for item in value] if isinstance(value, (list, tuple)) else value

    def left_in(self, text: str) -> list[str]:
        """The names that a text still has."""
        return [name for name in self.names if _word(name).search(text)]


# of the results file: what the user wrote to be read, on which predictions or tables depend
SAID = {"classnames", "classname", "dataset"}
# and what the project says in sentences, which may name files
SENTENCES = {"warnings", "departures", "metric_notes", "changed", "prompts"}


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def secrets(places: Iterable[str | Path] = ()) -> Secrets:
    """Those of this machine and account.

    Args:
        places: paths that are known to stand in the files: the run's folder, those of its config.
    """
    home = Path.home()
    known = {str(home), os.getcwd(), *map(str, places)}
    known |= {os.path.abspath(os.path.expanduser(place)) for place in known if place}
    absolute = sorted((place for place in known if os.path.isabs(place) and len(place) > 1), key=len, reverse=True)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = ""
    host = socket.gethostname()
    names = {user, home.name, host, host.split(".")[0]}
    return Secrets(tuple(absolute), tuple(sorted(n for n in names if len(n) >= SHORTEST and n.lower() not in ANYBODY)))


def shared_settings(cfg: CfgNode) -> CfgNode:
    """The config without what is this machine's, and without the sections of other methods."""
    plain, shared = default_config(), cfg.clone()
    shared.defrost()
    own = section_of(cfg.TRAINER.NAME)
    for section in [name for name in shared.TRAINER if name not in ("NAME", own)]:
        del shared.TRAINER[section]
    for key in flat_keys(shared):
        if key in PLACES or key.startswith("DATASET.CSV_"):
            *sections, leaf = key.split(".")
            source, target = plain, shared
            for section in sections:
                source, target = source[section], target[section]
            target[leaf] = source[leaf]
    shared.MODEL.BACKBONE.NAME = shared_name(cfg.MODEL.BACKBONE.NAME)
    return shared


def shared_name(backbone: str) -> str:
    """The backbone's name; of one that is a folder, the folder's name alone."""
    return LOCAL + Path(backbone.removeprefix(LOCAL)).name if backbone.startswith(LOCAL) else backbone


def places_of(cfg: CfgNode) -> list[str]:
    """The paths that a config names."""
    found = [cfg.MODEL.BACKBONE.NAME.removeprefix(LOCAL)] if cfg.MODEL.BACKBONE.NAME.startswith(LOCAL) else []
    for key in PLACES:
        value: Any = cfg
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found += [value] if isinstance(value, str) and value else []
    return found
