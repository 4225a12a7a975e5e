"""``python -m backbones.download``: from a server in the hub's place, into the cache or a folder, to a run without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest

import backbones.download as command
from backbones import build_backbone
from backbones.biomedclip import HUB
from backbones.pmcclip import BERT_HUB
from backbones.pmcclip import HUB as PMC_HUB
from backbones.pubmedclip import HUB as PUBMED_HUB
from tests.conftest import REPO, write_tiny_biomedclip
from tests.fake_hub import FakeHub, Served, serving
from tests.tiny_backbones import write_clip, write_pmcclip, write_pubmedclip

BIOMED = HUB.removeprefix("hf-hub:")
CLIP_HUB = "timm/vit_base_patch16_clip_224.openai"
CONFIG, SAFE, PICKLED = "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The server in the hub's place, and an empty cache."""
    from huggingface_hub import constants

    with serving() as server:
        server.replaces_the_hub(monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr("dassl.utils.fetching.WAIT", 0.01)
        yield server


@pytest.fixture
def biomedclip(hub: FakeHub, tmp_path: Path) -> Path:
    """BiomedCLIP as its repositories have it, small: the text tower's configuration and tokenizer lie in another one."""
    local = write_tiny_biomedclip(tmp_path / "tiny")
    served = Path(shutil.copytree(local, tmp_path / "served"))
    config = json.loads((served / CONFIG).read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": BERT_HUB, "hf_tokenizer_name": BERT_HUB}
    (served / CONFIG).write_text(json.dumps(config))
    hub.model(BIOMED, served, [CONFIG, SAFE])
    hub.files[f"/{BIOMED}/resolve/main/{PICKLED}"] = Served(b"not asked for")
    hub.model(BERT_HUB, served, ["config.json", "vocab.txt", "tokenizer_config.json", "tokenizer.json"])
    return local


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = command.main([*words, "--timeout", "0.5"])
    said = capsys.readouterr()
    return status, said.out, said.err


def of(hub: FakeHub, repository: str, name: str) -> Served:
    return hub.files[f"/{repository}/resolve/main/{name}"]


def fingerprint(name: str, path: str, **environment: str) -> str:
    """Of a backbone that another process loads without network."""
    code = f"from backbones import build_backbone; print(build_backbone({name!r}, {path!r}).fingerprint())"
    env = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_biomedclip_into_the_cache_then_without_network(hub: FakeHub, biomedclip: Path, tmp_path: Path, capsys) -> None:
    status, out, _ = run(capsys, "biomedclip")
    assert status == 0 and "--backbone BiomedCLIP finds it there, without network too" in out
    assert of(hub, BIOMED, SAFE).gets == [0] and of(hub, BIOMED, PICKLED).gets == []
    want = build_backbone("BiomedCLIP", str(biomedclip)).fingerprint()
    assert fingerprint("BiomedCLIP", "", HF_HOME=str(tmp_path / "home")) == want
    hub.files.clear()
    status, out, _ = run(capsys, "BiomedCLIP")
    assert status == 0 and out.startswith("there already: BiomedCLIP is in the hub's cache")


def test_biomedclip_into_a_folder(hub: FakeHub, biomedclip: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "weights" / "bc"
    status, out, _ = run(capsys, "BiomedCLIP", "--to", str(folder))
    assert status == 0 and out.endswith(f"use it by --backbone BiomedCLIP MODEL.BACKBONE.PATH {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", CONFIG, SAFE, "tokenizer.json", "tokenizer_config.json", "vocab.txt"]  # fmt: skip
    want = build_backbone("BiomedCLIP", str(biomedclip)).fingerprint()
    assert build_backbone("BiomedCLIP", str(folder)).fingerprint() == want
    hub.files.clear()
    assert run(capsys, "BiomedCLIP", "--to", str(folder))[1].startswith("there already: BiomedCLIP is in ")


@pytest.mark.parametrize("to_folder", [True, False])
def test_a_cut_goes_on_at_the_next_call(to_folder: bool, hub: FakeHub, biomedclip: Path, tmp_path: Path, capsys) -> None:
    weights = of(hub, BIOMED, SAFE)
    weights.cut, weights.after = 1, 4000
    to = ["--to", str(tmp_path / "folder")] if to_folder else []
    status, out, err = run(capsys, "BiomedCLIP", "--attempts", "1", *to)
    assert status == 2 and "4000 bytes are kept" in err and err.count("\n") == 1 and "finds it" not in out
    assert not list(tmp_path.glob(f"folder/{SAFE}")) and not list(tmp_path.rglob(f"snapshots/*/{SAFE}"))
    assert run(capsys, "BiomedCLIP", *to)[0] == 0 and weights.gets == [0, 4000]
    assert of(hub, BIOMED, CONFIG).gets == [0]
    assert not list(tmp_path.rglob("*.part*"))


def test_a_pickled_file_where_there_is_no_other(hub: FakeHub, biomedclip: Path, tmp_path: Path, capsys) -> None:
    del hub.files[f"/{BIOMED}/resolve/main/{SAFE}"]
    assert run(capsys, "BiomedCLIP", "--to", str(tmp_path / "folder"))[0] == 0
    assert (tmp_path / "folder" / PICKLED).read_bytes() == b"not asked for"


@pytest.mark.parametrize(
    "lie, said",
    [
        ({"listed_hash": "0" * 64}, "another SHA-256"),
        ({"announced": 99}, "announces 99 bytes"),
        ({"status": 404}, "there is no open_clip_model.safetensors or open_clip_pytorch_model.bin for everyone"),
        ({"stall": 9, "after": 10}, "stalled"),
    ],
)
def test_lies_are_one_line(lie: dict, said: str, hub: FakeHub, biomedclip: Path, tmp_path: Path, capsys) -> None:
    for name in (SAFE, PICKLED):
        served = of(hub, BIOMED, name)
        for key, value in lie.items():
            setattr(served, key, value)
    status, _, err = run(capsys, "BiomedCLIP", "--attempts", "2", "--to", str(tmp_path / "folder"))
    assert status == 2 and said in err and err.count("\n") == 1 and not (tmp_path / "folder" / SAFE).exists()
    assert f"By hand: get {SAFE} or {PICKLED} in a browser from https://huggingface.co/{BIOMED}" in err


def test_pubmedclip_and_pmcclip(hub: FakeHub, tmp_path: Path, capsys) -> None:
    pubmed, pmc = write_pubmedclip(tmp_path / "pubmed"), write_pmcclip(tmp_path / "pmc")
    hub.model(PUBMED_HUB, pubmed, [path.name for path in pubmed.iterdir()])
    hub.model(BERT_HUB, pmc, ["config.json", "vocab.txt", "tokenizer_config.json", "tokenizer.json"])
    hub.model(PMC_HUB, pmc, [path.name for path in pmc.glob("*.pth")], dataset=True)
    for name, local in (("PubMedCLIP", pubmed), ("PMC-CLIP", pmc)):
        folder = tmp_path / f"fetched {name}"
        assert run(capsys, name, "--to", str(folder))[0] == 0
        want = build_backbone(name, str(local)).fingerprint()
        assert build_backbone(name, str(folder)).fingerprint() == want
        assert run(capsys, name)[0] == 0
        with pytest.MonkeyPatch.context() as offline:
            offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            assert build_backbone(name).fingerprint() == want


def test_a_model_of_open_clip_s_list(hub: FakeHub, tmp_path: Path, capsys, monkeypatch) -> None:
    local = write_clip(tmp_path / "clip")
    hub.model(CLIP_HUB, local, [SAFE])
    config = json.loads((local / CONFIG).read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16-quickgelu", config)  # small, else as it is
    folder = tmp_path / "fetched"
    shutil.copytree(local, tmp_path / "weights alone", ignore=shutil.ignore_patterns("*.json"))
    assert command.absent("CLIP", command.Place(tmp_path / "weights alone")) == []
    assert [path.name for path in (tmp_path / "weights alone").iterdir()] == [SAFE]  # who only asks writes nothing
    assert run(capsys, "CLIP", "--to", str(folder))[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, SAFE]
    assert build_backbone("CLIP", str(folder)).fingerprint() == build_backbone("CLIP", str(local)).fingerprint()
    assert "cannot be fetched by this command" in run(capsys, "open_clip:RN50/nothing")[2]


def test_nothing_to_fetch_and_no_way_there(tmp_path: Path, capsys, monkeypatch) -> None:
    assert "comes with the project" in run(capsys, "PhantomCLIP")[2]
    assert "is a folder already" in run(capsys, "local-dir:/x")[2]
    assert 'Did you mean "BiomedCLIP"' in run(capsys, "BiomedClap")[2]
    assert "--attempts 1 or more" in run(capsys, "CLIP", "--attempts", "0")[2]
    monkeypatch.setattr(command, "reachable", lambda url: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("BiomedCLIP", "CLIP", "PMCCLIP", "PubMedCLIP"):
        status, _, err = run(capsys, name, "--to", str(tmp_path / "folder"))
        assert status == 2 and "is not reachable" in err and err.count("\n") == 1 and not (tmp_path / "folder").exists()
