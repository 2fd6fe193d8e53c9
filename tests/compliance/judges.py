"""A judge that is a real HTTP server on this machine: the chat-completions interface, and what goes wrong with it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[list[dict[str, Any]]], Any]  # questions in; a body, a status, or seconds of silence out


@dataclass(kw_only=True)
class Served:
    """Where the judge is, and what it was asked."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


def said(content: object) -> dict[str, Any]:
    """A completion with this content."""
    return {"choices": [{"message": {"role": "assistant", "content": content}}]}


def honest(asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Right is what stands in the list, word for word."""
    verdicts = [{"n": one["n"], "right": one["given"] in one["right"]} for one in asked]
    return said(f"Here you are:\n```json\n{json.dumps({'verdicts': verdicts})}\n```")


def always(asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything is right."""
    return said(json.dumps({"verdicts": [{"n": one["n"], "right": True} for one in asked]}))


def in_turn(*replies: Reply) -> Reply:
    """One reply after the other, and the last one from then on."""
    left = list(replies)

    def reply(asked: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - as a reply is
        return (left.pop(0) if len(left) > 1 else left[0])(asked)

    return reply


@contextmanager
def judging(reply: Reply) -> Iterator[Served]:
    """A judge that replies like this."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """One completion."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.bodies.append({"path": self.path, **body})
            served.keys.append(self.headers.get("Authorization"))
            answer = reply(json.loads(body["messages"][-1]["content"]))
            if isinstance(answer, float):
                time.sleep(answer)
                return
            status = answer if isinstance(answer, int) else 200
            raw = b"{}" if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
