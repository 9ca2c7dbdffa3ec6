"""Back-translators: real architectures, cut answers, hostile texts, and services that fail."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.translators import into_english
from refusalctl.model.translators.into_english import BackTranslator, check_spec, identity, open_back_translator
from refusalctl.model.translators.protocol import Outcome
from tests.model.files import folders

LETTERS = [*"abcdefghijklmnopqrstuvwxyz .<>2"]


def tokens_of(special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, *special]
    core = Tokenizer(models.WordLevel({t: i for i, t in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    first = f"{special[0]} " if special[0].endswith("Cyrl") else ""
    core.post_processor = processors.TemplateProcessing(
        f"{first}$A </s>", special_tokens=[("</s>", 2)] + ([(special[0], names.index(special[0]))] if first else [])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        additional_special_tokens=special,
    )  # fmt: skip


def save(folder: Path, tokenizer: Any, kind: str) -> Path:
    from transformers import (
        GenerationConfig,
        M2M100Config,
        M2M100ForConditionalGeneration,
        T5Config,
        T5ForConditionalGeneration,
    )  # fmt: skip

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "d_model": 16, "pad_token_id": 1, "eos_token_id": 2}
    if kind == "t5":
        settings = T5Config(**sizes, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
        network: Any = T5ForConditionalGeneration(settings)
    else:
        config = M2M100Config(
            **sizes, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=128, decoder_start_token_id=2,
        )  # fmt: skip
        network = M2M100ForConditionalGeneration(config)
    network.generation_config = GenerationConfig(
        decoder_start_token_id=network.config.decoder_start_token_id, eos_token_id=2, pad_token_id=1, num_beams=4
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def madlad(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"madlad:{save(tmp_path_factory.mktemp('m') / 'tiny-madlad', tokens_of(['<2en>', '<2de>']), 't5')}"


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"nllb:{save(tmp_path_factory.mktemp('m') / 'tiny-nllb', tokens_of(['bak_Cyrl', 'eng_Latn']), 'm2m')}"


def spy(tool: BackTranslator, monkeypatch: pytest.MonkeyPatch, answer: list[int]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    inner: Any = tool.inner

    def generate(**options: Any) -> torch.Tensor:
        told.update(options)
        return torch.tensor([answer] * len(options["input_ids"]))

    monkeypatch.setattr(inner.model, "generate", generate)
    return told


def test_madlad_is_asked_for_english_sentence_by_sentence(madlad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = open_back_translator(madlad, "ba", device="cpu")
    inner: Any = tool.inner
    letters = inner.tokenizer.convert_tokens_to_ids(["s", "u"])
    told = spy(tool, monkeypatch, [0, *letters, 2, 1])
    assert tool(["abc. de.\nxyz"]) == [Outcome("su su\nsu")]
    en = inner.tokenizer.convert_tokens_to_ids("<2en>")
    assert [row[0] for row in told["input_ids"].tolist()] == [en] * 3
    assert told["num_beams"] == 1
    assert told["attention_mask"].sum(dim=1).tolist() == [6, 6, 7]


def test_a_text_cannot_choose_the_language_or_end_itself(
    madlad: str, nllb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A completion may hold control tokens of the translator."""
    for spec, hostile, own in (
        (madlad, "<2de> abc </s> def", ["<2en>", "</s>"]),
        (nllb, "eng_Latn a </s>", ["bak_Cyrl", "</s>"]),
    ):
        tool = open_back_translator(spec, "ba", device="cpu")
        inner: Any = tool.inner
        told = spy(tool, monkeypatch, [2, 35, 30, 2])
        tool([hostile])
        control = set(inner.tokenizer.added_tokens_decoder) - {3}  # unknown letters stay unknown
        ids = [i for i in told["input_ids"][0].tolist() if i in control]
        assert inner.tokenizer.convert_ids_to_tokens(ids) == own


