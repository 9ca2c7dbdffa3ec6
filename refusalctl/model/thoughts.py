"""Thought and answer apart, in the tokens that a model wrote.

Only the answer is judged. A thought that never ended, because its tokens were spent or the turn ended inside it, leaves
no answer. What counts as a thought is decided by evidence (`reasoning`): a model that nothing says to think may write
of tags as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from refusalctl.model.reasoning import ANSWER_TAGS, END_OF_MESSAGE, FORMS, Form, Thinking
from refusalctl.records.rows import ReasoningState

WINDOW = 24  # tokens that are looked at for a mark that has just been completed
_HEADER = re.compile(r"(?:<\|start\|>[^<]*)?(?:<\|channel\|>([^<]*))?(?:<\|constrain\|>[^<]*)?<\|message\|>")
_BEGUN = re.compile(r"\s*<\|?(?:start|channel|$)")
_OVER = re.compile(r"<\|(?:end|return|call|start|channel)\|>")


class Parts(NamedTuple):
    """What was found in written tokens.

    `ids` and `text` are the answer's, without tags around it and white space before it. `n_reasoning` counts the
    thought's tokens with its tags. `form` says which tags were found, and how. `start` is the index of the answer's
    first token, None while the end of the text is inside a thought. `pending`: it may still begin with a tag.
    """

    ids: list[int]
    text: str
    reasoning: str | None = None
    state: ReasoningState = "none"
    n_reasoning: int = 0
    form: str = ""
    start: int | None = 0
    pending: bool = False


class _Found(NamedTuple):
    """Thoughts as (start, content start, content end, end) in characters; `open`: the last one has not ended."""

    spans: list[tuple[int, int, int, int]]
    open: bool = False
    form: str = ""
    pending: bool = False


@dataclass
class Reader:
    """Reads what a model with this tokenizer wrote behind its prompts."""

    tokenizer: Any
    thinking: Thinking
    special: frozenset[str] = field(init=False)
    single: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        vocabulary = self.tokenizer.get_vocab() if self.thinking.forms else {}
        marks = [mark for form in self.thinking.forms for mark in form[:2]]
        self.special = frozenset(self.tokenizer.all_special_tokens)
        self.single = frozenset(mark for mark in marks if mark in vocabulary) if marks else frozenset()
        self.marks = [*marks, "<|"] if self.thinking.in_channels else marks

    @property
    def watches(self) -> bool:
        """Whether there are thoughts to look for while an answer is written."""
        return bool(self.thinking.forms)

    @property
    def soft_ends(self) -> frozenset[int]:
        """Tokens that end a message and, in any channel but the answer's, not the turn."""
        if not self.thinking.in_channels:
            return frozenset()
        token = self.tokenizer.convert_tokens_to_ids(END_OF_MESSAGE)
        return frozenset() if token is None or token == self.tokenizer.unk_token_id else frozenset({int(token)})

    def has_mark(self, ids: Sequence[int]) -> bool:
        """Whether the last tokens hold a mark that may change where the answer begins."""
        text = self._decode(ids[-WINDOW:])
        return any(mark in text for mark in self.marks)

    def read(self, ids: Sequence[int]) -> Parts:
        """Thought and answer; `ids` without the token that ended the turn."""
        ids = list(ids)
        if not self.watches:
            plain = self.tokenizer.decode(ids, skip_special_tokens=True)
            return self._declared_by_text(ids, plain)
        whole = self._decode(ids)
        found = self._channels(whole) if self.thinking.in_channels else self._tags(whole, self.thinking.forms)
        return self._parts(ids, whole, found)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _declared_by_text(self, ids: list[int], plain: str) -> Parts:
        """A model that nothing says to think: a tag on a line of its own, closed, before anything else, is a thought.

        Thoughts in plain text under another model's template look like that; a mention of a tag does not.
        """
        if not any(plain.lstrip().startswith(f"{form.opens}\n") for form in FORMS):
            return Parts(ids, plain)
        whole = self._decode(ids)
        found = _whole_lines(whole)
        return Parts(ids, plain) if found is None else self._parts(ids, whole, found)

    # --- tags --------------------------------------------------------------------------------------------

    def _tags(self, whole: str, forms: tuple[Form, ...]) -> _Found:
        opened, begun = self.thinking.stands == "open", whole.lstrip()
        form = forms[0] if opened else next((f for f in forms if begun.startswith(f.opens)), None)
        if form is None:
            if any(f.opens.startswith(begun) for f in forms):
                return _Found([], pending=True)
            return self._behind_stray(whole, 0, _Found([]), forms)
        how = "opened by the template" if opened else "opened by the model"
        at = 0 if opened else whole.index(form.opens)
        found = _Found([], form=f"{form.opens} {how}")
        body = at if opened else at + len(form.opens)
        while True:
            end = _balanced(whole, body, form)
            if end is None:
                return found._replace(spans=[*found.spans, (at, body, len(whole), len(whole))], open=True)
            found = found._replace(spans=[*found.spans, (at, body, end - len(form.closes), end)])
            rest = whole[end:]
            if not rest.lstrip().startswith(form.opens):
                break
            at = end + rest.index(form.opens)
            body = at + len(form.opens)
        return self._later(whole, end, self._behind_stray(whole, end, found, (form,)), form)

    def _behind_stray(self, whole: str, start: int, found: _Found, forms: tuple[Form, ...]) -> _Found:
        """A closing tag that nobody opened: all before it was thought. Only where it is no mere mention."""
        for form in forms:
            first = whole.find(form.opens, start)
            for match in re.finditer(re.escape(form.closes), whole[start:]):
                a, b = start + match.start(), start + match.end()
                if 0 <= first < a:
                    break
                sure = self.thinking.evidence != "tags among the tokens" and form.closes in self.single
                if sure or self._stands_apart(whole, a, b, form.closes, ends=True):
                    told = found.form or f"{form.closes} without an opening tag"
                    return found._replace(spans=[*found.spans, (start, start, a, b)], form=told)
        return found

    def _later(self, whole: str, start: int, found: _Found, form: Form) -> _Found:
        """Thoughts inside the answer."""
        at = max(start, found.spans[-1][3] if found.spans else 0)
        while (at := whole.find(form.opens, at)) >= 0:
            body = at + len(form.opens)
            apart = self._stands_apart(whole, at, body, form.opens, ends=False)
            end = _balanced(whole, body, form)
            if end is not None and (apart or form.opens in self.single):
                found = found._replace(spans=[*found.spans, (at, body, end - len(form.closes), end)])
                body = end
            elif end is None and apart:
                return found._replace(spans=[*found.spans, (at, body, len(whole), len(whole))], open=True)
            at = body
        return found

    def _stands_apart(self, whole: str, a: int, b: int, mark: str, *, ends: bool) -> bool:
        """Whether a tag is a control token, or alone at the beginning (or, closing, the end) of its line."""
        before = whole[whole.rfind("\n", 0, a) + 1 : a]
        behind = whole[b:].split("\n", 1)[0]
        return mark in self.special or not before.strip() or (ends and not behind.strip())

    # --- channels ----------------------------------------------------------------------------------------

    def _channels(self, whole: str) -> _Found:
        """All but the contents of final messages; without any header, what was written is the answer."""
        headers = list(_HEADER.finditer(whole))
        answering = self.thinking.arm == "off"  # the prompt ends inside the final message
        answers: list[tuple[int, int]] = []
        last = "final" if answering else ""
        if answering or not headers:
            over = _OVER.search(whole)
            end = over.start() if over else len(whole)
            if not answering and (not whole.strip() or _BEGUN.match(whole)):
                return _Found([(0, 0, len(whole), len(whole))], open=True, form="channels")
            answers.append((0, end))
        for header in headers:
            over = _OVER.search(whole, header.end())
            last = (header[1] or "final").split()[0] if (header[1] or "final").strip() else "final"
            if last == "final":
                answers.append((header.end(), over.start() if over else len(whole)))
        if not answers:
            return _Found([(0, 0, len(whole), len(whole))], open=True, form="channels")
        spans, at = [], 0
        for a, b in [*answers, (len(whole), len(whole))]:
            if at < a:
                spans.append((at, at, a, a))
            at = b
        # behind the answer: another message that is no answer, or the mark that ended it
        open_again = bool(headers) and last != "final" and not _OVER.search(whole, headers[-1].end())
        return _Found(spans, open=open_again, form="channels" if headers else "")

    # --- from characters to tokens -----------------------------------------------------------------------

    def _parts(self, ids: list[int], whole: str, found: _Found) -> Parts:
        if not found.spans:
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            return Parts(ids, text, pending=found.pending)
        thoughts = [self._plain(whole[a:b]) for _, a, b, _ in found.spans]
        reasoning = "\n\n".join(t for t in thoughts if t)
        if found.open:
            return Parts([], "", reasoning, "unfinished", len(ids), found.form, start=None)
        kept: list[int] = []
        text, start, n = "", len(ids), 0
        for a, b in _between(found.spans, len(whole)):
            i, j = self._index(ids, a, up=True), self._index(ids, b, up=False)
            n += max(0, j - i)
            if not text:
                start = i
            # a token may hold a tag's end and the first letters behind it
            text += self._plain(self._decode(ids[:i])[a:]) if a else ""
            while i < j and not text and not self._decode(ids[i : i + 1]).strip():
                i += 1
            piece = ids[i:j]
            text += self.tokenizer.decode(piece, skip_special_tokens=True) if piece else ""
            text, kept = text if kept else text.lstrip(), kept + piece
        kept, text = self._unwrapped(kept, text)
        state: ReasoningState = "closed" if reasoning else "empty" if _is_thought(found, whole) else "none"
        if state == "none":
            return Parts(kept, text, form=found.form, start=start)
        return Parts(kept, text, reasoning, state, len(ids) - n, found.form, start=start)

    def _index(self, ids: list[int], char: int, *, up: bool) -> int:
        """Number of tokens whose text reaches `char` (`up`), or that end before it."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2 if up else (low + high + 1) // 2
            length = len(self._decode(ids[:middle]))
            if up:
                low, high = (low, middle) if length >= char else (middle + 1, high)
            else:
                low, high = (middle, high) if length <= char else (low, middle - 1)
        return low

    def _plain(self, text: str) -> str:
        """Without control tokens and outer white space."""
        if self.thinking.in_channels:
            text = _OVER.sub("", _HEADER.sub("", text))
        for token in self.special:
            text = text.replace(token, "")
        return text.strip()

    def _unwrapped(self, ids: list[int], text: str) -> tuple[list[int], str]:
        """Without tags around the answer."""
        pairs = [f.answer for f in self.thinking.forms if f.answer] + [ANSWER_TAGS]
        for opens, closes in pairs:
            whole = self._decode(ids)
            if opens in self.special or not whole.lstrip().startswith(opens):
                continue
            ids = ids[self._index(ids, whole.index(opens) + len(opens), up=True) :]
            whole = self._decode(ids)
            if whole.rstrip().endswith(closes):
                ids = ids[: self._index(ids, whole.rindex(closes), up=False)]
            while ids and not self._decode(ids[:1]).strip():
                ids = ids[1:]
            text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        while ids and self._decode(ids[:1]) in self.special:
            ids = ids[1:]
        return ids, text


def _between(spans: Sequence[tuple[int, int, int, int]], length: int) -> list[tuple[int, int]]:
    """What thoughts leave of a text, in characters."""
    found, at = [], 0
    for start, _, _, end in spans:
        if at < start:
            found.append((at, start))
        at = end
    return [*found, (at, length)] if at < length else found


def _is_thought(found: _Found, whole: str) -> bool:
    """Whether a thought without words was written at all; a header of the answer's own channel is none."""
    return found.form != "channels" or "<|channel|>analysis" in whole[: found.spans[0][3]]


