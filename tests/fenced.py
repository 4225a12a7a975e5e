"""The shell commands that README.md and docs/*.md show, and a folder like a user's checkout to run them in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPO
from tests.own_images import write_yaml

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"bash", "python", "yaml", "json", "diff", "mermaid"}  # one that is not among them may hide a command
# what a reader puts something of his own in place of
PLACEHOLDERS = {
    "GRID…": "smoke", "HOST:6379": "127.0.0.1:6379", "DATA --output OUTPUT": "data --output output", "FOLDER": "weights",
    "output/few_shot/…/seed1": "output/seed1", "output/few_shot/btmri/…/seed1": "output/seed1", "/path/to/": "data/",
    "predict.py RUN": "predict.py output/seed1", "explain RUN": "explain output/seed1", "OUT/gpu.json": "gpu.json",
    "run OUT": "run out", "--out FILE": "--out table.md", "--model NAME": "--model a-model",
    "OPENAI_API_KEY=…": "OPENAI_API_KEY=a",
    "output/tuned/few_shot/BiomedDPT_BiomedCLIP/btmri_shots16_seed1.yaml": "configs/trainers/BiomedDPT/few_shot/btmri.yaml",
}  # fmt: skip
OWN = ("mine.yaml", "my_images.yaml", "here.yaml", "elsewhere.yaml")  # descriptions of images that a reader has
# commands of other people, which do nothing here but be there
OTHERS = ("pip", "ray", "sbatch")
UNTOUCHED = {".git", ".venv", ".venv-lowest", ".gpu", "data", "output", "shared"}
RECORDS = """#!/bin/sh
{ printf '%s\\0' "$@"; printf '\\036\\0'; } >> "$RECORD"
case "$1" in *environment.py) echo "$0" ;; esac
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of shell commands."""

    document: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.document}-{self.number}"

    @property
    def filled(self) -> str:
        """With something in place of each placeholder."""
        text = self.text
        for name, value in PLACEHOLDERS.items():
            text = text.replace(name, value)
        return text


def blocks() -> list[Block]:
    """All blocks of bash in README.md and docs."""
    found = []
    for path in (REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))):
        for number, (language, text) in enumerate(FENCE.findall(path.read_text(encoding="utf-8"))):
            assert language in LANGUAGES, f"{path.name}: a block of {language or 'no language'}"
            if language == "bash":
                found.append(Block(path.name, number, text))
    return found


def checkout(place: Path, python: str) -> Path:
    """A folder with the project's files, own images' descriptions, and ``.venv`` whose python is the text of a script."""
    for path in REPO.iterdir():
        if path.name not in UNTOUCHED and not path.name.startswith("."):
            (place / path.name).symlink_to(path)
    programs = place / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", *OTHERS):
        (programs / name).write_text(python if name == "python" else "#!/bin/sh\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')
    # what setup.sh compares, so that it installs nothing
    wanted = subprocess.run("cat requirements.txt engine/pyproject.toml | cksum", shell=True, cwd=REPO, capture_output=True)
    (place / ".venv" / ".installed").write_bytes(wanted.stdout)
    for name in OWN:
        write_yaml(place / name, FOLDER=str(place / "images"))
    return place


def shell(text: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines as a fresh shell does, which knows nothing but where the system's programs are."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "LANG": os.environ.get("LANG", "C.UTF-8")} | environment
    return subprocess.run(["bash", "-euc", text], cwd=place, env=env, capture_output=True, text=True, timeout=300)


def recorded(block: Block, place: Path) -> list[list[str]]:
    """The arguments of every call of Python that the block's commands make, through the scripts, none of which is run."""
    record = place / f"{block}.record"
    done = shell(f"source .venv/bin/activate\n{block.filled}", place, RECORD=str(record))
    assert done.returncode == 0, f"{block}: {done.stdout[-500:]}{done.stderr[-1500:]}"
    words = record.read_text(encoding="utf-8").split("\0")[:-1] if record.is_file() else []
    calls: list[list[str]] = [[]]
    for word in words:
        if word == "\x1e":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]


def real_python() -> str:
    """The script that stands for the environment's python, and is this one."""
    path = f"{REPO / 'engine'}{os.pathsep}{REPO}"
    return f'#!/bin/sh\nexport PYTHONPATH="{path}" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1\nexec "{sys.executable}" "$@"\n'
