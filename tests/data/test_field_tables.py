"""What becomes of published rows: class, id and language, by each set's rule. The texts here are mild."""

from __future__ import annotations

import io

import pytest

from refusalctl.data.field_tables import build
from refusalctl.errors import DataError
from refusalctl.records.rows import Prompt


def made(name: str, **files: str) -> dict[str, list[Prompt]]:
    return build(name, {path.replace("__", "/") + ".csv": text.encode() for path, text in files.items()})


def facts(name: str, **files: str) -> list[tuple[str, str, str]]:
    return [(p.id, p.kind, p.text) for rows in made(name, **files).values() for p in rows]


def test_english_sets() -> None:
    assert facts("advbench", a='goal,target\nTell a lie,"Sure, ..."\nTell two lies,Sure\n') == [
        ("advbench-000", "harmful", "Tell a lie"), ("advbench-001", "harmful", "Tell two lies")
    ]  # fmt: skip
    assert facts("strongreject", a="category,source,forbidden_prompt\nLies,custom,Tell a lie\n") == [
        ("strongreject-000", "harmful", "Tell a lie")
    ]
    head = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
    rows = "Tell a lie,standard,x,,,lie\nTell it again,contextual,x,,A tale,again\n"
    assert facts("harmbench", a=head + rows) == [
        ("harmbench-lie", "harmful", "Tell a lie"), ("harmbench-again", "harmful", "A tale\n\n---\n\nTell it again")
    ]  # fmt: skip
    (lie, _) = made("harmbench", a=head + rows)["en"]
    assert lie.flags == ("harmbench-standard",)


def test_classes_come_from_the_file_or_from_a_column() -> None:
    head = "Index,Goal,Target,Behavior,Category,Source\n"
    both = {"data__harmful-behaviors": f"{head}0,Lie,x,x,x,x\n", "data__benign-behaviors": f"{head}0,Smile,x,x,x,x\n"}
    assert facts("jailbreakbench", **both) == [
        ("jailbreakbench-harmful-00", "harmful", "Lie"), ("jailbreakbench-harmless-00", "harmless", "Smile")
    ]  # fmt: skip
    two = {"or-bench-hard-1k": "prompt,category\nSmile,x\n", "or-bench-toxic": "prompt,category\nLie,x\n"}
    assert facts("or-bench", **two) == [
        ("or-bench-harmless-0000", "harmless", "Smile"), ("or-bench-harmful-0000", "harmful", "Lie")
    ]  # fmt: skip


def test_translations_share_an_id_and_a_cluster() -> None:
    langs = "en,zh,it,vi,ar,ko,th,bn,sw,jv"
    found = made("multijail", a=f"id,source,tags,{langs}\n7,x,x,{langs}\n8,x,x,{langs.replace('it', '')}\n")
    assert len(found) == 10
    assert {rows[0].id for rows in found.values()} == {"multijail-7"}
    assert len({rows[0].cluster for rows in found.values()}) == 1
    assert found["it"][0].text_en == "en"
    assert "empty" in found["it"][1].flags


def test_rows_that_are_no_translations_never_share_an_id() -> None:
    eu = made("refuseu", a="row_id,lang,prompt\n1,en,Lie\n1,sl,Laž\n")
    assert [p.id for p in (*eu["en"], *eu["sl"])] == ["refuseu-1", "refuseu-sl-1"]
    assert eu["sl"][0].text_en is None
    lingua = made("linguasafe", a="id,lang,level,prompt\n1,en,0,Smile\n2,zh,3,谎\n")
    assert [(p.id, p.kind) for p in (*lingua["en"], *lingua["zh"])] == [
        ("linguasafe-00000", "harmless"), ("linguasafe-zh-00001", "harmful")
    ]  # fmt: skip


def test_parquet_is_read_as_the_hub_keeps_it() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    room = io.BytesIO()
    pandas.DataFrame({"row_id": [1], "lang": ["en"], "prompt": ["Lie"]}).to_parquet(room)
    assert build("refuseu", {"evaluation/eval.parquet": room.getvalue()})["en"][0].text == "Lie"


def test_repeats_are_flagged_and_a_file_of_another_form_is_refused_without_its_text() -> None:
    (_, second) = made("advbench", a="goal,target\nTell a lie,x\nTell a lie!,x\n")["en"]
    assert second.flags == ("duplicate",)
    with pytest.raises(DataError, match=r"advbench: a.csv row 2: no column or value 'goal'"):
        made("advbench", a="text,target\nTell a lie,x\n")
    with pytest.raises(DataError, match="row 2") as refused:
        made("xstest", a="id,prompt,type,label\n1,Tell a lie,x,unknown\n")
    assert "Tell a lie" not in str(refused.value)
