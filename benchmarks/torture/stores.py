"""What the parts share: small artifacts whose content follows from their recipe, and what a store must look like."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from refusalctl.json_types import JsonObject
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.store import KINDS, MANIFEST, Artifact, Store

MODEL = "organism:shared"
ROOMS = ("tmp", "partial", "named", "cache", "names", "recipes")


def settings(*more: str) -> str:
    """A small run's experiment file; `more`: further lines of its first part."""
    return f"""
[experiment]
data = "{MODEL}"
sources = ["qaa"]
targets = ["qaa", "qab"]
n_train = 8
n_val = 6
n_test = 6
positions = [-1]
layers = [3]
max_new_tokens = 8
{chr(10).join(more)}
[model]
name = "{MODEL}"
device = "cpu"
"""


def recipe(number: int, step: str = "judge", **inputs: str) -> JsonObject:
    return {"step": step, "version": 1, "params": {"number": number}, "inputs": dict(inputs)}


def payload(number: int) -> bytes:
    """What recipe `number` gives: 200 bytes to 20 kB, by its number alone."""
    block = hashlib.sha256(str(number).encode()).hexdigest().encode()
    return block * (4 + number * 7919 % 300)


def put(store: Store, number: int, kind: str = "labels", **inputs: str) -> Artifact:
    """Compute recipe `number`, as a step does."""
    with store.draft() as out:
        (out / "rows.jsonl").write_bytes(payload(number))
        about: JsonObject = {"lang": "en", "n": number, "data": "sample"}
        return store.commit(out, kind, recipe(number, **inputs), about, {"seconds": 0})


class Whole(NamedTuple):
    """An artifact as its files say, read without the store's own code: id, kind, recipe key."""

    kind: str
    id: str
    key: str


def whole_artifacts(root: Path) -> tuple[list[Whole], list[str]]:
    """Every artifact whose manifest and payload are as they were written, and the folders of which that is not so."""
    found, wrong = list[Whole](), list[str]()
    for kind in KINDS:
        for folder in sorted((root / kind).iterdir()) if (root / kind).is_dir() else []:
            try:
                content = (folder / MANIFEST).read_bytes()
                manifest = json.loads(content)
                same = hashlib.sha256(content).hexdigest() == folder.name and manifest["kind"] == kind
                for name, facts in manifest["files"].items():
                    same &= hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"]
                run = json.loads((folder / "run.json").read_bytes())
                same &= hashlib.sha256(canonical(run["run"])).hexdigest() == run["digest"]
            except (OSError, ValueError, KeyError, TypeError):
                same = False
            if same:
                found.append(Whole(kind, folder.name, digest(manifest["recipe"])))
            else:
                wrong.append(f"{kind}/{folder.name[:12]}")
    return found, wrong


def left_over(root: Path) -> list[str]:
    """Files and folders that only a killed process leaves: drafts, rows, locks, marks of nothing."""
    found = [str(path.relative_to(root)) for room in ("tmp", "partial") for path in _inside(root / room)]
    ends = (".lock", ".claim", ".after", ".draft")
    found += [str(path.relative_to(root)) for path in root.rglob("*") if path.suffix in ends]
    there = {identifier for _, identifier in Store(root).folders()}
    marks = (root / "recipes").glob("*/*")
    found += [str(mark.relative_to(root)) for mark in marks if mark.name not in there]
    found += [str(key.relative_to(root)) for key in _inside(root / "recipes") if not any(key.iterdir())]
    return sorted(set(found))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
