"""`labels sample` and `labels import`: completions to people, and their labels back.

The sheet says neither condition nor judge: ids are opaque, the order is shuffled. What an id stands for, and how many
completions its row stands for, is kept in the `sample` artifact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refusalctl.data import sheets
from refusalctl.errors import BadInput
from refusalctl.model.judges.protocol import Verdict
from refusalctl.records.rows import Completion, Label, SheetRow
from refusalctl.stats.sampling import draw
from refusalctl.steps.completions import read_completions
from refusalctl.steps.labelling.labels import LABELS_FILE, label_of, read_labels
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.names import check_name
from refusalctl.store.store import Artifact

SAMPLE_FILE = "sample.jsonl"
HUMAN = "human:"


def _run(job: Job) -> RunChecks:
    strata: dict[tuple[str, str], list[int]] = {}
    rows: list[tuple[str, Label]] = []
    answered = _answered(job)
    for name, artifact in sorted(job.inputs.items()):
        if name.startswith("labels:"):
            source = artifact.inputs["completions"]
            rows += [(source, row) for row in read_labels(artifact) if (source, row.prompt_id) in answered]
    for i, (source, row) in enumerate(rows):
        strata.setdefault((source, row.outcome), []).append(i)
    chosen = draw(strata, job.params["n"], job.params["seed"])
    made: list[SheetRow] = []
    for key, members in chosen.items():
        made += [_sheet_row(rows[i], len(strata[key]), len(members), job.params["seed"]) for i in members]
    order = np.random.default_rng([job.params["seed"], 1]).permutation(len(made))
    formats.write_rows(job.out / SAMPLE_FILE, (made[i].to_json() for i in order))
    return {"strata": len(strata), "drawn": len(made), "of": len(rows)}


def _answered(job: Job) -> set[tuple[str, str]]:
    """Completions with an answer: where a thought did not end there is nothing that people could judge."""
    written = [each for name, each in job.inputs.items() if name.startswith("completions:")]
    return {(each.id, row.prompt_id) for each in written for row in read_completions(each) if not row.unfinished}


def _sheet_row(row: tuple[str, Label], size: int, drawn: int, seed: int) -> SheetRow:
    source, label = row
    # led by a letter: a spreadsheet takes 1e5 or 00012 for a number, and saves it as another
    opaque = hashlib.sha256(f"{seed}:{source}:{label.prompt_id}".encode()).hexdigest()[:16]
    return SheetRow(f"r{opaque}", source, label.prompt_id, label.outcome, size, drawn, label.cluster)


SAMPLE = Step("sample", 2, "sample", _run)


def draw_sample(bench: Workbench, labels: Sequence[Artifact], n: int, seed: int = 0) -> Artifact:
    """Draw `n` completions of one language for people, equally from every condition and outcome of its judge.

    Raises `BadInput` for labels of several languages or judges, twice the same completions, or labels without text.
    """
    langs, judges = {a.about["lang"] for a in labels}, {(a.about["judge"], a.about.get("text")) for a in labels}
    if len(langs) != 1 or len(judges) != 1:
        raise BadInput(
            f"a sheet is of one language and one judge, found languages {', '.join(sorted(langs)) or 'none'} and "
            f"{len(judges)} judges"
        )
    sources = [a.inputs.get("completions") for a in labels]
    if None in sources or len(set(sources)) < len(sources):
        raise BadInput("every labels artifact must be of other completions, and of completions with text")
    inputs = {f"labels:{i}": a for i, a in enumerate(sorted(labels, key=lambda a: a.id))}
    for i, identifier in enumerate(sorted(str(s) for s in sources)):
        inputs[f"completions:{i}"] = bench.store.open("completions", identifier)
    about = {"lang": langs.pop(), "judge": labels[0].about["judge"], "n": n, "conditions": len(labels)}
    return bench.obtain(SAMPLE, {"n": n, "seed": seed}, inputs, about)


def write_sheet(bench: Workbench, drawn: Artifact, path: Path, *, replace: bool = False) -> int:
    """Write the sheet of a sample for annotators, CSV or JSON lines by its name. Returns the number of rows."""
    written: dict[str, dict[str, Completion]] = {}
    prompts: dict[str, dict[str, str]] = {}
    for name, identifier in drawn.inputs.items():
        if name.startswith("completions:"):
            artifact = bench.store.open("completions", identifier)
            bench.store.check(artifact)
            written[identifier] = {row.prompt_id: row for row in read_completions(artifact)}
            prompts[identifier] = _prompt_texts(bench, artifact)
    rows = [
        {
            "id": row.id,
            "prompt": prompts[row.completions].get(row.prompt_id, ""),
            "response": written[row.completions][row.prompt_id].text,
            "label": "",
            "comment": "",
        }
        for row in read_sample(drawn)
    ]
    sheets.write(path, rows, replace=replace)
    return len(rows)


def _prompt_texts(bench: Workbench, completions: Artifact) -> dict[str, str]:
    identifier = completions.inputs.get("prompts")
    if identifier is None:
        return {}
    return {p.id: p.text for p in read_prompts(bench.store.open("prompts", identifier))}


def import_sheet(
    bench: Workbench, path: Path, drawn: Artifact, annotator: str, *, partial: bool = False
) -> list[Artifact]:
    """A filled-in sheet as labels by the judge `human:ANNOTATOR`, one artifact per condition.

    `partial` accepts rows without a label, which are then absent. Raises `DataError` for a sheet that does not fit the
    sample, `BadInput` for an incomplete one. "unsure" is `unparsed`.
    """
    check_name(annotator)
    rows = read_sample(drawn)
    sheet = sheets.read(path, [row.id for row in rows])
    if not sheet.labels or (sheet.empty and not partial):
        raise BadInput(
            f"{path.name}: {len(sheet.empty)} of {len(rows)} rows have no label",
            hint="have them labelled, or take what is there with --partial",
        )
    found = []
    for source in sorted({row.completions for row in rows}):
        mine = [row for row in rows if row.completions == source and row.id in sheet.labels]
        if mine:
            found.append(_labels(bench, drawn, source, mine, sheet, annotator))
    return found


def _labels(
    bench: Workbench, drawn: Artifact, source: str, rows: Sequence[SheetRow], sheet: sheets.Sheet, annotator: str
) -> Artifact:
    written = bench.store.open("completions", source)
    answers = {row.prompt_id: row for row in read_completions(written)}
    labels = [_label(answers[row.prompt_id], sheet.labels[row.id], annotator) for row in rows]
    labels.sort(key=lambda label: label.prompt_id)

    def run(job: Job) -> RunChecks:
        formats.write_rows(job.out / LABELS_FILE, (label.to_json() for label in labels))
        return {"n": len(labels)}

    content = hashlib.sha256(repr([(x.prompt_id, x.outcome) for x in labels]).encode()).hexdigest()
    judge = f"{HUMAN}{annotator}"
    params = {"judge": judge, "content": content, "completions": source}
    about = {**written.about, "judge": judge, "labelled": len(labels)}
    step = Step("human-labels", 1, "labels", run)
    return bench.obtain(step, params, {"completions": written, "sample": drawn}, about)


def _label(row: Completion, said: str, annotator: str) -> Label:
    verdict = Verdict("unparsed", "annotator unsure") if said == "unsure" else Verdict(said, "")
    return label_of(row, verdict, f"{HUMAN}{annotator}")


def read_sample(artifact: Artifact) -> list[SheetRow]:
    """The rows of a sample, in the order of the sheet."""
    return [SheetRow.from_json(row, SAMPLE_FILE) for row in formats.read_rows(artifact.path / SAMPLE_FILE)]
