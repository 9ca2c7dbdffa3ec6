"""Thought and answer apart in published runs, where texts are all that there is: no tokenizer and no template.

A thought is what stands between a pair of tags at the beginning of a response, or before a closing tag that nothing
opened: then the template had opened it, outside the response, and so for every row of the file. A row of such a file
without the closing tag is a thought that did not end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec.structs import replace as changed

from refusalctl.data.published_runs import PublishedLabel, PublishedRun
from refusalctl.data.published_runs import translation as published_translation
from refusalctl.model.judges.protocol import UNFINISHED
from refusalctl.model.reasoning import FORMS, Thinking
from refusalctl.model.thoughts import Parts, Reader
from refusalctl.records.rows import Completion, Translation

_EVIDENCE = "the text alone"
_ENGLISH_MIXED = "translated with its thought"
JUDGED_MIXED = "judged with its thought"


class _Letters:
    """Each letter is a token: what `Reader` needs of a tokenizer, where a text is all that is known."""

    all_special_tokens: tuple[str, ...] = ()

    def get_vocab(self) -> dict[str, int]:
        return {}

    def decode(self, ids: Sequence[int], **_how: bool) -> str:
        return "".join(map(chr, ids))


def read_texts(texts: Sequence[str]) -> list[Parts]:
    """Thought and answer of every response of one file."""
    letters = [[ord(letter) for letter in text] for text in texts]
    plain = Reader(_Letters(), Thinking("on", "model", FORMS, _EVIDENCE))
    parts = [plain.read(each) for each in letters]
    stray = {
        form.closes: form for form in FORMS for part in parts if part.form == f"{form.closes} without an opening tag"
    }
    closed = sum(part.form.endswith("without an opening tag") for part in parts)
    if len(stray) != 1 or 2 * closed <= len(parts) or any(part.form.endswith("opened by the model") for part in parts):
        return parts
    opened = Reader(_Letters(), Thinking("on", "template", tuple(stray.values()), _EVIDENCE, stands="open"))
    return [opened.read(each) if part.state == "none" else part for each, part in zip(letters, parts, strict=True)]


def thoughts_apart(run: PublishedRun) -> tuple[PublishedRun, str | None]:
    """The run with answers alone as texts, its labels where there is an answer, and a note of what was done."""
    parts = read_texts([row.text for row in run.completions])
    states = Counter[str](part.state for part in parts if part.state != "none")
    if not states:
        return run, None
    answers = [_answer(row, part) for row, part in zip(run.completions, parts, strict=True)]
    english = run.translations
    if english is not None:
        told = read_texts([row.text or "" for row in english])
        english = [_english(*each) for each in zip(answers, english, told, strict=True)]
    judged = {
        judge: [_said(label, answer) for label, answer in zip(labels, answers, strict=True)]
        for judge, labels in run.judged.items()
    }
    return replace(run, completions=answers, translations=english, judged=judged), _note(states, bool(judged))


def _answer(row: Completion, part: Parts) -> Completion:
    if part.state == "none":
        return row
    return changed(
        row,
        text=part.text,
        n_tokens=None,  # the published tokens are those of thought and answer together
        token_ids=(),
        reasoning=part.reasoning,
        reasoning_state=part.state,
        reasoning_form=f"{part.form}, in {_EVIDENCE}",
    )


def _english(answer: Completion, published: Translation, told: Parts) -> Translation:
    """The answer's translation; none where thought and answer were translated as one text without their tags."""
    if answer.reasoning_state == "none" or published.failed:
        return published
    found = published_translation(answer, answer.text, told.text if told.state == answer.reasoning_state else None)
    failed = UNFINISHED if answer.unfinished else _ENGLISH_MIXED
    return changed(found, failed=failed) if found.failed else found


def _said(label: PublishedLabel, answer: Completion) -> PublishedLabel:
    """A label is of the text that its judge read: with a thought in it, of no answer."""
    if answer.reasoning_state == "none":
        return label
    return PublishedLabel(None, None, UNFINISHED if answer.unfinished else JUDGED_MIXED)


def _note(states: Mapping[str, int], judged: bool) -> str:
    told = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    note = f"{sum(states.values())} responses hold a thought ({told}), told from the answer by {_EVIDENCE}"
    return note + (
        "; published labels of these judged both together and are not taken: `refusalctl judge` judges the answers"
        if judged
        else ""
    )
