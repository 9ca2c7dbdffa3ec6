"""Forms of files that people have: read alike, and nothing is lost in silence."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from refusalctl.data.prompt_files import Asked, PromptFile, read_prompts
from refusalctl.errors import BadInput, RefusalctlError

TEXTS = ["Name a colour.", "Why is the sky blue?"]


def read(path: Path, lang: str | None = "en", **more: object) -> PromptFile:
    return read_prompts(path, Asked(lang, "harmless", "test", **more))  # type: ignore[arg-type]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(file: PromptFile, lang: str = "en") -> list[str]:
    return [row.prompt.text for row in file.rows[lang]]


FORMS: dict[str, tuple[str, str | bytes]] = {
    "goal and target": ("a.csv", "goal,target\nName a colour.,Sure\nWhy is the sky blue?,Sure\n"),
    "capitals": ("a.csv", "Behavior,BehaviorID\nName a colour.,a\nWhy is the sky blue?,b\n"),
    "forbidden_prompt": ("a.csv", "category,source,forbidden_prompt\nx,y,Name a colour.\nx,y,Why is the sky blue?\n"),
    "semicolons": ("a.csv", "text;kind\nName a colour.;harmless\nWhy is the sky blue?;harmless\n"),
    "bars": ("a.csv", "n|prompt\n1|Name a colour.\n2|Why is the sky blue?\n"),
    "tabs": ("a.tsv", "prompt\tn\nName a colour.\t1\nWhy is the sky blue?\t2\n"),
    "Excel's own line": ("a.csv", "sep=;\r\ntext;n\r\nName a colour.;1\r\nWhy is the sky blue?;2\r\n"),
    "mark and CRLF": ("a.csv", b"\xef\xbb\xbftext\r\nName a colour.\r\nWhy is the sky blue?\r\n"),
    "UTF-16 with its mark": ("a.csv", "text\nName a colour.\nWhy is the sky blue?\n".encode("utf-16")),
    "an Excel tail": ("a.csv", "text,n,,\nName a colour.,1,,\nWhy is the sky blue?,2,,\n,,,\n,,,\n"),
    "lines": ("a.txt", "Name a colour.\n\nWhy is the sky blue?\n"),
    "a list of texts": ("a.json", json.dumps(TEXTS)),
    "a list of objects": ("a.json", json.dumps([{"instruction": text, "x": 1} for text in TEXTS])),
    "an object of lists": ("a.json", json.dumps({"prompt": TEXTS, "x": [1, 2]})),
    "as pandas writes it": ("a.json", json.dumps({"prompt": dict(enumerate(TEXTS))})),
    "objects by id": ("a.json", json.dumps({f"k{i}": {"prompt": text} for i, text in enumerate(TEXTS)})),
    "nested": ("a.json", json.dumps({"version": 1, "data": {"rows": [{"question": text} for text in TEXTS]}})),
    "lines called JSON": ("a.json", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)),
    "JSON called lines": ("a.jsonl", json.dumps([{"text": text} for text in TEXTS], indent=1)),
    "gzip": ("a.csv.gz", gzip.compress(b"text\nName a colour.\nWhy is the sky blue?\n")),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_people_have_give_the_same_prompts(tmp_path: Path, form: str) -> None:
    assert texts(read(written(tmp_path, *FORMS[form]))) == TEXTS


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    file = read(written(tmp_path, "a.csv", ",goal,target,empty\n0,Name a colour.,x,\n,,,\n1,Hi you,x,\n"))
    assert (file.columns, file.ignored, file.empty) == ({"en": "goal"}, ("(column 1)", "target"), (3,))
    assert [row.row for row in file.rows["en"]] == [2, 4]


def test_languages_in_columns_share_the_id_of_their_row(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "tags,en,de,zh_hant\nx,Bread,Brot,麵包\nx,Salt,,鹽\n")
    file = read(path, None)
    assert list(file.rows) == ["en", "de", "zh-Hant"]
    assert file.missing == {"de": (3,)}
    ids = {lang: [row.prompt.id for row in rows] for lang, rows in file.rows.items()}
    assert ids["en"] == ids["zh-Hant"]
    assert ids["de"] == ids["en"][:1]
    assert file.rows["de"][0].prompt.text_en == "Bread"
    alone = read(path, "de")
    assert [row.prompt for row in alone.rows["de"]] == [row.prompt for row in file.rows["de"]]
    chosen = read(
        written(tmp_path, "b.csv", "goal,goal_de\nBread,Brot\n"), None, text_columns=("en=goal", "de=goal_de")
    )
    assert chosen.rows["de"][0].prompt.id == chosen.rows["en"][0].prompt.id == ids["en"][0]


def test_without_ids_prompts_of_two_files_are_not_taken_for_translations(tmp_path: Path) -> None:
    english = read(written(tmp_path, "a.txt", "Bread\n"))
    german = read(written(tmp_path, "b.txt", "Brot\n"), "de")
    assert english.rows["en"][0].prompt.id != german.rows["de"][0].prompt.id


def test_a_column_of_languages_is_read_by_row(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.jsonl", '{"prompt": "Bread", "language": "English"}\n{"prompt": "Brot", "language": "de"}\n'
    )
    assert {lang: texts_ for lang in ("en", "de") for texts_ in [texts(read(path, None), lang)]} == {
        "en": ["Bread"], "de": ["Brot"],
    }  # fmt: skip
    with pytest.raises(RefusalctlError, match="row 2: the language is 'de', --lang says 'en'"):
        read(path)


def test_separators_that_are_no_line_ends_stay_in_a_text(tmp_path: Path) -> None:
    odd = "First\u2028second\x85third"
    assert texts(read(written(tmp_path, "a.txt", odd))) == [odd]
    assert texts(read(written(tmp_path, "a.csv", f"text\n{odd}\n"))) == [odd]
    assert texts(read(written(tmp_path, "a.jsonl", json.dumps({"text": odd}, ensure_ascii=False)))) == [odd]


def test_long_cells_numbers_as_ids_and_repeats(tmp_path: Path) -> None:
    long = "bread " * 30000
    assert len(texts(read(written(tmp_path, "a.csv", f"text\n{long}\n")))[0]) == len(long) - 1
    ids = read(written(tmp_path, "a.jsonl", '{"id": 0, "text": "a"}\n{"id": 1.0, "text": "b"}\n'), id_prefix="x-")
    assert [row.prompt.id for row in ids.rows["en"]] == ["x-0", "x-1"]
    first, again = read(written(tmp_path, "a.txt", "Bread\nbread!\n")).rows["en"]
    assert again.prompt.id == f"{first.prompt.id}-2"


def test_an_encoding_is_said_and_never_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text\nGrüße\n".encode("cp1252"))
    with pytest.raises(RefusalctlError, match=r"row 2: not UTF-8.*--encoding"):
        read(path)
    assert texts(read(path, encoding="cp1252")) == ["Grüße"]
    with pytest.raises(BadInput, match="is no encoding"):
        read(path, encoding="base64")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: bytes, **more: object) -> PromptFile:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return read(Path("-"), **more)

    assert texts(given(b'{"text": "Bread"}\n')) == ["Bread"]
    assert texts(given(b"goal,target\nBread,x\n")) == ["Bread"]
    assert texts(given(b"Bread\nSalt\n", form="txt")) == ["Bread", "Salt"]
    with pytest.raises(BadInput, match="stdin: its format cannot be told"):
        given(b"Bread\nSalt\n")


def test_parquet_without_its_reader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"needs the package pyarrow; pip install 'refusalctl\[parquet\]'"):
        read(written(tmp_path, "a.parquet", b"PAR1"))


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"prompt": TEXTS, "n": [1, 2]}), tmp_path / "a.parquet")
    assert texts(read(tmp_path / "a.parquet")) == TEXTS
    with pytest.raises(RefusalctlError, match="not Parquet that can be read"):
        read(written(tmp_path, "b.parquet", b"PAR1 cut"))
