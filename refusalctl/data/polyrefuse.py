"""The published PolyRefuse files: which there are, how they are fetched and checked.

Source: IvAnastasia/Multilingual-Refusal at the commit in `PolyRefuse/manifest.json`, a fork of
mainlp/Multilingual-Refusal (Wang et al. 2025, arXiv 2505.17306). The files are not part of this project.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from refusalctl.data import sample
from refusalctl.data.languages import NAMES
from refusalctl.data.records import Kind, Split
from refusalctl.errors import DataError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Manifest:
    """The pinned commit and, for each file below `dataset/`, its SHA-256, size and number of rows."""

    repository: str
    commit: str
    base_url: str
    files: dict[str, dict[str, Any]]


@cache
def manifest() -> Manifest:
    raw = json.loads((sample.home() / "manifest.json").read_text(encoding="utf-8"))
    return Manifest(raw["repository"], raw["commit"], raw["base_url"], raw["files"])


def published_dir() -> Path:
    return sample.user_home() / "published"


def tables_dir() -> Path:
    return sample.user_home() / "tables"


def file_of(lang: str, kind: Kind, split: Split) -> str:
    """Path below `dataset/` of one published set. English train and val lie in `splits/`."""
    if lang == "en" and split != "test":
        return f"splits/{kind}_{split}.json" if kind == "harmful" else f"splits/{kind}_{split}_200_sampled.json"
    return f"splits_multi/{kind}_{split}_translated_{lang}.json"


def published_languages() -> list[str]:
    """Languages with at least a harmful train, val and test set and a harmless train and val set."""
    files = manifest().files
    needed: list[tuple[Kind, Split]] = [
        ("harmful", "train"), ("harmful", "val"), ("harmful", "test"), ("harmless", "train"), ("harmless", "val"),
    ]  # fmt: skip
    return [lang for lang in NAMES if all(file_of(lang, k, s) in files for k, s in needed)]


def is_fetched() -> bool:
    return (tables_dir() / "en.jsonl").is_file()


def check_bytes(path: str, content: bytes) -> None:
    """Raise `DataError` unless `content` is what the manifest says about `path`."""
    expected = manifest().files[path]["sha256"]
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: SHA-256 is {found[:12]}, expected {expected[:12]} (commit {manifest().commit[:7]})",
            hint="the file changed or the download was cut; nothing was written",
        )


def fetch(source: Path | None, progress: Progress) -> int:
    """Bring every published file into `published/`, each verified before it is kept.

    `source` is a folder that holds `dataset/` (or is it); without one the files are downloaded at the
    pinned commit. Returns the number of files. Raises `DataError` for a missing or changed file.
    """
    files = manifest().files
    for done, path in enumerate(files, start=1):
        target = published_dir() / path
        if not (target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == files[path]["sha256"]):
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, path, target) if source else _download(path, target)
        progress(done, len(files))
    return len(files)


def _copy(source: Path, path: str, target: Path) -> None:
    base = source / "dataset" if (source / "dataset").is_dir() else source
    if not (base / path).is_file():
        raise DataError(
            f"{base / path} is not there", hint="--from takes the folder that holds dataset/splits and splits_multi"
        )
    check_bytes(path, (base / path).read_bytes())
    draft = target.with_name(f".{target.name}.part")
    shutil.copyfile(base / path, draft)
    draft.replace(target)


def _download(path: str, target: Path) -> None:
    import pooch
    import requests

    url = f"{manifest().base_url}/{path}"
    try:
        pooch.retrieve(
            url, known_hash=f"sha256:{manifest().files[path]['sha256']}", fname=target.name, path=target.parent
        )
    except ValueError as error:  # pooch: the hash does not match
        raise DataError(f"{path}: the download does not match the manifest", hint="try again") from error
    except requests.RequestException as error:
        raise DataError(
            f"{url} cannot be reached ({type(error).__name__})",
            hint="check the network, or give a copy of the files with --from FOLDER",
        ) from error


def read_published(path: str) -> list[dict[str, Any]]:
    """Rows of one fetched file, verified again. Raises `DataError` if it is missing or changed."""
    try:
        content = (published_dir() / path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} has not been fetched", hint="run `refusalctl data fetch`") from error
    check_bytes(path, content)
    rows: list[dict[str, Any]] = json.loads(content)
    return rows