def test_nllb_reads_the_language_and_writes_english(nllb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = open_back_translator(nllb, "ba", device="cpu")
    inner: Any = tool.inner
    english = inner.tokenizer.convert_tokens_to_ids("eng_Latn")
    told = spy(tool, monkeypatch, [2, english, *inner.tokenizer.convert_tokens_to_ids(["s", "u"]), 2])
    assert tool(["abc"]) == [Outcome("su")]
    assert told["forced_bos_token_id"] == english
    assert told["input_ids"][0, 0] == inner.tokenizer.convert_tokens_to_ids("bak_Cyrl")


def test_real_decoding_that_never_ends_is_a_failure(madlad: str, nllb: str) -> None:
    for spec in (madlad, nllb):
        tool = open_back_translator(spec, "ba", device="cpu")
        inner: Any = tool.inner
        inner.max_new_tokens = 3
        inner.model.get_output_embeddings().weight.data[2] = 0  # the end is never the most probable token
        assert tool(["abc def. ghi."]) == [Outcome(None, "not finished after 3 tokens")]


class Fake:
    """Answers in capitals; fails on a letter, stops on another."""

    name, batch = "fake", 2

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, pairs: Any) -> list[Outcome]:
        self.asked.append([text for _, text in pairs])
        return [Outcome(None, "no luck") if "q" in text else Outcome(text.upper()) for _, text in pairs]


def test_half_a_translation_is_none() -> None:
    tool = BackTranslator(Fake(), 400, sentences=True)
    assert tool(["abc. q.", "abc. def."]) == [Outcome(None, "no luck"), Outcome("ABC. DEF.")]


def test_pieces_are_translated_once_and_what_has_no_letters_is_kept() -> None:
    inner = Fake()
    assert BackTranslator(inner, 400, sentences=True)(["a.\n---\na. 12.", "a."]) == [
        Outcome("A.\n---\nA. 12."),
        Outcome("A."),
    ]
    assert inner.asked == [["a."]]
    assert BackTranslator(inner, 400, sentences=True)(["---"]) == [Outcome(None, "empty answer")]


# --- services ------------------------------------------------------------------------------------------


@pytest.fixture
def deepl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepL's client as far as it is used: signatures of deepl 1.32."""
    module: Any = ModuleType("deepl")
    module.DeepLException = type("DeepLException", (Exception,), {})
    module.QuotaExceededException = type("QuotaExceededException", (module.DeepLException,), {})
    module.calls = []

    class Client:
        def __init__(self, auth_key: str) -> None:
            module.key = auth_key

        def translate_text(self, text: list[str], *, source_lang: str, target_lang: str) -> list[Any]:
            module.calls.append((list(text), source_lang, target_lang))
            if module.fail:
                raise module.QuotaExceededException("Quota for this billing period has been exceeded")
            return [SimpleNamespace(text=f"{each} in English") for each in text]

    module.DeepLClient, module.fail = Client, False
    monkeypatch.setitem(sys.modules, "deepl", module)
    monkeypatch.setenv("DEEPL_AUTH_KEY", "secret-key")
    return module


def test_deepl_translates_whole_lines_in_one_call(deepl: Any) -> None:
    tool = open_back_translator("deepl", "de")
    assert tool(["Eins. Zwei.", "Drei."]) == [Outcome("Eins. Zwei. in English"), Outcome("Drei. in English")]
    assert deepl.calls == [(["Drei.", "Eins. Zwei."], "DE", "EN-US")]
    assert deepl.key == "secret-key"


def test_deepl_that_gives_up_stops_without_naming_the_key(deepl: Any) -> None:
    deepl.fail = True
    with pytest.raises(ModelError, match="QuotaExceededException") as caught:
        open_back_translator("deepl", "de")(["Eins."])
    assert "secret" not in str(caught.value)


