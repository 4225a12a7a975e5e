"""``python -m datasets.download`` against a server that cuts, stalls, lies and serves other things."""

from __future__ import annotations

import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import gdown
import pytest

import datasets.download as command
from dassl.utils.sources import gigabytes
from datasets import by_key
from tests.conftest import BTMRI_CLASSES, write_dataset
from tests.fake_hub import FakeHub, Served, left, serving, whole, zipped

SPLIT = "split_BTMRI.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """BTMRI.zip as published, small."""
    folder = tmp_path_factory.mktemp("made")
    return zipped(write_dataset(folder / "root", "BTMRI", BTMRI_CLASSES, per_class=6), folder / "BTMRI.zip")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The server in the hub's place; Drive is not reachable."""
    with serving() as server:
        server.replaces_the_hub(monkeypatch)
        monkeypatch.setattr(command, "DRIVE", "http://127.0.0.1:9")
        monkeypatch.setattr("dassl.utils.fetching.WAIT", 0.01)
        yield server


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The command's (exit status, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        status = command.main([*(words or ("btmri",)), "--root", str(tmp_path / "data"), "--timeout", "0.5"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out, said.err

    return call


def test_a_good_archive_twice(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good))
    status, out, _ = run()
    assert status == 0 and whole(tmp_path) and left(tmp_path) == ["BTMRI"]
    assert out.startswith(f"BTMRI: from Hugging Face, {gigabytes(len(good))}\nBTMRI: 24 images (train 12, val 4, test 8) in ")
    assert "warning: BTMRI: the published split" in out
    status, out, _ = run("BTMRI")
    assert status == 0 and out.startswith("BTMRI: there already: 24 images") and served.gets == [0]


def test_published_counts_are_said(hub: FakeHub, good: bytes, run, monkeypatch) -> None:
    monkeypatch.setattr(by_key()["btmri"], "published_sizes", (12, 4, 8))
    hub.dataset("BTMRI", Served(good))
    status, out, _ = run()
    assert (status, out.count("\n")) == (0, 2) and out.rstrip().endswith("as published")


def test_a_cut_is_gone_on_with_in_one_call(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good, cut=2, after=5000))
    status, out, _ = run()
    assert status == 0 and served.gets == [0, 5000, 10000] and whole(tmp_path)
    assert out.count("BTMRI.zip: the connection was cut, at ") == 2 and "going on in" in out


def test_the_next_call_goes_on_where_the_last_was_cut(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good, cut=1, after=7000))
    status, _, err = run("btmri", "--attempts", "1")
    assert status == 2 and "7000 bytes are kept" in err and not (tmp_path / "data" / "BTMRI").exists()
    assert (tmp_path / "data" / ".BTMRI.zip.part").stat().st_size == 7000
    assert run()[0] == 0 and served.gets == [0, 7000] and whole(tmp_path) and left(tmp_path) == ["BTMRI"]


