"""From what a person asks for to a shipment: look up references, follow the lineage, ask the receiver what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refusalctl.errors import BadInput, NotFound
from refusalctl.file_errors import printable
from refusalctl.store import names as store_names
from refusalctl.store import references
from refusalctl.store.artifact import Artifact
from refusalctl.store.exchange.shipment import Shipment, in_levels, without
from refusalctl.store.exchange.sides import Receiver, Source
from refusalctl.store.hashing import short


def plan(
    source: Source,
    receiver: Receiver | None,
    asked: Sequence[str],
    *,
    everything: bool = False,
    names: bool = False,
    check: bool = False,
) -> Shipment:
    """What has to be sent so that the receiver has these artifacts with their lineage.

    `everything`: all that the source has. `names`: names that point to any of it go along. No receiver: an archive,
    which has nothing. Raises `BadInput`, `NotFound`, `Ambiguous`, `Corrupt`.
    """
    if everything == bool(asked):
        raise BadInput("say what is meant", hint="give ids, names or queries, or --all for everything")
    if everything:
        chosen = source.open_all(sorted(source.folders()))
        if not chosen:  # a wrong address looks like an empty one
            raise NotFound(f"there are no artifacts in {source.where}", hint="check the address")
    else:
        chosen = list({a.id: a for ref in asked for a in references.resolve_all(source, ref)}.values())
    found = _lineage(source, receiver, chosen)
    levels = in_levels(found)
    held = receiver.holding(found, check=check) if receiver is not None else set()
    going = _names(source, found) if names else {}
    if receiver is not None and going:
        taken = receiver.names()
        check_names(going, taken, receiver.where)
        going = {name: target for name, target in going.items() if name not in taken}
    there = tuple(a for level in levels for a in level if a.id in held)
    return Shipment(tuple(chosen), without(levels, held), there, going, check)


def _lineage(source: Source, receiver: Receiver | None, chosen: Sequence[Artifact]) -> list[Artifact]:
    """These artifacts and everything they were made from, as far as the source has it; what it has not, the receiver
    must have."""
    kinds: dict[str, str] | None = None
    found = {a.id: a for a in chosen}
    lost: dict[str, Artifact] = {}
    wave: Sequence[Artifact] = chosen
    while wave:
        wanted = {i: a for a in wave for i in a.inputs.values() if i not in found and i not in lost}
        if wanted and kinds is None:
            kinds = {identifier: kind for kind, identifier in source.folders()}
        lost |= {i: a for i, a in wanted.items() if i not in (kinds or {})}
        wave = source.open_all([((kinds or {})[i], i) for i in wanted if i not in lost])
        found |= {a.id: a for a in wave}
    known = {i for _, i in receiver.folders()} if lost and receiver is not None else set[str]()
    for identifier, artifact in lost.items():
        if identifier not in known:
            role = next(role for role, i in artifact.inputs.items() if i == identifier)
            raise NotFound(
                f"{artifact.label} was made from {short(identifier)} ({printable(role)}), which {source.where} lacks",
                hint="its lineage is not whole there: compute or fetch what is missing first",
            )
    return list(found.values())


def _names(source: Source, found: Sequence[Artifact]) -> dict[str, str]:
    targets = {f"{a.kind}/{a.id}" for a in found}
    going = {name: target for name, target in sorted(source.names().items()) if target in targets}
    for name in going:
        store_names.check_name(name)
    return going


def check_names(going: Mapping[str, str], there: Mapping[str, str], where: str) -> None:
    """Raise `BadInput` where a name means something else on the other side."""
    for name, target in going.items():
        other = next((n for n in there if n.casefold() == name.casefold()), None)
        if other is not None and (other != name or there[other] != target):
            raise BadInput(
                f"the name {name!r} is taken in {where}: {other!r} points to {printable(there[other])[:30]}",
                hint="send without --names, or give one of them another name",
            )