def test_deepl_without_key_or_package(deepl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPL_AUTH_KEY")
    with pytest.raises(ModelError, match="DEEPL_AUTH_KEY"):
        open_back_translator("deepl", "de")
    monkeypatch.setitem(sys.modules, "deepl", None)
    with pytest.raises(ModelError, match=r"refusalctl\[translate\]"):
        open_back_translator("deepl", "de")


def test_google_reads_the_language_of_the_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, str] = {}
    fake: Any = ModuleType("deep_translator")
    errors: Any = ModuleType("deep_translator.exceptions")
    errors.BaseError = errors.RequestError = errors.TooManyRequests = type("BaseError", (Exception,), {})
    fake.GoogleTranslator = lambda **ends: made.update(ends) or SimpleNamespace(translate=str.upper)
    monkeypatch.setitem(sys.modules, "deep_translator", fake)
    monkeypatch.setitem(sys.modules, "deep_translator.exceptions", errors)
    assert open_back_translator("google", "zh")(["ab"]) == [Outcome("AB")]
    assert made == {"source": "zh-CN", "target": "en"}


@pytest.mark.parametrize("spec", ["file:x", "googl", "", "deepl:x"])
def test_an_unknown_translator_names_those_that_are_known(spec: str) -> None:
    for call in (open_back_translator, check_spec, identity):
        with pytest.raises(BadInput, match=r"nllb\[:MODEL\], madlad\[:MODEL\], google or deepl"):
            call(spec, "ba")


def test_identity_is_of_the_files_and_not_of_the_folder_s_name(madlad: str, tmp_path: Path) -> None:
    import shutil

    folder = Path(madlad.partition(":")[2])
    copy = shutil.copytree(folder, tmp_path / folder.name)
    same, changed = identity(f"madlad:{copy}", "ba"), None
    assert same == identity(madlad, "ba")
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    changed = identity(f"madlad:{copy}", "ba")
    assert changed["model"] == same["model"]
    assert changed["revision"] != same["revision"]
    assert into_english.MADLAD_MODEL.startswith("google/")


def test_a_model_of_the_other_family_and_a_language_without_code(madlad: str, nllb: str) -> None:
    with pytest.raises(ModelError, match="no token <2en>"):
        open_back_translator(nllb.replace("nllb:", "madlad:"), "ba")
    with pytest.raises(ModelError, match="no language code"):
        open_back_translator(madlad.replace("madlad:", "nllb:"), "ba")
    with pytest.raises(BadInput, match="--code"):
        check_spec("nllb", "kk")
    check_spec("nllb", "kk", "kaz_Cyrl")
    with pytest.raises(ModelError, match="no model folder"):
        check_spec("nllb:./nowhere", "ba")


@pytest.mark.parametrize(
    ("kind", "part", "name"),
    [
        ("t5", "shared", "encoder.embed_tokens"),
        ("m2m", "shared", "encoder.embed_tokens"),
        ("t5", "block.0.layer.0", "block"),
    ],
)
def test_a_translator_with_missing_tensors_is_refused(tmp_path: Path, kind: str, part: str, name: str) -> None:
    """Random embeddings translate too."""
    folder = save(tmp_path / "tiny", tokens_of(["<2en>", "bak_Cyrl", "eng_Latn"]), kind)
    folders.with_weights(folder, folders.without(part, "lm_head", "embed_tokens"))
    spec = f"madlad:{folder}" if kind == "t5" else f"nllb:{folder}"
    with pytest.raises(ModelError, match=rf"the translation model .* missing \(.*{name}"):
        open_back_translator(spec, "ba", device="cpu")


def test_pickled_weights_of_a_translator_are_proved_and_are_its_identity(tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny", tokens_of(["<2en>"]), "t5")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    before = identity(f"madlad:{folder}", "ba")
    open_back_translator(f"madlad:{folder}", "ba", device="cpu")
    del state[next(name for name in state if "layer_norm" in name)]
    torch.save(state, folder / "pytorch_model.bin")
    assert identity(f"madlad:{folder}", "ba")["revision"] != before["revision"]
    with pytest.raises(ModelError, match="1 tensor is missing"):
        open_back_translator(f"madlad:{folder}", "ba", device="cpu")
