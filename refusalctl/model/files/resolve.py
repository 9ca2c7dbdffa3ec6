"""From what the user types after `--model` to a folder of files and a revision, without importing torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from refusalctl.errors import ModelError
from refusalctl.model.files import embedded, organism
from refusalctl.model.files.templates import chat_template

_SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "*.py"]
_FILES = [*_SMALL, "*.safetensors"]


@dataclass(frozen=True)
class ModelRef:
    """A model that is on this machine.

    `revision` identifies the weights (a hub commit, a digest of a local folder's files, or the digests of the
    embedded ones) and goes into recipe keys; `template` is the SHA-256 of the chat template's source,
    which is `template_source` (empty: whatever the tokenizer brings along).
    """

    name: str
    folder: Path
    revision: str
    template: str
    trust_remote_code: bool = False
    hub: bool = False
    template_source: str = ""

    def key(self) -> dict[str, str | bool]:
        """The part of a recipe that says which model was asked."""
        return {
            "name": self.name,
            "revision": self.revision,
            "template": self.template,
            "trust_remote_code": self.trust_remote_code,
        }


def resolve(spec: str, *, trust_remote_code: bool = False, template: str | None = None) -> ModelRef:
    """Find an embedded name, a model organism, a local folder, or a hub id (`org/name` or `org/name@revision`).

    Of a hub model only the small files are fetched here; its weights come with `weights`, when they are needed.
    `template` is a chat template to use instead of its own: a file, or the name of one of its own.
    Raises `ModelError` when it is not there or has no chat template, `BadInput` for a template that is not there.
    """
    hub = False
    if spec in embedded.NAMES:
        folder, name, revision = embedded.base_folder(), spec, embedded.revision(spec)
    elif spec.startswith(organism.PREFIX):
        name, folder = organism.parse(spec).name, organism.folder(organism.parse(spec))
        revision = f"files-{folder_digest(folder)[:32]}"
    elif Path(spec).is_dir():
        folder, name = Path(spec).resolve(), Path(spec).resolve().name
        revision = f"files-{folder_digest(folder)[:32]}"
    elif spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        name, _, asked = spec.partition("@")
        folder, hub = fetch(name, asked or None, small=True), True
        revision = folder.name
    else:
        raise ModelError(
            f"there is no model {spec!r}",
            hint=f"give {' or '.join(embedded.NAMES)}, a Hugging Face id (org/name), or a local folder",
        )
    source = chat_template(folder, spec, template)
    digest = hashlib.sha256(source.encode()).hexdigest()
    return ModelRef(name, folder, revision, digest, trust_remote_code, hub, source)


def weights(ref: ModelRef) -> Path:
    """The folder with the weights, fetched now if they belong to a hub model. Raises `ModelError`."""
    return fetch(ref.name, ref.revision) if ref.hub else ref.folder


def fetch(name: str, revision: str | None, *, small: bool = False) -> Path:
    """The folder of a hub model's files, or of all but its weights. Raises `ModelError`."""
    return _from_hub(name, revision, _SMALL if small else _FILES)


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
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


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the model's files; large ones are remembered by size and time."""
    paths = sorted({p for pattern in _FILES for p in folder.glob(pattern)})
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json", hint="give the folder that holds the model's files")
    total = hashlib.sha256()
    for path, found in zip(paths, _digests(paths), strict=True):
        total.update(f"{path.name}:{found}\n".encode())
    return total.hexdigest()


def _digests(paths: Iterable[Path]) -> list[str]:
    memory = embedded.cache_dir() / "file-digests.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    result, learned = [], False
    for path in paths:
        stat = path.stat()
        mark = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
        if mark not in known:
            with path.open("rb") as content:
                known[mark] = hashlib.file_digest(content, "sha256").hexdigest()
            learned = True
        result.append(known[mark])
    if learned:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f".{memory.name}.{os.getpid()}")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(memory)
    return result
