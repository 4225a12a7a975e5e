"""What the report page unpacks only when it is asked for: gzip in base64, which a browser reads without a network."""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from typing import Any


def as_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def packed(text: str) -> str:
    """A text as base64 of gzip, the same each time; a character that is no UTF-8 becomes "?"."""
    raw = text.encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(raw, compresslevel=9, mtime=0)).decode()


def unpacked(text: str) -> str:
    """What :func:`packed` packed."""
    return gzip.decompress(base64.b64decode(text)).decode("utf-8")


def block(name: str, text: str) -> str:
    """A script element that no browser runs, with a packed text."""
    return f'<script type="text/plain" data-packed="gzip" id="{escape(name)}">{packed(text)}</script>'
