"""What reaches a terminal, a pipe and a log: colours, widths, and one document where JSON is asked for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from refusalctl.cli import app as cli

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "store"
ESCAPE = "\x1b["


def environ(**more: str) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "CI")}
    return plain | {"TERM": "xterm-256color"} | more


def piped(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refusalctl", *args]
    return subprocess.run(command, env=environ(**more), capture_output=True, text=True, check=False)


def in_a_terminal(*args: str, **more: str) -> str:
    """What a terminal shows, both streams together."""
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "refusalctl", *args]
    with subprocess.Popen(command, env=environ(**more), stdin=inner, stdout=inner, stderr=inner, close_fds=True):
        os.close(inner)
        shown = b""
        try:
            while part := os.read(outer, 65536):
                shown += part
        except OSError:  # the other side is gone
            pass
    os.close(outer)
    return shown.decode()


def test_a_pipe_gets_no_colour_and_whole_rows_whatever_the_width() -> None:
    long = "qaa>*=transfers|does not transfer|reverses|inconclusive|uninformative"
    shown = piped(
        "gate", "transfer", "--store", str(GOLDEN), "--expect", long, "--expect", "qaa>qab!=reverses", COLUMNS="40"
    )
    assert shown.returncode == 4, shown.stderr
    assert ESCAPE not in shown.stdout + shown.stderr
    rows = [line.rstrip() for line in shown.stdout.splitlines()]
    assert len(rows) == 3
    assert f"qaa>qab={long.partition('=')[2]}" in rows[1]


def test_a_terminal_gets_colour_unless_no_color_says_otherwise() -> None:
    assert ESCAPE in in_a_terminal("artifacts", "ls", "--store", "nowhere", COLUMNS="100")
    plain = in_a_terminal("artifacts", "ls", "--store", "nowhere", COLUMNS="100", NO_COLOR="1")
    assert "\x1b[3" not in plain  # a colour; bold and dim are none
    assert "error:" in plain


def test_a_terminal_s_width_is_kept() -> None:
    shown = in_a_terminal("gate", "--help", COLUMNS="60", NO_COLOR="1")
    lines = [line.rstrip() for line in shown.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()]
    assert max(len(line) for line in lines if ESCAPE not in line) <= 60


@pytest.mark.parametrize("args", [("gate", "nothing", "--expect", "en>de=transfers"), ("init", "--model", "x")])
def test_with_json_a_failure_is_one_document_on_stderr_and_nothing_on_stdout(
    args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["refusalctl", *args, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert said.out == ""
    told = json.loads(said.err.splitlines()[-1])
    assert (told["exit_code"], bool(told["message"])) == (stopped.value.code, True)
