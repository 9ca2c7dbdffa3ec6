"""`refusalctl artifacts`: look into the store."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.tree import Tree

from refusalctl.cli import out
from refusalctl.cli.session import DEFAULT_STORE, JsonOption, StoreOption
from refusalctl.errors import BadInput, Corrupt
from refusalctl.records.printed import (
    Collected,
    ListedArtifact,
    PrintedName,
    PrintedPath,
    Problem,
    ShownArtifact,
    Verified,
)
from refusalctl.store.garbage import garbage, leftovers, sweep
from refusalctl.store.hashing import short
from refusalctl.store.listing import listing
from refusalctl.store.store import KINDS, Artifact, Store

app = typer.Typer(no_args_is_help=True, help="Look into the artifact store.")

Reference = Annotated[str, typer.Argument(help="Id, unique prefix, name, or a query such as directions:lang=ba.")]


def size_text(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


@app.command("ls")
def list_artifacts(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List artifacts, oldest first."""
    if kind is not None and kind not in KINDS:
        raise BadInput(f"{kind!r} is not a kind of artifact", hint=f"kinds: {', '.join(KINDS)}")
    opened = Store(store)
    found = listing(opened, kind)
    names: dict[str, list[str]] = {}
    for name, target in opened.names().items():
        names.setdefault(target.partition("/")[2], []).append(name)
    if json:
        out.as_json([ListedArtifact(a.kind, a.id, dict(a.about), a.bytes, tuple(names.get(a.id, ()))) for a in found])
        return
    rows = [
        (
            a.kind,
            short(a.id),
            out.about_line(a.about),
            size_text(a.bytes),
            _when(a.written),
            " ".join(names.get(a.id, [])),
        )
        for a in found
    ]
    out.table("", ("kind", "id", "about", "size", "written", "names"), rows, right=("size",))


def _when(written: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(written))


@app.command()
def show(ref: Reference, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Show one artifact: what it is, how it was computed, and its lineage as a tree."""
    from refusalctl.steps.interventions import in_words

    opened = Store(store)
    artifact = opened.resolve(ref)
    words = in_words(opened, artifact)
    if json:
        told = {} if words is None else {"in_words": words}
        found = {"id": artifact.id, "path": str(artifact.path), **artifact.manifest, **told}
        out.as_json(msgspec.convert({**found, "run": _run(opened, artifact)}, ShownArtifact))
        return
    tree = Tree(f"[bold]{artifact.kind}[/bold] {artifact.id}")
    for key, value in artifact.about.items():
        tree.add(f"{key}: {value}")
    for line in _words(artifact):
        tree.add(escape(line))
    if words is not None:
        tree.add(escape(f"done to the model: {words}"))
    for file, facts in artifact.manifest["files"].items():
        tree.add(f"{file}  {size_text(facts['bytes'])}  sha256:{short(facts['sha256'])}")
    run = _run(opened, artifact)
    if run is not None:
        tree.add(f"computed in {run['seconds']} s; checks {run['checks']}")
    _lineage(opened, artifact, tree.add("made from"), set())
    out.show(tree)


def _words(artifact: Artifact) -> list[str]:
    from refusalctl.report.artifact_words import described

    try:
        return described(artifact)
    except Corrupt as problem:
        out.warn(str(problem))
        return []


def _run(store: Store, artifact: Artifact) -> dict[str, Any] | None:
    try:
        return store.run_info(artifact)
    except Corrupt as problem:
        out.warn(str(problem))
        return None


def _lineage(store: Store, artifact: Artifact, branch: Tree, seen: set[str]) -> None:
    """Add inputs below `branch`; one that was shown already is named without its own inputs."""
    kinds = {identifier: kind for kind, identifier in store.ids()}
    for role, identifier in artifact.inputs.items():
        kind = kinds.get(identifier)
        if kind is None:
            branch.add(f"{role}: {short(identifier)} [red]not in the store[/red]")
            continue
        needed = store.open(kind, identifier)
        again = identifier in seen
        leaf = branch.add(f"{role}: {needed.label}  {out.about_line(needed.about)}" + (" (above)" if again else ""))
        if not again:
            seen.add(identifier)
            _lineage(store, needed, leaf, seen)


@app.command()
def path(ref: Reference, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Print the folder of an artifact."""
    artifact = Store(store).resolve(ref)
    out.as_json(PrintedPath(artifact.id, str(artifact.path))) if json else out.data(str(artifact.path))


@app.command()
def verify(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Hash every file again and report what was changed. Deletes nothing; exits 1 when something was."""
    opened = Store(store)
    problems = opened.verify(kind)
    if json:
        out.as_json(Verified(len(opened.ids(kind)), tuple(Problem(p.where, p.what) for p in problems)))
    else:
        for problem in problems:
            out.data(f"{problem.where}: {problem.what}")
        if not problems:
            out.success(f"{len(opened.ids(kind))} artifacts are as their manifests say")
    if problems:
        raise typer.Exit(1)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this only the plan is shown.")] = False,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Keep what is younger; a run in progress may still need it.")
    ] = 24.0,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Delete artifacts that no name, report or transfer needs. Shows the plan first; --yes carries it out."""
    opened = Store(store)
    unneeded, drafts = garbage(opened, 3600 * keep_hours), leftovers(opened, 3600 * keep_hours)
    freed = sum(a.size for a in unneeded)
    if yes:
        sweep(opened, unneeded, drafts)
    if json:
        ids = tuple(a.id for a in unneeded)
        out.as_json(Collected(freed, removed=ids) if yes else Collected(freed, would_remove=ids))
        return
    for artifact in unneeded:
        out.data(f"{artifact.label}  {out.about_line(artifact.about)}")
    verb = "removed" if yes else "would remove (add --yes)"
    out.info(f"{verb}: {len(unneeded)} artifacts, {size_text(freed)}; {len(drafts)} unfinished drafts")


@app.command()
def name(
    name: Annotated[str, typer.Argument(help="The name to give.")],
    ref: Reference,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Let a name point to an artifact."""
    opened = Store(store)
    artifact = opened.resolve(ref)
    opened.name(name, artifact)
    out.as_json(PrintedName(name, artifact.id)) if json else out.success(f"{name} is {artifact.label}")
