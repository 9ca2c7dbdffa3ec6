"""From rows of prompts to what the model is asked: encoded, proved to be whole, shown to fit, and recorded.

Every step that runs prompts comes through here; `Workbench.obtain` makes the same checks in a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from refusalctl.data.audit import has_marks
from refusalctl.model.context import Longest, Positions, positions_of
from refusalctl.records.rows import Prompt
from refusalctl.steps.prompt_rows import check_room, encoded
from refusalctl.steps.step import Job, Workbench

if TYPE_CHECKING:
    from refusalctl.model.chat import EncodedPrompt

_NAMED = 5  # ids in a note


def encode(
    job: Job, rows: Sequence[Prompt], new_tokens: int = 0, *, think_tokens: int = 0, scored: bool = False
) -> list[list[int]]:
    """Token ids of prompts, in their order. What was done is kept for `run.json`.

    `new_tokens` may follow each, behind up to `think_tokens` of a thought.

    `scored`: up to where answers begin, a thought that the model would have closed and empty.

    Raises `ModelError`, naming the prompt, where one would not reach the model as it is or has no room in it.
    """
    model = job.bench.model
    read = encoded(model.chat, rows, scored)
    limit = positions_of(model.model.config)
    longest = check_room(read, limit, new_tokens, think_tokens)
    _record(job, read, limit, longest, new_tokens + think_tokens)
    for note in model.chat.notes:
        job.bench.note(note)
    return [each.ids for each in read.values()]


def _record(job: Job, read: Mapping[str, EncodedPrompt], limit: Positions, longest: Longest, new_tokens: int) -> None:
    """What was asked, over all prompts of the step."""
    chat, asked = job.bench.model.chat, job.asked
    neutralised = [i for i, each in read.items() if each.neutralised]
    unknown = {i: each.unknown for i, each in read.items() if each.unknown}
    asked["prompts"] = asked.get("prompts", 0) + len(read)
    asked["neutralised"] = [*asked.get("neutralised", []), *neutralised]
    asked["trimmed"] = [*asked.get("trimmed", []), *(i for i, each in read.items() if each.trimmed)]
    asked["unknown_tokens"] = asked.get("unknown_tokens", {}) | unknown
    before = asked.get("longest", {"tokens": 0})
    if longest.tokens + new_tokens > before["tokens"] + before.get("new_tokens", 0):
        asked["longest"] = {**longest._asdict(), "new_tokens": new_tokens}
    asked["positions"] = limit.most
    asked["template"] = {
        "before": chat.frame.before,
        "after": chat.frame.after,
        "system_given": chat.system is not None,
        "system_trimmed": chat.frame.system_trimmed,
    }
    asked["pad_token_id"] = chat.pad_id
    _tell(job.bench, neutralised, unknown, limit)


def _tell(bench: Workbench, neutralised: Sequence[str], unknown: Mapping[str, int], limit: Positions) -> None:
    if neutralised:
        bench.note(
            f"{len(neutralised)} prompts hold control tokens of the model, which were broken by a space: "
            f"{_few(neutralised)}"
        )
    if unknown:
        bench.note(f"{len(unknown)} prompts hold signs that the tokenizer does not know: {_few(list(unknown))}")
    if limit.most is None:
        bench.note("the model's configuration names no largest number of positions: prompts' lengths were not checked")


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")


def marked_for(model: str | None) -> Callable[[str], bool]:
    """What tells whether a text holds control tokens: well-known marks, and those of a model's tokenizer.

    Weights are not read. Raises `ModelError` for a model that is not there.
    """
    if model is None:
        return has_marks
    from refusalctl.model.files.resolve import resolve
    from refusalctl.model.load import small

    _config, chat = small(resolve(model))
    return lambda text: has_marks(text) or chat.neutral(text) != text
