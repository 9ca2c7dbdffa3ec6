"""Commands of `refusalctl artifacts` that bring artifacts with their lineage to others: push, pull, export, import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.artifacts import size_text
from refusalctl.cli.session import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from refusalctl.disk import given_path
from refusalctl.errors import BadInput
from refusalctl.file_errors import printable
from refusalctl.progress import Advance
from refusalctl.records.printed import PrintedSharing, SharedArtifact
from refusalctl.store.exchange import archive
from refusalctl.store.exchange.addresses import address
from refusalctl.store.exchange.planning import plan
from refusalctl.store.exchange.shipment import Shipment
from refusalctl.store.exchange.sides import Receiver, Source, StoreSide
from refusalctl.store.hashing import short
from refusalctl.store.store import Store
from refusalctl.store.verify import require_store

References = Annotated[
    list[str] | None,
    typer.Argument(metavar="[REF...]", help="What to send, each as for `show`; a query means all that it fits."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Everything that is there.")]
NamesOption = Annotated[bool, typer.Option("--names", help="Names that point to any of it go along.")]
CheckOption = Annotated[
    bool,
    typer.Option(
        "--check", help="Read every byte of what the receiver has already, and send again what is damaged there."
    ),
]
TextsOption = Annotated[
    bool,
    typer.Option("--with-texts", help="Send prompts and answers too, which may be harmful, to where others may read."),
]
Elsewhere = Annotated[
    str, typer.Argument(help="A folder, a URL such as s3://bucket/folder, or hf://datasets/owner/name.")
]
ArchiveFile = Annotated[
    Path,
    typer.Argument(
        help="A file that ends in .tar or .tar.gz.", parser=lambda text: given_path(text, "the archive"), metavar="FILE"
    ),
]


def push(
    to: Elsewhere,
    refs: References = None,
    everything: AllOption = False,
    names: NamesOption = False,
    with_texts: TextsOption = False,
    check: CheckOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Send artifacts, and all that they were made from, to another folder, an object store or a dataset repository.

    Nothing is sent that is there already; an interrupted push goes on where it stopped. A dataset repository that is
    not there is created, private.
    """
    opened = _opened(store)
    other = address(to, opened, out.warn, receives=True)
    shipment = plan(StoreSide(opened), other.side, refs or (), everything=everything, names=names, check=check)
    if not other.local and not dry_run:
        shipment.allow(texts=with_texts, where=other.side.where)
    if not dry_run:
        _bring(f"send to {other.side.where}", shipment, StoreSide(opened), other.side, json)
    _finish(shipment, other.side.where, dry_run, json, "sent")


def pull(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where to fetch from, as for `push`.")],
    refs: References = None,
    everything: AllOption = False,
    names: NamesOption = False,
    check: CheckOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Fetch artifacts, and all that they were made from, from another folder, an object store or a dataset repository.

    Everything is verified against its manifest and its id before it counts; nothing is unpickled. What is here is not
    fetched; an interrupted pull goes on where it stopped.
    """
    opened = Store(store, out.warn)
    other = address(source, opened, out.warn, receives=False)
    shipment = plan(other.side, StoreSide(opened), refs or (), everything=everything, names=names, check=check)
    if not dry_run:
        _bring(f"fetch from {other.side.where}", shipment, other.side, StoreSide(opened), json)
    _finish(shipment, other.side.where, dry_run, json, "fetched")


def export_archive(
    file: ArchiveFile,
    refs: References = None,
    everything: AllOption = False,
    names: NamesOption = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Write artifacts, and all that they were made from, into one archive. The same artifacts give the same bytes."""
    archive.check_archive(file)
    if file.exists() and not replace:
        raise BadInput(f"{printable(str(file))} is there already", hint="--replace replaces it")
    opened = _opened(store)
    shipment = plan(StoreSide(opened), None, refs or (), everything=everything, names=names)
    if not dry_run:
        with out.progress(quiet=json).task("write the archive, kB", shipment.bytes // 1000) as advance:
            archive.export(shipment, opened, file, _Thousands(advance))
    _finish(shipment, str(file), dry_run, json, "written")


def import_archive(
    file: ArchiveFile,
    names: NamesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Take over what `export` wrote. Everything is verified before it counts; nothing is unpickled.

    Published runs of others are read by `refusalctl import`.
    """
    opened = Store(store, out.warn)
    with archive.reading(file) as reader:
        entries, here = reader.header.artifacts, {i for _, i in opened.ids()}
        sent = {entry.id for entry in entries} - here
        if names:
            reader.check_names(opened.names())
        if not dry_run:
            with out.progress(quiet=json).task("read the archive, kB", sum(e.bytes for e in entries) // 1000) as step:
                taken = archive.take(reader, opened, names=names, advance=_Thousands(step))
            sent = {artifact.id for artifact in taken}
    shown = [SharedArtifact(e.kind, e.id, e.bytes, e.id in sent) for e in entries]
    given = tuple(reader.header.names) if names else ()
    _show(
        PrintedSharing(str(file), dry_run, reader.header.chosen, tuple(shown), given, _sum(shown)), json, "taken over"
    )


class _Thousands:
    """Bytes as they come, told in thousands."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.bytes = advance, 0

    def __call__(self, n: int) -> None:
        before, self.bytes = self.bytes, self.bytes + n
        steps = self.bytes // 1000 - before // 1000
        if steps:
            self.advance(steps)


def _opened(path: Path) -> Store:
    store = Store(path, out.warn)
    require_store(store)
    return store


def _bring(what: str, shipment: Shipment, source: Source, receiver: Receiver, json: bool) -> None:
    with out.progress(quiet=json).task(f"{what}, kB", shipment.bytes // 1000) as advance:
        receiver.receive(shipment, source, _Thousands(advance))


def _finish(shipment: Shipment, where: str, dry_run: bool, json: bool, verb: str) -> None:
    shown = [SharedArtifact(a.kind, a.id, a.size, True) for a in shipment.artifacts]
    shown += [SharedArtifact(a.kind, a.id, a.size, False) for a in shipment.there]
    chosen = tuple(a.id for a in shipment.chosen)
    if dry_run and not json and shipment.texts:
        out.info("with prompts or answers: " + ", ".join(f"{n} {kind}" for kind, n in shipment.texts.items()))
    _show(PrintedSharing(where, dry_run, chosen, tuple(shown), tuple(shipment.names), _sum(shown)), json, verb)


def _sum(shown: Sequence[SharedArtifact]) -> int:
    return sum(each.bytes for each in shown if each.sent)


def _show(told: PrintedSharing, json: bool, verb: str) -> None:
    if json:
        out.as_json(told)
        return
    sent = [each for each in told.artifacts if each.sent]
    if told.dry_run:
        rows = [(each.kind, short(each.id), size_text(each.bytes)) for each in sent]
        out.table("", ("kind", "id", "size"), rows, right=("size",))
    else:
        for identifier in told.chosen:
            out.data(identifier)
    there = len(told.artifacts) - len(sent)
    names = f", and the names {', '.join(told.names)}" if told.names else ""
    line = f"{len(sent)} artifacts, {size_text(told.bytes)}{names}; {there} were there already ({told.where})"
    out.info(f"would be {verb}: {line}") if told.dry_run else out.success(f"{verb}: {line}")
