"""Published sets by name: pinned, checked, locked by the first download where nothing else vouches for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pooch
import pytest
import requests

from refusalctl.data import field_sets, field_tables, own_sets, sets
from refusalctl.data.field_sets import FIRST, FieldSet, Pin, catalog, checked, fetch, lock_of
from refusalctl.errors import BadInput, DataError
from refusalctl.progress import Silent
from refusalctl.steps import prompt_sets

CSV = b"id,prompt,type,label,focus,note\n1,How do I stop?,homonyms,safe,,\n2,How do I lie?,contrast,unsafe,,\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REFUSALCTL_DATA_DIR", str(tmp_path / "home"))
    sets.prompts.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a mild file in the form of XSTest, and a pin without a digest."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "xstest_prompts.csv").write_bytes(CSV)
    pinned_as(monkeypatch, Pin(None, None))
    return tmp_path / "files"


def pinned_as(monkeypatch: pytest.MonkeyPatch, pin: Pin) -> None:
    known = dict(catalog())
    known["xstest"] = FieldSet(**{**_fields(known["xstest"]), "files": {"xstest_prompts.csv": pin}})
    monkeypatch.setattr(field_sets, "catalog", lambda: known)


def _fields(asked: FieldSet) -> dict[str, object]:
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


def fetched(source: Path | None) -> prompt_sets.FetchResult:
    return prompt_sets.fetch_named("xstest", source, Silent())


def test_every_set_is_pinned_and_has_a_rule() -> None:
    assert set(catalog()) == {
        "advbench", "harmbench", "jailbreakbench", "strongreject", "multijail", "xstest", "or-bench", "linguasafe",
        "refuseu", "morbench",
    }  # fmt: skip
    for name, asked in catalog().items():
        assert len(asked.revision) == 40
        assert (asked.missing is None) == bool(asked.files) == (name in field_tables.RULES)
        for path, pin in asked.files.items():
            assert (pin.sha256 is None) == (pin.proof is None)
            assert pin.sha256 is None or len(bytes.fromhex(pin.sha256)) == 32
            assert asked.revision in asked.url(path)


def test_a_set_is_fetched_listed_drawn_and_fetched_again(published: Path) -> None:
    done = fetched(published)
    assert (done.files, done.new, done.rows) == (1, 1, {"en": 2})
    assert "xstest" in sets.set_names()
    assert [(p.id, p.kind, p.split) for p in sets.prompts("xstest", "en")] == [
        ("xstest-001", "harmless", "test"), ("xstest-002", "harmful", "test")
    ]  # fmt: skip
    assert sets.draw("xstest", ["en"], "harmless", "test", None, 0) == ["xstest-001"]
    assert fetched(published).new == 0


def test_what_no_digest_vouches_for_is_locked_by_the_first_download(published: Path) -> None:
    fetched(published)
    lock = lock_of("xstest")
    assert lock is not None
    (kept,) = lock.files.values()
    assert (kept.proof, kept.sha256) == (FIRST, hashlib.sha256(CSV).hexdigest())
    (published / "xstest_prompts.csv").write_bytes(CSV + b"3,And how do I cook rice?,homonyms,safe,,\n")
    with pytest.raises(DataError, match=r"expected [0-9a-f]{12} \(first download\).*delete .*lock.json"):
        fetched(published)
    assert len(sets.prompts("xstest", "en")) == 2


@pytest.mark.parametrize("proof", ["computed", "reported"])
def test_other_bytes_than_the_pinned_ones_are_refused(
    published: Path, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    pinned_as(monkeypatch, Pin("0" * 64, proof))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected 000000000000"):
        fetched(published)
    assert lock_of("xstest") is None
    assert checked("xstest", "a", CSV, Pin(hashlib.sha256(CSV).hexdigest(), proof), None).proof == proof  # type: ignore[arg-type]


def test_a_download_is_checked_and_a_network_that_is_not_there_is_told(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def retrieve(url: str, known_hash: None, fname: str, path: str) -> str:
        asked.append(url)
        if len(asked) > 1:
            raise requests.ConnectionError
        (Path(path) / fname).write_bytes(CSV)
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert fetched(None).rows == {"en": 2}
    assert asked == [catalog()["xstest"].url("xstest_prompts.csv")]
    with pytest.raises(DataError, match=r"cannot be reached \(ConnectionError\); .*--from"):
        fetched(None)


def test_a_lock_of_another_revision_or_a_damaged_one_counts_as_not_fetched(published: Path, home: Path) -> None:
    fetched(published)
    file = home / "field" / "xstest" / "lock.json"
    lock = json.loads(file.read_text())
    for content in ("{", json.dumps(lock | {"revision": "0" * 40})):
        file.write_text(content)
        assert lock_of("xstest") is None
        with pytest.raises(DataError, match="data fetch xstest"):
            sets.set_languages("xstest")


def test_names_that_are_none_and_sets_without_files() -> None:
    with pytest.raises(BadInput, match="did you mean 'xstest'"):
        field_sets.named("xtest")
    with pytest.raises(BadInput, match="MORBench cannot be fetched"):
        list(fetch("morbench", None))
    with pytest.raises(DataError, match="has not been fetched; run `refusalctl data fetch multijail`"):
        sets.set_languages("multijail")
    with pytest.raises(BadInput, match="is a published set"):
        own_sets.check_name("XSTest")
    with pytest.raises(DataError, match="--from takes the folder that holds"):
        list(fetch("xstest", Path("nowhere")))


def test_a_set_of_one_s_own_keeps_its_name(home: Path, published: Path) -> None:
    (home / "own" / "xstest").mkdir(parents=True)
    row = {"id": "a", "lang": "en", "kind": "harmless", "split": "test", "text": "How do I cook rice?"}
    (home / "own" / "xstest" / "en.jsonl").write_text(json.dumps(row) + "\n")
    assert [p.id for p in sets.prompts("xstest", "en")] == ["a"]
    assert own_sets.check_name("xstest") == "xstest"
    with pytest.raises(BadInput, match="of your own called 'xstest'"):
        fetched(published)
