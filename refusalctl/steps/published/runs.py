"""`import`: published completions, labels and directions as artifacts of the usual kinds, marked as imported.

Everything that was given is read and checked before the first artifact is written. A recipe holds the digest of the
file and what the user said about it, so the same file imported twice is the same artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalctl.data.published_labels import ConditionLabels, is_labels, read_labels
from refusalctl.data.published_runs import (
    CUT_AT,
    INTERVENTIONS,
    PublishedLabel,
    PublishedRun,
    differing,
    name_parts,
    read_json,
    read_run,
)
from refusalctl.errors import BadInput
from refusalctl.records.rows import Kind, Label, Row
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.labelling.labels import LABELS_FILE, label_of
from refusalctl.steps.labelling.translations import TRANSLATIONS_FILE
from refusalctl.steps.prompts import PROMPTS_FILE
from refusalctl.steps.published.directions import Tensors, find_tensors, import_tensors
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import Artifact

VERSION = 1
HARM_JUDGES = ("llamaguard2", "harmbench")


@dataclass(frozen=True)
class Request:
    """What the files cannot say of themselves. `source` is the repository and commit they come from."""

    lang: str | None = None
    source: str = ""
    model: str = "imported"
    revision: str = "unknown"
    kind: Kind | None = None
    condition: str | None = None
    direction_lang: str | None = None
    rule: Rule | None = None

    def needed_lang(self, path: Path) -> str:
        if self.lang is None:
            raise BadInput(f"{path.name} does not say its language", hint="give the language of its prompts: --lang")
        return self.lang

    def about(self, condition: str) -> dict[str, Any]:
        """How a published condition is called here; `ablation_ja` is ablation of the Japanese direction."""
        named = re.fullmatch(r"(ablation|actadd)_([a-z]{2,3})", condition)
        plain, origin = named.groups() if named else (condition, None)
        about: dict[str, Any] = {"intervention": INTERVENTIONS.get(plain, plain), "condition": condition}
        direction_lang = self.direction_lang or origin
        if direction_lang and about["intervention"] != "none":
            about["direction_lang"] = direction_lang
        return about


@dataclass(frozen=True)
class _Given:
    """One file, read and checked."""

    path: Path
    sha256: str
    content: PublishedRun | tuple[str, list[ConditionLabels]]


def import_files(bench: Workbench, paths: Sequence[Path], request: Request) -> list[Artifact]:
    """Artifacts of published files and run folders, in the order in which they depend on each other.

    Raises `DataError` naming the first file and row that is not what it should be; then nothing is written. Raises
    `BadInput` when nothing that can be imported was given.
    """
    files = _files(paths)
    given = [_read(path, request) for path in files if path.suffix == ".json" and not _of_tensors(path)]
    tensors = find_tensors(files, request.rule is not None)
    if tensors is not None:
        request.needed_lang(tensors.first)
    if not given and tensors is None:
        raise BadInput(
            f"nothing to import in {', '.join(p.name for p in paths)}",
            hint="expected *_completions.json, *_evaluations.json, mean_diffs.pt, direction*.pt or published labels",
        )
    found: list[Artifact] = []
    for each in given:
        found += _import_json(bench, each, request)
    if tensors is not None:
        found += _import_tensors(bench, tensors, request)
    return found


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files meant: those named, and of a folder the ones whose names are known. Evaluations hold their completions,
    so the completions file beside them is left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and (name_parts(p)[1] or _of_tensors(p)))
        elif path.is_file():
            found.append(path)
        else:
            raise BadInput(f"{path} is not there")
    judged = {p.parent / p.name.replace("_evaluations", "_completions") for p in found if "_evaluations" in p.stem}
    return [p for p in dict.fromkeys(found) if p not in judged or name_parts(p) == ("", "")]


def _of_tensors(path: Path) -> bool:
    return path.suffix == ".pt" or path.stem.startswith(("direction_metadata", "direction_evaluations"))


def _read(path: Path, request: Request) -> _Given:
    if name_parts(path)[1] or not is_labels(read_json(path)):
        return _Given(
            path, file_digest(path), read_run(path, request.needed_lang(path), request.kind, request.condition)
        )
    return _Given(path, file_digest(path), read_labels(path))


def step(kind: str, rows: Sequence[Row], file: str) -> Step:
    """The step that writes rows which were read before."""

    def run(job: Job) -> dict[str, Any]:
        formats.write_rows(job.out / file, (row.to_json() for row in rows))
        return {"n": len(rows)}

    return Step(f"import-{kind}", VERSION, kind, run)


def _import_json(bench: Workbench, given: _Given, request: Request) -> list[Artifact]:
    if isinstance(given.content, PublishedRun):
        return _import_run(bench, given, given.content, request)
    model, labels = given.content
    return [artifact for each in labels for artifact in _import_labels(bench, given, model, each, request)]


def _import_run(bench: Workbench, given: _Given, run: PublishedRun, request: Request) -> list[Artifact]:
    lang, kind = run.prompts[0].lang, run.prompts[0].kind
    facts: dict[str, Any] = {
        "file": given.path.name,
        "sha256": given.sha256,
        "source": request.source,
        "lang": lang,
        "kind": kind,
    }
    about = {"data": f"imported:{run.dataset}", "lang": lang, "kind": kind, "split": "test", "n": len(run.prompts)}
    about |= {"provenance": "imported", "source": request.source}
    prompts = bench.obtain(step("prompts", run.prompts, PROMPTS_FILE), facts, {}, about)
    about |= {"model": request.model, "revision": request.revision, **request.about(run.condition)}
    params = facts | {"condition": run.condition, "model": request.model, "revision": request.revision}
    params |= {"direction_lang": about.get("direction_lang")}
    written = bench.obtain(step("completions", run.completions, COMPLETIONS_FILE), params, {"prompts": prompts}, about)
    found, inputs = [prompts, written], {"completions": written}
    if run.translations is not None:
        english = step("translations", run.translations, TRANSLATIONS_FILE)
        told = about | {"translator": "imported"}
        found.append(bench.obtain(english, params, inputs, told))
        inputs = inputs | {"translations": found[-1]}
    text = "native" if run.translations is None else "back-translation"
    for judge, said in run.judged.items():
        labels = [_label(row, each, judge) for row, each in zip(run.completions, said)]
        name = {"judge": f"imported:{judge}", "text": text}
        told = about | name | ({"translator": "imported"} if text != "native" else {})
        found.append(bench.obtain(step("labels", labels, LABELS_FILE), params | name, inputs, told))
    _tell(bench, given, run)
    return found


def _tell(bench: Workbench, given: _Given, run: PublishedRun) -> None:
    for note in differing(run.reported, run.judged):
        bench.note(f"{given.path.name}: {note}")
    if run.zeros:
        bench.note(
            f"{given.path.name}: WildGuard's three answers are all 'no' in {run.zeros} rows; the published code writes "
            "that also for a verdict that it could not read, so some of these may be no compliance"
        )
    cut = sum(len(row.text) == CUT_AT for row in run.completions)
    if cut:
        bench.note(f"{given.path.name}: {cut} responses were cut at {CUT_AT} characters before they were judged")


def _label(row: Any, said: PublishedLabel, judge: str) -> Label:
    from refusalctl.model.judges.protocol import NO_REFUSAL_LABEL, Verdict

    cut = len(row.text) == CUT_AT
    if judge in HARM_JUDGES:
        verdict = Verdict("unparsed", said.reason or NO_REFUSAL_LABEL, said.harmful, None, cut)
    else:
        verdict = Verdict(_outcome(said), said.reason, said.harmful, None, cut)
    return label_of(row, verdict, f"imported:{judge}")


def _outcome(said: PublishedLabel) -> str:
    return "unparsed" if said.refusal is None else "refusal" if said.refusal else "compliance"


def _import_labels(
    bench: Workbench, given: _Given, model: str, found: ConditionLabels, request: Request
) -> list[Artifact]:
    """Labels alone: prompts are known by their position, the same in every language and condition."""
    kind: Kind = request.kind or "harmful"
    name = model if request.model == "imported" else request.model
    params = {"file": given.path.name, "sha256": given.sha256, "source": request.source, "lang": found.lang}
    params |= {"kind": kind, "condition": found.condition, "model": name}
    about = {"model": name, "data": "imported", "lang": found.lang, "kind": kind, "split": "test", "n": found.n}
    about |= {"provenance": "imported", "source": request.source, **request.about(found.condition)}
    artifacts = []
    for judge, said in found.said.items():
        rows = [
            Label(f"{kind}-test-{i:03d}", _outcome(s), f"imported:{judge}", s.reason, None, harmful=s.harmful)  # type: ignore[arg-type]
            for i, s in enumerate(said)
        ]
        judged = {"judge": f"imported:{judge}"}
        artifacts.append(bench.obtain(step("labels", rows, LABELS_FILE), params | judged, {}, about | judged))
    for note in differing(found.reported, found.said):
        bench.note(f"{given.path.name}, {found.lang} {found.condition}: {note}")
    return artifacts


def _import_tensors(bench: Workbench, tensors: Tensors, request: Request) -> list[Artifact]:
    about = {
        "model": request.model, "revision": request.revision, "lang": request.needed_lang(tensors.first),
        "data": "imported", "provenance": "imported", "source": request.source,
    }  # fmt: skip
    return import_tensors(bench, tensors, about, request.rule)
