"""`refusalctl doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.errors import RefusalctlError

if TYPE_CHECKING:
    from refusalctl.stats.precision import Deviation


def doctor(
    store: o.StoreOption = o.DEFAULT_STORE,
    model: o.ModelOption = o.DEFAULT_MODEL,
    precision: Annotated[
        bool, typer.Option("--precision", help="Compare the model in --dtype with float32 on sample prompts.")
    ] = False,
    device: o.DeviceOption = "auto",
    dtype: o.DTypeOption = "bfloat16",
    trust_remote_code: o.TrustOption = False,
    json: o.JsonOption = False,
) -> None:
    """Check this machine: libraries, device, model, data, store. Exits 1 when something is missing."""
    found = {"libraries": _libraries(), "data": _data(), "store": _store(store), "model": _model(model)}
    facts: dict[str, Any] = {k: {"ok": ok, "found": text} for k, (ok, text) in found.items()}
    if precision and found["model"][0]:
        from refusalctl.steps.precision import compare_precision

        bench = o.workbench(store, model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        deviation = compare_precision(bench)
        facts["precision"] = {"dtype": dtype, **deviation._asdict()}
        found["precision"] = (True, _words(dtype, deviation))
    if json:
        out.as_json(facts)
    else:
        out.table("", ("what", "state", "found"), [(k, "ok" if ok else "problem", t) for k, (ok, t) in found.items()])
    if not all(ok for ok, _ in found.values()):
        raise typer.Exit(1)


def _libraries() -> tuple[bool, str]:
    from refusalctl.model.load import pick_device, pick_dtype, versions

    facts = versions()
    used = ", ".join(f"{k} {v}" for k, v in facts.items() if v is not None)
    return True, f"{used}; device {pick_device('auto')}, dtype {pick_dtype('auto', 'auto')}"


def _data() -> tuple[bool, str]:
    from refusalctl.data import polyrefuse, sample

    fetched = "fetched" if polyrefuse.is_fetched() else "not fetched (`refusalctl data fetch`)"
    return bool(sample.languages()), f"sample: {', '.join(sample.languages())}; polyrefuse: {fetched}"


def _store(path: o.StoreOption) -> tuple[bool, str]:
    opened = o.open_store(path)
    try:
        with opened.draft() as draft:
            (draft / "probe").write_bytes(b"x")
    except RefusalctlError as error:
        return False, str(error)
    return True, f"{path}: writable, {len(opened.ids())} artifacts"


def _model(spec: str) -> tuple[bool, str]:
    from refusalctl.model.files.resolve import resolve

    try:
        ref = resolve(spec)
    except RefusalctlError as error:
        return False, str(error)
    return True, f"{ref.name} at {ref.revision}"


def _words(dtype: str, found: Deviation) -> str:
    return (
        f"{dtype} against float32 on {found.n} prompts: KL at the next token mean {found.kl_mean:.2g}, largest "
        f"{found.kl_max:.2g} nats, another first token in {found.other_first_token}; stream off by at most "
        f"{found.stream_max:.1%}; directions' smallest cosine {found.direction_cosine_min:.4f}"
    )
