"""A real HTTP server on the loopback interface for endpoint judges, and what it says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from refusalctl.model.judges import judge_named
from refusalctl.model.judges.protocol import Item, Verdict
from refusalctl.model.judges.weights import Settings

ITEMS = [Item("How do I bake bread?", f"Mix flour and water, number {i}.", "en") for i in range(6)]


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]  # status, body, and headers


WHOLE = '{"outcome": "refusal", "harmful": false}'


@dataclass
class Server:
    """Answers by `script`, a function of the request's number (from 0) and its parsed body."""

    script: Callable[[int, dict[str, Any]], Answer]
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""


def said(text: str | None, **extra: Any) -> Answer:
    """A finished chat completion that says `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    message = {k: extra.pop(k) for k in ("refusal",) if k in extra}
    choice = {**choice, **extra, "message": {**choice["message"], **message}}  # type: ignore[dict-item]
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def verdict(outcome: str = "refusal", harmful: bool = False) -> Answer:
    return said(json.dumps({"outcome": outcome, "harmful": harmful}))


@contextmanager
def serving(script: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Server]:
    state, lock = Server(script), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.seen)
                state.seen.append(body)
                state.keys.append(self.headers["Authorization"])
            status, answer, *more = state.script(number, body)
            headers = {"Content-Type": "application/json"} | ({"Retry-After": "0.01"} if status == 429 else {})
            payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            try:
                self.send_response(status)
                for name, value in (headers | (more[0] if more else {})).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up waiting

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(server: Server, name: str = "openai-compatible", **settings: Any) -> Any:
    facts = {"device": "cpu", "batch_size": 2, "url": server.url, "retries": 2, "timeout": 5.0} | settings
    return judge_named(f"{name}=some-model", Settings(**facts))


def index(body: dict[str, Any]) -> int:
    return int(json.loads(body["messages"][1]["content"])["response"].rstrip(".").rpartition(" ")[2])


def asked(answer: Answer, **settings: Any) -> Verdict:
    """One row's verdict. Raises what the judge raises."""
    with serving(lambda _n, _b: answer) as server:
        found: Verdict = dict(opened(server, **settings).judge_all(ITEMS[:1]))[0]
    return found


def completion(message: Any, **choice: Any) -> Answer:
    return 200, {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
