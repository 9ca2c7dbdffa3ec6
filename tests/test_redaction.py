"""Secrets reach neither a manifest nor a message, and what only looks a little like one stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl import redaction
from refusalctl.errors import BadInput
from refusalctl.redaction import HIDDEN, place_of_secret, redacted, redacted_value, refuse_secret

HF = "hf_" + "aB3" * 11
SECRETS = {
    "hub": HF,
    "openai": "sk-proj-" + "x1Y" * 10,
    "old openai": "sk-" + "Ab1" * 16,
    "github": "ghp_" + "a1B" * 12,
    "password": "https://user:pass@example.org/x",
    "query": "https://example.org/x?X-Amz-Signature=abcdef0123",
    "header": "Authorization: Bearer abcdef",
}
PLAIN = (
    "mainlp/Multilingual-Refusal@985169d",
    "https://github.com/mainlp/Multilingual-Refusal@985169d",
    "sk-0123456789abcdef0123456789abcdef0123",  # an id of a Slovak prompt
    "Explain basic mathematics to a token-bearer of representatives.",
    "someone@example.org",
    "key=value",
)


@pytest.mark.parametrize("name", SECRETS)
def test_what_looks_like_a_secret_is_hidden_and_refused(name: str) -> None:
    text = f"before {SECRETS[name]} after"
    assert HIDDEN in redacted(text)
    assert SECRETS[name] not in redacted(text)
    assert redacted_value({"a": [text, 1]}) == {"a": [redacted(text), 1]}
    assert place_of_secret({"params": {"source": [text]}}) == "params.source"
    with pytest.raises(BadInput, match=r"import: params\.source would put a token") as raised:
        refuse_secret({"params": {"source": text}}, {}, "import")
    assert SECRETS[name] not in str(raised.value)
    with pytest.raises(BadInput, match=r"about\.model"):
        refuse_secret({"params": {}}, {"model": text}, "import")


def test_what_the_environment_calls_a_secret_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("HF_TOKEN_PATH", "/etc/hostname-of-mine")
    assert redacted("it was correct-horse-battery") == f"it was {HIDDEN}"
    assert redacted("/etc/hostname-of-mine") == "/etc/hostname-of-mine"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    refuse_secret({"params": {"system": text}}, {}, "select")


@pytest.mark.parametrize(
    "value", ["back\\slash-secret-value", 'quoted"secret"value', "/begins-as-a-path-does+Ab1", "~tilde-secret-value"]
)
def test_a_secret_of_the_environment_is_found_however_it_is_written(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_ACCESS_KEY", value)
    monkeypatch.setenv("MY_OTHER_TOKEN", value + "-and-longer")
    with pytest.raises(BadInput, match=r"params\.source"):
        refuse_secret({"params": {"source": value}}, {}, "import")
    with pytest.raises(BadInput, match="params would put"):
        refuse_secret({"params": {value: 1}}, {}, "import")
    assert redacted(f"x {value}-and-longer y") == f"x {HIDDEN} y"


def test_a_path_to_a_secret_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token-of-mine").write_text("x", encoding="utf-8")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/eva/.cache/token")
    monkeypatch.setenv("MY_TOKEN", str(tmp_path / "token-of-mine"))
    refuse_secret({"params": {"a": "/home/eva/.cache/token", "b": str(tmp_path / "token-of-mine")}}, {}, "import")


def test_the_environment_is_read_once_however_many_texts_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix asks for hundreds of recipes of hundreds of texts each."""
    asked: list[None] = []
    plainly = redaction._values

    def counted() -> list[str]:
        asked.append(None)
        return plainly()

    monkeypatch.setattr(redaction, "_values", counted)
    value = {"a": ["x", "y", {"b": "z"}], "c": "w"}
    assert place_of_secret(value) is None
    assert redacted_value(value) == value
    assert len(asked) == 2
