"""`import`: published completions, labels and directions as artifacts of the usual kinds, marked as imported.

Everything that was given is read and checked before the first artifact is written. A recipe holds the digest of the
file and what the user said about it, so the same file imported twice is the same artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalctl.data.published_labels import ConditionLabels, is_labels, read_labels
from refusalctl.data.published_runs import CUT_AT, PublishedRun, differing, name_parts, read_json, read_run
from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.interop.directions import SUFFIXES, given_vectors, import_vectors
from refusalctl.steps.labelling.labels import LABELS_FILE
from refusalctl.steps.labelling.translations import TRANSLATIONS_FILE
from refusalctl.steps.prompt_rows import PROMPTS_FILE
from refusalctl.steps.published.directions import find_directions, import_directions
from refusalctl.steps.published.labels import import_labels, label_of_answer
from refusalctl.steps.published.request import Request, rows_step
from refusalctl.steps.published.thoughts import thoughts_apart
from refusalctl.steps.step import Workbench
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import Artifact


@dataclass(frozen=True)
class _PublishedFile:
    """A file, read and checked: a run's answers, or a model's name and its labels."""

    path: Path
    sha256: str
    content: PublishedRun | tuple[str, list[ConditionLabels]]


def import_files(bench: Workbench, paths: Sequence[Path], request: Request) -> list[Artifact]:
    """Artifacts of published files and run folders, in the order in which they depend on each other.

    Raises `DataError` naming the first file and row that is not what it should be; then nothing is written. Raises
    `BadInput` when nothing that can be imported was given, or something was told that nothing given needs.
    """
    files = _files(paths)
    given = [_read(path, request) for path in files if path.suffix == ".json" and not _is_of_directions(path)]
    foreign = [path for path in files if path.suffix in SUFFIXES]
    vectors = given_vectors(foreign, request)
    directions = find_directions([p for p in files if p not in foreign], request.rule is not None)
    if directions is not None:
        request.needed_lang(directions.first)
    if not given and directions is None and not vectors:
        raise BadInput(
            f"nothing to import in {', '.join(p.name for p in paths)}",
            hint="expected *_completions.json, *_evaluations.json, mean_diffs.pt, direction*.pt, published labels, or "
            "directions as .safetensors or .gguf",
        )
    request.refuse_unused(answers=bool(given), directions=directions is not None, vectors=bool(vectors))
    artifacts = [artifact for each in given for artifact in _import_json(bench, each, request)]
    if directions is not None:
        artifacts += import_directions(bench, directions, request)
    return artifacts + import_vectors(bench, vectors)


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files meant: those named, and of a folder the ones whose names are known. Evaluations hold their completions,
    so the completions file beside them is left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and (name_parts(p)[1] or _is_of_directions(p)))
        elif path.is_file():
            found.append(path)
        else:
            raise BadInput(f"{path} is not there")
    judged = {p.parent / p.name.replace("_evaluations", "_completions") for p in found if "_evaluations" in p.stem}
    return [p for p in dict.fromkeys(found) if p not in judged or name_parts(p) == ("", "")]


def _is_of_directions(path: Path) -> bool:
    return path.suffix == ".pt" or path.stem.startswith(("direction_metadata", "direction_evaluations"))


def _read(path: Path, request: Request) -> _PublishedFile:
    if name_parts(path)[1] or not is_labels(read_json(path)):
        run = read_run(path, request.needed_lang(path), request.kind, request.condition)
        return _PublishedFile(path, file_digest(path), run)
    return _PublishedFile(path, file_digest(path), read_labels(path))


def _import_json(bench: Workbench, file: _PublishedFile, request: Request) -> list[Artifact]:
    if isinstance(file.content, PublishedRun):
        return _import_run(bench, file, file.content, request)
    model, labels = file.content
    return [
        artifact
        for each in labels
        for artifact in import_labels(bench, file.path.name, file.sha256, model, each, request)
    ]


def _import_run(bench: Workbench, file: _PublishedFile, run: PublishedRun, request: Request) -> list[Artifact]:
    """Prompts, answers, translations where there are any, and every judge's labels."""
    run, thoughts = thoughts_apart(run)
    if thoughts is not None:
        bench.note(f"{file.path.name}: {thoughts}")
    lang, kind = run.prompts[0].lang, run.prompts[0].kind
    params: JsonObject = {
        "file": file.path.name,
        "sha256": file.sha256,
        "source": request.source,
        "lang": lang,
        "kind": kind,
    }
    about: JsonObject = {
        "data": f"imported:{run.dataset}",
        "lang": lang,
        "kind": kind,
        "split": "test",
        "n": len(run.prompts),
        "provenance": "imported",
        "source": request.source,
    }
    prompts = bench.obtain(rows_step("prompts", run.prompts, PROMPTS_FILE), params, {}, about)
    model = {"model": request.model, "revision": request.revision}
    about = about | model | request.about(run.condition)
    params = params | model | {"condition": run.condition, "direction_lang": about.get("direction_lang")}
    answers = rows_step("completions", run.completions, COMPLETIONS_FILE)
    written = bench.obtain(answers, params, {"prompts": prompts}, about)
    artifacts, inputs, text = [prompts, written], {"completions": written}, "native"
    if run.translations is not None:
        english = rows_step("translations", run.translations, TRANSLATIONS_FILE)
        about = about | {"translator": "imported"}
        artifacts.append(bench.obtain(english, params, inputs, about))
        inputs, text = inputs | {"translations": artifacts[-1]}, "back-translation"
    for name, published in run.judged.items():
        labels = [label_of_answer(row, each, name) for row, each in zip(run.completions, published)]
        judge = {"judge": f"imported:{name}", "text": text}
        step = rows_step("labels", labels, LABELS_FILE)
        artifacts.append(bench.obtain(step, params | judge, inputs, about | judge))
    _tell(bench, file, run)
    return artifacts


def _tell(bench: Workbench, file: _PublishedFile, run: PublishedRun) -> None:
    for note in differing(run.reported, run.judged):
        bench.note(f"{file.path.name}: {note}")
    if run.zeros:
        bench.note(
            f"{file.path.name}: WildGuard's three answers are all 'no' in {run.zeros} rows; the published code writes "
            "that also for a verdict that it could not read, so some of these may be no compliance"
        )
    cut = sum(len(row.text) == CUT_AT for row in run.completions)
    if cut:
        bench.note(f"{file.path.name}: {cut} responses were cut at {CUT_AT} characters before they were judged")
