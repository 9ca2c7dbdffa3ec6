"""From what the user types after `--model` to a folder of files and a revision, without importing torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from refusalctl.disk import given_folder
from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint, embedded, gguf_file, organism, quantisation
from refusalctl.model.files.digests import adapter_digest, digests, folder_digest
from refusalctl.model.files.hub import check_listing, fetch
from refusalctl.model.files.templates import chat_template
from refusalctl.setting_words import meant

__all__ = ["ModelRef", "fetch", "folder_digest", "resolve", "unchanged", "weights"]


@dataclass(frozen=True)
class ModelRef:
    """A model that is on this machine.

    `revision` identifies the weights (a hub commit, a digest of a local folder's files, or the digests of the
    embedded ones) and goes into recipe keys; `template` is the SHA-256 of the chat template's source,
    which is `template_source` (empty: whatever the tokenizer brings along). `quantization`
    is the scheme that config.json declares; `rounded` also names one that was multiplied out to plain numbers (GGUF).
    `adapter` is the folder of a PEFT adapter that is merged into the weights:
    `base` is then the model below it, and the hub's id of the adapter is `hub_adapter`.
    """

    name: str
    folder: Path
    revision: str
    template: str
    trust_remote_code: bool = False
    hub: bool = False
    quantization: str | None = None
    rounded: str | None = None
    adapter: Path | None = None
    base: ModelRef | None = None
    hub_adapter: str | None = None
    template_source: str = ""

    def key(self) -> dict[str, str | bool]:
        """The part of a recipe that says which model was asked."""
        key: dict[str, str | bool] = {
            "name": self.name,
            "revision": self.revision,
            "template": self.template,
            "trust_remote_code": self.trust_remote_code,
        }
        return key | ({"quantization": self.quantization} if self.quantization else {})

    @property
    def tokenizer(self) -> Path:
        """Where the tokenizer is: with an adapter that was saved with its own, there."""
        own = self.adapter
        return own if own is not None and (own / "tokenizer_config.json").is_file() else self.folder


def resolve(spec: str, *, trust_remote_code: bool = False, template: str | None = None) -> ModelRef:
    """Find an embedded name, a model organism, a local folder, a GGUF file, or a hub id (`org/name[@revision]`).

    A folder or repository may hold a PEFT adapter instead of a model; it names its base. Of a hub model only the small
    files are fetched here; its weights come with `weights`, when they are needed. `template` is a chat template to use
    instead of its own: a file, or the name of one of its own. Raises `ModelError` when something is not there or
    damaged or there is no chat template, `BadInput` for a template that is not there.
    """
    found = _located(spec, trust_remote_code)
    source = chat_template(found.tokenizer, spec, template)
    return replace(found, template=hashlib.sha256(source.encode()).hexdigest(), template_source=source)


def _located(spec: str, trust: bool, *, above: str | None = None) -> ModelRef:
    """The model without its template; `above` is the adapter that names it as its base."""
    if spec in embedded.NAMES:
        adapter = embedded.adapter_dir(spec) if spec in embedded.ADAPTED else None
        return ModelRef(spec, embedded.base_folder(), embedded.revision(spec), "", trust, adapter=adapter)
    if spec.startswith(organism.PREFIX):
        name, folder = organism.parse(spec).name, organism.folder(organism.parse(spec))
        return ModelRef(name, folder, f"files-{folder_digest(folder)[:32]}", "", trust)
    packed = gguf_file.named(spec) if above is None else None
    if packed is not None:
        digest = digests([packed])[0]
        made = gguf_file.folder(packed, digest, embedded.cache_dir())
        return ModelRef(packed.name, made, gguf_file.revision(digest), "", trust, rounded=gguf_file.scheme(made))
    place = given_folder(spec, "--model" if above is None else f"the base model of the adapter {above}")
    if place is not None:
        return _of_folder(place, trust, above)
    if spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        name, _, asked = spec.partition("@")
        return _of_hub(name, asked or None, trust, above)
    if above is not None:
        raise ModelError(
            f"the adapter {above} needs its base model {spec}, which is not there",
            hint="write where it is into base_model_name_or_path of adapter_config.json, or merge the adapter",
        )
    raise ModelError(
        f"there is no model {spec!r}",
        hint=f"{meant(spec, embedded.NAMES)}give {' or '.join(embedded.NAMES)}, a Hugging Face id (org/name), "
        "a local folder or a GGUF file",
    )


def _of_folder(folder: Path, trust: bool, above: str | None) -> ModelRef:
    if _is_adapter(folder):
        if not (folder / checkpoint.ADAPTER).is_file():
            raise ModelError(f"the adapter {folder} has no {checkpoint.ADAPTER}", hint="fetch or save it again")
        return _on_base(folder, f"files-{adapter_digest(folder)[:32]}", folder.name, trust, above)
    checkpoint.check_small_files(folder)
    revision = f"files-{folder_digest(folder)[:32]}"
    found = _scheme(folder)
    return ModelRef(folder.name, folder, revision, "", trust, quantization=found, rounded=found)


def _of_hub(name: str, asked: str | None, trust: bool, above: str | None) -> ModelRef:
    folder = fetch(name, asked, small=True)
    checkpoint.check_small_files(folder)
    check_listing(name, folder)
    if _is_adapter(folder):
        return replace(_on_base(folder, folder.name, name, trust, above), hub_adapter=name)
    found = _scheme(folder)
    return ModelRef(name, folder, folder.name, "", trust, hub=True, quantization=found, rounded=found)


def _scheme(folder: Path) -> str | None:
    declared = quantisation.declared(folder)
    return quantisation.method(declared) if declared else None


def _is_adapter(folder: Path) -> bool:
    """Raises `ModelError` for a folder that holds a whole model beside an adapter."""
    if not (folder / "adapter_config.json").is_file():
        return False
    if not (folder / "config.json").is_file():
        return True
    if any((folder / name).is_file() for name in (checkpoint.WEIGHTS, checkpoint.INDEX, checkpoint.PICKLED)):
        raise ModelError(
            f"{folder} holds a whole model and an adapter: which of them is meant is not said",
            hint="move adapter_config.json away, or the weights of the model",
        )
    return True


def _on_base(folder: Path, own: str, name: str, trust: bool, above: str | None) -> ModelRef:
    """An adapter on the model that it names."""
    if above is not None:
        raise ModelError(
            f"the adapter {above} names another adapter as its base ({folder})", hint="merge the lower one"
        )
    checkpoint.check_small_files(folder)
    spec = checkpoint.read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(spec, str) or not spec:
        raise ModelError(
            f"the adapter {folder} does not say what it belongs to",
            hint="write its base model into base_model_name_or_path of adapter_config.json",
        )
    base = _located(spec, trust, above=str(folder))
    if base.adapter is not None:
        raise ModelError(f"the adapter {folder} names a model with an adapter as its base ({spec})")
    revision = f"{base.revision}+adapter-{own.removeprefix('files-')}"
    return replace(base, name=name, revision=revision, adapter=folder, base=base)


def weights(ref: ModelRef) -> ModelRef:
    """The model with all its files here, fetched now where they belong to the hub. Raises `ModelError`."""
    base = ref.base or ref
    if base.hub:
        ref = replace(ref, folder=fetch(base.name, base.revision))
    if ref.hub_adapter is not None and ref.adapter is not None:
        ref = replace(ref, adapter=fetch(ref.hub_adapter, ref.adapter.name))
    return ref


def unchanged(ref: ModelRef) -> None:
    """Raise `ModelError` where a local folder's files are no longer those that its revision names."""
    base = ref.base or ref
    now = [f"files-{folder_digest(base.folder)[:32]}"] if base.revision.startswith("files-") else [base.revision]
    if ref.base is not None and ref.adapter is not None:
        local = ref.hub_adapter is None
        now.append(f"adapter-{adapter_digest(ref.adapter)[:32] if local else ref.adapter.name}")
    if "+".join(now) != ref.revision:
        raise ModelError(
            f"the files of {ref.name} changed after it was looked up",
            hint="ask again: the model that is there now is another one",
        )
