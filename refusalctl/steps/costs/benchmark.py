"""`lm-eval`: an lm-eval task under one intervention or none, item by item."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.json_types import JsonObject
from refusalctl.model import harness
from refusalctl.model.harness import HarnessTask
from refusalctl.records.cost_rows import BenchmarkItem
from refusalctl.steps.interventions import InterventionSpec, from_recipe, resolve_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import digest, file_digest
from refusalctl.store.store import Artifact
from refusalctl.untrusted import Refused, read_bytes

ITEMS_FILE = "items.jsonl"
_NAME = re.compile(rb"^task:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)
_MOST_FILES = 2000  # beside a task's YAML: more is somebody's whole disk


class AskedTask(NamedTuple):
    """A task, and the digest of its local files; None: it is lm-eval's own, known by lm-eval's version."""

    task: HarnessTask
    files: str | None = None


def asked_task(text: str, limit: int | None = None, *, chat: bool = False) -> AskedTask:
    """A task by lm-eval's name for it, or by the path of its YAML file.

    Everything in the YAML's folder counts as the task's (data, templates, Python of `!function`), and its digest enters
    recipes. Raises `BadInput` for a file that is not there or names no task.
    """
    if not text.endswith((".yaml", ".yml")):
        return AskedTask(HarnessTask(text, None, limit, chat))
    path = Path(text).expanduser()
    with explained("read", path, kind=BadInput):
        try:
            named = _NAME.search(read_bytes(path))
        except Refused as error:
            raise BadInput(f"{path.name} cannot be read: {error}") from error
        if named is None:
            raise BadInput(f"{path.name} names no task", hint="expected a line such as `task: my_task`")
        folder = path.resolve().parent
        files = sorted(each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        if len(files) > _MOST_FILES:
            raise BadInput(
                f"the folder of {path.name} holds {len(files)} files, all of which would count as the task's",
                hint=f"put it into a folder of its own (at most {_MOST_FILES} files)",
            )
        known = digest({str(each.relative_to(folder)): file_digest(each) for each in files})
    return AskedTask(HarnessTask(named[1].decode(), folder, limit, chat), known)


def _run(job: Job, folder: Path | None = None) -> RunChecks:
    from refusalctl.model.hooks import Checks

    params, checks = job.params, Checks()
    if params["files"] is not None and folder is None:
        raise BadInput("a task of local files needs these files again", hint="run the command that made it")
    asked = resolve_direction(from_recipe(params["intervention"], job.inputs))
    task = HarnessTask(params["task"], folder, params["limit"], params["chat"])
    label = f"lm-eval {task.name} {asked.kind if asked.kind != 'none' else 'baseline'}"
    with job.bench.progress.task(label, 1) as advance:
        found = harness.run_task(job.bench.model, task, asked, job.bench.machine.batch_size, checks)
        advance()
    for metric in found.left_out:
        job.bench.note(f"lm-eval's {metric} has no number per item, so that nothing could be paired: it is left out")
    rows = [BenchmarkItem(*item) for item in found.items]
    formats.write_rows(job.out / ITEMS_FILE, (row.to_json() for row in rows))
    items = len({(row.task, row.item) for row in rows})
    return {**checks.as_json(), "items": items, "forward_passes": found.passes, "left_out": list(found.left_out)}


LM_EVAL = Step("lm-eval", 2, "benchmark", _run, uses_model=True)


def run_benchmark(bench: Workbench, asked: AskedTask, spec: InterventionSpec) -> Artifact:
    """Every item of a task under an intervention. Raises `BadInput` where lm-eval, or the task, is not there."""
    spec.check(bench)
    if spec.positions is not None:
        raise BadInput(
            "an intervention at chosen positions of the prompt has no meaning for lm-eval's requests",
            hint="leave --at-positions out, or the tasks",
        )
    task = asked.task
    params: JsonObject = {
        "intervention": spec.params(),
        "task": task.name,
        "files": asked.files,
        "limit": task.limit,
        "chat": task.chat,
        "lm_eval": harness.version(),
    }
    about: JsonObject = {"model": bench.ref.name, "task": task.name, "intervention": spec.kind}
    if bench.dry_run:
        about["n"] = _requests(bench, task)
    return bench.obtain(replace(LM_EVAL, run=partial(_run, folder=task.folder)), params, spec.inputs(), about)


def _requests(bench: Workbench, task: HarnessTask) -> int:
    """Counted once per plan: every condition puts the same requests."""
    mine = [line for line in bench.plan if line.step == LM_EVAL.name and line.about.get("task") == task.name]
    known = [int(line.about["n"]) for line in mine if line.about.get("n") is not None]  # what is finished tells none
    return known[0] if known else harness.count_requests(task)


def read_items(artifact: Artifact) -> list[BenchmarkItem]:
    return [BenchmarkItem.from_json(row, ITEMS_FILE) for row in formats.read_rows(artifact.path / ITEMS_FILE)]
