"""What hostile files are read by: one case of each target, made from a seed, and what a person would do with it."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.torture import hostile_files, mutations, outside
from refusalctl.store.hashing import canonical, content_digest, digest, file_digest
from refusalctl.store.listing import VERSION
from refusalctl.store.manifest import MANIFEST, RUN
from refusalctl.store.store import Store
from tests.golden.make import STORE as GOLDEN

__all__ = ["GOLDEN", "ROOT", "TARGETS", "Escaped", "prepare"]

Case = Callable[[random.Random, Path], Callable[[], None]]  # writes below a folder; what it gives back reads it
ROOT = Path(__file__).resolve().parents[2]
TARGET = b"somebody's\n"
SCRIPT = "<script>alert(1)</script>"
FIGURES = ("compliance", "refusal_rates", "transfer_matrix", "layer_scores")  # drawn as nothing


class Escaped(Exception):
    """Something that is no text reached the output, or a page."""


def command(*args: str) -> None:
    """One command of the shell. Raises what is no known error, and `Escaped` for what a terminal would obey."""
    from refusalctl.cli import app
    from refusalctl.terminal import safe

    said, sys.argv = io.StringIO(), ["refusalctl", *args]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        app._call("--json" in args)
    if safe(said.getvalue()) != said.getvalue():
        raise Escaped(f"{args[0]} printed what is no text")
    if "not enough memory" in said.getvalue():
        raise MemoryError


# --- stores ------------------------------------------------------------------------------------------


def golden_store(folder: Path) -> Path:
    """A store with one artifact of every kind, which shares its unchanged files with the frozen one."""
    root = folder / "store"
    shutil.copytree(GOLDEN, root, copy_function=_linked)
    return root


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


@cache
def _artifacts() -> list[tuple[str, str, tuple[str, ...]]]:
    return [(k, i, tuple(sorted(Store(GOLDEN).open(k, i).manifest["files"]))) for k, i in Store(GOLDEN).ids()]


def put(path: Path, content: bytes) -> None:
    """Another file at this place, not other bytes in a file that is shared."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def sealed(folder: Path) -> str:
    """Make an artifact's folder agree with its files, as somebody who means harm would; its new id."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_bytes())
    for name in manifest["files"]:
        manifest["files"][name] = {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}
    put(path, canonical(manifest))
    return renamed(folder)


def renamed(folder: Path) -> str:
    identifier = content_digest((folder / MANIFEST).read_bytes())
    if identifier != folder.name:
        folder.rename(folder.with_name(identifier))
    return identifier


def look(root: Path, kind: str, identifier: str, random_: random.Random) -> Callable[[], None]:
    """Open, verify, list, show, and read an artifact whole through the library."""
    store = str(root)
    commands = [
        ("artifacts", "verify", "--store", store),
        ("artifacts", "ls", "--store", store),
        ("artifacts", "ls", "--store", store, "--json"),
        ("artifacts", "show", identifier[:20], "--store", store),
        ("artifacts", "show", identifier[:20], "--store", store, "--json"),
        ("artifacts", "gc", "--store", store),
        ("report", identifier[:20], "--store", store, "--no-geometry") if kind == "transfer" else ("artifacts", "rm"),
    ]
    chosen = random_.sample(commands, 2)

    def read() -> None:
        for args in chosen:
            command(*args)
        with _known():
            whole(root, kind, identifier)

    return read


@contextlib.contextmanager
def _known() -> Iterator[None]:
    from refusalctl.errors import RefusalctlError

    with contextlib.suppress(RefusalctlError):
        yield


def whole(root: Path, kind: str, identifier: str) -> None:
    """Everything that the library gives of one artifact."""
    from refusalctl.report.artifact_words import described
    from refusalctl.results import base

    store = Store(root)
    artifact = store.open(kind, identifier)
    for look_at in (store.check, store.run_info, described):
        with _known():
            look_at(artifact)
    found: Any = base.result(store, artifact)
    for name in sorted(set(dir(type(found)))):
        if not name.startswith("_") and not callable(getattr(type(found), name, None)):
            with _known():
                getattr(found, name)
    with _known():
        page = found._repr_html_()
        if SCRIPT in page:
            raise Escaped("a notebook would run a script")


def stored(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A payload file of an artifact is changed, and half of the time all is made to agree with it."""
    root = golden_store(folder)
    kind, identifier, files = random_.choice([a for a in _artifacts() if a[0] != "report"])
    name = random_.choice(files)
    home = root / kind / identifier
    put(home / name, mutations.any_of(random_, name, (home / name).read_bytes()))
    return look(root, kind, sealed(home) if random_.random() < 0.7 else identifier, random_)


