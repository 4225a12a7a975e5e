"""The generator against a local server that answers well, badly, and not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datasets.prompts import check, generate, rules

CLASSES = ("left shadow", "right shadow")
MODEL, KEY = "fake-writer", "sk-a-secret-key"


def sentence(classname: str, number: int) -> str:
    """A sentence that keeps the rules and shares few words with any other."""
    own = [f"{classname[0]}{number}w{index}" for index in range(9)]
    return f"{' '.join(own[:4])} shows the {classname} on MRI {' '.join(own[4:])}."


def entries(classname: str, start: int = 0, stop: int = rules.PER_CLASS) -> list[dict[str, str]]:
    return [
        {"text": sentence(classname, n), "attribute": rules.ATTRIBUTES[n % len(rules.ATTRIBUTES)]} for n in range(start, stop)
    ]


def said(content: Any, **more: Any) -> tuple[int, dict[str, str], bytes]:
    """A completion with this content."""
    message = {"role": "assistant", "content": content} | more
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def answer(*arguments: Any) -> tuple[int, dict[str, str], bytes]:
    return said(json.dumps({"prompts": entries(*arguments)}))


def status(code: int, text: str = "no") -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"error": {"message": text}}).encode()
    return code, {"Content-Type": "application/json", "Retry-After-Ms": "1"}, body


class Server(ThreadingHTTPServer):
    """Gives its ``replies`` in order and keeps the ``questions`` (and headers) that it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, dict[str, str], bytes]] = []
        self.questions: list[str] = []
        self.keys: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions" and asked["model"] == MODEL
        self.server.questions.append(asked["messages"][-1]["content"])
        self.server.keys.append(self.headers["Authorization"])
        code, headers, body = self.server.replies.pop(0) if self.server.replies else status(418, "nothing left to say")
        self.send_response(code)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield running
        running.shutdown()


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., int]:
    """The command for a dataset of two classes; the file is ``tmp_path/out/mine.json``."""
    config = tmp_path / "mine.yaml"
    config.write_text(
        "DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: shadows\n  MODALITY: MRI\n  ORGAN: brain\n"
        f"  CLASSNAMES: {json.dumps(list(CLASSES))}\n"
    )

    def command(*words: str, model: str = MODEL) -> int:
        return generate.main(["--dataset", str(config), "--model", model, "-o", str(tmp_path / "out" / "mine.json"),
                              "--timeout", "5", *words])  # fmt: skip

    return command


def written(tmp_path: Path) -> dict[str, Any]:
    """The file, which is the only one in its folder."""
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.json"]
    return json.loads((tmp_path / "out" / "mine.json").read_text())


def is_good(tmp_path: Path) -> bool:
    return check.main([str(tmp_path / "out" / "mine.json"), "--dataset", str(tmp_path / "mine.yaml")]) == 0


def test_good_answers_become_a_file_that_passes_the_check(server, call, tmp_path) -> None:
    server.replies = [answer(name) for name in CLASSES]
    assert call("--licence", "CC0-1.0") == 0
    record = written(tmp_path)
    assert record["prompts"] == {name: entries(name) for name in CLASSES}
    assert (record["language_model"], record["licence"]) == (MODEL, "CC0-1.0")
    assert record["instruction"] == rules.INSTRUCTION and is_good(tmp_path)
    filled = {"modality": "MRI", "class": "left shadow", "organ": "brain", "others": "right shadow"}
    assert server.questions[0].startswith(rules.INSTRUCTION.format(**filled))
    assert server.keys == [f"Bearer {KEY}"] * 2


