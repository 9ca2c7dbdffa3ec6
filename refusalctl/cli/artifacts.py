"""`refusalctl artifacts`: look into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.tree import Tree

from refusalctl.cli import out
from refusalctl.cli.log import log
from refusalctl.cli.session import DEFAULT_STORE, JsonOption, StoreOption
from refusalctl.disk import tree_size
from refusalctl.errors import Corrupt
from refusalctl.file_errors import printable
from refusalctl.json_types import JsonObject
from refusalctl.records.printed import (
    Collected,
    ListedArtifact,
    PrintedName,
    PrintedPath,
    PrintedRemoval,
    Problem,
    ShownArtifact,
    Verified,
)
from refusalctl.store import removal
from refusalctl.store.garbage import Leftovers, garbage, left_behind, sweep
from refusalctl.store.hashing import short
from refusalctl.store.listing import ListingLine, listing
from refusalctl.store.references import check_kind, short_revision
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import require_store
from refusalctl.store.verify import verify as verify_store

app = typer.Typer(no_args_is_help=True, help="Look into the artifact store.")

Reference = Annotated[
    str, typer.Argument(help="Id, unique prefix, name, folder, or a query such as directions:lang=ba.")
]


def _opened(path: Path) -> Store:
    """The store, which must be there: nothing found in no store is no good news."""
    store = Store(path, out.warn)
    require_store(store)
    return store


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
    if kind is not None:
        check_kind(kind)
    opened = _opened(store)
    found = listing(opened, kind)
    abouts = _told_apart(found)
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
            out.about_line(about),
            size_text(a.bytes),
            _when(a.written),
            " ".join(names.get(a.id, [])),
        )
        for a, about in zip(found, abouts, strict=True)
    ]
    out.table("", ("kind", "id", "about", "size", "written", "names"), rows, right=("size",))


def _told_apart(lines: Sequence[ListingLine]) -> list[JsonObject]:
    """What each is about; a model's name with its revision where two models have that name."""
    revisions: dict[str, set[str]] = {}
    for line in lines:
        if line.revision:
            revisions.setdefault(str(line.about.get("model")), set()).add(line.revision)
    several = {name for name, found in revisions.items() if len(found) > 1}
    abouts = []
    for line in lines:
        name = str(line.about.get("model"))
        more = {"model": f"{name}@{short_revision(line.revision)}"} if name in several and line.revision else {}
        abouts.append({**line.about, **more})
    return abouts


def _when(written: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(written))


