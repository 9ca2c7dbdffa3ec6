"""The same readers under a coverage-guided fuzzer (atheris, which is libFuzzer): bytes that reach new lines are kept
and changed further. Optional: `pip install atheris`; it stops at the first finding and writes it beside.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

READERS = ("json", "manifest", "vectors", "activations", "experiment", "table", "run")


def run(reader: str, seed: int, runs: int) -> None:
    """Never returns: libFuzzer ends the process, with 0 where nothing was found."""
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        sys.exit("coverage-guided fuzzing needs the package atheris: pip install atheris")
    if reader not in READERS:
        sys.exit(f"there is no coverage-guided reader {reader!r}; choose {', '.join(READERS)}")
    with atheris.instrument_imports(include=["refusalctl", "json", "tomllib", "csv"]):
        read, seeds = _reader(reader)
    from refusalctl.errors import RefusalctlError

    corpus = Path(tempfile.mkdtemp(prefix="torture-corpus-"))
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def once(content: bytes) -> None:
        with contextlib.suppress(RefusalctlError):
            read(content)

    limits = [
        f"-runs={runs}",
        f"-seed={seed + 1}",
        "-timeout=5",
        "-rss_limit_mb=2048",
        "-max_len=20000",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
    atheris.Fuzz()


def _reader(name: str) -> tuple[Callable[[bytes], Any], list[bytes]]:
    """What reads the bytes, and whole files to begin with."""
    from benchmarks.torture.targets import GOLDEN, ROOT, _model, _published
    from refusalctl import resolve
    from refusalctl.data import published_runs, tables
    from refusalctl.model.files import checkpoint
    from refusalctl.store import formats
    from refusalctl.store.manifest import checked, parsed
    from refusalctl.untrusted import parse_json

    room = Path(tempfile.mkdtemp(prefix="torture-guided-"))

    def of_file(suffix: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
        def written(content: bytes) -> Any:
            path = room / f"harmful_baseline_evaluations{suffix}"
            path.write_bytes(content)
            return read(path)

        return written

    def document(content: bytes) -> Any:
        try:
            return parse_json(content)
        except ValueError:
            return None

    def manifest(content: bytes) -> Any:
        try:
            value = parsed(content)
        except ValueError:
            return None
        return checked(value, "labels", "labels")

    def vectors(path: Path) -> Any:
        checkpoint.header(path)
        return formats.read_vectors(path, "directions")

    golden = sorted(p for p in GOLDEN.rglob("*") if p.is_file())

    def some(*ends: str) -> list[bytes]:
        return [p.read_bytes() for p in golden if p.name.endswith(ends) and p.stat().st_size < 20_000]

    read: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
        "json": (document, some(".json")),
        "manifest": (manifest, some("manifest.json")),
        "vectors": (of_file(".safetensors", vectors), [*some(".safetensors"), _model()["model.safetensors"]]),
        "activations": (of_file(".h5", formats.map_activations), some(".h5")),
        "experiment": (
            of_file(".toml", resolve.read_file), [p.read_bytes() for p in (ROOT / "examples").glob("*.toml")]
        ),
        "table": (of_file("", lambda path: tables.read_table(path, lambda names: "goal" in names)), [b"goal,x\na,b\n"]),
        "run": (
            of_file(".json", lambda path: published_runs.read_run(path, "de")), list(_published()["answers"].values())
        ),
    }  # fmt: skip
    return read[name]
