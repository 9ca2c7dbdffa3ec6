"""What is wrong with a set of prompts: counted from the texts and files themselves, not from their flags.

Nothing here stops an experiment. `tables` and `own` flag the rows that must not be used; an audit says how many
there are and what else a reader of the results should know. It names ids and counts, never a text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from statistics import median

from msgspec.structs import replace

from refusalctl.control_marks import marks
from refusalctl.data import polyrefuse, polyrefuse_tables, prompt_texts, sets
from refusalctl.data.language_identification import identify
from refusalctl.errors import BadInput
from refusalctl.records.audit import Audit, Containment, Pool, SetAudit
from refusalctl.records.rows import KINDS, SPLITS, Kind, Prompt, Split

LENGTH_FACTOR = 4
Name = tuple[Kind, Split]
Texts = dict[Name, list[str]]


Marked = Callable[[str], bool]


def has_marks(text: str) -> bool:
    """Whether a text holds a well-known control token of chat formats."""
    return bool(marks(text))


def audit(
    data: str,
    langs: Sequence[str] = (),
    progress: polyrefuse.Progress | None = None,
    marked: Marked = has_marks,
) -> Audit:
    """Audit the languages `langs` of a set, or all. Raises `BadInput` for a language that the set lacks.

    `marked` says whether a text holds control tokens; a model's tokenizer knows more of its own.
    """
    known = sets.set_languages(data)
    wanted = list(dict.fromkeys(langs)) or known
    absent = [lang for lang in wanted if lang not in known]
    if absent:
        raise BadInput(f"the prompt set {data!r} has no {absent[0]!r}", hint=f"it has {', '.join(known)}")
    audits: list[SetAudit] = []
    for done, lang in enumerate(wanted, start=1):
        audits += _language(data, lang, "en" in known, marked)
        if progress:
            progress(done, len(wanted))
    pools = _pools(data, wanted)
    contained = _contained() if data == sets.PUBLISHED_SET else []
    both = {lang: n for lang in wanted if (n := _in_both_classes(sets.prompts(data, lang)))}
    return Audit(data, tuple(wanted), tuple(audits), tuple(pools), tuple(contained), both)


def _language(data: str, lang: str, has_english: bool, marked: Marked) -> list[SetAudit]:
    prompts = sets.prompts(data, lang)
    english = by_set(sets.prompts(data, "en")) if has_english else {}
    raw = _published_texts(lang) if data == sets.PUBLISHED_SET else {}
    leaks = leaks_of(prompts)
    found = []
    for name, rows in by_set(prompts).items():
        texts = raw.get(name, [p.text for p in rows])
        one = _one_set(rows, english.get(name, []), texts, leaks.get(name, Counter()))
        found.append(replace(one, control_marks=tuple(p.id for p in rows if marked(p.text))))
    return found


def by_set(prompts: Iterable[Prompt]) -> dict[Name, list[Prompt]]:
    result: dict[Name, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        result[prompt.kind, prompt.split].append(prompt)
    return dict(result)


def _published_texts(lang: str) -> Texts:
    """The texts of each set as published, before cleaning."""
    files = polyrefuse.manifest().files
    return {
        (kind, split): polyrefuse_tables.texts_of(lang, polyrefuse.read_published(path))
        for kind in KINDS
        for split in SPLITS
        if (path := polyrefuse.file_of(lang, kind, split)) in files
    }


def _one_set(rows: list[Prompt], english: list[Prompt], raw: list[str], leaks: Counter[str]) -> SetAudit:
    first = rows[0]
    shared = {p.id for p in rows} & {p.id for p in english}
    return SetAudit(
        first.lang,
        first.kind,
        first.split,
        rows=len(rows),
        duplicates=len(rows) - len({cluster(p) for p in rows}),
        leaks=dict(leaks),
        same_text=len(rows) - len({prompt_texts.normal(p.text) for p in rows}),
        empty=sum(not prompt_texts.normal(p.text) for p in rows),
        untranslated=sum(is_untranslated(p) for p in rows),
        html_raw=sum(prompt_texts.unescape(text) != text for text in raw),
        html_left=sum(prompt_texts.unescape(p.text) != p.text for p in rows),
        pairing=_pairing(rows, len(shared), bool(english)),
        shared_with_english=len(shared),
        rho=_rho(rows, english),
        length_outliers=length_outliers(rows),
        identified=identify(rows),
    )


def cluster(prompt: Prompt) -> str:
    """What makes two prompts of a class the same: their English text, or their own where there is none."""
    return prompt_texts.cluster_of(prompt.text_en or prompt.text)


def leaks_of(prompts: Sequence[Prompt]) -> dict[Name, Counter[str]]:
    """Rows of val and test whose prompt is in an earlier split of its class too, by that split."""
    first: dict[tuple[Kind, str], Split] = {}
    result: dict[Name, Counter[str]] = defaultdict(Counter)
    for prompt in sorted(prompts, key=lambda p: SPLITS.index(p.split)):
        origin = first.setdefault((prompt.kind, cluster(prompt)), prompt.split)
        if origin != prompt.split:
            result[prompt.kind, prompt.split][origin] += 1
    return result


def _in_both_classes(prompts: Sequence[Prompt]) -> int:
    by_kind = {kind: {cluster(p) for p in prompts if p.kind == kind} for kind in KINDS}
    return len(set.intersection(*by_kind.values()))


def is_untranslated(prompt: Prompt) -> bool:
    if prompt.lang == "en" or prompt.text_en is None:
        return False
    return prompt_texts.normal(prompt.text) == prompt_texts.normal(prompt.text_en)


def _pairing(rows: Sequence[Prompt], shared: int, has_english: bool) -> str:
    if rows[0].lang == "en":
        return "itself"
    if not has_english:
        return "no English"
    if not shared:
        return "none"
    if any("aligned-by-position" in p.flags for p in rows):
        return "position"
    return "source text" if rows[0].source == "polyrefuse" else "id"


def _rho(rows: Sequence[Prompt], english: Sequence[Prompt]) -> float | None:
    if rows[0].lang == "en":
        return None
    paired = [p for p in rows if p.text_en is not None]
    if paired:
        rho = polyrefuse_tables.length_rho([p.text_en or "" for p in paired], [p.text for p in paired])
    else:
        rho = polyrefuse_tables.length_rho([p.text for p in english], [p.text for p in rows])
    return None if rho is None else round(rho, 3)


def length_outliers(rows: Sequence[Prompt]) -> tuple[str, ...]:
    """Ids of rows more than four times longer or shorter than English, relative to the set's median ratio.

    Relative, because a Chinese text has a third of the signs of its English source and nothing is missing.
    """
    ratio = {p.id: len(p.text) / len(p.text_en) for p in rows if p.lang != "en" and p.text_en}
    middle = median(ratio.values()) if ratio else 1.0
    return tuple(i for i, r in ratio.items() if not 1 / LENGTH_FACTOR <= r / middle <= LENGTH_FACTOR)


def _pools(data: str, langs: Sequence[str]) -> list[Pool]:
    """For each class and split, the groups of languages with the same ids, where there is more than one group."""
    ids = {lang: {n: frozenset(p.id for p in v) for n, v in by_set(sets.prompts(data, lang)).items()} for lang in langs}
    result: list[Pool] = []
    for kind, split in product(KINDS, SPLITS):
        groups: dict[frozenset[str], list[str]] = defaultdict(list)
        for lang in langs:
            groups[ids[lang].get((kind, split), frozenset())].append(lang)
        groups.pop(frozenset(), None)
        if len(groups) > 1:
            result += [_pool(kind, split, mine, groups) for mine in groups]
    return result


def _pool(kind: Kind, split: Split, mine: frozenset[str], groups: Mapping[frozenset[str], list[str]]) -> Pool:
    shared = {",".join(langs): len(mine & theirs) for theirs, langs in groups.items() if theirs != mine}
    return Pool(kind, split, tuple(groups[mine]), len(mine), shared)


def _contained() -> list[Containment]:
    """Published English sets that lie, wholly or in part, inside the English sets of the tables."""
    own = {polyrefuse.file_of("en", k, s): (k, s) for k in KINDS for s in SPLITS} | {
        "splits/harmful_test.json": ("harmful", "test"),
        polyrefuse_tables.SECOND_HARMLESS_TEST: ("harmless", "test"),
    }
    ours = {n: {cluster(p) for p in rows} for n, rows in by_set(sets.prompts(sets.PUBLISHED_SET, "en")).items()}
    result = []
    for path in polyrefuse.manifest().files:
        if path.startswith("splits/") and path not in own:
            texts = [
                prompt_texts.cluster_of(t) for t in polyrefuse_tables.texts_of("en", polyrefuse.read_published(path))
            ]
            counts = {name: sum(t in clusters for t in texts) for name, clusters in ours.items()}
            result += [Containment(path, len(texts), *name, n) for name, n in counts.items() if n]
    return result
