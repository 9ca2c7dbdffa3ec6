"""Models of the Hugging Face hub: what of a repository is fetched, and that the cache still holds what was fetched."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint
from refusalctl.model.files.digests import DEEPER, SMALL, digests, small_files

_FORMS = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.spm")
# copies of the model in the maker's format, other tasks' files and checkpoints lie in folders
_IGNORED = [*(f"*/{form}" for form in _FORMS), ".*", "*/.*"]


def fetch(name: str, revision: str | None, *, small: bool = False, pickled: bool = False) -> Path:
    """The folder of a hub model with the files that are loaded, or of all but its weights.

    `pickled`: torch's own files will do where there are no safetensors. Raises `ModelError`.
    """
    folder = _from_hub(name, revision, [*SMALL, *(each.removeprefix("**/") for each in DEEPER)], _IGNORED)
    _check_cache(small_files(folder))
    if small:
        return folder
    commit = folder.name
    for wanted in _weights(folder, pickled):
        folder = _from_hub(name, commit, wanted)
        if all((folder / each).is_file() for each in wanted):
            _check_cache([folder / each for each in wanted])
            return folder
    raise checkpoint.no_safetensors(name, _listed(name, commit) or "none of them")


def check_listing(name: str, folder: Path) -> None:
    """Raise `ModelError` for a repository without weights that can be read, before anything is planned on it.

    Without a network nothing is known, and nothing is said.
    """
    known = (checkpoint.WEIGHTS, checkpoint.INDEX, checkpoint.ADAPTER)
    if any((folder / each).is_file() for each in known) or checkpoint.named_weights(folder):
        return
    files = _listing(name, folder.name)
    if files and not set(files) & set(known):
        raise checkpoint.no_safetensors(name, checkpoint.other_format(files) or "no weights")


def _weights(folder: Path, pickled: bool) -> Iterator[list[str]]:
    """Names of the files to load, the first choice first."""
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        yield [checkpoint.ADAPTER]
        return
    named = checkpoint.named_weights(folder)
    index = named if named is not None and named.endswith(".index.json") else checkpoint.INDEX
    if named is not None and index != named:
        yield [named]
    elif (folder / index).is_file():
        yield checkpoint.indexed(folder / index)
    else:
        yield [checkpoint.WEIGHTS]
    if pickled and (folder / checkpoint.PICKLED_INDEX).is_file():
        yield checkpoint.indexed(folder / checkpoint.PICKLED_INDEX)
    elif pickled:
        yield [checkpoint.PICKLED]


def _listed(name: str, revision: str) -> str | None:
    return checkpoint.other_format(_listing(name, revision))


def _listing(name: str, revision: str) -> list[str]:
    """Names of a repository's files; empty where nobody answers: what is said is then less exact, not wrong."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return list(HfApi().list_repo_files(name, revision=revision))
    except (HfHubHTTPError, OSError):
        return []
    except Exception as error:
        if not _is_transport(error):
            raise
        return []


def _is_transport(error: Exception) -> bool:
    """Whether the network's libraries threw it (hf_xet throws a bare RuntimeError); anything else may be a bug."""
    return type(error) is RuntimeError or type(error).__module__.startswith(("httpx", "requests", "urllib3", "hf_xet"))


@contextmanager
def _bars() -> Iterator[None]:
    """Bars of the download only where somebody looks at them."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _from_hub(name: str, revision: str | None, patterns: list[str], ignored: list[str] | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with _bars():
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=ignored))
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name} is not in the local cache and the Hugging Face hub cannot be reached",
            hint="check the network, or give a local folder",
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{name!r} is not a Hugging Face id", hint="the form is org/name or org/name@rev") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ModelError(
            f"the Hugging Face hub refused {name!r} ({status})",
            hint="check the name; for a gated model accept its licence and run `hf auth login`",
        ) from error
    except OSError as error:
        raise ModelError(f"{name} cannot be fetched into the hub's cache: {error.strerror or error}") from error
    except Exception as error:
        if not _is_transport(error):
            raise
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"{name} cannot be fetched: {told}", hint="check the network, and ask again") from error


def _check_cache(files: list[Path]) -> None:
    """Raise `ModelError` for a file of the hub's cache that is no longer what its name says.

    A commit names a model only while its files are the commit's: blobs are called by the SHA-256 of their content, or
    by git's SHA-1. Weights are hashed once, and again when somebody touched them.
    """
    linked = [path for path in files if path.is_symlink() and path.resolve().parent.name == "blobs"]
    if not linked:  # a system without symbolic links
        return
    changed = [path for path in files if path not in linked]
    large = [path for path in linked if re.fullmatch(r"[0-9a-f]{64}", path.resolve().name)]
    changed += [path for path, found in zip(large, digests(large)) if found != path.resolve().name]
    short = [path for path in linked if re.fullmatch(r"[0-9a-f]{40}", path.resolve().name)]
    changed += [path for path in short if path.resolve().name not in _git_names(path)]
    if changed:
        raise ModelError(
            f"{changed[0]} is not the file that the hub has: it was changed or damaged in the cache",
            hint="fetch it again with `hf download --force-download`, or copy the folder and give --model the copy",
        )


def _git_names(path: Path) -> tuple[str, str]:
    """What a small file's blob may be called: git's digest, or a mirror's plain one."""
    content = path.read_bytes()
    named = hashlib.sha1(b"blob %d\x00" % len(content) + content, usedforsecurity=False).hexdigest()
    return named, hashlib.sha1(content, usedforsecurity=False).hexdigest()
