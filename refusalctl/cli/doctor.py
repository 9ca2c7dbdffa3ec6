"""`refusalctl doctor`."""

from __future__ import annotations

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.errors import RefusalctlError


def doctor(
    store: o.StoreOption = o.DEFAULT_STORE, model: o.ModelOption = o.DEFAULT_MODEL, json: o.JsonOption = False
) -> None:
    """Check this machine: libraries, device, model, data, store. Exits 1 when something is missing."""
    import typer

    found = {"libraries": _libraries(), "data": _data(), "store": _store(store), "model": _model(model)}
    if json:
        out.as_json({k: {"ok": ok, "found": text} for k, (ok, text) in found.items()})
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
    from refusalctl.model.resolve import resolve

    try:
        ref = resolve(spec)
    except RefusalctlError as error:
        return False, str(error)
    return True, f"{ref.name} at {ref.revision}"