def test_bad_answers_are_asked_again_and_leave_nothing_behind(server, call, tmp_path, capsys) -> None:
    left, right = CLASSES
    faulty = [
        {"text": "Too short for the left shadow on MRI.", "attribute": "shape"},
        {"text": sentence(left, 90).replace("left shadow", "lift shadow"), "attribute": "shape"},
        {"text": sentence(left, 91).replace("MRI", "film"), "attribute": "shape"},
        {"text": sentence(left, 92).replace("shows", "may show"), "attribute": "shape"},
        {"text": sentence(left, 93).replace("shows", "in patients shows"), "attribute": "shape"},
        {"text": sentence(left, 94), "attribute": "mood"},
        {"text": sentence(left, 0), "attribute": "shape"},
        {"text": sentence(left, 1).replace("w0", "z0").upper().replace("LEFT SHADOW", left), "attribute": "shape"},
    ]
    fenced = "Certainly! Here they are:\n```json\n" + json.dumps(entries(left, 0, 20)) + "\n```\nAnything else?"
    cut_off = json.dumps({"prompts": entries(left, 20, 40)})[:-30]
    html = 200, {"Content-Type": "text/html"}, b"<html>maintenance</html>"
    server.replies = [
        said("I would rather talk about the weather."),
        said(None, refusal="I cannot help with medical images."),
        said(fenced),
        said("", tool_calls=None),
        html,
        said(cut_off),
        said(json.dumps({"prompts": faulty})),
        status(429),
        status(500),
        answer(left, 39, 50),
        said(json.dumps({"prompts": [entries(left)[0]] * 50})),
        said(json.dumps([entries(right)[0]] * 50)),
        answer(right),
    ]
    assert call() == 0 and not server.replies
    record = written(tmp_path)
    assert {entry["text"] for entry in record["prompts"][left]} == {sentence(left, n) for n in range(50)}
    assert {entry["text"] for entry in record["prompts"][right]} == {sentence(right, n) for n in range(50)}
    assert is_good(tmp_path)
    told = capsys.readouterr().err
    for reason in ("refused: I cannot help", "no JSON with sentences", "an empty answer", "no chat completion",
                   "near-duplicate", "8 words instead"):  # fmt: skip
        assert reason in told, reason
    third = server.questions[3]
    assert "Of the 50 sentences 20 are written. Write the other 30" in third and sentence(left, 19) in third


def test_what_was_accepted_is_kept_and_the_same_command_goes_on(server, call, tmp_path, capsys) -> None:
    refusal = said("As a language model I must decline.")
    server.replies = [answer(CLASSES[0], 0, 30), refusal, refusal]
    assert call("--patience", "2") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ") and "nothing usable" in told and "left shadow" in told
    assert written(tmp_path)["prompts"]["left shadow"] == entries("left shadow", 0, 30)
    server.replies = [answer(CLASSES[0], 25, 50), answer(CLASSES[1])]
    assert call() == 0
    assert written(tmp_path)["prompts"]["left shadow"] == entries("left shadow")
    assert len(server.questions) == 5


def test_good_prompts_are_never_overwritten(server, call, tmp_path, capsys) -> None:
    path = tmp_path / "out" / "mine.json"
    server.replies = [answer(name) for name in CLASSES]
    assert call() == 0
    whole = path.read_bytes()
    assert call() == 0 and call(model="another") == 0
    assert path.read_bytes() == whole and len(server.questions) == 2
    assert "nothing asked" in capsys.readouterr().out

    record = json.loads(whole)
    record["prompts"]["right shadow"][7]["text"] = "This is broken."
    path.write_text(json.dumps(record))
    before = path.read_bytes()
    assert call(model="another") == 2 and path.read_bytes() == before
    assert f"unfinished prompts by {MODEL}" in capsys.readouterr().err
    server.replies = [answer("right shadow", 50, 52)]
    assert call() == 0
    mended = json.loads(path.read_text())["prompts"]
    assert mended["left shadow"] == entries("left shadow")
    others = entries("right shadow")
    assert mended["right shadow"][:49] == others[:7] + others[8:]
    assert mended["right shadow"][49]["text"] == sentence("right shadow", 50)


@pytest.mark.parametrize("content", ["{", '{"prompts": {"a": [1]}}', '{"dataset": "BTMRI", "prompts": {"a": ["b"]}}'])
def test_a_file_that_is_something_else_is_left_alone(content, server, call, tmp_path, capsys) -> None:
    path = tmp_path / "out" / "mine.json"
    path.parent.mkdir()
    path.write_text(content)
    assert call() == 2 and path.read_text() == content and not server.questions
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    "replies, words, what",
    [
        ([status(401, f"Incorrect API key provided: {KEY}")], (), "refuses the key in OPENAI_API_KEY"),
        ([status(404)], (), f'knows no model "{MODEL}"'),
        ([status(500)] * 3, ("--retries", "2"), "run the same command again"),
        ([status(400, "context too long")], (), "context too long"),
    ],
)
def test_a_failing_endpoint_is_one_clear_line(replies, words, what, server, call, tmp_path, capsys) -> None:
    server.replies = list(replies)
    assert call(*words) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ") and what in told and KEY not in told
    assert len(server.questions) == len(replies) and not (tmp_path / "out").exists()


def test_no_key_and_no_server(server, call, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert call("--retries", "0") == 2
    assert "127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.delenv("OPENAI_API_KEY")
    assert call() == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_a_published_dataset_is_complete_already(server, capsys) -> None:
    assert generate.main(["--dataset", "btmri", "--model", MODEL]) == 0
    assert "nothing asked" in capsys.readouterr().out and not server.questions
