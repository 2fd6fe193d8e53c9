"""A chat model as a second opinion on RESTOR's answers, beside the judge-free score and never instead of it.

RESTOR's questions are public facts about public people, so they may be sent; the answers of every other suite may be
about anybody, and no other suite has a judge. The service is whatever speaks the chat-completions interface. One call
a person, temperature 0, our own wording; a reply must be one JSON object with one verdict a question. What is not
that is asked again, three times at most. If one person's verdicts cannot be had there are none at all: a mean over
some people would be another number.
"""

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from compliance.errors import InvalidInputError

TRIES = 3
TIMEOUT_S = 60.0
PAUSE_S = 1.0  # before the second try, and twice that before the third
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PROMPT = """You check answers about one person against a list of answers that are known to be right.
You are given a JSON list; each entry has a number "n", a "question", the list "right", and the "given" answer.
A given answer is right when it means the same as one entry of "right", or names a part or an instance of it that makes
it true as an answer to the question; spelling, language and extra words do not matter. It is wrong when it is empty,
off the point, or names something else, even something similar. Judge only against the list, not by what you know.
Reply with one JSON object and nothing else: {"verdicts": [{"n": 1, "right": true}, ...]}, one entry for each "n"."""

Answers = Sequence[Mapping[str, Any]]
Post = Callable[[dict[str, Any]], str]


class NoVerdictError(Exception):
    """The judge gave no usable verdicts; the message is the reason, without a word of what was asked."""


class _AgainError(Exception):
    """This try failed, and another one may not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """A service and a model of it."""

    url: str
    model: str
    key: SecretStr | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    pause_s: float = PAUSE_S

    def __post_init__(self) -> None:
        """Refuse an address that would send the key in the clear."""
        parts = urlsplit(self.url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not (safe and parts.hostname):
            raise InvalidInputError("--judge takes an https:// address, or http:// on this machine", code="bad-judge")

    def verdicts(self, answers: Answers) -> list[bool]:
        """One verdict an answer, in their order; `NoVerdictError` says why there are none."""
        with self._posting() as post:
            return [verdict for group in _by_person(answers) for verdict in self._person(post, group)]

    def _person(self, post: Post, group: Answers) -> list[bool]:
        reason = ""
        for number in range(TRIES):
            if number:
                time.sleep(self.pause_s * number)
            try:
                return read(post(request(self.model, group)), len(group))
            except _AgainError as error:
                reason = str(error)
        raise NoVerdictError(f"{reason}, {TRIES} times")

    def _posting(self) -> "_Service":
        return _Service(self)


class _Service:
    """An open connection; a faulty reply becomes a reason to try again or to stop."""

    def __init__(self, judge: Judge) -> None:
        self._http = _library()
        self._judge = judge
        key = judge.key.get_secret_value() if judge.key else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = self._http.Client(timeout=judge.timeout_s, headers=headers)

    def __enter__(self) -> Post:
        return self._post

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def _post(self, body: dict[str, Any]) -> str:
        try:
            reply = self._client.post(f"{self._judge.url.rstrip('/')}/chat/completions", json=body)
        except self._http.TimeoutException:
            raise _AgainError(f"the judge did not answer within {self._judge.timeout_s:g} s") from None
        except self._http.HTTPError:
            raise _AgainError("the judge cannot be reached") from None
        if reply.status_code in AGAIN:
            raise _AgainError(f"the judge answered with status {reply.status_code}")
        if not reply.is_success:
            raise NoVerdictError(f"the judge refused with status {reply.status_code}; check the address and the key")
        return _content(reply.content)


def request(model: str, group: Answers) -> dict[str, Any]:
    """The body of one call: the answers about one person."""
    asked = [
        {"n": n, "question": one["question"], "right": one["answers"], "given": one["output"]}
        for n, one in enumerate(group, start=1)
    ]
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": json.dumps(asked)}]
    return {"model": model, "temperature": 0, "messages": messages}


def read(content: str, count: int) -> list[bool]:
    """The verdicts in a reply, in order; whatever stands around the one JSON object is ignored."""
    try:
        value = json.loads(content[content.index("{") : content.rindex("}") + 1])
        given = [(one["n"], one["right"]) for one in value["verdicts"]]
    except (ValueError, KeyError, TypeError):
        raise _AgainError("the judge did not reply with verdicts in JSON") from None
    found = {n: right for n, right in given if isinstance(right, bool) and isinstance(n, int)}
    if len(given) != count or set(found) != set(range(1, count + 1)):
        raise _AgainError("the judge did not give one verdict a question")
    return [found[n] for n in range(1, count + 1)]


def prompt_digest() -> str:
    """SHA-256 (hex) of our wording: verdicts under another one are other verdicts."""
    return hashlib.sha256(PROMPT.encode()).hexdigest()


def _content(raw: bytes) -> str:
    try:
        content = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        content = None
    if not isinstance(content, str):  # a refusal has no content
        raise _AgainError("the judge's reply holds no answer")
    return content


def _by_person(answers: Answers) -> Iterator[list[Mapping[str, Any]]]:
    """Runs of answers about one person."""
    group: list[Mapping[str, Any]] = []
    for one in answers:
        if group and one["entity"] != group[0]["entity"]:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module("httpx")
    except ImportError:
        raise InvalidInputError(
            "--judge needs httpx; install it with: pip install httpx", code="missing-extra"
        ) from None
