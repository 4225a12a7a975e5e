"""Every shell command that README.md and docs/*.md show can be called as it is printed, from a fresh shell."""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import train
from tests.conftest import REPO
from tests.fenced import OWN, PLACEHOLDERS, RECORDS, Block, blocks, checkout, real_python, recorded, shell
from tests.synthetic_runs import write_run

# run to the letter by tests of their own, line after line on the files that they make
TO_THE_LETTER = {"EXTENDING.md": "test_extending.py", "OWN_IMAGES.md": "test_own_images_doc.py"}
OTHER_MODULES = {"ruff", "pytest", "pip"}
# what is really run, on runs that the test made; the rest trains, draws, downloads or needs data
CHEAP = re.compile(r"^python (parse_results\.py output (?!--task cross)|-m sweep grids)")
BLOCKS = blocks()
RECORDED = [block for block in BLOCKS if block.document not in TO_THE_LETTER]


class Parsed(BaseException):
    """The program took its arguments. Not an Exception: no program may handle it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose python only records how it was called."""
    return checkout(tmp_path_factory.mktemp("checkout"), RECORDS)


def accepted(words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace | None:
    """What the program that ``python WORDS`` starts makes of its arguments; it is stopped then."""
    taken, taken_intermixed = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_intermixed_args

    def parse(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> argparse.Namespace:
        raise Parsed(taken(self, *args, **kwargs))

    def parse_intermixed(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> argparse.Namespace:
        raise Parsed(taken_intermixed(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_intermixed_args", parse_intermixed)
    module = words[0] == "-m"
    monkeypatch.setattr(sys, "argv", words[module:])
    try:
        if module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except Parsed as parsed:
        return parsed.args[0]
    except SystemExit as ended:
        raise AssertionError(f"{' '.join(words)}: ended with {ended.code}") from ended
    raise AssertionError(f"{' '.join(words)}: takes no arguments by argparse")


def test_there_are_commands_and_every_placeholder_is_one() -> None:
    text = "".join(block.text for block in BLOCKS)
    assert len(BLOCKS) > 25 and {block.document for block in BLOCKS} >= {"README.md", "TABLES.md", *TO_THE_LETTER}
    assert [name for name in PLACEHOLDERS if name not in text] == []
    left = "".join(block.filled for block in RECORDED)
    assert re.findall(r"\S*…\S*", re.sub(r"#.*", "", left)) == []


def test_the_first_block_and_the_setup_say_how_python_is_found(place: Path) -> None:
    first = BLOCKS[0]
    assert first.document == "README.md" and "\nsource .venv/bin/activate" in first.text
    done = shell("bash scripts/setup.sh", place)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "source .venv/bin/activate"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_bash_can_read_it(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if block.document != "EXTENDING.md":  # which makes some
        for script in re.findall(r"\b(?:scripts|benchmarks)/\S+\.(?:sh|sbatch)\b", block.text):
            assert (REPO / script).is_file(), script


@pytest.mark.parametrize("block", RECORDED, ids=str)
def test_the_programs_take_these_arguments(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(block, place)
    monkeypatch.chdir(place)
    named = [line for line in block.text.splitlines() if re.match(r"(\w+=\S+ )*(python|bash) ", line)]
    assert len(calls) >= len(named)
    for words in calls:
        if words[0] == "-m" and words[1] in OTHER_MODULES:
            continue
        with monkeypatch.context() as patched:
            accepted(words, patched)
        if words[0].endswith("train.py"):
            args = train.parse_arguments(words[1:])
            if not args.list_methods and not args.from_results:
                assert train.setup_cfg(args).is_frozen()  # the keys behind "--" too


@pytest.mark.parametrize("words", [["parse_results.py", "output", "--no-such"], ["-m", "sweep", "status"]], ids=" ".join)
def test_wrong_arguments_are_noticed(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(AssertionError, match="ended with 2"):
        accepted(words, monkeypatch)


@pytest.mark.parametrize("document", TO_THE_LETTER)
def test_the_other_documents_are_run_to_the_letter(document: str) -> None:
    assert f'"{document}"' in (REPO / "tests" / TO_THE_LETTER[document]).read_text()


def cheap() -> list[str]:
    lines = (line for block in RECORDED for line in block.filled.splitlines() if CHEAP.match(line))
    return list(dict.fromkeys(re.sub(r"\s+#.*", "", line) for line in lines))


def test_the_cheap_ones_run_from_a_fresh_shell(tmp_path: Path) -> None:
    place = checkout(tmp_path, real_python())
    for method in ("CoOp", "BiomedDPT"):
        for split in ("all", "base", "new"):
            for seed in (1, 2, 3):
                write_run(place / "output", method, split=split, seed=seed, accuracy=60 + seed)
    commands = cheap()
    assert len(commands) >= 6
    mark = "=== ended"
    lines = "".join(f"{command}\necho '{mark}'\n" for command in commands)
    before = {path.name for path in REPO.iterdir()}
    done = shell(f"source .venv/bin/activate\n{lines}", place)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-2000:]
    for command, said in zip(commands, done.stdout.split(mark), strict=False):
        assert said.strip(), command
    assert {path.name for path in REPO.iterdir()} == before and all((place / name).is_file() for name in OWN)
