"""A model's files execute nothing, whatever they ask for, and a tokenizer without words is none."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

import predict
import train
from backbones import build_backbone
from backbones.foreign import ForeignCodeError, no_foreign_code
from dassl.utils import UserError
from tests.conftest import write_tiny_biomedclip
from tests.helpers import arguments
from tests.test_backbone_files import Burglar
from tests.tiny_backbones import write_pmcclip, write_pubmedclip

CODE = "from pathlib import Path\nPath({trace!r}).touch()\nclass Evil:\n    pass\n"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A tiny BiomedCLIP whose tokenizer is a Python file of its own, by every key that could lead there."""
    folder = write_tiny_biomedclip(tmp_path / "evil")
    (folder / "evil.py").write_text(CODE.format(trace=str(tmp_path / "been here")))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(folder: Path, name: str = "BiomedCLIP") -> str:
    with pytest.raises(UserError) as told:
        build_backbone(name, str(folder))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_each_key_is_refused_by_file_and_name(evil: Path, tmp_path: Path) -> None:
    said = refused(evil)
    assert f"{evil / 'open_clip_config.json'} asks for code" in said and "text_cfg.tokenizer_kwargs.trust_remote_code" in said
    edit(evil / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].pop("tokenizer_kwargs"))
    assert "tokenizer_config.json asks for code of its own to be run (auto_map)" in refused(evil)
    edit(evil / "tokenizer_config.json", lambda c: [c.pop(key) for key in ("auto_map", "tokenizer_class")])
    edit(evil / "config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}))
    assert "config.json asks for code" in refused(evil)
    edit(evil / "config.json", lambda c: c.pop("auto_map"))
    edit(evil / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"cache_dir": "/"}))
    assert "tokenizer_kwargs.cache_dir" in refused(evil)
    edit(evil / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"clean": "lower"}))
    assert build_backbone("BiomedCLIP", str(evil)).encode_text(["a"]).shape == (1, 32)
    assert not (tmp_path / "been here").exists()


@pytest.mark.parametrize("write, name", [(write_pmcclip, "PMCCLIP"), (write_pubmedclip, "PubMedCLIP")])
def test_other_backbones_folders(write, name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (folder / "evil.py").write_text(CODE.format(trace=str(tmp_path / "been here")))
    edit(folder / "config.json", lambda c: c.update(auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}))
    assert "config.json asks for code" in refused(folder, name) and not (tmp_path / "been here").exists()


def test_where_the_look_sees_nothing_the_library_is_held(evil: Path, tmp_path: Path, monkeypatch) -> None:
    """As for names on a hub, whose files are not looked at before."""
    monkeypatch.setattr("backbones.check_folder", lambda folder: None)
    try:  # the tokenizer's data are there: the library may do with a class of its own
        build_backbone("BiomedCLIP", str(evil))
    except UserError as error:
        assert "could not be loaded" in str(error)
    assert not (tmp_path / "been here").exists()
    from transformers import AutoTokenizer

    with no_foreign_code(), pytest.raises(ForeignCodeError, match="never run"):
        from transformers import dynamic_module_utils

        dynamic_module_utils.get_class_in_module("Evil", evil / "evil.py")
    with no_foreign_code(), suppress(Exception):  # of which kind is the library's affair
        AutoTokenizer.from_pretrained(evil, trust_remote_code=True)
    assert not (tmp_path / "been here").exists()


def test_a_run_that_names_such_a_folder_is_refused(evil: Path, btmri_root: Path, tmp_path: Path, capsys) -> None:
    plain = write_tiny_biomedclip(tmp_path / "plain")
    out = tmp_path / "run"
    assert train.main(arguments("CoOp", plain, btmri_root, out, split="all", epochs=1)) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["MODEL"]["BACKBONE"]["PATH"] = str(evil)
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    image = next(btmri_root.rglob("*.png"))
    assert predict.main([str(out), str(image)]) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and "refused, nothing was executed" in told
    assert train.main(arguments("CoOp", evil, btmri_root, tmp_path / "new", split="all", epochs=1)) == 2
    assert not (tmp_path / "been here").exists() and not (tmp_path / "new" / "results.json").exists()


def test_a_bin_is_tensors_only(tmp_path: Path) -> None:
    folder = write_tiny_biomedclip(tmp_path / "model")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"logit_scale": Burglar(tmp_path / "been here")}}, folder / "open_clip_pytorch_model.bin")
    assert "could not be loaded" in refused(folder) and not (tmp_path / "been here").exists()


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_biomedclip(tmp_path / "model")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    said = refused(folder)
    assert "tokenizer" in said and str(folder) in said
    again = write_tiny_biomedclip(tmp_path / "again")
    (again / "tokenizer.json").unlink()
    (again / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    assert "the tokenizer has 1 words" in refused(again)


def test_a_vocabulary_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_biomedclip(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    words = (folder / "vocab.txt").read_text().rstrip("\n").split("\n")
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    (more / "vocab.txt").write_text("\n".join([*words, *(f"word{n}" for n in range(50))]) + "\n")
    said = refused(more)
    assert "it is another model's" in said and "embeddings for" in said
