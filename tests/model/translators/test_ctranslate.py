"""CTranslate2 writes what transformers writes, and says so by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from refusalctl.errors import ModelError
from refusalctl.model.translators import ctranslate
from refusalctl.model.translators.into_english import check_spec, identity, open_back_translator
from tests.model.translators.test_into_english import save, tokens_of

TEXTS = ["abc. de.\nxyz", "hello there", "a", "<2de> abc </s> def", "zzz yyy xxx www vvv uuu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("m")
    found = {
        "madlad": save(folder / "tiny-madlad", tokens_of(["<2en>", "<2de>"]), "t5"),
        "nllb": save(folder / "tiny-nllb", tokens_of(["bak_Cyrl", "eng_Latn"]), "m2m"),
    }
    for each in found.values():  # weights so large that every text gets an answer of its own
        weights = load_file(each / "model.safetensors")
        generator = torch.Generator().manual_seed(1)
        drawn = {n: w + 0.7 * torch.randn(w.shape, generator=generator) for n, w in weights.items()}
        save_file(drawn, each / "model.safetensors", {"format": "pt"})
    return found


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["madlad", "nllb"])
def test_both_engines_write_the_same_ids(kind: str, models: dict[str, Path]) -> None:
    pytest.importorskip("ctranslate2")
    plain, ct2 = (open_back_translator(f"{k}:{models[kind]}", "ba", device="cpu") for k in (kind, f"{kind}-ct2"))
    assert ct2.name == plain.name.replace(kind, f"{kind}-ct2", 1)
    inner: list[Any] = [plain.inner, ct2.inner]
    for each in inner:
        each.max_new_tokens = 12
    assert ct2(TEXTS) == plain(TEXTS)
    options = {"forced_bos_token_id": inner[0].tokenizer.convert_tokens_to_ids("eng_Latn")} if kind == "nllb" else {}
    from refusalctl.model.translators.sequence_models import write

    ids = [write(each.model, each.tokenizer, TEXTS, 12, **options) for each in inner]
    assert len({tuple(row) for row in ids[0]}) > 2
    for one, other in zip(*ids, strict=True):
        end = one.index(2, 1) + 1 if 2 in one[1:] else len(one)  # transformers fills rows up behind the end
        assert other[:end] == one[:end]
        assert len(other) in (end, end - 1) or 2 not in one[1:]


def test_the_engine_is_part_of_what_was_asked(models: dict[str, Path]) -> None:
    plain, ct2 = (identity(f"{kind}:{models['madlad']}", "ba") for kind in ("madlad", "madlad-ct2"))
    assert plain["translator"] == "madlad"
    assert ct2 == plain | {"translator": "madlad-ct2"}
    check_spec("nllb-ct2", "be")


def test_without_the_package_it_is_refused_with_what_to_install(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ctranslate2", None)
    with pytest.raises(ModelError, match="needs the package ctranslate2") as caught:
        ctranslate.open_engine(models["madlad"], "madlad-ct2", 0)
    assert "refusalctl[translate]" in (caught.value.hint or "")
