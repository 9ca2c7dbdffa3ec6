"""Which weights files of a folder are loaded, and what they hold by their headers. No torch, and no weight is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.errors import ModelError
from refusalctl.untrusted import LARGE, bounded, parse_json, parse_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_POINTER = b"version https://git-lfs"
_MOST_HEADER = 200_000_000  # bytes; safetensors itself stops at half of it
# a damaged one is taken for an absent one by transformers, or ends in a message that does not name it
_SMALL_JSON = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "vocab.json",
    "tokenizer.json",
    "adapter_config.json",
    INDEX,
)
_OTHER_FORMATS = {
    "*.gguf": "GGUF files",
    "*.bin": "pickled weights (.bin)",
    "*.pth": "pickled weights (.pth)",
    "*.pt": "pickled weights (.pt)",
    "*.ckpt": "pickled weights (.ckpt)",
    "*.h5": "TensorFlow weights",
    "*.msgpack": "Flax weights",
    "*.onnx": "ONNX files",
    "*.npz": "MLX or NumPy weights",
    "consolidated*.safetensors": "the maker's own format (consolidated*.safetensors)",
    "*.safetensors": "safetensors files of other names",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


class StoredTensor(NamedTuple):
    """One tensor by its header; `start` and `end` are its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def floating(self) -> bool:
        return self.dtype in _FLOATS

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """Files that are loaded, and every tensor in them by name: none known of pickled ones, which have no header."""

    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]

    def parameters(self) -> int:
        return sum(each.numel for each in self.tensors.values())


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    listed = sorted(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def weights_files(folder: Path, *, pickled: bool = False) -> list[Path]:
    """The files that transformers loads from a folder, in order, with all that are named there.

    `pickled`: torch's own files will do where there are no safetensors. Raises `ModelError` where it is not clear which
    files are the model, or one of them is not there.
    """
    present = {p.name for p in folder.iterdir() if p.is_file()} if folder.is_dir() else set()
    chosen = named_weights(folder)
    if any(_DISTRIBUTED.fullmatch(name) for name in present):
        raise ModelError(f"{folder} holds a distributed checkpoint", hint="save the model whole: `save_pretrained`")
    if chosen is not None and chosen not in present:
        raise ModelError(f"{folder}: config.json names the weights {chosen}, which are not there")
    first = chosen or next((name for name in (WEIGHTS, INDEX) if name in present), None)
    if first is None and pickled:
        first = next((name for name in (PICKLED, PICKLED_INDEX) if name in present), None)
    shards = {name for name in present if _SHARD.fullmatch(name)}
    if first is None:
        raise _no_weights(folder, shards)
    files = indexed(folder / first) if first.endswith(".index.json") else [first]
    absent = [name for name in files if name not in present]
    if absent:
        raise ModelError(
            f"{folder}: {first} names {len(absent)} files that are not there ({some(absent)})",
            hint="fetch the whole model again",
        )
    beside = shards - set(files)
    if beside and not (first == WEIGHTS and INDEX in present):  # two whole copies are compared by `read`
        raise ModelError(
            f"{folder} holds weights that {first} does not name ({some(beside)})",
            hint="is it the index of another model? Move away what does not belong there",
        )
    return [folder / name for name in files]


def named_weights(folder: Path) -> str | None:
    """The weights file that config.json chooses among several, where it does."""
    named = (
        read_json(folder / "config.json").get("transformers_weights") if (folder / "config.json").is_file() else None
    )
    return named if isinstance(named, str) else None


def indexed(index: Path) -> list[str]:
    """File names in an index, sorted. Raises `ModelError` for anything but names of files beside it."""
    found = read_json(index).get("weight_map")
    names = sorted({str(name) for name in found.values()}) if isinstance(found, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"{index}: expected the names of files in this folder", hint="fetch the whole model again")
    return names


def _no_weights(folder: Path, shards: set[str]) -> ModelError:
    if shards:
        return ModelError(
            f"{folder} holds {some(shards)}, but no {INDEX}", hint="copy the index too, or fetch the model again"
        )
    found = [words for pattern, words in _OTHER_FORMATS.items() if next(folder.glob(pattern), None)]
    if not found:
        return ModelError(f"{folder} holds no weights: there is no {WEIGHTS}", hint="fetch the whole model")
    return no_safetensors(str(folder), found[0])


def no_safetensors(name: str, found: str) -> ModelError:
    """The error for a model that has its weights in another format only."""
    return ModelError(
        f"{name} has no weights that are read here: it holds {found}, no {WEIGHTS}",
        hint="give a model with safetensors, or convert it: load it with transformers and `save_pretrained` it",
    )


def other_format(names: Iterable[str]) -> str | None:
    """What a list of files holds instead of safetensors, in words."""
    listed = [Path(name) for name in names]
    for pattern, words in _OTHER_FORMATS.items():
        if any(path.match(pattern) for path in listed if path.parent == Path()):
            return words
    return None


def read(folder: Path, *, pickled: bool = False) -> Checkpoint:
    """Files and tensors of a folder by their headers.

    Raises `ModelError` for a file that is cut off or none, a tensor that two files hold, one that the index names and
    nobody holds, and for two copies of the weights that differ.
    """
    files = weights_files(folder, pickled=pickled)
    if files[0].suffix != ".safetensors":
        return Checkpoint(tuple(files), {})
    tensors = _together(files)
    index = folder / INDEX
    if files[0].name == WEIGHTS and index.is_file():
        _same_copies(folder, tensors, _together([folder / name for name in indexed(index)]))
    elif index.is_file() and {p.name for p in files} == set(indexed(index)):
        lost = set(read_json(index)["weight_map"]) - set(tensors)
        if lost:
            raise ModelError(
                f"{folder}: {INDEX} names {len(lost)} tensors that no file holds ({some(lost)})",
                hint="fetch the whole model again",
            )
    return Checkpoint(tuple(files), tensors)


def _together(files: Iterable[Path]) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for path in files:
        own = header(path)
        twice = found.keys() & own.keys()
        if twice:
            raise ModelError(f"{path} and another file hold the same tensors ({some(twice)})")
        found |= own
    return found


def _same_copies(folder: Path, one: dict[str, StoredTensor], other: dict[str, StoredTensor]) -> None:
    differ = set(one) ^ set(other)
    differ |= {n for n in set(one) & set(other) if one[n][:2] != other[n][:2] or not _same_bytes(one[n], other[n])}
    if differ:
        raise ModelError(
            f"{folder} holds two models: {WEIGHTS} and the files of {INDEX} differ in {len(differ)} tensors "
            f"({some(differ)})",
            hint="move one of them away",
        )


def _same_bytes(one: StoredTensor, other: StoredTensor, block: int = 1 << 24) -> bool:
    with one.file.open("rb") as a, other.file.open("rb") as b:
        a.seek(one.start)
        b.seek(other.start)
        left = one.end - one.start
        while left > 0:
            size = min(block, left)
            if a.read(size) != b.read(size):
                return False
            left -= size
    return True


def header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file. Raises `ModelError` where the file is cut off, a pointer or no such file."""
    size = path.stat().st_size
    with path.open("rb") as content:
        begin = content.read(8)
        refuse_pointer(path, begin + content.read(32))
        length = int.from_bytes(begin, "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise ModelError(
                f"{path} is cut off or no safetensors file ({size:,} bytes)", hint="fetch it again, and compare sizes"
            )
        content.seek(8)
        text = content.read(length)
    try:
        entries = parse_object(text)
        entries.pop("__metadata__", None)
        tensors = {
            str(name): StoredTensor(
                str(each["dtype"]),
                tuple(map(int, each["shape"])),
                path,
                *(8 + length + int(i) for i in each["data_offsets"]),
            )
            for name, each in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path} is no safetensors file", hint="fetch it again") from error
    expected = max([8 + length, *(each.end for each in tensors.values())])
    if expected != size:
        raise ModelError(
            f"{path} is cut off or damaged: {size:,} bytes are there, its header says {expected:,}",
            hint="fetch it again; is the disk full?",
        )
    return tensors


def refuse_pointer(path: Path, begin: bytes) -> None:
    """Raise `ModelError` for the file that stands for a large one in a clone without git-lfs."""
    if begin.startswith(_POINTER):
        raise ModelError(
            f"{path} is a git-lfs pointer, not the file itself",
            hint="run `git lfs pull` in that folder, or fetch the model with `hf download`",
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises `ModelError` naming the file and the place."""
    try:
        text = bounded(path, LARGE)
        refuse_pointer(path, text[:64])
        found = parse_json(text, nan=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: it is no JSON ({error})", hint="fetch it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: expected a JSON object, found {type(found).__name__}")
    return found


def config(folder: Path) -> dict[str, Any]:
    """config.json as it is written. Raises `ModelError` where it is not there or damaged."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json", hint="give the folder that holds the model's files")
    return read_json(path)


def check_small_files(folder: Path) -> None:
    """Raise `ModelError` for settings, vocabularies or an index that are damaged; large ones only for pointers."""
    for name in _SMALL_JSON:
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size < 1_000_000:
            read_json(path)
            continue
        with path.open("rb") as content:  # parsed by whoever needs it; `damage` reads it where that fails
            refuse_pointer(path, content.read(64))
    for pattern in ("*.model", "*.txt", "*.tiktoken"):
        for path in folder.glob(pattern):
            with path.open("rb") as content:
                refuse_pointer(path, content.read(64))


def damage(folder: Path) -> ModelError | None:
    """What is wrong with a folder's files that a library could not read, if that can be seen."""
    try:
        for name in _SMALL_JSON:
            if (folder / name).is_file():
                read_json(folder / name)
        check_small_files(folder)
        for path in folder.glob("*.safetensors"):
            header(path)
    except ModelError as error:
        return error
    return None
