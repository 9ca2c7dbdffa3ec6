"""A command in a process: streams that are closed, full, gone or of another encoding, signals, and one line each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.make import STORE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a name in another script, and with brackets in what an artifact is about."""
    place = tmp_path_factory.mktemp("golden") / "store"
    shutil.copytree(STORE, place)
    label = next((place / "labels").iterdir()).name
    (place / "names").mkdir()
    (place / "names" / "мая").write_text(f"labels/{label}\n", encoding="utf-8")
    return place


def shell(line: str, golden: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A bash line where RC is the command and STORE the store."""
    command = line.replace("RC", f"{sys.executable} -m refusalctl").replace("STORE", f"--store {golden}")
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | env
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_refuse(golden: Path, unbuffered: str) -> None:
    full = shell("RC artifacts ls STORE > /dev/full", golden, PYTHONUNBUFFERED=unbuffered)
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert "cannot write to standard output: the disk is full" in full.stderr
    closed = shell("RC artifacts ls STORE >&-", golden, PYTHONUNBUFFERED=unbuffered)
    assert (closed.returncode, closed.stderr.count("\n")) == (1, 1)
    silent = shell("RC artifacts ls nothing STORE 2> /dev/full", golden, PYTHONUNBUFFERED=unbuffered)
    assert silent.returncode == 1
    unread = shell("RC artifacts ls --json STORE | true; echo ${PIPESTATUS[0]}", golden, PYTHONUNBUFFERED=unbuffered)
    assert (unread.stdout, unread.stderr) == ("141\n", "")


def test_other_encodings_get_escapes_and_json_stays_json(golden: Path) -> None:
    shown = shell(
        "RC artifacts ls labels STORE && RC artifacts ls labels --json STORE", golden, PYTHONIOENCODING="latin-1"
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    table, _, document = shown.stdout.partition("[")
    assert "\\u043c\\u0430\\u044f" in table
    assert any(row["names"] == ["мая"] for row in json.loads("[" + document))


def test_errors_under_json_are_one_line_of_json_with_the_same_exit_code(golden: Path) -> None:
    known = shell("RC artifacts ls nothing --json STORE", golden)
    told = json.loads(known.stderr.splitlines()[-1])
    assert (known.returncode, known.stdout, told["error"], told["exit_code"]) == (1, "", "BadInput", 1)
    wrong = shell("RC artifacts ls --nothing --json STORE", golden)
    told = json.loads(wrong.stderr.splitlines()[-1])
    assert (wrong.returncode, wrong.stdout, told["error"], told["exit_code"]) == (2, "", "Usage", 2)
    told = shell("RC --verbose artifacts ls nothing STORE", golden).stderr
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("error: 'nothing' is not a kind of artifact")


# a shell's background jobs inherit SIGINT ignored, and Python keeps it so: nothing could be interrupted there
AS_IN_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
WHILE_LOADING = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize(("number", "code", "word"), WHILE_LOADING)
def test_signals_while_modules_are_loaded(number: int, code: int, word: str) -> None:
    """The package is held up while it is imported, as on a slow disk."""
    script = (
        f"{AS_IN_A_TERMINAL}import sys, time, os, signal, importlib.abc\n"
        "class Slow(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'refusalctl.cli.app': os.kill(os.getpid(), {int(number)}); time.sleep(30)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from refusalctl.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"note: {word}; nothing had begun\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_while_a_command_works(number: int, code: int, tmp_path: Path) -> None:
    script = (
        f"{AS_IN_A_TERMINAL}import os, sys, time\n"
        "from refusalctl.cli import app, artifacts\n"
        f"artifacts.require_store = lambda store: (os.kill(os.getpid(), {int(number)}), time.sleep(30))\n"
        f"sys.argv = ['refusalctl', 'artifacts', 'ls', '--store', {str(tmp_path)!r}]\n"
        "app.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert "finished work is kept" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_in_the_middle_of_a_batch_waits_for_it_and_a_second_one_does_not(
    number: int, code: int, times: int, tmp_path: Path
) -> None:
    script = (
        f"{AS_IN_A_TERMINAL}import os, sys\nfrom pathlib import Path\n"
        "from refusalctl.cli import app, artifacts\n"
        "from refusalctl.progress import Silent, batches\n"
        "from refusalctl.steps.finished_rows import FinishedRows\n"
        "def work(store):\n"
        f"    rows = FinishedRows(Path({str(tmp_path)!r}), 'rows.jsonl')\n"
        "    with batches(Silent(), 'work', 3) as advance:\n"
        "        for i in range(3):\n"
        f"            for _ in range({times} if i == 1 else 0): os.kill(os.getpid(), {int(number)})\n"
        "            rows.add({'i': i}); advance()\n"
        "artifacts.require_store = work\n"
        f"sys.argv = ['refusalctl', 'artifacts', 'ls', '--store', {str(tmp_path)!r}]\n"
        "app.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    first, last = done.stderr.splitlines()
    assert "the batch in hand is finished and kept" in first
    assert "finished work is kept, and the same command continues from there" in last
    assert (tmp_path / "rows.jsonl").read_text().count("\n") == 3 - times


def test_a_bug_keeps_its_traceback_and_what_the_machine_did_is_one_line(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom refusalctl.cli import app, artifacts\n"
        "def fail(store): raise {}\n"
        "artifacts.require_store = fail\n"
        f"sys.argv = ['refusalctl', 'artifacts', 'ls', '--store', {str(tmp_path)!r}]\napp.main()"
    )

    def ended(error: str) -> tuple[int, str]:
        command = [sys.executable, "-c", script.replace("{}", error)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code, told = ended("TypeError('a bug')")
    assert code == 1
    assert "Traceback" in told
    code, told = ended("OSError(28, 'No space left on device')")
    assert (code, told.count("\n")) == (1, 1)
    assert told.startswith("error: the disk is full")
    code, told = ended("EOFError('a file ended')")
    assert "Traceback" in told  # not "Aborted!"
