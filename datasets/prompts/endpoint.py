"""Asking an OpenAI-compatible endpoint for sentences, and reading whatever it answers."""

from __future__ import annotations

import json
import os
from typing import Any

from dassl.utils import UserError

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
MAX_ANSWER = 1_000_000  # characters; a longer answer is no list of sentences
SHOWN = 80


class BadAnswer(Exception):
    """An answer without usable sentences; the message says why."""


class Endpoint:
    """A chat model behind an OpenAI-compatible endpoint, with the maintained ``openai`` client.

    The client itself retries what may pass (connection errors, timeouts, 408, 409, 429, 5xx) with exponential back-off
    or after the time that the server asks for.

    Args:
        model: the model's name at the endpoint.
        retries: how often a failed request is sent again.
        timeout: seconds for one request.

    Raises:
        UserError: the client is not installed, or no key in the environment.
    """

    def __init__(self, model: str, *, retries: int = 6, timeout: float = 120.0) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError("generating prompts needs the openai client: pip install openai") from error
        if not os.environ.get(KEY):
            raise UserError(f"{KEY} is not set (an endpoint that needs no key takes any word); {URL} names the endpoint")
        self.model = model
        self._openai = openai
        self._client = openai.OpenAI(max_retries=retries, timeout=timeout)
        self.url = str(self._client.base_url)

    def ask(self, question: str) -> list[dict[str, str]]:
        """Sentences with their attributes, as the model gave them.

        Raises:
            BadAnswer: a refusal, or no JSON with sentences in the answer.
            UserError: the endpoint refuses the key, does not know the model, or keeps failing.
        """
        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": question}]
            )
        except self._openai.OpenAIError as error:
            raise UserError(self._explain(error)) from error
        except ValueError as error:  # a success whose body is no JSON
            raise BadAnswer(f"the endpoint's reply is no JSON ({error})") from error
        return sentences_in(_content(completion))

    def _explain(self, error: Exception) -> str:
        kept = "what was accepted so far is kept: run the same command again to go on"
        if isinstance(error, (self._openai.AuthenticationError, self._openai.PermissionDeniedError)):
            return f"{self.url} refuses the key in {KEY}"  # servers echo parts of the key: their words are not shown
        if isinstance(error, self._openai.NotFoundError):
            return f'{self.url} knows no model "{self.model}" (or is no OpenAI-compatible endpoint): see {URL} and --model'
        said = " ".join(str(error).split())[: 2 * SHOWN]
        return f"{self.url} failed ({type(error).__name__}: {said}); {kept}"


def _content(completion: Any) -> str:
    """The text of a completion, whatever a server left out of it."""
    choices = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    if message is None:
        raise BadAnswer("the endpoint's reply is no chat completion")
    refusal, content = getattr(message, "refusal", None), getattr(message, "content", None)
    if refusal:
        raise BadAnswer(f"refused: {_short(refusal)}")
    if not isinstance(content, str) or not content.strip():
        raise BadAnswer("an empty answer")
    return content


def sentences_in(answer: str) -> list[dict[str, str]]:
    """Every ``{"text": …, "attribute": …}`` in an answer, in a code fence, between words, or cut off half-way.

    Raises:
        BadAnswer: there is none.
    """
    if len(answer) > MAX_ANSWER:
        raise BadAnswer(f"an answer of {len(answer)} characters")
    decoder, found, position = json.JSONDecoder(), [], answer.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(answer, position)
            found += _entries(value)
        except (ValueError, RecursionError):
            end = position + 1  # not whole: a cut-off list still has whole sentences inside
        position = answer.find("{", end)
    if not found:
        raise BadAnswer(f'no JSON with sentences: "{_short(answer)}"')
    return found


def _entries(value: Any) -> list[dict[str, str]]:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return [{"text": " ".join(value["text"].split()), "attribute": str(value.get("attribute", "")).strip().lower()}]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [entry for part in inner for entry in _entries(part)]


def _short(text: str) -> str:
    return " ".join(text.split())[:SHOWN]