@app.command()
def show(ref: Reference, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Show one artifact: what it is, how it was computed, and its lineage as a tree."""
    from refusalctl.steps.interventions import in_words

    opened = _opened(store)
    artifact = opened.resolve(ref)
    words = in_words(opened, artifact)
    if json:
        told = {} if words is None else {"in_words": words}
        found = {"id": artifact.id, "path": str(artifact.path), **artifact.manifest, **told}
        out.as_json(msgspec.convert({**found, "run": _run(opened, artifact)}, ShownArtifact))
        return
    tree = Tree(f"[bold]{artifact.kind}[/bold] {artifact.id}")
    for key, value in artifact.about.items():
        tree.add(_line(f"{key}: {value}"))
    for line in _words(artifact):
        tree.add(_line(line))
    if words is not None:
        tree.add(_line(f"done to the model: {words}"))
    for file, facts in artifact.manifest["files"].items():
        tree.add(_line(f"{file}  {size_text(facts['bytes'])}  sha256:{short(facts['sha256'])}"))
    run = _run(opened, artifact)
    if run is not None:
        tree.add(_line(f"computed in {run.get('seconds')} s; checks {run.get('checks')}"))
    _lineage(opened, artifact, tree.add("made from"), {i: kind for kind, i in opened.ids()}, set())
    out.show(tree)


def _line(text: str) -> str:
    """Text from an artifact for rich: its brackets are no markup, and it stays on one line."""
    return escape(printable(text))


def _words(artifact: Artifact) -> list[str]:
    from refusalctl.report.artifact_words import described

    try:
        return described(artifact)
    except Corrupt as problem:
        out.warn(str(problem))
        return []


def _run(store: Store, artifact: Artifact) -> JsonObject | None:
    try:
        return store.run_info(artifact)
    except Corrupt as problem:
        out.warn(str(problem))
        return None


def _lineage(store: Store, artifact: Artifact, branch: Tree, kinds: Mapping[str, str], seen: set[str]) -> None:
    """Add inputs below `branch`; one that was shown already is named without its own inputs. `kinds`: by id."""
    for role, identifier in artifact.inputs.items():
        kind = kinds.get(identifier)
        if kind is None:
            branch.add(f"{_line(role)}: {short(identifier)} [red]not in the store[/red]")
            continue
        try:
            needed = store.open(kind, identifier)
        except Corrupt as problem:
            branch.add(f"{_line(role)}: {kind}/{short(identifier)} [red]{_line(problem.message)}[/red]")
            continue
        again = identifier in seen
        line = f"{role}: {needed.label}  {out.about_line(needed.about)}" + (" (above)" if again else "")
        leaf = branch.add(_line(line))
        if not again:
            seen.add(identifier)
            _lineage(store, needed, leaf, kinds, seen)


@app.command()
def path(ref: Reference, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """Print the folder of an artifact."""
    artifact = _opened(store).resolve(ref)
    out.as_json(PrintedPath(artifact.id, str(artifact.path))) if json else out.data(str(artifact.path))


app.command()(log)


@app.command()
def verify(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    lineage: Annotated[
        str | None, typer.Option(metavar="REF", help="Only this artifact and all that it was made from.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Hash every file again and report what was changed, is missing or unfinished, names and bookkeeping too. Deletes
    nothing; exits 1 when something was."""
    with ExitStack() as ends:
        found = verify_store(Store(store, out.warn), kind, lineage, _watched(ends, json))
    if json:
        problems = tuple(Problem(p.where, p.what, p.damage.value) for p in found.problems)
        out.as_json(Verified(found.checked, problems, tuple(found.foreign)))
    else:
        for problem in found.problems:
            out.data(f"{problem.where}: {problem.what}")
        if found.foreign:
            out.info(f"left by other programs, and passed over: {', '.join(map(printable, found.foreign))}")
        if found.problems:
            out.info("`refusalctl artifacts repair` shows what can be mended, and computed again")
        else:
            out.success(f"{found.checked} artifacts are as their manifests say")
    if found.problems:
        raise typer.Exit(1)


def _watched(ends: ExitStack, json: bool) -> Callable[[int], Callable[[], None]]:
    """A bar over the folders that are looked at, where a person looks."""

    def watched(total: int) -> Callable[[], None]:
        return ends.enter_context(out.progress(quiet=json).task("verify", total))

    return watched


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this only the plan is shown.")] = False,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Keep what is younger; a run in progress may still need it.")
    ] = 24.0,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Delete artifacts that no name, report, transfer or person's work needs, and what killed processes left. Shows the
    plan first; --yes carries it out. What people labelled, sampled or imported is kept."""
    opened = _opened(store)
    age = 3600 * keep_hours
    unneeded, left = garbage(opened, age), left_behind(opened, age)
    freed = sum(a.size for a in unneeded) + sum(map(tree_size, (*left.drafts, *left.rows, *left.logs)))
    if not json:
        for artifact in unneeded:
            out.data(f"{artifact.label}  {out.about_line(artifact.about)}")
        for path, words in _left_words(left):
            out.data(f"{path}  {words}")
    if yes:
        sweep(opened, unneeded, left, age)
    if json:
        ids = tuple(a.id for a in unneeded)
        paths = (*left.drafts, *left.rows, *left.marks, *left.locks, *left.logs)
        found = Collected(freed, removed=ids) if yes else Collected(freed, would_remove=ids)
        told = tuple(str(path.relative_to(opened.root)) for path in paths)
        out.as_json(msgspec.structs.replace(found, leftovers=told))
        return
    verb = "removed" if yes else "would remove (add --yes)"
    swept = (
        f"{len(left.drafts)} unfinished drafts, {len(left.rows)} interrupted steps, {len(left.marks)} marks of results "
        f"that are gone, {len(left.locks)} locks of ended processes, {len(left.logs)} old logs"
    )
    out.info(f"{verb}: {len(unneeded)} artifacts, {swept}; {size_text(freed)}")


def _left_words(left: Leftovers) -> Iterator[tuple[str, str]]:
    """What was left, and why it can go."""
    for draft in left.drafts:
        yield f"tmp/{printable(draft.name)}", "left by a process that has ended"
    for folder in left.rows:
        yield f"partial/{printable(short(folder.name))}", "rows of a step that was interrupted: it would go on here"
    for mark in left.marks:
        yield f"recipes/{short(mark.parent.name)}/{short(mark.name)}", "what it gave is gone"
    for lock in left.locks:
        yield f"{lock.parent.name}/{printable(lock.name)}", "a lock of a process that has ended"
    for file in left.logs:
        yield f"events/{printable(file.name)}", "the log of a run that ended long ago"


@app.command("rm")
def remove_artifacts(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="What to delete, each as for `show`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this only the plan is shown.")] = False,
    dependants: Annotated[
        bool, typer.Option("--dependants", help="Delete what was made from them too, and what was made from that.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Delete them though names point to them, with the names.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Delete artifacts, damaged ones too. Shows the plan first; --yes carries it out.

    Refuses where others were made from them, or names point to them, unless asked to delete these too.
    """
    opened = _opened(store)
    plan = removal.plan(opened, refs)
    if not json:
        for line in (*plan.asked, *plan.dependants):
            out.data(f"{line.kind}/{short(line.id)}  {out.about_line(line.about)}".rstrip())
    plan.check(dependants=dependants, names=names)
    if yes:
        plan.carry_out(opened)
    if json:
        out.as_json(PrintedRemoval(yes, plan.ids, tuple(plan.names), plan.bytes))
        return
    verb = "removed" if yes else "would remove (add --yes)"
    told = f"{verb}: {len(plan.ids)} artifacts, {size_text(plan.bytes)}"
    out.info(told + (f", and the names {', '.join(plan.names)}" if plan.names else ""))


@app.command()
def name(
    name: Annotated[str, typer.Argument(help="The name to give.")],
    ref: Reference,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Let a name point to an artifact."""
    opened = _opened(store)
    artifact = opened.resolve(ref)
    opened.name(name, artifact)
    out.as_json(PrintedName(name, artifact.id)) if json else out.success(f"{name} is {artifact.label}")
