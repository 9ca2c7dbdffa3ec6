"""`prompts`: the drawn prompts of one language, class and split, frozen as an artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from refusalctl.data import sets
from refusalctl.errors import BadInput
from refusalctl.records.rows import Kind, Prompt, Split
from refusalctl.settings import CAPS, Experiment
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Artifact

FILE = "prompts.jsonl"


def _run(job: Job) -> dict[str, Any]:
    rows = sets.pick(job.params["data"], job.params["lang"], job.params["ids"])
    formats.write_rows(job.out / FILE, (row.to_json() for row in rows))
    return {"n": len(rows)}


STEP = Step("prompts", 1, "prompts", _run)


def partners(experiment: Experiment, lang: str, langs: Sequence[str], kind: Kind, split: Split) -> list[str]:
    """Languages that share this draw. Harmful prompts must be parallel in all; harmless ones where they can be."""
    everyone = list(dict.fromkeys((*langs, lang)))
    if kind == "harmful":
        return everyone
    return [each for each in everyone if each in sets.parallel(experiment.data, lang, everyone, kind, split)]


def prompts(
    bench: Workbench, experiment: Experiment, lang: str, kind: Kind, split: Split, langs: Sequence[str] = ()
) -> Artifact:
    """Draw prompts that all `langs` share (default: this language alone) and freeze this language's texts.

    A language whose harmless prompts are no translations of the others' gets its own draw, and a note says so.
    """
    group = partners(experiment, lang, langs, kind, split)
    apart = [other for other in langs if other not in group]
    if apart:
        bench.note(f"{lang}: its {kind} {split} prompts are not parallel with {', '.join(apart)}: another draw")
    n = experiment.n(split)
    ids = sets.draw(experiment.data, group, kind, split, n, experiment.seed)
    ids = ids if n is not None else ids[: CAPS[split]]
    rows = sets.pick(experiment.data, lang, ids)
    content = hashlib.sha256(b"\n".join(canonical(row.to_json()) for row in rows)).hexdigest()
    params = {"data": experiment.data, "lang": lang, "kind": kind, "split": split, "ids": ids, "content": content}
    about = {"data": experiment.data, "lang": lang, "kind": kind, "split": split, "n": len(ids)}
    return bench.obtain(STEP, params, {}, about)


def read(artifact: Artifact) -> list[Prompt]:
    """Rows of a prompts artifact. Raises `BadInput` if it holds none."""
    rows = [Prompt.from_json(row, FILE) for row in formats.read_rows(artifact.path / FILE)]
    if not rows:
        raise BadInput(f"{artifact.label} holds no prompts")
    return rows
