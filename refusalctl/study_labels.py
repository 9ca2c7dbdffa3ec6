"""The part of a `Study` that deals with judges beside each other, people's labels, and runs from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl import results as r
from refusalctl.errors import BadInput, NotFound
from refusalctl.file_errors import printable
from refusalctl.model.translators.into_english import check_spec
from refusalctl.steps.labelling.correction import correct_rates
from refusalctl.steps.labelling.human import draw_sample, import_sheet, write_sheet
from refusalctl.steps.labelling.labels import check_judge, judge_completions
from refusalctl.steps.labelling.panel import form_panel, panel_labels
from refusalctl.steps.labelling.translations import find_translations, translate_completions
from refusalctl.steps.published.matrix import matrix_of_labels
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.step import Workbench
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact, Store

if TYPE_CHECKING:
    from refusalctl.records.panel import VoteRule


class Labelling:
    """Labels, translations, panels, people's labels and imports of a study."""

    bench: Workbench

    @property
    def store(self) -> Store:
        """The folder that keeps everything."""
        return self.bench.store

    def labels(
        self, completions: r.Completions, judge: str | None = None, *, translations: r.Translations | None = None
    ) -> r.Labels:
        """One label per completion, by the study's judge or another one; of its translations where these are given."""
        asked = judge or self.bench.settings.answers.judge
        english = None if translations is None else translations.artifact
        labelled = judge_completions(self.bench, completions.artifact, asked, harm_only=True, translations=english)
        return r.Labels(self.store, labelled)

    def translations(self, completions: r.Completions, translator: str, code: str | None = None) -> r.Translations:
        """Completions in English by `nllb[:MODEL]`, `madlad[:MODEL]` (`-ct2`: by CTranslate2), `google` or `deepl`."""
        return r.Translations(self.store, translate_completions(self.bench, completions.artifact, translator, code))

    def check_translator(self, translator: str, completions: Sequence[r.Completions], code: str | None = None) -> None:
        """Find out before the work whether a translator knows these languages. Raises `BadInput`."""
        for each in completions:
            check_spec(translator, each.about["lang"], code)

    def check_judges(self, judges: Sequence[str], completions: Sequence[r.Completions], text: str) -> None:
        """Find out before the work whether these judges can label these completions. Raises `BadInput`."""
        for judge in judges:
            for each in completions:
                for lang in _langs_read(each.about["lang"], text):
                    check_judge(judge, lang, harm_only=True)

    def texts_to_judge(
        self,
        completions: Sequence[r.Completions],
        text: str,
        translations: Sequence[str] = (),
        translator: str | None = None,
    ) -> list[tuple[r.Completions, r.Translations | None]]:
        """Each completions with what is judged: None for its own text, else its translations into English.

        `text`: native, back-translation or both; English is judged as it is. Translations are those given by reference,
        made by `translator`, or the only ones that the store has.
        """
        given = [r.Translations(self.store, self.store.resolve(each, "translations")) for each in translations]
        pairs: list[tuple[r.Completions, r.Translations | None]] = []
        for each in completions:
            if text != "back-translation" or each.about["lang"] == "en":
                pairs.append((each, None))
            if text == "native" or each.about["lang"] == "en":
                continue
            mine = next((a for a in given if a.artifact.inputs.get("completions") == each.id), None)
            if mine is None and translator:
                mine = self.translations(each, translator)
            pairs.append((each, mine or r.Translations(self.store, find_translations(self.bench, each.artifact))))
        return pairs

    def panel(self, labels: Sequence[r.Labels], rule: VoteRule = "majority") -> tuple[r.Panel, list[r.Labels]]:
        """Agreement of several judges on the same completions, and their labels together, one per completions."""
        given = [each.artifact for each in labels]
        made = form_panel(self.bench, given, rule)
        return r.Panel(self.store, made), [r.Labels(self.store, a) for a in panel_labels(self.bench, made, given)]

    def samples(self, labels: Sequence[r.Labels], n: int, seed: int = 0) -> list[r.Sample]:
        """Completions for people to label, `n` of each language."""
        by_lang: dict[str, list[Artifact]] = {}
        for each in labels:
            by_lang.setdefault(str(each.about["lang"]), []).append(each.artifact)
        return [r.Sample(self.store, draw_sample(self.bench, each, n, seed)) for each in by_lang.values()]

    def write_sheet(self, sample: r.Sample, path: Path, *, replace: bool = False) -> int:
        """Write a sample for annotators, CSV or JSON lines by its name; returns the number of rows."""
        return write_sheet(self.bench, sample.artifact, path, replace=replace)

    def import_sheet(self, sheet: Path, sample: r.Sample, annotator: str, *, partial: bool = False) -> list[r.Labels]:
        """A filled-in sheet as labels by `human:ANNOTATOR`, one result per condition."""
        found = import_sheet(self.bench, sheet, sample.artifact, annotator, partial=partial)
        return [r.Labels(self.store, each) for each in found]

    def correction(self, labels: Sequence[r.Labels], human: Sequence[r.Labels]) -> r.Correction:
        """Each judge's errors by people's labels, and its rates corrected for them."""
        made = correct_rates(self.bench, [a.artifact for a in labels], [a.artifact for a in human])
        return r.Correction(self.store, made)

    def matrix_of(self, references: Sequence[str | r.Labels]) -> r.Transfer:
        """Imported labels as a matrix with verdicts. A query such as `labels:lang=de` means all that it fits."""
        found: list[Artifact] = []
        for each in references:
            found += self.store.resolve_all(each, "labels") if isinstance(each, str) else [each.artifact]
        return r.Transfer(self.store, matrix_of_labels(self.bench, found))

    def transfers(self, references: Sequence[str]) -> list[r.Transfer]:
        """Transfers by reference; without any, the one that was finished last."""
        if references:
            return [r.Transfer(self.store, _transfer(self.store.resolve(each), each)) for each in references]
        found = self.store.all("transfer")
        if not found:
            raise NotFound(
                f"there is no transfer to report on in {self.store.root}",
                hint="compute one with `refusalctl transfer --sources en --targets en,be`",
            )
        return [r.Transfer(self.store, found[-1])]

    def import_files(self, paths: Sequence[Path], **told: Any) -> list[r.Result]:
        """Published completions, evaluations, directions and labels as results, marked as imported."""
        return [r.result(self.store, each) for each in import_files(self.bench, paths, Request(**told))]


def _langs_read(lang: str, text: str) -> list[str]:
    """The languages that a judge will read."""
    native = [lang] if text != "back-translation" or lang == "en" else []
    return native + (["en"] if text != "native" and lang != "en" else [])


def _transfer(found: Artifact, reference: str) -> Artifact:
    """Raises `BadInput` for another kind; labels from elsewhere can be made into one."""
    if found.kind == "transfer":
        return found
    hint = None
    if found.kind == "labels" and found.about.get("provenance") == "imported":
        hint = "`refusalctl transfer --from-labels LABELS...` makes a transfer of imported labels"
    raise BadInput(f"{printable(reference)!r} is {found.kind} {short(found.id)}, expected transfer", hint=hint)
