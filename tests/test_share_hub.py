"""Shared runs on the hub: from a server in its place, whole, cut, hostile and absent; and the upload."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import predict
from dassl.utils import UserError
from runs import load_run
from runs.arguments import is_address, run_place
from runs.hub import fetched, split_address
from runs.packed import LIMITS
from share.pack import FILES, pack
from tests.fake_hub import FakeHub, Served, serving
from tests.helpers import arguments
from tests.test_backbone_files import Burglar

pytestmark = pytest.mark.usefixtures("log_off_stdout")

NAME = "org/btmri-coop"
TENSORS = "prompt.safetensors"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The server in the hub's place, and an empty cache."""
    from huggingface_hub import constants

    fetched.cache_clear()
    with serving() as server:
        server.replaces_the_hub(monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        yield server
    fetched.cache_clear()


@pytest.fixture(scope="module")
def run(tiny_biomedclip: Path, btmri_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and tested run."""
    import train

    folder = tmp_path_factory.mktemp("whole")
    assert train.main(arguments("CoOp", tiny_biomedclip, btmri_root, folder, split="all", epochs=1)) == 0
    return folder


@pytest.fixture
def package(run: Path, tmp_path: Path) -> Path:
    return pack(run, tmp_path / "packed", "mit").folder


@pytest.fixture
def image(btmri_root: Path) -> Path:
    return btmri_root / "BTMRI" / "BTMRI" / "glioma_tumor" / "000.png"


def serve(hub: FakeHub, package: Path, **where: str) -> None:
    hub.model(NAME, package, list(FILES), **where)


def refused(run: str | Path, weights: Path | None = None, error: str = "") -> str:
    """The one line that a run is refused with, in Python as on the command line."""
    fetched.cache_clear()
    with pytest.raises(UserError) as told:
        load_run(run, backbone_path=str(weights or ""))
    said = str(told.value)
    assert "\n" not in said and error in said, said
    return said


# -- whole ------------------------------------------------------------------------------------------------


def test_an_address_predicts_as_the_run(hub, run, package, image, tiny_biomedclip, tmp_path, capsys, monkeypatch) -> None:
    serve(hub, package)
    own, shared = tmp_path / "own.json", tmp_path / "shared.json"
    weights = ["--backbone-path", str(tiny_biomedclip)]
    assert predict.main([str(run), str(image), "-o", str(own)]) == 0
    assert predict.main([f"hf://{NAME}", str(image), "-o", str(shared), *weights]) == 0
    assert json.loads(own.read_text())["images"] == json.loads(shared.read_text())["images"]
    assert json.loads(shared.read_text())["run"] == f"hf://{NAME}"
    assert hub.files[f"/{NAME}/resolve/main/README.md"].gets == []  # what is not needed is not asked for
    # and again without the hub, from the cache
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.files.clear()
    fetched.cache_clear()
    assert predict.main([f"hf://{NAME}", str(image), "-o", str(tmp_path / "again.json"), *weights]) == 0
    assert (tmp_path / "again.json").read_text() == shared.read_text()
    assert "error" not in capsys.readouterr().err


def test_all_files_are_of_the_revision_that_was_asked_for(hub, package, tiny_biomedclip, tmp_path) -> None:
    other = Path(shutil.copytree(package, tmp_path / "other"))
    save_file({"ctx": torch.ones_like(load_file(package / TENSORS)["ctx"])}, other / TENSORS)
    serve(hub, package)
    serve(hub, other, revision="v1", commit="a" * 40)
    for revision, folder in (("", package), ("@v1", other), ("@" + "a" * 40, other)):
        trainer = load_run(f"hf://{NAME}{revision}", backbone_path=str(tiny_biomedclip))
        assert torch.equal(trainer.prompt_learner.ctx, load_file(folder / TENSORS)["ctx"])
    assert fetched(f"hf://{NAME}@v1").name == "a" * 40
    assert f"{NAME} has no revision v2" in refused(f"hf://{NAME}@v2")


def test_addresses(tmp_path: Path) -> None:
    assert split_address("hf://org/name") == ("org/name", None)
    assert split_address(Path("hf://org/name@v1.0/rc")) == ("org/name", "v1.0/rc")  # which has lost a slash
    assert is_address("hf://a/b") and not is_address("hf") and run_place("out/seed1") == Path("out/seed1")
    for wrong in ("hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@../c", "hf://a/b c", "hf://a/b@x;y", "hf://"):
        with pytest.raises(UserError, match="no address of a run|no name of a repository"):
            split_address(wrong)


# -- not whole, not there ---------------------------------------------------------------------------------


def test_what_is_not_there(hub, package, image, capsys) -> None:
    assert predict.main(["hf://org/nothing", str(image)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: hf://org/nothing: org/nothing is not there, or not for everyone") and told.count("\n") == 1
    hub.model(NAME, package, ["config.yaml"])
    assert "has no prompt.safetensors; a run there is what python -m share push made" in refused(f"hf://{NAME}")
    hub.files.clear()
    hub.model(NAME, package, ["README.md"])
    assert "has no config.yaml" in refused(f"hf://{NAME}")


def test_results_are_not_needed(hub, package, tiny_biomedclip) -> None:
    hub.model(NAME, package, ["config.yaml", TENSORS])
    assert load_run(f"hf://{NAME}", backbone_path=str(tiny_biomedclip)).classnames[0] == "glioma tumor"


def test_no_network_and_nothing_cached(hub, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot be had" in refused(f"hf://{NAME}")


def test_a_file_that_is_cut_is_not_used(hub, package, tiny_biomedclip) -> None:
    serve(hub, package)
    whole = (package / TENSORS).read_bytes()
    place = f"/{NAME}/resolve/main/{TENSORS}"
    hub.files[place] = Served(whole[:-100], listed_size=len(whole))
    refused(f"hf://{NAME}", tiny_biomedclip, "cannot be had")
    hub.files[place] = Served(whole[:-100])  # cut before it was uploaded
    refused(f"hf://{NAME}", tiny_biomedclip)
    (package / TENSORS).write_bytes(whole[:-100])
    refused(package, tiny_biomedclip, "is no whole safetensors file")
    (package / TENSORS).write_bytes(whole[:5])
    refused(package, tiny_biomedclip, "is no whole safetensors file")


def test_a_file_that_is_too_large_is_not_fetched(hub, package) -> None:
    serve(hub, package)
    served = hub.files[f"/{NAME}/resolve/main/{TENSORS}"]
    served.listed_size = LIMITS[TENSORS] + 1
    assert "its prompt.safetensors has 268 MB, and 268 MB is the most" in refused(f"hf://{NAME}") and served.gets == []
    config = hub.files[f"/{NAME}/resolve/main/config.yaml"]
    config.data, config.gets = b"#" * (LIMITS["config.yaml"] + 1), []
    assert "its config.yaml has" in refused(f"hf://{NAME}") and config.gets == []


def test_a_file_of_another_hash_than_listed_is_thrown_away(hub, package, tiny_biomedclip) -> None:
    serve(hub, package)
    served = hub.files[f"/{NAME}/resolve/main/{TENSORS}"]
    served.listed_hash = "b" * 64
    assert "another SHA-256" in refused(f"hf://{NAME}", tiny_biomedclip)
    served.listed_hash = None
    fetched.cache_clear()
    load_run(f"hf://{NAME}", backbone_path=str(tiny_biomedclip))


# -- hostile ----------------------------------------------------------------------------------------------


def change_config(package: Path, change: Callable[[dict], object]) -> None:
    config = yaml.safe_load((package / "config.yaml").read_text())
    change(config)
    (package / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_pickle_under_that_name_is_not_read(package, tiny_biomedclip, tmp_path) -> None:
    bomb = pickle.dumps({"ctx": Burglar(tmp_path / "been here")})
    torch.save({"state_dict": {"ctx": Burglar(tmp_path / "been here")}}, tmp_path / "saved")
    for data in (bomb, (tmp_path / "saved").read_bytes(), struct.pack("<Q", 1 << 40) + b"{", b"", struct.pack("<Q", 2) + b"[]"):
        (package / TENSORS).write_bytes(data)
        refused(package, tiny_biomedclip, "is no whole safetensors file")
    assert not (tmp_path / "been here").exists()


def test_names_of_files_that_lead_elsewhere_are_never_asked_for(hub, package, tiny_biomedclip, tmp_path) -> None:
    serve(hub, package)
    evil = [Served(b"x") for _ in range(3)]
    for name, served in zip(("../../../evil", "..%2f..%2fevil", "prompt_learner/model.pth.tar-1"), evil, strict=True):
        hub.files[f"/{NAME}/resolve/main/{name}"] = served
    load_run(f"hf://{NAME}", backbone_path=str(tiny_biomedclip))
    assert [served.gets for served in evil] == [[], [], []]
    assert sorted(path.name for path in fetched(f"hf://{NAME}").iterdir()) == ["config.yaml", TENSORS, "results.json"]


@pytest.mark.parametrize("key, value", [("PATH", "/srv/weights"), ("PATH", "weights"), ("NAME", "local-dir:/srv/weights")])
def test_a_backbone_in_a_folder_of_the_packers_is_not_looked_for(key, value, package, tiny_biomedclip) -> None:
    change_config(package, lambda config: config["MODEL"]["BACKBONE"].update({key: value}))
    said = refused(package, error="which is not looked for here: name yours with --backbone-path FOLDER")
    assert value in said
    load_run(package, backbone_path=str(tiny_biomedclip))


def test_places_in_a_strangers_config_are_left_alone(package, tiny_biomedclip, tmp_path) -> None:
    def everywhere(config: dict) -> None:
        config["DATASET"] |= {"ROOT": "/etc", "PROMPTS": "/etc/passwd", "CSV": "/etc/passwd", "FOLDER": "/etc"}
        config["FEATURES"]["ROOT"] = config["OUTPUT_DIR"] = config["RESUME"] = str(tmp_path / "made")
        config["LOGGER"], config["OPTIM"]["NAME"] = "wandb", "nonsense"

    change_config(package, everywhere)
    cfg = load_run(package, backbone_path=str(tiny_biomedclip)).cfg
    assert "/etc" not in cfg.dump() and str(tmp_path / "made") not in cfg.dump() and not (tmp_path / "made").exists()
    assert cfg.OPTIM.NAME == "adam" and cfg.LOGGER == "none"


def test_configs_that_are_none(package, tiny_biomedclip) -> None:
    whole = (package / "config.yaml").read_text()
    bomb = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{b}'] * 8)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text, said in [
        (bomb, "repeats parts of itself"),
        ("!!python/object/apply:os.mkdir [been_here]", "is not a YAML mapping"),
        (whole + "EVIL: 1\n", 'unknown config key "EVIL"'),
        (whole.replace("NAME: CoOp", "NAME: Nothing"), "its method is"),
        ("#" * (LIMITS["config.yaml"] + 1), "more than"),
        ("[" * 5000, "config"),
    ]:
        (package / "config.yaml").write_text(text)
        refused(package, tiny_biomedclip, said)
    assert not Path("been_here").exists()


def test_tensors_that_do_not_fit(package, tiny_biomedclip) -> None:
    (ctx,) = load_file(package / TENSORS).values()
    for tensors, said in [
        ({"ctx": ctx[:-1]}, "ctx has shape"),
        ({"ctx": ctx[None]}, "dimensions"),
        ({"ctx": ctx.double()}, "torch.float64"),
        ({"cty": ctx}, "lacks ctx and has cty: it was not learned by CoOp"),
        ({"ctx": ctx, "more": ctx.clone()}, "has more"),
        ({"../ctx": ctx}, "has ../ctx"),
    ]:
        save_file({name: value.contiguous() for name, value in tensors.items()}, package / TENSORS)
        refused(package, tiny_biomedclip, said)
    save_file({"ctx": torch.full_like(ctx, float("nan"))}, package / TENSORS)
    trainer = load_run(package, backbone_path=str(tiny_biomedclip))
    from runs.inference import probabilities

    with pytest.raises(UserError, match="infinite or NaN"):
        probabilities(trainer, torch.zeros(1, 3, trainer.backbone.image_size, trainer.backbone.image_size))


@pytest.mark.parametrize("text", ["[]", "{", '{"complete": true, "fingerprints": 7, "classnames": 3}', "[" * 100_000])
def test_results_that_are_none(text, package, tiny_biomedclip) -> None:
    (package / "results.json").write_text(text)
    assert load_run(package, backbone_path=str(tiny_biomedclip)).classnames[0] == "glioma tumor"


def test_an_epoch_of_a_shared_run_is_refused(package, tiny_biomedclip) -> None:
    with pytest.raises(UserError, match="leave out --epoch"):
        load_run(package, backbone_path=str(tiny_biomedclip), epoch=1)