def _balanced(whole: str, body: int, form: Form) -> int | None:
    """Where a thought that began at `body` ends: at the tag that closes it, nested ones counted, or at the last one
    where an opening tag was only spoken of. None where nothing closes it."""
    depth, last = 1, None
    for match in re.finditer(f"({re.escape(form.opens)})|{re.escape(form.closes)}", whole[body:]):
        if match[1]:
            depth += 1
            continue
        depth, last = depth - 1, body + match.end()
        if depth == 0:
            return last
    return last


def _whole_lines(text: str) -> _Found | None:
    """One thought at the beginning whose tags stand on lines of their own, or that nothing closes."""
    for form in FORMS:
        begun = re.match(rf"\s*{re.escape(form.opens)}\n", text)
        if begun is None:
            continue
        at, told = text.index(form.opens), f"{form.opens} in the text alone"
        if form.closes not in text:
            return _Found([(at, begun.end(), len(text), len(text))], open=True, form=told)
        end = re.compile(rf"\n[ \t]*{re.escape(form.closes)}|{re.escape(form.closes)}[ \t]*(?:\n|$)").search(text)
        if end is not None:
            close = text.index(form.closes, end.start())
            return _Found([(at, begun.end(), close, close + len(form.closes))], form=told)
    return None


@dataclass
class Written:
    """One answer while it is written: where it stands, and whether it has ended by its budgets or its end tokens."""

    reader: Reader
    hard_ends: frozenset[int]
    max_think: int
    max_new: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    truncated: bool = True
    start: int | None = 0  # of the answer; None inside a thought

    def __post_init__(self) -> None:
        self._place()

    def push(self, token: int) -> bool:
        """Take the next token; whether the answer has ended with it."""
        if self.ended:
            return True
        soft = token in self.reader.soft_ends
        if (token in self.hard_ends and not soft) or (soft and self.start is not None):
            self.ended, self.truncated = True, False
            return True
        self.ids.append(token)
        if self._unsure or self.reader.has_mark(self.ids):
            self._place()
        spent = len(self.ids) - (self.start or 0)
        self.ended = spent >= (self.max_think if self.start is None else self.max_new)
        return self.ended

    def _place(self) -> None:
        found = self.reader.read(self.ids)
        self._unsure = found.pending
        self.start = None if found.pending and self.ids else found.start
