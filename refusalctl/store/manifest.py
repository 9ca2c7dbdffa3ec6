"""What a manifest must hold before anything is looked up by it: names that are names, counts that are counts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from refusalctl.errors import Corrupt
from refusalctl.file_errors import printable
from refusalctl.untrusted import parse_object

V = TypeVar("V")
MANIFEST, RUN = "manifest.json", "run.json"
LONGEST = 255  # bytes of a file's name, on most file systems
MOST = 1 << 53  # bytes of a file, or rows: what every JSON reader can hold exactly

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=MOST)]


class _File(msgspec.Struct):
    sha256: Digest
    bytes: Count


class _Recipe(msgspec.Struct):
    inputs: dict[str, Digest]
    step: str = ""
    model: dict[str, Any] | None = None


class _About(msgspec.Struct):
    """Words by which artifacts are shown and put together; more may be said, of any type."""

    model: str | None = None
    revision: str | None = None
    data: str | None = None
    lang: str | None = None
    direction_lang: str | None = None
    kind: str | None = None
    split: str | None = None
    intervention: str | None = None
    condition: str | None = None
    judge: str | None = None
    sources: str | None = None
    targets: str | None = None
    n: Count | None = None


class _Manifest(msgspec.Struct):
    format: Literal["refusalctl.artifact"]
    version: Literal[1]
    kind: str
    recipe: _Recipe
    about: _About
    files: dict[str, _File]


# msgspec learns a type when it first converts to it, and threads that do so at once meet it half learned: the process
# dies (seen in `verify`, whose threads look at manifests). Here one thread makes it learn.
msgspec.json.Decoder(_Manifest)


class Said(dict[str, V]):
    """What a manifest or a file's header says; what it does not say is damage of the file, and no bug here."""

    def __init__(self, where: str, values: dict[str, V]) -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, key: str) -> V:
        raise Corrupt(f"{self.where} does not say its {key!r}", hint="see `refusalctl artifacts verify`")


def parsed(content: bytes) -> dict[str, Any]:
    """A manifest's bytes as a value, whose parts need not fit. Raises `ValueError`."""
    return parse_object(content)


def checked(manifest: dict[str, Any], kind: str, label: str) -> dict[str, Any]:
    """The manifest of an artifact of this kind, every part of which has the type that it is used by.

    Raises `Corrupt` naming the part that does not fit: a file outside the artifact's folder, a size below zero.
    """
    try:
        found = msgspec.convert(manifest, _Manifest)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the manifest of {label} makes no sense: {error}") from error
    if found.kind != kind:
        problem = f"{label} says of itself that it is of another kind, {printable(found.kind)[:40]}"
        raise Corrupt(problem, hint="move its folder there, or remove it with `refusalctl artifacts rm`")
    for name in found.files:
        if (wrong := unfit_name(name)) is not None:
            raise Corrupt(f"the manifest of {label} names a file that cannot be its own: {wrong}")
    recipe = dict(manifest["recipe"])
    recipe["inputs"] = Said(label, recipe["inputs"])
    if isinstance(recipe.get("params"), dict):
        recipe["params"] = Said(label, recipe["params"])
    about = Said(label, manifest["about"])
    return {**manifest, "recipe": Said(label, recipe), "about": about}


def unfit_name(name: str) -> str | None:
    """Why a file of this name could lie outside an artifact's folder or take the place of ours; None for a good one."""
    if name in ("", ".", ".."):
        return "its name means a folder"
    if any(sign in name for sign in "/\\:") or len(name.encode("utf-8", "surrogatepass")) > LONGEST:
        return "its name is a path"
    if not name.isprintable():
        return "its name holds characters that cannot be shown"
    return "its name is that of another file of the store" if name.casefold() in (MANIFEST, RUN) else None