def manifest(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A manifest or a run record is changed; its folder may be called after it."""
    root = golden_store(folder)
    kind, identifier, _files = random_.choice(_artifacts())
    home = root / kind / identifier
    name = random_.choice((MANIFEST, MANIFEST, MANIFEST, RUN))
    put(home / name, mutations.any_of(random_, name, (home / name).read_bytes()))
    if name == MANIFEST and random_.random() < 0.8:
        identifier = renamed(home)
    return look(root, kind, identifier, random_)


def place(random_: random.Random, folder: Path) -> Callable[[], None]:
    """Something else than a file, or than a folder, stands where one belongs."""
    root = golden_store(folder)
    kind, identifier, files = random_.choice(_artifacts())
    home = root / kind / identifier
    if random_.random() < 0.2:
        home.rename(folder / "elsewhere")
        home.symlink_to(
            folder / "elsewhere" if random_.random() < 0.5 else random_.choice(("/", "/etc", ".", home.name))
        )
    else:
        mutations.of_place(random_, home / random_.choice((*files, MANIFEST, RUN)), _target(folder))
    return look(root, kind, identifier, random_)


def bookkeeping(random_: random.Random, folder: Path) -> Callable[[], None]:
    """Names, marks of recipes, locks, rows of unfinished work and what is remembered."""
    root = golden_store(folder)
    kind, identifier, _files = random_.choice(_artifacts())
    key = hashlib.sha256(b"recipe").hexdigest()
    owner = {"user": "a", "host": "b", "pid": 1, "born": "1", "machine": "c", "boot": "d", "since": 1.0, "needs": []}
    line = {f"{kind}/{identifier}": [1, 2, 3, {"lang": "en"}, 4.0, "r"]}
    seeds = {
        "names/mine": f"{kind}/{identifier}\n".encode(),
        f"recipes/{key}/{identifier}": kind.encode(),
        f"partial/{key}.lock": b" " + canonical({"owner": owner})[1:],
        f"partial/{key}/rows.jsonl": b'{"id":"a","text":"b"}\n' * 3,
        "cache/listing.json": canonical({"version": VERSION, "lines": line, "digest": digest(line)}),
        "tmp/1-2-a-b-c/x.json": b"{}",
    }
    for name, content in seeds.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    name = random_.choice(sorted(seeds))
    if random_.random() < 0.2:
        mutations.of_place(random_, root / name, _target(folder))
    else:
        put(root / name, mutations.any_of(random_, f"{name}.json", seeds[name]))
    if random_.random() < 0.2:
        with contextlib.suppress(OSError, ValueError):
            (root / "names" / random_.choice(mutations.HOSTILE)).write_bytes(seeds["names/mine"])

    def read() -> None:
        from refusalctl.store import formats

        look(root, kind, identifier, random_)()
        with _known():
            formats.read_finished_rows(root / "partial" / key / "rows.jsonl")
        if (folder / "target").exists() and (folder / "target").read_bytes() != TARGET:
            raise Escaped("something was written where a link leads")

    return read


def _target(folder: Path) -> Path:
    """A file outside the store, to which a link may lead."""
    (folder / "target").write_bytes(TARGET)
    return folder / "target"


def linked(random_: random.Random, folder: Path) -> Callable[[], None]:
    """Folders and files of the store's own lead elsewhere, while it is worked with: nothing is done there."""
    root, home = folder / "store", outside.elsewhere(folder)
    shutil.copytree(GOLDEN, root)
    outside.lead_elsewhere(random_, root, home)
    chosen = random_.sample(outside.deeds(), 4)

    def read() -> None:
        with outside.untouched(home, Escaped):
            for deed in chosen:
                with _known():
                    deed(Store(root))

    return read


def hdf5(random_: random.Random, folder: Path) -> Callable[[], None]:
    """Files of activations that are HDF5 and hostile, or changed in their bytes."""
    root = golden_store(folder)
    kind, identifier, (name,) = next(a for a in _artifacts() if a[0] == "activations")
    path = root / kind / identifier / name
    if random_.random() < 0.6:
        hostile_files.hdf5(path, random_)
    if random_.random() < 0.5:
        begin = path.read_bytes()
        cut = begin[:8192] if random_.random() < 0.8 else begin  # where the headers are
        put(path, mutations.of_bytes(random_, cut) + begin[len(cut) :])
    identifier = sealed(path.parent)

    def read() -> None:
        from refusalctl.store import formats

        here = root / kind / identifier / name
        for each in (formats.map_activations, lambda p: list(formats.activation_batches(p, 1))):
            with _known():
                float(each(here)[0].sum())
        look(root, kind, identifier, random_)()

    return read


def safetensors(random_: random.Random, folder: Path) -> Callable[[], None]:
    """Files of vectors that are safetensors and hostile, or changed in their bytes."""
    root = golden_store(folder)
    several = [a for a in _artifacts() if any(name.endswith(".safetensors") for name in a[2])]
    kind, identifier, files = random_.choice(several)
    path = root / kind / identifier / next(name for name in files if name.endswith(".safetensors"))
    if random_.random() < 0.6:
        path.unlink()
        hostile_files.safetensors(path, random_)
    else:
        put(path, mutations.of_bytes(random_, path.read_bytes()))
    return look(root, kind, sealed(path.parent), random_)


# --- a person's files --------------------------------------------------------------------------------


def toml(random_: random.Random, folder: Path) -> Callable[[], None]:
    """An experiment file."""
    file = folder / "study.toml"
    file.write_bytes(
        mutations.of_bytes(random_, random_.choice(sorted((ROOT / "examples").glob("*.toml"))).read_bytes())
    )
    if random_.random() < 0.1:
        file.write_text(
            "[experiment]\nlangs = " + random_.choice(("[" * 5000, "9" * 5000, '"\\ud800"', '"\\u001b[31m"'))
        )
    return lambda: command("run", str(file), "--explain", *random_.choice(((), ("--json",))))


def prompts(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A file of prompts of somebody's own, in every form."""
    rows = [{"id": f"p{i}", "kind": "harmless", "split": "test", "goal": f"How do I bake loaf {i}?"} for i in range(6)]
    seeds = {
        "own.csv": b"id,kind,split,goal\n" + b"".join(b"p%d,harmless,test,How do I bake?\n" % i for i in range(6)),
        "own.json": json.dumps(rows).encode(),
        "own.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows),
        "own.txt": "\n".join(row["goal"] for row in rows).encode(),
        "own.tsv": b"goal\tkind\nHow?\tharmless\n",
        "own.parquet": _parquet(),
    }
    name = random_.choice([each for each in seeds if seeds[each]])
    content = mutations.any_of(random_, name, seeds[name])
    if random_.random() < 0.15:
        content = gzip.compress(content) if random_.random() < 0.9 else hostile_files.gzip_bomb(content[:20])
        name, content = f"{name}.gz", mutations.of_bytes(random_, content) if random_.random() < 0.3 else content
    file = folder / name
    file.write_bytes(content)
    os.environ["REFUSALCTL_DATA_DIR"] = str(folder / "data")
    args = ("data", "add", str(file), "--lang", "en", "--kind", "harmless", "--split", "test")

    def read() -> None:
        command(*args, *random_.choice(((), ("--json",))))
        command("data", "ls")

    return read


@cache
def _parquet() -> bytes:
    try:
        from pyarrow import table
        from pyarrow.parquet import write_table
    except ImportError:
        return b""
    found = io.BytesIO()
    write_table(table({"goal": ["How?", "Why?"] * 50, "n": list(range(100))}), found)
    return found.getvalue()


def imported(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A published run: answers with verdicts, labels alone, or directions with their scores."""
    seeds = _published()
    group = random_.choice(sorted(seeds))
    home = folder / "run"
    home.mkdir()
    for name, content in seeds[group].items():
        (home / name).write_bytes(content)
    name = random_.choice(sorted(seeds[group]))
    if name.endswith(".pt") and random_.random() < 0.6:
        hostile_files.torch_file(home / name, random_)
    else:
        (home / name).write_bytes(mutations.any_of(random_, name, seeds[group][name]))
    args = ("import", str(home), "--lang", "de", "--source", "somewhere@1", "--store", str(folder / "store"))

    def read() -> None:
        command(*args, *random_.choice(((), ("--json",))))
        if (folder / "store").is_dir():
            command("artifacts", "ls", "--store", str(folder / "store"))
        if Path("unpickled-here").exists():
            raise Escaped("code of a torch file was run")

    return read


@cache
def _published() -> dict[str, dict[str, bytes]]:
    import torch

    rows = [
        {
            "instruction": f"Wie backe ich Brot Nummer {i} mit viel Mehl?",
            "instruction_en": f"How do I bake loaf {i}?",
            "response": "Dabei kann ich leider nicht helfen."
            if i % 2
            else f"Mische Mehl und Wasser, warte {i} Stunden.",
            "response_translated": "I cannot help with that." if i % 2 else f"Mix flour and water, wait {i} hours.",
            "generation_tokens": "1 2 3 3 3",
            "wildguard": {"request_harmful": 0, "refusal": i % 2, "response_harmful": 0},
            "is_jailbreak_substring_matching": i % 2,
        }
        for i in range(6)
    ]
    cell = {"refusal": "0101", "response_harmful": "0000", "n": 4, "reported": {"wildguard_refusal": 0.5}}
    labels = {"model": "m", "labels": {"de": {"baseline": cell, "ablation_en": cell}}}
    scores = [
        {"position": -p, "layer": n, "refusal_score": 0.1, "steering_score": 0.2, "kl_div_score": 0.3}
        for p in (1, 2)
        for n in range(3)
    ]

    def saved(tensor: torch.Tensor) -> bytes:
        content = io.BytesIO()
        torch.save(tensor, content)
        return content.getvalue()

    return {
        "answers": {
            "harmful_baseline_evaluations.json": json.dumps({"wildguard_refusal": 0.5, "completions": rows}).encode()
        },
        "labels": {"harmful_labels.json": json.dumps(labels).encode()},
        "directions": {
            "mean_diffs.pt": saved(torch.ones(2, 3, 4)),
            "direction.pt": saved(torch.ones(4)),
            "direction_metadata.json": json.dumps({"pos": -1, "layer": 2}).encode(),
            "direction_evaluations.json": json.dumps(scores).encode(),
        },
    }


def sheet(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A sheet that an annotator gives back."""
    from refusalctl.data import sheets

    file = folder / "sheet.csv"
    seed = b"id,prompt,response,label,comment\n" + b"".join(b'"r%d","p","q","refusal",""\n' % i for i in range(4))
    file.write_bytes(mutations.of_bytes(random_, seed))

    def read() -> None:
        with _known():
            sheets.read(file, [f"r{i}" for i in range(4)])

    return read


def model(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A folder of a model: its settings, template, index and the headers of its weights."""
    from refusalctl.model.files import checkpoint, resolve

    home = folder / "model"
    home.mkdir()
    for name, content in _model().items():
        (home / name).write_bytes(content)
    name = random_.choice(sorted(_model()))
    (home / name).write_bytes(mutations.any_of(random_, name, _model()[name]))

    def read() -> None:
        with _known():
            resolve.resolve(str(home))
        with _known():
            checkpoint.read(home)

    return read


@cache
def _model() -> dict[str, bytes]:
    import struct

    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return {
        "config.json": json.dumps({"model_type": "llama", "hidden_size": 8, "architectures": ["X"]}).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": template, "model_max_length": 10**30}).encode(),
        "tokenizer.json": json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": []}).encode(),
        "generation_config.json": b'{"eos_token_id": 1}',
        "model.safetensors": struct.pack("<Q", len(header)) + header + bytes(16),
        "chat_template.jinja": template.encode(),
    }


def page(random_: random.Random, folder: Path) -> Callable[[], None]:
    """A transfer whose words are hostile, and its page, tables and notebook view."""
    from refusalctl.report.book import book
    from refusalctl.report.page import page as drawn
    from refusalctl.report.tables import as_latex, as_markdown, rates_csv

    bench, top = _world()
    root = folder / "store"
    shutil.copytree(bench.store.root, root, copy_function=_linked)
    home = root / "transfer" / top
    for name in ("transfer.json", MANIFEST) if random_.random() < 0.7 else ("transfer.json",):
        put(home / name, mutations.of_json(random_, (home / name).read_bytes()))
    identifier = renamed(home)
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        identifier = sealed(root / "transfer" / identifier)

    def read() -> None:
        with _known():
            store = Store(root)
            rows = book(
                store,
                [store.open("transfer", identifier)],
                {},
                [_unfit()],
                reference="en",
                with_published=False,
                with_text=True,
            )
            if SCRIPT in drawn(rows, dict.fromkeys(FIGURES, "")):
                raise Escaped("a page would run a script")
            if "\\input{" in as_latex(rows):
                raise Escaped("a table would read a file")
            as_markdown(rows)
            rates_csv(rows)
        look(root, "transfer", identifier, random_)()

    return read


def _unfit() -> Any:
    from refusalctl.report.excluded import Unfit

    return Unfit()


@cache
def _world() -> tuple[Any, str]:
    """A store with everything that a transfer is made of, with hostile texts in it, and the transfer's id."""
    world = import_module("tests.steps.world").World(
        Path(tempfile.mkdtemp(prefix="torture-world-")), model=SCRIPT, text=SCRIPT + "\x1b[31m"
    )
    made = world.transfer({lang: world.selection(lang) for lang in ("en", "ba")})
    return world.bench, made.id


def prepare() -> None:
    """Make and import once what every child needs."""
    with tempfile.TemporaryDirectory() as folder:
        root = golden_store(Path(folder))
        for kind, identifier, _files in _artifacts():
            command("artifacts", "show", identifier, "--store", str(root), "--json")
            whole(root, kind, identifier)
    for make in (_artifacts, _parquet, _published, _model, _world):
        make()


TARGETS: dict[str, Case] = {
    "stored": stored,
    "manifest": manifest,
    "place": place,
    "bookkeeping": bookkeeping,
    "linked": linked,
    "hdf5": hdf5,
    "safetensors": safetensors,
    "toml": toml,
    "prompts": prompts,
    "imported": imported,
    "sheet": sheet,
    "model": model,
    "page": page,
}
