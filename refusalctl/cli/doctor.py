"""`refusalctl doctor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks
from refusalctl.disk import write_whole
from refusalctl.errors import RefusalctlError
from refusalctl.file_errors import explain, explained
from refusalctl.records.printed import Checked, PrecisionChecked, PrintedDoctor
from refusalctl.store.store import Store

if TYPE_CHECKING:
    from refusalctl.stats.precision import Deviation


@asks("model", "device", "dtype", "chat_template", "trust_remote_code", dry_run=False, named=False, file=False)
def doctor(
    session: Session,
    precision: Annotated[
        bool,
        typer.Option("--precision", help="Compare --dtype (bfloat16) with float32 on sample prompts."),
    ] = False,
) -> None:
    """Check this machine: libraries, device, model, data, store. Exits 1 when something is missing."""
    asked = session.asked.machine
    checked = {
        "libraries": _checked(_libraries),
        "data": _checked(_data),
        "store": _checked(lambda: _store(session.store)),
        "cache": _checked(_cache),
        "model": _checked(lambda: _model(asked.model, asked.chat_template)),
    }
    libraries, data, store, cache, model = (Checked(*each) for each in checked.values())
    facts = PrintedDoctor(libraries, data, store, cache, model)
    if precision and checked["model"][0]:
        dtype = "bfloat16" if session.asked.origins["dtype"] == "default" else asked.dtype
        deviation = session.study.precision(dtype)
        facts = replace(facts, precision=PrecisionChecked(dtype, **deviation._asdict()))
        checked["precision"] = (True, _words(dtype, deviation))
    if session.json:
        out.as_json(facts)
    else:
        rows = [(k, "ok" if ok else "problem", t) for k, (ok, t) in checked.items()]
        out.table("", ("what", "state", "found"), rows)
    if not all(ok for ok, _ in checked.values()):
        raise typer.Exit(1)


def _checked(look: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    """One check. What a disk refuses is found by it, and the others go on."""
    try:
        return look()
    except RefusalctlError as error:
        return False, str(error)
    except OSError as error:
        told = explain(error)
        if told is None:
            raise
        return False, str(told)


def _cache() -> tuple[bool, str]:
    from refusalctl.model.files import embedded

    folder = embedded.cache_dir()
    with explained("write to the cache", folder, hint=embedded.UNWRITABLE):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "probe", b"x")
        (folder / "probe").unlink()
    return True, f"{folder}: writable"


def _libraries() -> tuple[bool, str]:
    from refusalctl.model.load import pick_device, pick_dtype, versions

    facts = versions()
    used = ", ".join(f"{k} {v}" for k, v in facts.items() if v is not None)
    return True, f"{used}; device {pick_device('auto')}, dtype {pick_dtype('auto', 'auto')}"


def _data() -> tuple[bool, str]:
    from refusalctl.data import polyrefuse, sample

    fetched = "fetched" if polyrefuse.is_fetched() else "not fetched (`refusalctl data fetch`)"
    return bool(sample.languages()), f"sample: {', '.join(sample.languages())}; polyrefuse: {fetched}"


def _store(path: Path) -> tuple[bool, str]:
    opened = Store(path)
    with opened.draft() as draft:
        write_whole(draft / "probe", b"x")
    return True, f"{path}: writable, {len(opened.ids())} artifacts"


def _model(spec: str, template: str | None) -> tuple[bool, str]:
    from refusalctl.model.files.resolve import resolve

    ref = resolve(spec, template=template)
    return True, f"{ref.name} at {ref.revision}"


def _words(dtype: str, found: Deviation) -> str:
    return (
        f"{dtype} against float32 on {found.n} prompts: KL at the next token mean {found.kl_mean:.2g}, largest "
        f"{found.kl_max:.2g} nats, another first token in {found.other_first_token}; stream off by at most "
        f"{found.stream_max:.1%}; directions' smallest cosine {found.direction_cosine_min:.4f}"
    )
