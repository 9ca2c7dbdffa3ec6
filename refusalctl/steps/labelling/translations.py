"""`translate`: completions into English, for judges that read English. A failed translation is never a text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from refusalctl.data.response_language import response_language
from refusalctl.errors import BadInput, NotFound
from refusalctl.model.judges.degenerate import degenerate_reason
from refusalctl.model.judges.protocol import Item, unparsed
from refusalctl.model.translators.into_english import identity, open_back_translator
from refusalctl.progress import batches
from refusalctl.records.rows import Completion, Translation
from refusalctl.steps.completions import read_completions
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.cache import TextCache
from refusalctl.store.hashing import digest
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.model.judges.protocol import Item, Verdict
    from refusalctl.model.translators.protocol import Outcome

TRANSLATIONS_FILE = "translations.jsonl"
VERSION = 1
LOOPS = "the completion is degenerate"  # its outcome is decided without a translation
NO_ANSWER = "the completion's reasoning is not finished"  # as well


class TextTranslator(Protocol):
    """Texts in, outcomes out in their order; `batch` is how many to hand over at once."""

    @property
    def batch(self) -> int: ...

    def __call__(self, texts: list[str]) -> Sequence[Outcome]: ...


Open = Callable[[], TextTranslator]


def _run(open_translator: Open, job: Job) -> RunChecks:
    rows = read_completions(job.inputs["completions"])
    todo = {_sha(row.text): row.text for row in rows if not row.unfinished and not _degenerate(row.text)}
    cache = TextCache(job.bench.store, "translations", digest(dict(job.params)))
    known = {sha: text for sha, text in cache.read().items() if sha in todo}
    resumed, failed = len(known), {}
    missing = {sha: text for sha, text in todo.items() if sha not in known}
    if missing:
        job.bench.release()
        failed = _translate(job, open_translator(), missing, known, cache)
    made = [_row(row, known, failed) for row in rows]
    formats.write_rows(job.out / TRANSLATIONS_FILE, (row.to_json() for row in made))
    reasons = Counter(row.failed for row in made if row.failed)
    return {"translated": sum(row.text is not None for row in made), "failed": dict(reasons), "from_cache": resumed}


def _translate(
    job: Job, translator: TextTranslator, missing: Mapping[str, str], known: dict[str, str], cache: TextCache
) -> dict[str, str]:
    """Translate what is missing into `known` and the cache; returns the reasons of those that failed."""
    failed: dict[str, str] = {}
    left = list(missing.items())
    with batches(job.bench.progress, f"translate {job.inputs['completions'].about['lang']}", len(left)) as advance:
        for start in range(0, len(left), translator.batch):
            batch = left[start : start + translator.batch]
            answers = [checked(a) for a in translator([text for _, text in batch])]
            fresh = {sha: a.text for (sha, _), a in zip(batch, answers, strict=True) if a.text is not None}
            failed |= {sha: a.failed for (sha, _), a in zip(batch, answers, strict=True) if a.text is None}
            cache.add(fresh)
            known |= fresh
            advance(len(batch))
    return failed


def checked(answer: Outcome) -> Outcome:
    """A translation that loops, or that is not English, is the translator's failure and not the model's answer."""
    if answer.text is None:
        return answer
    if _degenerate(answer.text):
        return type(answer)(None, "the translation is degenerate")
    if response_language(answer.text, "en").off is True:
        return type(answer)(None, "the translation is not English")
    return answer


def _degenerate(text: str) -> bool:
    return degenerate_reason(text) is not None


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _row(row: Completion, known: Mapping[str, str], failed: Mapping[str, str]) -> Translation:
    sha = _sha(row.text)
    if row.unfinished:
        return Translation(row.prompt_id, None, NO_ANSWER, sha, row.cluster)
    reason = "" if sha in known else failed.get(sha, LOOPS)
    return Translation(row.prompt_id, known.get(sha), reason, sha, row.cluster)


def translate_completions(
    bench: Workbench,
    completions: Artifact,
    translator: str,
    code: str | None = None,
    opened: TextTranslator | None = None,
) -> Artifact:
    """Every completion in English by `nllb[:MODEL]`, `madlad[:MODEL]` (`-ct2`: by CTranslate2), `google` or `deepl`.

    Finished texts are kept in the store's cache, so an interrupted run goes on, and the same text is never translated
    twice. `opened` is a translator of the caller's own; `translator` then names it. Raises `BadInput` for English
    completions or an unknown translator, `ModelError` when it is not there or its service gives up.
    """
    lang = completions.about["lang"]
    if lang == "en":
        raise BadInput(f"{completions.label} is in English already", hint="judge its native text")
    params = {"translator": translator} if opened is not None else identity(translator, lang, code)
    params = {**params, "from": lang}
    opening: Open = partial(open_back_translator, translator, lang, code, bench.machine.device)
    if opened is not None:
        opening = partial(lambda given: given, opened)
    step = Step("translate", VERSION, "translations", partial(_run, opening))
    name = params["translator"] if not params.get("model") else f"{params['translator']}:{params['model']}"
    return bench.obtain(step, params, {"completions": completions}, {**completions.about, "translator": name})


def translations_of(completions: Artifact, translations: Artifact) -> Artifact:
    """The translations, if they are of these completions. Raises `BadInput` otherwise."""
    source = translations.inputs.get("completions")
    if translations.kind != "translations" or source != completions.id:
        raise BadInput(f"{translations.label} holds no translations of {completions.label}")
    return translations


def find_translations(bench: Workbench, completions: Artifact) -> Artifact:
    """The translations of these completions that the store has. Raises `NotFound`, or `BadInput` for several."""
    found = [a for a in bench.store.all("translations") if a.inputs.get("completions") == completions.id]
    if not found:
        raise NotFound(
            f"{completions.label} has no translations yet",
            hint="run `refusalctl translate`, or give --translator to judge",
        )
    if len(found) > 1:
        names = ", ".join(f"{a.label} by {a.about['translator']}" for a in found)
        raise BadInput(f"{completions.label} has {len(found)} translations ({names})", hint="name one: --translations")
    return found[0]


def read_translations(artifact: Artifact) -> list[Translation]:
    return [
        Translation.from_json(row, TRANSLATIONS_FILE) for row in formats.read_rows(artifact.path / TRANSLATIONS_FILE)
    ]


def translated_items(items: Sequence[Item], inputs: Mapping[str, Artifact]) -> list[Item | Verdict] | None:
    """What a judge gets instead of the native texts: translation and English prompt, or why there is none."""
    if "translations" not in inputs:
        return None
    rows = {row.prompt_id: row for row in read_translations(inputs["translations"])}
    written = read_completions(inputs["completions"])
    if set(rows) != {row.prompt_id for row in written}:
        raise BadInput(f"{inputs['translations'].label} does not hold the same prompts as its completions")
    english = {p.id: p.text_en for p in read_prompts(inputs["prompts"])} if "prompts" in inputs else {}
    found: list[Item | Verdict] = []
    for item, row in zip(items, (rows[w.prompt_id] for w in written), strict=True):
        if row.text is None:
            found.append(unparsed(f"failed translation: {row.failed}"))
        else:
            prompt = item.prompt if item.prompt is None else english.get(row.prompt_id) or item.prompt
            found.append(Item(prompt, row.text, "en"))
    return found
