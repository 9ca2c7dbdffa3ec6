"""Fetch, list, add and translate prompt sets: what `refusalctl data` does beside its audit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from refusalctl.data import (
    field_sets,
    field_tables,
    own_sets,
    polyrefuse,
    polyrefuse_tables,
    prompt_files,
    prompt_texts,
    sets,
    tables,
)
from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import JsonObject
from refusalctl.language_codes import canonical, check_code
from refusalctl.model.translators.google import open_google
from refusalctl.model.translators.nllb import open_nllb
from refusalctl.model.translators.protocol import Outcome, Translator, outcome
from refusalctl.progress import Progress, batches
from refusalctl.records.printed import PromptCount
from refusalctl.records.rows import KINDS, SPLITS, Kind, Prompt, Split
from refusalctl.steps.finished_rows import FinishedRows


class FetchResult(NamedTuple):
    """Published files that were read and verified, how many of these are new here, and the rows of each table."""

    files: int
    new: int
    rows: dict[str, int]


def fetch(source: Path | None, progress: Progress) -> FetchResult:
    """Verify and keep the published files, then build the table of every language. See `polyrefuse.fetch`."""
    with progress.task("fetch and verify", len(polyrefuse.manifest().files)) as advance:
        fetched = polyrefuse.fetch(source, lambda _done, _total: advance())
    langs = polyrefuse.published_languages()
    with progress.task("build tables", len(langs)) as advance:
        built = polyrefuse_tables.build(langs, lambda _done, _total: advance())
    sets.prompts.cache_clear()
    return FetchResult(*fetched, built)


def fetch_named(name: str, source: Path | None, progress: Progress) -> FetchResult:
    """Verify, lock and tabulate one set of `field_sets`; `source` is a folder that holds its files."""
    asked, before = field_sets.named(name), field_sets.lock_of(name)
    if name in sets.own_names():
        raise BadInput(
            f"you have a prompt set of your own called {name!r}", hint=f"rename {sets.own_dir() / name} first"
        )
    contents: dict[str, bytes] = {}
    locked: dict[str, field_sets.Locked] = {}
    with progress.task(f"fetch and verify {name}", len(asked.files)) as advance:
        for path, content, lock in field_sets.fetch(name, source):
            contents[path], locked[path] = content, lock
            advance()
    rows = field_tables.keep(name, field_tables.build(name, contents))
    field_sets.write_lock(name, field_sets.Lock(asked.revision, locked, rows))
    sets.prompts.cache_clear()
    return FetchResult(len(locked), len(locked) if before is None else 0, rows)


Counts = dict[Kind, dict[Split, PromptCount]]


def listing() -> dict[str, dict[str, Counts] | None]:
    """For each set and language the counts by class and split; None for a set that has not been fetched."""
    return {name: _counts(name) if _is_there(name) else None for name in sets.set_names()}


def _is_there(name: str) -> bool:
    return name != sets.PUBLISHED_SET or polyrefuse.is_fetched()


def _counts(name: str) -> dict[str, Counts]:
    return {lang: _counts_of(name, lang) for lang in sets.set_languages(name)}


def _counts_of(name: str, lang: str) -> Counts:
    total = Counter((p.kind, p.split) for p in sets.prompts(name, lang))
    return {k: {s: PromptCount(total[k, s], len(sets.usable(name, lang, k, s))) for s in SPLITS} for k in KINDS}


class Added(NamedTuple):
    """What was read of a file, and what became of it in each language of the set."""

    file: prompt_files.PromptFile
    sets: dict[str, own_sets.MergeResult]
    shared: dict[str, int]  # ids of this file by the language, from another file, that has them too


def add(path: Path, asked: prompt_files.Asked, *, name: str = "own", again: bool = False) -> Added:
    """Check a file of prompts and merge it into the set `name`; `again` replaces rows of the same id."""
    own_sets.check_name(name)
    prompt_files.check_prefix(asked.id_prefix)
    file = prompt_files.read_prompts(path, asked)
    merged = own_sets.merge_all(name, file.rows, replace_same=again)
    mine = {row.prompt.id for rows in file.rows.values() for row in rows}
    others = [lang for lang in sets.set_languages(name) if lang not in merged]
    shared = {lang: len(mine & {p.id for p in sets.prompts(name, lang)}) for lang in others}
    return Added(file, merged, {lang: n for lang, n in shared.items() if n})


@dataclass
class FileTranslator:
    """Translations that someone else made, by prompt id."""

    texts: Mapping[str, str]
    name: str
    batch: int = 256

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        return [outcome(self.texts[i]) if i in self.texts else Outcome(None, "not in the file") for i, _ in pairs]


def from_file(path: Path, lang: str) -> FileTranslator:
    """Open a table of `id` and `text` in any form that `data add` reads; other columns are not looked at, but a `lang`.

    Raises `DataError` naming a row without them, in another language, or whose id was there before.
    """
    table = tables.read_table(path, lambda names: {"id", "text"} <= set(names))
    texts: dict[str, str] = {}
    for number, row in table.rows:
        where = f"{table.name} row {number}"
        identifier, text = prompt_files.identifier_of(where, row.get("id")), row.get("text")
        if not identifier or not isinstance(text, str):
            raise DataError(f"{where}: expected 'id' and 'text', both texts", hint="a text may be empty: a failure")
        if row.get("lang") and canonical(str(row["lang"])) != lang:
            raise DataError(f"{where}: the language is {str(row['lang'])[:40]!r}, --to says {lang!r}")
        if identifier in texts:
            raise DataError(f"{where}: duplicate id {identifier!r}")
        texts[identifier] = text
    return FileTranslator(texts, f"file:{path.name}")


def open_translator(spec: str, lang: str, code: str | None = None) -> Translator:
    """`google`, `nllb:<hub id or folder>` or `file:<table>`. Raises `BadInput` for anything else."""
    kind, _, rest = spec.partition(":")
    if spec == "google":
        return open_google(lang, code)
    if kind == "nllb" and rest:
        return open_nllb(rest, lang, code)
    if kind == "file" and rest:
        return from_file(Path(rest), check_code(lang))
    raise BadInput(f"there is no translator {spec!r}", hint="give google, nllb:<model> or file:<table>")


@dataclass(frozen=True)
class Request:
    """What to translate into `to`: the English prompts of `data`, at most `n` of each class and split."""

    to: str
    data: str = sets.SAMPLE_SET
    name: str | None = None
    kind: Kind | None = None
    split: Split | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", check_code(self.to))

    @property
    def target(self) -> str:
        return self.name or f"{self.data}-translated"

    def english(self) -> list[Prompt]:
        """The prompts asked for, in the order of the set. Raises `BadInput` if there are none."""
        own_sets.check_name(self.target)
        if self.to == "en":
            raise BadInput("English is what is translated from", hint="give another language with --to")
        found = [p for p in sets.prompts(self.data, "en") if self._wanted(p)]
        seen: Counter[tuple[str, str]] = Counter()
        chosen = []
        for prompt in found:
            seen[prompt.kind, prompt.split] += 1
            if self.n is None or seen[prompt.kind, prompt.split] <= self.n:
                chosen.append(prompt)
        if not chosen:
            raise BadInput(f"no English prompt of {self.data!r} is of this class and split")
        return chosen

    def _wanted(self, prompt: Prompt) -> bool:
        return self.kind in (None, prompt.kind) and self.split in (None, prompt.split)


class TranslationResult(NamedTuple):
    """The merged language, and the ids without a translation with the reason of each."""

    added: own_sets.MergeResult
    source: str
    name: str
    resumed: int
    failed: dict[str, str]


def translate(
    request: Request, translator: Translator, progress: Progress, *, again: bool = False
) -> TranslationResult:
    """Translate from English into `own/<name>/<to>.jsonl`, with the English rows beside it.

    Every batch is noted in a hidden `.partial` file, so that the same call goes on where it stopped: finished
    rows are kept, failed ones tried again. `again` replaces translations of another source. Raises `DataError`
    if no prompt has a translation.
    """
    english, source = request.english(), f"{request.data}+{translator.name}"
    notes = FinishedRows(sets.own_dir() / request.target, f".{request.to}.partial")
    finished = _there(request, english, source) | _noted(notes, english, source)
    resumed = len(finished)
    todo = [p for p in english if p.id not in finished]
    failed: dict[str, str] = {}
    with batches(progress, f"translate into {request.to}", len(todo)) as advance:
        for start in range(0, len(todo), translator.batch):
            batch = todo[start : start + translator.batch]
            answers = translator([(p.id, p.text) for p in batch])
            finished |= {p.id: a.text for p, a in zip(batch, answers, strict=True) if a.text is not None}
            failed |= {p.id: a.failed for p, a in zip(batch, answers, strict=True) if a.text is None}
            notes.add(*(_note(p, source, a) for p, a in zip(batch, answers, strict=True)))
            advance(len(batch))
    done = [p for p in english if p.id in finished]
    added = _merge(request, source, done, finished, again)
    if not failed:
        notes.discard()
    return TranslationResult(added, source, request.target, resumed, failed)


def _there(request: Request, english: Sequence[Prompt], source: str) -> dict[str, str]:
    """Translations of these very texts by this translator that an earlier call finished."""
    if request.target not in sets.set_names() or request.to not in sets.set_languages(request.target):
        return {}
    text_en = {p.id: p.text for p in english}
    made = sets.prompts(request.target, request.to)
    return {p.id: p.text for p in made if p.source == source and text_en.get(p.id) == p.text_en}


def _merge(
    request: Request, source: str, english: Sequence[Prompt], texts: Mapping[str, str], again: bool
) -> own_sets.MergeResult:
    if not english:
        raise DataError(f"not one prompt was translated into {request.to}", hint="nothing was written")
    own_sets.merge(request.target, "en", _numbered(english), keep_same=True)
    made = [_translation(p, request.to, texts[p.id], source) for p in english]
    return own_sets.merge(request.target, request.to, _numbered(made), keep_same=True, replace_same=again)


def _numbered(prompts: Iterable[Prompt]) -> list[prompt_files.NumberedPrompt]:
    return [prompt_files.NumberedPrompt(n, prompt) for n, prompt in enumerate(prompts, start=1)]


def _translation(english: Prompt, lang: str, text: str, source: str) -> Prompt:
    plain = prompt_texts.unescape(text)
    flags = ("machine-translated", *(("html-unescaped",) if plain != text else ()))
    return replace(english, lang=lang, text=plain, text_en=english.text, source=source, flags=flags)


def _noted(finished: FinishedRows, english: Sequence[Prompt], source: str) -> dict[str, str]:
    """Finished translations by id: those by this source, of the very text that is asked for."""
    digests = {p.id: _digest(p.text) for p in english}
    return {
        row["id"]: row["text"]
        for row in finished
        if row["source"] == source and row["text"] and digests.get(row["id"]) == row["english"]
    }


def _note(prompt: Prompt, source: str, answer: Outcome) -> JsonObject:
    return {"id": prompt.id, "english": _digest(prompt.text), "source": source, **answer._asdict()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
