"""A process is known by more than its number, and asked only on its own machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from refusalctl import processes


def test_a_process_is_known_by_more_than_its_number() -> None:
    mine = processes.me()
    assert processes.lives(mine.pid, mine.born, mine.machine, mine.boot) is True
    assert processes.lives(mine.pid, mine.born, "elsewhere", mine.boot) is None
    assert processes.lives(mine.pid, mine.born, mine.machine, "before") is False
    assert processes.lives(999999999, "", mine.machine, mine.boot) is False
    if mine.born:
        assert processes.lives(mine.pid, "1", mine.machine, mine.boot) is False


def test_the_dead_that_nobody_asked_for_do_not_live() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = processes.me()
    assert processes.lives(other.pid, "", mine.machine, mine.boot) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it ends, and stays a zombie
    assert processes.lives(other.pid, "", mine.machine, mine.boot) is False
    other.communicate()


def test_windows_processes_are_not_asked_by_a_signal_that_would_interrupt_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = processes.me()
    sent: list[int] = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda pid, _number: sent.append(pid))
    assert processes.lives(mine.pid, mine.born, mine.machine, mine.boot) is True
    assert processes.lives(mine.pid + 1, "", mine.machine, mine.boot) is None
    assert not sent
