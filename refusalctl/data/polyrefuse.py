"""The published PolyRefuse files: which there are, how they are fetched and checked.

Source: IvAnastasia/Multilingual-Refusal at the commit in `PolyRefuse/manifest.json`, a fork of
mainlp/Multilingual-Refusal (Wang et al. 2025, arXiv 2505.17306). The files are not part of this project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict

from refusalctl.data import sample
from refusalctl.data.languages import NAMES
from refusalctl.disk import write_whole
from refusalctl.errors import DataError
from refusalctl.records.rows import Kind, Split

Progress = Callable[[int, int], None]


class PublishedFile(TypedDict):
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """The pinned commit and, for each file below `dataset/`, its SHA-256, size and number of rows."""

    repository: str
    commit: str
    base_url: str
    files: dict[str, PublishedFile]


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
        ("harmful", "train"),
        ("harmful", "val"),
        ("harmful", "test"),
        ("harmless", "train"),
        ("harmless", "val"),
    ]
    return [lang for lang in NAMES if all(file_of(lang, k, s) in files for k, s in needed)]


def is_fetched() -> bool:
    """Whether `data fetch` has run to its end: the stamp of the tables is written last."""
    return (tables_dir() / "built.json").is_file()


def check_bytes(path: str, content: bytes) -> None:
    """Raise `DataError` unless `content` is what the manifest says about `path`."""
    expected = manifest().files[path]["sha256"]
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: SHA-256 is {found[:12]}, expected {expected[:12]} (commit {manifest().commit[:7]})",
            hint="the file changed or was cut; fetch it again (`refusalctl data fetch`)",
        )


class Fetched(NamedTuple):
    """How many files were read and found to be the published ones, and how many of them were not here before."""

    files: int
    new: int


def fetch(source: Path | None, progress: Progress) -> Fetched:
    """Bring every published file into `published/`, each verified before it is kept.

    `source` is a folder that holds `dataset/` (or is it): all its files are read and checked, also those that are here
    already, before the first is copied. Without one the files here are checked, and those that lack are downloaded at
    the pinned commit; what arrived is kept for the next try. Raises `DataError` for a missing or changed file.
    """
    files = list(manifest().files)
    lacking = [path for path in files if not _is_here(path)]
    if source is not None:
        base = _checked(source, files, progress)
        for path in lacking:
            _keep(path, (base / path).read_bytes())
        return Fetched(len(files), len(lacking))
    here = len(files) - len(lacking)
    for done in range(1, here + 1):
        progress(done, len(files))
    for done, _ in enumerate(_downloaded(lacking), start=here + 1):
        progress(done, len(files))
    return Fetched(len(files), len(lacking))


def _is_here(path: str) -> bool:
    target = published_dir() / path
    return target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == manifest().files[path]["sha256"]


def _checked(source: Path, paths: Sequence[str], progress: Progress) -> Path:
    """The folder below which `source` has all these files as they were published."""
    base = source / "dataset" if (source / "dataset").is_dir() else source
    for done, path in enumerate(paths, start=1):
        if not (base / path).is_file():
            raise DataError(
                f"{base / path} is not there", hint="--from takes the folder that holds dataset/splits and splits_multi"
            )
        check_bytes(path, (base / path).read_bytes())
        progress(done, len(paths))
    return base


def _keep(path: str, content: bytes) -> None:
    """Write one verified file whole. The check is on the bytes written, not on a file that may change."""
    check_bytes(path, content)
    target = published_dir() / path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)


def _downloaded(paths: Sequence[str]) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        try:
            yield from pool.map(_download, paths)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _download(path: str) -> str:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would announce every file between the bars
    url, target = f"{manifest().base_url}/{path}", published_dir() / path
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
    return path


def read_published(path: str) -> list[dict[str, str]]:
    """Rows of one fetched file, verified again. Raises `DataError` if it is missing or changed."""
    try:
        content = (published_dir() / path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} has not been fetched", hint="run `refusalctl data fetch`") from error
    check_bytes(path, content)
    rows: list[dict[str, str]] = json.loads(content)
    return rows
