"""Disks that refuse: full, over a quota, broken, read-only, not ours. At every write of the store's own operations, and
at writes of a `run` from prompts to a report on a planted model, HDF5 and safetensors included; where a file system of
any size can be mounted (Linux, root), on one that is really full.

Each time: one clear line and exit code 1, a store without damage or drafts, and, with room again, the same ids.
"""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.torture import forked
from benchmarks.torture.failing import Disk, failing
from benchmarks.torture.forked import Moment
from benchmarks.torture.kill import import_all
from benchmarks.torture.kills import ids
from benchmarks.torture.rows import Row, Work, none
from benchmarks.torture.stores import settings
from refusalctl.errors import RefusalctlError
from refusalctl.json_types import JsonObject
from refusalctl.store import formats
from refusalctl.store.drafts import in_tmp
from refusalctl.store.store import Store
from refusalctl.store.verify import verify

N, SHORT, FULL = "disks that refuse during a run", 12, 150
CODES = (errno.ENOSPC, errno.ENOSPC, errno.EDQUOT, errno.EIO)
PAGE = 4096
SETTINGS = settings("controls = false")
Ids = set[tuple[str, str]]


@dataclass
class Found:
    """What a series of refusals did."""

    refused: int = 0
    unclear: int = 0
    damaged: int = 0
    left: int = 0
    other_ids: int = 0
    unfinished: int = 0
    told: list[str] = field(default_factory=list)

    def rows(self, what: str) -> list[Row]:
        return [
            Row(f"{what}: refusals", self.refused, at_least=1),
            none(f"{what}: not one clear line and exit code 1", self.unclear),
            none(f"{what}: artifacts damaged", self.damaged),
            none(f"{what}: drafts left", self.left),
            none(f"{what}: did not finish with room again", self.unfinished),
            none(f"{what}: ends with other ids", self.other_ids),
        ]

    def look(self, root: Path) -> None:
        """Count what is wrong with a store after a refusal."""
        if not root.is_dir():
            return
        problems = verify(Store(root)).problems
        left = in_tmp(root)  # a process that was not killed leaves none
        self.damaged, self.left = self.damaged + len(problems), self.left + len(left)
        self.told += [f"{p.where}: {p.what}" for p in problems] + [f"left: {each.name}" for each in left]


def run(work: Work) -> list[Row]:
    import_all()
    series = {"store operations": of_operations(work.folder / "operations")}
    wanted = _undisturbed(work.folder)
    series["a run"] = of_a_run(work.seed, work.n, work.folder, wanted)
    with small_disk(work.folder / "disk") as disk:
        if disk is not None:
            series["a run on a small disk"] = on_a_small_disk(work.n, disk, work.folder, wanted)
    for found in series.values():
        for line in dict.fromkeys(found.told):
            print(line, file=sys.stderr)
    rows = [row for what, found in series.items() for row in found.rows(what)]
    return [*rows, *_places(work.folder)]


# --- operations of the store ---------------------------------------------------------------------------


def operations(root: Path) -> None:
    """One artifact of every file format, each from the one before, and a name."""
    import numpy as np
    import torch

    store, inputs = Store(root), dict[str, str]()
    shape = formats.ActivationShape(2, 1, 2, 4)

    def activations(path: Path) -> None:
        with formats.write_activations(path / "activations.h5", shape, {"positions": [-1]}) as writer:
            writer.put([0, 1], np.ones(shape, dtype=np.float32))

    def vectors(path: Path) -> None:
        formats.write_vectors(path / "selection.safetensors", "selection", {"direction": torch.ones(4)}, {"pos": -1})

    def rows(path: Path) -> None:
        formats.write_rows(path / "completions.jsonl", [{"prompt_id": "a", "text": "b" * 9000}])

    def report(path: Path) -> None:
        (path / "report.html").write_text("<p>" * 5000, encoding="utf-8")

    steps: dict[str, Callable[[Path], None]] = {
        "activations": activations, "selection": vectors, "completions": rows, "report": report,
    }  # fmt: skip
    for kind, write in steps.items():
        recipe: JsonObject = {"step": kind, "version": 1, "params": {}, "inputs": dict(inputs)}
        with store.partial("0" * 60 + kind[:4].encode().hex()[:4], list(inputs.values())) as kept, store.draft() as out:
            rows_file = kept / "rows.jsonl"
            if not formats.read_finished_rows(rows_file):
                formats.append_rows(rows_file, [{"done": kind}])
            write(out)
            made = store.commit(out, kind, recipe, {"lang": "en"}, {"seconds": 0})
        inputs[kind] = made.id
    store.name("mine", made)


def of_operations(folder: Path) -> Found:
    """Refused at every write, one after the other, until none is left to refuse."""
    folder.mkdir()
    found = Found()
    operations(folder / "undisturbed")
    wanted = ids(folder / "undisturbed")
    fails, ended = 0, False
    while not ended:
        fails += 1
        root = folder / f"store-{fails}"
        disk = Disk(root, CODES[fails % len(CODES)], fails, half=fails % 2 == 0)
        try:
            with failing(disk):
                operations(root)
            ended = disk.writes < fails
        except RefusalctlError as error:
            found.refused += 1
            found.unclear += "\n" in str(error) or not error.hint
        except Exception as error:
            found.refused, found.unclear = found.refused + 1, found.unclear + 1
            found.told.append(
                f"write {fails}: {type(error).__name__}: {error} {traceback.format_exc().splitlines()[-4:]}"
            )
        found.look(root)
        try:
            operations(root)
        except Exception as error:
            found.unfinished += 1
            found.told.append(f"write {fails}: with room again: {error}")
        found.other_ids += ids(root) != wanted
    return found


