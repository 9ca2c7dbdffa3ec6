"""A real S3-speaking server on loopback: moto's, in a process of its own.

moto needs an older python-dateutil than the tests are pinned to, so it lives in an environment of its own, which
`make s3` puts into `.venv/s3`; `REFUSALCTL_MOTO_SERVER` names another one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest


def _server() -> str | None:
    beside = Path(sys.prefix) / "s3" / "bin" / "moto_server"
    found = os.environ.get("REFUSALCTL_MOTO_SERVER") or (str(beside) if beside.is_file() else None)
    return found or shutil.which("moto_server")


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of a server that lives as long as the tests."""
    program = _server()
    if program is None:
        pytest.skip("no moto_server: `make s3` installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=quiet, stderr=quiet)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket as a URL; credentials and the server are in the environment."""
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": s3_address}.items():
        monkeypatch.setenv(name, value)
    bucket = f"b{uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_address}/{bucket}", method="PUT"), timeout=30).close()
    return f"s3://{bucket}"
