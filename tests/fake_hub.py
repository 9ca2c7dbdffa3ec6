"""A stand-in for the Hugging Face hub's dataset repositories, as far as `huggingface_hub` asks it here.

It knows the requests that the library sends, not what the real hub does beyond them: no LFS, no rights, no branches.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

COMMIT = "0" * 39


class Hub(ThreadingHTTPServer):
    """`files`: path to content, of the one repository; `races`: how many commits are refused as too late."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.private: bool | None = None
        self.races = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def _say(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self) -> None:
        self._say({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        hub = self.server
        if hub.private is None:
            return self._missing()
        if re.fullmatch(r"/api/datasets/own/set(/revision/\w+)?", path):
            facts = {"id": "own/set", "sha": f"{COMMIT}{len(hub.commits) % 10}", "private": hub.private, "siblings": []}
            return self._say(facts)
        if re.match(r"/api/datasets/own/set/tree/\w+", path):
            return self._say([self._file(name) for name in sorted(hub.files)])
        found = re.fullmatch(r"/datasets/own/set/resolve/\w+/(.+)", path)
        if found is None or found[1] not in hub.files:
            return self._say({"error": "not found"}, 404, X_Error_Code="EntryNotFound")
        content = hub.files[found[1]]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = content[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None] if wanted else content
        return self._say(part, 206 if wanted else 200, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    def _file(self, name: str) -> dict[str, Any]:
        content = self.server.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def do_POST(self) -> None:
        hub, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            if hub.private is not None:
                return self._say({"url": f"{hub.address}/datasets/own/set"}, 409)
            hub.private = json.loads(body).get("visibility") == "private"
            return self._say({"url": f"{hub.address}/datasets/own/set"})
        if path == "/api/validate-yaml":
            return self._say({"errors": [], "warnings": []})
        if path.endswith("/preupload/main"):
            names = [each["path"] for each in json.loads(body)["files"]]
            return self._say({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        if re.search(r"/paths-info/\w+$", path):
            asked = json.loads(body) if body.startswith(b"{") else {}
            return self._say([self._file(n) for n in asked.get("paths", []) if n in hub.files])
        return self._commit(body) if path.endswith("/commit/main") else self._missing()

    def _commit(self, body: bytes) -> None:
        hub = self.server
        with hub.lock:
            if hub.races:
                hub.races -= 1
                return self._say({"error": "A commit has happened since. Please refresh and try again."}, 412)
            files = [each["value"] for each in map(json.loads, body.splitlines()) if each["key"] == "file"]
            hub.files |= {each["path"]: base64.b64decode(each["content"]) for each in files}
            hub.commits.append([each["path"] for each in files])
            oid = f"{COMMIT}{len(hub.commits) % 10}"
            return self._say({"commitUrl": f"{hub.address}/datasets/own/set/commit/{oid}", "commitOid": oid})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without the repository `own/set`; huggingface_hub talks to it."""
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    rest = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + rest)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
