"""The part of the hub's API that takes uploads, and keeps what it got."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Uploads:
    """What was sent to the hub's API.

    Attributes:
        refuses: paths of the API (a part of them suffices) that answer with this status.
        repositories: what was asked for when each was made.
        commits: of each repository, its commits' files by name.
    """

    refuses: dict[str, int] = field(default_factory=dict)
    repositories: list[dict[str, Any]] = field(default_factory=list)
    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """To a POST."""
        if path.endswith("/repos/create"):
            self.repositories.append(json.loads(body))
            return {"url": f"https://huggingface.co/{self.repositories[-1]['organization']}/{self.repositories[-1]['name']}"}
        if "/preupload/" in path:
            files = [one["path"] for one in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]}
        if "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            kept = {one["value"]["path"]: b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"}
            repository = path.split("/commit/")[0].removeprefix("/api/models/")
            self.commits.setdefault(repository, []).append(kept)
            return {"commitUrl": f"https://huggingface.co/{repository}/commit/{'2' * 40}", "commitOid": "2" * 40}
        return {}  # the card's YAML is valid