def test_a_transfer_that_was_cut_is_not_begun_anew_on_drive(hub: FakeHub, good: bytes, run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(command, "DRIVE", hub.url)
    monkeypatch.setattr(gdown, "download", lambda **more: pytest.fail("asked"))
    hub.dataset("BTMRI", Served(good, cut=1, after=7000))
    status, _, err = run("btmri", "--attempts", "1")
    assert status == 2 and "the same command goes on there" in err and "By hand" not in err


def test_what_one_source_began_is_cleared_when_another_ends_it(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    hub.dataset("BTMRI", Served(good, cut=1, after=7000))
    assert run("btmri", "--attempts", "1")[0] == 2
    (tmp_path / "data" / ".BTMRI.zip").write_bytes(good)
    assert run("btmri", "--keep")[0] == 0 and left(tmp_path) == ["BTMRI", "BTMRI.zip"]


def test_a_source_that_cannot_go_on_starts_anew(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good, cut=1, after=7000, ranges=False))
    status, out, _ = run()
    assert status == 0 and served.gets == [0, 7000, 0] and "from the start" in out and whole(tmp_path)


def test_another_archive_is_not_glued_to_the_first_bytes_of_one(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    url = f"{hub.url}/mirror"
    hub.plain("BTMRI", Served(b"PK" + b"?" * (len(good) - 2), cut=1, after=7000))
    assert run("btmri", "--attempts", "1", "--source", url)[0] == 2
    served = hub.plain("BTMRI", Served(good, tag='"two"'))
    assert run("btmri", "--source", url)[0] == 0 and served.gets == [7000, 0] and whole(tmp_path)


def test_a_stall_is_told_within_the_timeout(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good, stall=1, after=3000))
    start = time.monotonic()
    status, out, _ = run()
    assert status == 0 and "stalled" in out and served.gets == [0, 3000] and whole(tmp_path)
    assert 0.5 < time.monotonic() - start < 5
    hub.dataset("BUSI", Served(good, stall=9, after=0))
    status, _, err = run("busi", "--attempts", "2")
    assert status == 2 and "stalled: no byte" in err


@pytest.mark.parametrize(
    "lie, said",
    [
        ({"announced": 1000}, "announces 1000 bytes, its listing"),
        ({"listed_size": 500}, "its listing 500"),
        ({"listed_size": 10**6}, "its listing 1000000"),
        ({"listed_hash": "0" * 64}, "another SHA-256 than the listed 000000000000"),
        ({"status": 404}, "answers 404"),
        ({"status": 503}, "answers 503"),
        ({"status": 418}, "answers 418"),
        ({"data": b"<!DOCTYPE html><title>Quota exceeded</title>", "kind": "text/html; charset=utf-8"}, "a web page in place"),
        ({"data": b" <html>quota</html>"}, "a web page in place"),
        ({"data": b"Rar!...."}, "does not begin like such a file"),
    ],
)
def test_lies_and_other_things_are_one_line(lie: dict, said: str, hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    hub.dataset("BTMRI", Served(**{"data": good, **lie}))
    status, out, err = run("btmri", "--attempts", "2")
    assert status == 2 and said in err and err.count("\n") == 1 and left(tmp_path) == []
    assert "put it at" in err and "BTMRI.zip and run the same command again" in err and "drive.google" not in out


def test_more_bytes_than_announced_are_not_taken(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    """A longer body than its Content-Length; and a longer one than the server first said."""
    hub.plain("BTMRI", Served(good + b"x" * 5000, announced=len(good)))
    assert run("btmri", "--source", f"{hub.url}/mirror")[0] == 0 and whole(tmp_path)


def test_a_shorter_body_than_announced_is_a_cut(hub: FakeHub, good: bytes, run) -> None:
    hub.plain("BTMRI", Served(good, announced=len(good) + 5000))
    status, _, err = run("btmri", "--attempts", "2", "--source", f"{hub.url}/mirror")
    assert status == 2 and "cut" in err and err.count("\n") == 1


def test_all_goes_on_and_lists_what_failed(hub: FakeHub, good: bytes, run) -> None:
    hub.dataset("BTMRI", Served(good))
    status, out, err = run("all")
    assert status == 2 and "BTMRI: 24 images" in out
    assert err.count("error: ") == 11 and "10 of 11 datasets are not there: BUSI, CHMNIST" in err


def test_names(run) -> None:
    assert 'Did you mean "retina"' in run("retna")[2]
    assert "mine.yaml is no published dataset" in run("mine.yaml")[2]
    assert [cls.key for cls in command.chosen(["Covid_19", "btmri", "BTMRI"])] == ["covid", "btmri"]
    assert (
        "--timeout must be" in run("btmri", "--attempts", "0")[2]
        and "must begin with http" in run("btmri", "--source", "/a")[2]
    )


def test_without_network_an_archive_put_there_by_hand_is_taken(run, good: bytes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "reachable", lambda url: False)
    status, _, err = run()
    assert status == 2 and "is not reachable" in err and err.count("\n") == 1
    by_hand = tmp_path / "data" / "BTMRI.zip"
    by_hand.write_bytes(good[: len(good) // 2])
    status, _, err = run()
    assert status == 2 and "no whole zip archive" in err and by_hand.is_file()
    by_hand.write_bytes(good)
    status, out, _ = run()
    assert status == 0 and "which was there" in out and whole(tmp_path) and left(tmp_path) == ["BTMRI", "BTMRI.zip"]


def test_drive_where_the_hub_fails(hub: FakeHub, good: bytes, run, tmp_path: Path, monkeypatch) -> None:
    asked = []
    hub.model("TahaKoleilat/BiomedCoOp", Path(__file__).parent, ["__init__.py"], dataset=True)

    def gives(content: bytes):
        def download(id: str, output: str, **more: object) -> str:
            asked.append((id, more["resume"], more["timeout"]))
            more["progress"](0, len(content))
            Path(output).write_bytes(content)
            return output

        return download

    monkeypatch.setattr(command, "DRIVE", hub.url)
    monkeypatch.setattr(gdown, "download", gives(b"<html>Too many users have viewed or downloaded this file</html>"))
    status, out, err = run()
    assert status == 2 and "its quota is used up" in err and left(tmp_path) == []
    assert out.count("\n") == 1 and "Hugging Face does not give it (TahaKoleilat/BiomedCoOp has no BTMRI.zip)" in out

    def refuses(**more: object) -> str:
        raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve\nthe public link")

    monkeypatch.setattr(gdown, "download", refuses)
    assert "Google Drive: Cannot retrieve the public link" in run()[2]
    monkeypatch.setattr(gdown, "download", gives(good))
    status, out, _ = run()
    assert status == 0 and "trying Google Drive" in out and whole(tmp_path) and left(tmp_path) == ["BTMRI"]
    shutil.rmtree(tmp_path / "data" / "BTMRI")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(10))
    assert "needs room for the archive" in run()[2] and left(tmp_path) == []
    assert asked[-1] == (by_key()["btmri"].drive_id, True, 0.5)


def test_a_mirror_that_does_not_answer_is_told_in_plain_words(hub: FakeHub, run) -> None:
    status, _, err = run("btmri", "--source", "http://127.0.0.1:9/x", "--attempts", "1")
    assert status == 2 and "http://127.0.0.1:9/x: no connection to 127.0.0.1 (Connection refused)" in err and "Pool" not in err


def test_gdown_takes_what_it_is_given(hub: FakeHub, tmp_path: Path) -> None:
    """The real gdown knows every argument; without a network it fails with one of the errors that are expected."""
    options = command.Options(tmp_path, timeout=0.5, attempts=1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")
        with pytest.raises(command.SourceError):
            command._from_drive(by_key()["btmri"], tmp_path / ".BTMRI.zip", options)


def test_a_full_disk_is_told_before_anything_is_written(hub: FakeHub, good: bytes, run, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = len(good)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, free))
    served = hub.dataset("BTMRI", Served(good))
    status, _, err = run()
    assert status == 2 and "needs room for the archive" in err and "free; make room" in err and err.count("\n") == 1
    assert left(tmp_path) == [] and served.gets == [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10))
    (tmp_path / "data" / "BTMRI.zip").write_bytes(good)
    assert "has to be unpacked" in run()[2] and left(tmp_path) == ["BTMRI.zip"]


def test_generated_data_is_not_mixed_with_real(hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "REHEARSAL.json").write_text("{}")
    hub.dataset("BTMRI", Served(good))
    assert "holds generated images" in run()[2]


@pytest.mark.parametrize("how", [{"chunked": True}, {"packed": True}])
@pytest.mark.parametrize("cut", [0, 1])
def test_an_answer_of_unknown_length(how: dict, cut: int, hub: FakeHub, good: bytes, run, tmp_path: Path) -> None:
    """In chunks, or packed on the way: the listing's length and hash rule."""
    served = hub.dataset("BTMRI", Served(good, cut=cut, after=7000, **how))
    status, _, err = run()
    assert status == 0 and whole(tmp_path), err
    assert len(served.gets) == 1 + cut + (cut if how.get("packed") else 0)
    hub.plain("BUSI", Served(b"PK" + bytes(20_000), **how))
    assert "is no whole zip archive" in run("busi", "--source", f"{hub.url}/mirror")[2]


def test_large_files_lie_on_another_host_that_learns_no_user(
    hub: FakeHub, good: bytes, run, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    served = hub.dataset("BTMRI", Served(good, cut=1, after=7000, elsewhere=True))
    assert run()[0] == 0 and served.gets == [0, 7000] and whole(tmp_path)
    assert served.users == {("127.0.0.1", "Bearer hf_mine"), ("localhost", "")}
