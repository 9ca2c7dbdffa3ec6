"""`refusalctl doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec.structs import replace

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks
from refusalctl.disk import gigabytes, write_whole
from refusalctl.errors import RefusalctlError
from refusalctl.file_errors import explain, explained
from refusalctl.locks import locked
from refusalctl.records.printed_checks import Checked, PrecisionChecked, PrintedDoctor
from refusalctl.settings import Machine
from refusalctl.store.drafts import leftovers, unfinished
from refusalctl.store.store import Store

if TYPE_CHECKING:
    from refusalctl.stats.precision import Deviation

LOOKED_AT = 5000  # artifacts whose manifests are read for damage; more would keep one waiting
HUB_SECONDS = 5  # until the hub counts as out of reach


@asks("model", "device", "dtype", "chat_template", "trust_remote_code", dry_run=False, named=False, file=False)
def doctor(
    session: Session,
    precision: Annotated[
        bool,
        typer.Option("--precision", help="Compare --dtype (bfloat16, nf4, ...) with float32 on sample prompts."),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option("--against", help="With --precision: the model in float32 that a quantised one was made from."),
    ] = None,
) -> None:
    """Check this machine: libraries, devices, memory against the model's need, data, store, hub. Exits 1 when something
    is missing."""
    if against is not None and not precision:
        raise typer.BadParameter("--against needs --precision")
    asked = session.asked.machine
    checked = {
        "libraries": _checked(_libraries),
        "data": _checked(_data),
        "store": _checked(lambda: _store(session.store)),
        "cache": _checked(_cache),
        "model": _checked(lambda: _model(asked.model, asked.chat_template)),
        "devices": _checked(_devices),
        "memory": _checked(lambda: _memory(asked)),
        "hub": _checked(lambda: _hub(asked.model)),
    }
    facts = msgspec.convert({name: Checked(*each) for name, each in checked.items()}, PrintedDoctor)
    if precision and checked["model"][0]:
        default = "bfloat16" if against is None else "auto"
        dtype = default if session.asked.origins["dtype"] == "default" else asked.dtype
        deviation = session.study.precision(dtype, against=against)
        facts = replace(facts, precision=PrecisionChecked(dtype, against, **deviation._asdict()))
        checked["precision"] = (True, _words(dtype, against, deviation))
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
    from refusalctl.model.files.gguf_file import UNWRITABLE

    folder = embedded.cache_dir()
    with explained("write to the cache", folder, hint=UNWRITABLE):
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
    """Whether it can be written to, what is in it, what dead processes left, and how much room there is."""
    told: list[str] = []
    opened = Store(path, told.append)
    with opened.draft() as draft:
        write_whole(draft / "probe", b"x")
        with locked(draft / "probe.lock", told.append):
            pass
    n, left = len(opened.ids()), len(leftovers(path)) + len(unfinished(path))
    facts = [f"{path}: writable", f"{n} artifacts", f"{gigabytes(shutil.disk_usage(path).free)} free on its disk"]
    damaged = 0
    if n <= LOOKED_AT:
        damaged = n - len(opened.all())  # which tells of them
    else:
        facts.append("`refusalctl artifacts verify` looks for damage")
    if left:
        facts.append(f"{left} things that interrupted processes left (`refusalctl artifacts gc`)")
    facts += [*told, *(["see `refusalctl artifacts verify`"] if damaged else [])]
    return not damaged, "; ".join(facts)


def _devices() -> tuple[bool, str]:
    from refusalctl.model.memory import devices

    return True, "; ".join(f"{d.name}: {gigabytes(d.free)} of {gigabytes(d.total)} free" for d in devices())


def _memory(asked: Machine) -> tuple[bool, str]:
    """What the model's weights need beside what is free where they would go."""
    from refusalctl.model.files.resolve import resolve
    from refusalctl.model.load import pick_device, pick_dtype
    from refusalctl.model.memory import devices, target, verdict, weights_bytes

    ref = resolve(asked.model, trust_remote_code=asked.trust_remote_code, template=asked.chat_template)
    dtype = pick_dtype(asked.dtype, asked.device)
    device = pick_device(asked.device, shard=True)
    return verdict(weights_bytes(ref, dtype, device), target(device, devices()), dtype)


def _hub(model: str) -> tuple[bool, str]:
    """Whether models could be fetched. It is missing only where this model would have to come from there."""
    from huggingface_hub import constants, get_session, get_token

    token = "a token is set" if get_token() else "no token: gated models are out of reach"
    if constants.HF_HUB_OFFLINE:
        return True, f"offline, as HF_HUB_OFFLINE asks: only models that are here; {token}"
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:  # its transport's own, whichever that is
        here = _checked(lambda: _model(model, None))[0]
        return (
            here,
            f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): only models that are here; {token}",
        )
    return True, f"{constants.ENDPOINT} answers; {token}"


def _model(spec: str, template: str | None) -> tuple[bool, str]:
    from refusalctl.model.files.resolve import resolve

    ref = resolve(spec, template=template)
    return True, f"{ref.name} at {ref.revision}"


def _words(dtype: str, against: str | None, found: Deviation) -> str:
    original = "" if against is None else f"{against} in "
    return (
        f"{dtype} against {original}float32 on {found.n} prompts: KL at the next token mean {found.kl_mean:.2g}, "
        f"largest {found.kl_max:.2g} nats, another first token in {found.other_first_token}; stream off by at most "
        f"{found.stream_max:.1%}; directions' smallest cosine {found.direction_cosine_min:.4f}"
    )