# --- a run ---------------------------------------------------------------------------------------------


def _command(root: Path, study: Path, disk: Disk | None = None) -> int:
    """`refusalctl run` in a child whose words go to `said` beside the store; its exit code."""
    said = study.with_name("said")
    said.unlink(missing_ok=True)
    return forked.run(partial(_run, ["run", str(study), "--store", str(root)], disk), root, Moment(), said).code


def _run(args: list[str], disk: Disk | None) -> None:
    from refusalctl.cli.app import main

    sys.argv = ["refusalctl", *args]
    with failing(disk) if disk is not None else nullcontext():
        main()


def _study(folder: Path) -> Path:
    path = folder / "study.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


def _undisturbed(folder: Path) -> Ids:
    """The ids of a run that nothing disturbs; it also makes the model, which is kept."""
    root = folder / "undisturbed"
    if _command(root, _study(folder)) != 0:
        raise RuntimeError(f"an undisturbed run failed: {(folder / 'said').read_text(encoding='utf-8')[-500:]}")
    return ids(root)


def clear(said: str, code: int) -> bool:
    """Whether a person is told in one line what happened and what to do, and scripts by the exit code."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return code == 1 and len(errors) == 1 and "; " in errors[0] and "Traceback" not in said


def of_a_run(seed: int, n: int, folder: Path, wanted: Ids) -> Found:
    """Refused at writes that a seed chose; the next try goes on from there, and is refused later."""
    random_, found, study = random.Random(seed), Found(), _study(folder)
    root, number = folder / "refused-0", 0
    while found.refused < n:
        disk = Disk(root, random_.choice(CODES), random_.randint(1, 120), half=random_.random() < 0.5)
        code = _command(root, study, disk=disk)
        _judge(found, root, study, code, wanted)
        if code == 0:
            number += 1
            root = folder / f"refused-{number}"
    _finish(found, root, study, wanted)
    return found


def _judge(found: Found, root: Path, study: Path, code: int, wanted: Ids) -> None:
    said = study.with_name("said").read_text(encoding="utf-8", errors="replace")
    found.look(root)
    if code == 0:
        found.other_ids += ids(root) != wanted
        return
    found.refused += 1
    if not clear(said, code):
        found.unclear += 1
        found.told.append(f"exit code {code}: {said[-800:]}")


def _finish(found: Found, root: Path, study: Path, wanted: Ids) -> None:
    """With room again the same command finishes, with the same ids."""
    if _command(root, study) != 0:
        found.unfinished += 1
        found.told.append(study.with_name("said").read_text(encoding="utf-8")[-800:])
        return
    found.look(root)
    found.other_ids += ids(root) != wanted


# --- a disk that is really full ------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of one page, which `grown` makes larger; None where that cannot be mounted here."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={PAGE},mode=777", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        print("no small disk can be mounted here: only refusals that are made up are told of", file=sys.stderr)
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def grown(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def on_a_small_disk(n: int, place: Path, folder: Path, wanted: Ids) -> Found:
    """A run on a disk that grows by some pages each time that it was full, until everything fits."""
    found, study, root = Found(), _study(folder), place / "store"
    whole = sum(p.stat().st_size + PAGE for p in (folder / "undisturbed").rglob("*"))
    size, step = PAGE, max(PAGE, whole // n // PAGE * PAGE)
    code = 1
    while code != 0 and size < 8 * whole:
        code = _command(root, study)
        _judge(found, root, study, code, wanted)
        size += step
        grown(place, size)
    found.unfinished += code != 0
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    wrong = _not_told(study, _command(place / "store-of-another-run", study), _WORDS[errno.EROFS])
    found.unclear, found.told = found.unclear + len(wrong), found.told + wrong
    return found


# --- places that cannot be written ---------------------------------------------------------------------

_WORDS = {errno.EROFS: "read-only", errno.EACCES: "permission denied", errno.EPERM: "not permitted"}


def _places(folder: Path) -> list[Row]:
    """A store that is read-only, or somebody else's: what cannot be written is one line."""
    study, wrong = _study(folder), list[str]()
    for code, words in _WORDS.items():
        root = folder / f"place-{code}"
        wrong += _not_told(study, _command(root, study, disk=Disk(root, code, 1)), words)
    for line in wrong:
        print(line, file=sys.stderr)
    return [Row("places that cannot be written", len(_WORDS)), none("of them not told in one line", len(wrong))]


def _not_told(study: Path, code: int, words: str) -> list[str]:
    said = study.with_name("said").read_text(encoding="utf-8", errors="replace")
    return [] if clear(said, code) and words in said else [f"{words}: exit code {code}: {said[-600:]}"]
