"""An audit finds what was put into the files, and nothing in clean ones."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from refusalctl.data import audit_findings, language_identification, sets
from refusalctl.data.audit import SetAudit, audit, length_outliers
from refusalctl.errors import BadInput
from refusalctl.records.rows import Prompt


def one(lang: str, kind: str, split: str, data: str = "polyrefuse") -> SetAudit:
    return next(a for a in audit(data, [lang]).sets if (a.kind, a.split) == (kind, split))


def abouts(data: str = "polyrefuse", langs: tuple[str, ...] = ()) -> set[str]:
    return {finding.about for finding in audit_findings.findings(audit(data, langs))}


def test_clean_files_have_no_findings(tree, fetched):
    fetched(tree)
    report = audit("polyrefuse")
    assert audit_findings.findings(report) == []
    assert [a.rows for a in report.sets] == [12] * 12
    assert {(a.lang, a.pairing) for a in report.sets} == {("en", "itself"), ("de", "position"), ("de", "source text")}
    assert all(a.shared_with_english == 12 for a in report.sets)
    assert all(a.rho > 0.9 for a in report.sets if a.lang == "de")


def test_duplicates_and_leaks_are_counted_from_the_texts(tree, fetched, monkeypatch):
    test, train = (tree.files[tree.path("en", "harmful", s)] for s in ("test", "train"))
    test += [test[0], test[0], {"instruction": train[3]["instruction"].upper()}]
    fetched(tree)
    bare = {lang: tuple(replace(p, flags=()) for p in sets.prompts("polyrefuse", lang)) for lang in ("en", "de")}
    with monkeypatch.context() as patch:  # no flags to copy from
        patch.setattr(sets, "prompts", lambda _data, lang: bare[lang])
        found, other = one("en", "harmful", "test"), one("de", "harmful", "test")
    assert (found.rows, found.duplicates, found.leaks) == (15, 2, {"train": 1})
    assert (other.duplicates, other.leaks) == (0, {})
    assert {"duplicates", "leak"} <= abouts()


def test_two_prompts_with_one_translation_are_the_same_text_but_no_duplicates(tree, fetched):
    rows = tree.files[tree.path("de", "harmless", "test")]
    rows[4]["instruction_translated"] = rows[9]["instruction_translated"]
    fetched(tree)
    found = one("de", "harmless", "test")
    assert (found.same_text, found.duplicates) == (1, 0)
    assert "same text" in abouts()


def test_html_entities_are_found_in_the_published_files_and_gone_from_the_tables(tree, fetched):
    for split in ("train", "test"):
        for row in tree.files[tree.path("de", "harmful", split)][:3]:
            key = "instruction_translated" if split == "test" else "instruction"
            row[key] += " &quot;ja&quot;"
    fetched(tree)
    assert [(a.html_raw, a.html_left) for a in audit("polyrefuse", ["de"]).sets] == [(3, 0), (0, 0), (3, 0)] + [
        (0, 0)
    ] * 3
    assert "HTML entities" in abouts()


def test_a_set_in_another_order_is_not_aligned(tree, fetched):
    tree.files[tree.path("de", "harmless", "val")].sort(key=lambda row: row["instruction"].partition("über")[2])
    fetched(tree)
    found = one("de", "harmless", "val")
    assert (found.pairing, found.shared_with_english) == ("none", 0)
    assert found.rho is not None
    assert found.rho < 0.5
    assert "not aligned" in abouts()


def test_different_samples_are_told_apart(tree, fetched):
    path = tree.path("de", "harmless", "test")
    for i, row in enumerate(tree.files[path][:8]):
        row["instruction"] = f"Another source sentence with the number {i}."
    fetched(tree)
    pools = [(p.langs, p.ids, p.shared_with_others) for p in audit("polyrefuse").pools]
    assert pools == [(("de",), 12, {"en": 4}), (("en",), 12, {"de": 4})]
    assert "different samples" in abouts()


def test_an_english_set_inside_another_is_found(tree, fetched):
    tests = tree.files[tree.path("en", "harmful", "test")]
    tree.files["splits/jailbreakbench_test.json"] = [tests[2], tests[5], {"instruction": "Something else entirely."}]
    fetched(tree)
    (found,) = audit("polyrefuse").contained
    assert (found.file, found.rows, found.split, found.inside) == ("splits/jailbreakbench_test.json", 3, "test", 2)
    assert "not independent" in abouts()


def test_a_prompt_of_both_classes_a_blank_and_an_untranslated_row_are_found(tree, fetched):
    tree.files[tree.path("en", "harmless", "train")][0] = tree.files[tree.path("en", "harmful", "train")][0]
    rows = tree.files[tree.path("de", "harmless", "test")]
    rows[0]["instruction_translated"] = rows[0]["instruction"]
    rows[1]["instruction_translated"] = " ?! "
    fetched(tree)
    found = one("de", "harmless", "test")
    assert (found.untranslated, found.empty) == (1, 1)
    assert audit("polyrefuse").in_both_classes == {"de": 1, "en": 1}
    assert abouts() >= {"untranslated", "empty", "both classes"}


def test_a_missing_set_is_a_finding(tree, fetched):
    del tree.files[tree.path("de", "harmless", "test")]
    fetched(tree)
    (found,) = audit_findings.findings(audit("polyrefuse"))
    assert (found.about, found.where, found.langs) == ("missing", "harmless test", ("de",))


def rows_of(*texts: str, lang: str = "de", text_en: str = "Some English words") -> list[Prompt]:
    return [Prompt(f"p{i}", lang, "harmless", "test", text, text_en) for i, text in enumerate(texts)]


def test_length_outliers_are_relative_to_the_usual_ratio():
    usual = ["x" * 6] * 9
    assert length_outliers(rows_of(*usual)) == ()
    assert length_outliers(rows_of(*usual, "x" * 30, "x")) == ("p9", "p10")


def test_a_set_in_the_wrong_language_is_found(tree, fetched):
    for split in ("train", "val", "test"):
        for kind in ("harmful", "harmless"):
            for row in tree.files[tree.path("de", kind, split)]:
                key = "instruction_translated" if split == "test" else "instruction"
                row[key] = row[key].replace("Bitte schreibe den Brief", "Veuillez écrire la belle lettre pour nous")
                row[key] = row[key].partition("über")[0] + "sur le temps qu'il fait" * (1 + row[key].count("und"))
    fetched(tree)
    found = one("de", "harmful", "test").identified
    assert found.share == 0
    assert found.others == {"fr": 12}
    assert len(found.suspect_ids) == 12
    assert "language" in abouts()


def test_short_texts_are_not_identified_but_counted():
    found = language_identification.identify(
        rows_of("Guten Tag", "Schreibe bitte einen langen Brief an deine Schwester")
    )
    assert (found.checked, found.too_short, found.share) == (1, 1, 1.0)


def test_a_sign_of_chinese_counts_as_three_letters():
    assert language_identification.letters("写一封信") == 12
    assert language_identification.letters("а, b 1!") == 2


def test_a_language_the_identifier_cannot_name_is_not_checked():
    found = language_identification.identify(
        rows_of("Schreibe bitte einen langen Brief an deine Schwester", lang="qqq")
    )
    assert found.unknown_to_identifier
    assert found.share is None


def test_asking_for_an_absent_language_names_those_there_are():
    with pytest.raises(BadInput, match="it has en, de"):
        audit("sample", ["en", "kk"])


def test_the_report_holds_no_prompt_text(tree, fetched):
    fetched(tree)
    assert "letter number" not in str(audit_findings.with_findings(audit("polyrefuse")))
