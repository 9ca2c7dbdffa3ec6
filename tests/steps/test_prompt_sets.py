"""Making a language: same ids, failures counted and never text, stopped work goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from refusalctl.data import sets
from refusalctl.errors import BadInput, DataError, ModelError, RefusalctlError
from refusalctl.model.translators import nllb, protocol
from refusalctl.model.translators.protocol import Outcome
from refusalctl.progress import Silent
from refusalctl.steps import prompt_sets
from refusalctl.steps.prompt_sets import Request


@dataclass
class Upper:
    """Translates by capitals and a mark; fails where told, stops dead after `limit` texts."""

    fails: Sequence[str] = ()
    limit: int = 10**6
    name: str = "upper"
    batch: int = 4
    asked: list[str] = field(default_factory=list)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        if len(self.asked) + len(pairs) > self.limit:
            raise KeyboardInterrupt
        self.asked += [i for i, _ in pairs]
        return [Outcome(None, "no luck") if i in self.fails else Outcome(f"[{text.upper()} XX") for i, text in pairs]


class Lower(Upper):
    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        return [Outcome(text.lower() + " yy") for _, text in pairs]


FEW = Request("kk", kind="harmless", split="val", n=10)


def run(request: Request, translator: Any, again: bool = False) -> prompt_sets.TranslationResult:
    return prompt_sets.translate(request, translator, Silent(), again=again)


def test_every_english_prompt_has_one_row_of_the_same_id():
    done = run(Request("kk"), Upper())
    made, english = sets.prompts("sample-translated", "kk"), sets.prompts("sample", "en")
    assert [p.id for p in made] == [p.id for p in english]
    assert {p.flags for p in made} == {("machine-translated",)}
    assert {p.source for p in made} == {"sample+upper"} == {done.source}
    assert all(m.text_en == e.text and m.cluster == e.cluster for m, e in zip(made, english, strict=True))
    assert [p.text for p in sets.prompts("sample-translated", "en")] == [p.text for p in english]
    assert len(sets.draw("sample-translated", ["en", "kk"], "harmful", "test", None, 0)) == 48
    assert not list((sets.own_dir() / "sample-translated").glob(".*.partial"))


def test_filters_and_n_apply_to_each_class_and_split():
    made = run(Request("kk", n=3, split="val", name="few"), Upper())
    assert made.added.total == 6
    assert {p.split for p in sets.prompts("few", "kk")} == {"val"}


def test_failures_are_left_out_and_counted_and_tried_again():
    ids = [p.id for p in FEW.english()]
    done = run(FEW, Upper(fails=ids[1:3]))
    assert done.failed == {ids[1]: "no luck", ids[2]: "no luck"}
    assert [p.id for p in sets.prompts(done.name, "kk")] == [ids[0], *ids[3:]]
    assert "no luck" not in done.added.path.read_text(encoding="utf-8")
    later = Upper()
    again = run(FEW, later)
    assert later.asked == ids[1:3]
    assert (again.resumed, again.failed, again.added.total) == (8, {}, 10)
    assert not list(done.added.path.parent.glob(".*.partial"))


def test_interrupted_work_goes_on_even_after_a_line_was_cut():
    with pytest.raises(KeyboardInterrupt):
        run(FEW, Upper(limit=9))
    assert sets.set_names() == ["sample", "polyrefuse"]
    notes = sets.own_dir() / "sample-translated" / ".kk.partial"
    notes.write_bytes(notes.read_bytes()[:-20])
    with pytest.raises(KeyboardInterrupt):
        run(FEW, Upper(limit=2, batch=1))
    rest = Upper()
    done = run(FEW, rest)
    assert done.resumed == 9
    assert rest.asked == [p.id for p in FEW.english()][9:]
    assert done.added.total == 10


def test_finished_work_is_not_done_again_and_more_is_added():
    run(FEW, Upper())
    more = Upper()
    done = run(replace(FEW, n=12), more)
    assert more.asked == [p.id for p in replace(FEW, n=12).english()][10:]
    assert (done.resumed, done.added.added, done.added.unchanged) == (10, 2, 10)


def test_notes_of_another_translator_are_not_believed():
    with pytest.raises(KeyboardInterrupt):
        run(FEW, Upper(limit=9))
    assert run(FEW, Upper(name="other")).resumed == 0


def test_another_translation_needs_replace():
    run(FEW, Upper())
    swapped = Lower(name="lower")
    with pytest.raises(DataError, match="--replace"):
        run(FEW, swapped)
    assert run(FEW, swapped, again=True).added.replaced == 10
    assert {p.source for p in sets.prompts("sample-translated", "kk")} == {"sample+lower"}


def test_nothing_translated_writes_nothing():
    with pytest.raises(DataError, match="not one prompt"):
        run(FEW, Upper(fails=[p.id for p in FEW.english()]))
    assert sets.set_names() == ["sample", "polyrefuse"]


@pytest.mark.parametrize("asked", [{"to": "en"}, {"to": "kk", "name": "sample"}, {"to": "Kazakh"},
                                   {"to": "kk", "data": "nowhere"}])  # fmt: skip
def test_bad_requests(asked):
    with pytest.raises(BadInput):
        Request(**asked).english()


def test_a_request_is_of_a_language_in_its_one_spelling():
    assert Request("zh_tw").to == "zh-TW"


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_file_translator(tmp_path):
    ids = [p.id for p in FEW.english()]
    rows = [{"id": ids[0], "text": "Бір &amp; екі"}, {"id": ids[1], "text": " "}, {"id": "unasked", "text": "x"}]
    done = run(FEW, prompt_sets.open_translator(f"file:{write(tmp_path / 't.jsonl', *rows)}", "kk"))
    (made,) = sets.prompts(done.name, "kk")
    assert (made.text, made.flags) == ("Бір & екі", ("machine-translated", "html-unescaped"))
    assert done.source == "sample+file:t.jsonl"
    assert done.failed == {ids[1]: "empty answer"} | dict.fromkeys(ids[2:], "not in the file")


@pytest.mark.parametrize("bad", [{"id": "a"}, {"id": "a", "text": None}, {"id": "a", "text": "b", "lang": "ba"},
                                 {"id": "z", "text": "b"}, {"text": "b"}])  # fmt: skip
def test_file_translator_names_a_bad_row(tmp_path, bad):
    path = write(tmp_path / "t.jsonl", {"id": "z", "text": "y"}, bad)
    with pytest.raises(DataError, match="row 2"):
        prompt_sets.open_translator(f"file:{path}", "kk")


@pytest.mark.parametrize(("name", "content"), [
    ("t.csv", "id;text;note\n7;Бір;x\nb;Екі;\n"),
    ("t.json", '[{"id": 7, "text": "Бір", "lang": "KAZ"}, {"id": "b", "text": "Екі"}]'),
    ("t.tsv", "\ufeffid\ttext\n7\tБір\nb\tЕкі\n"),
])  # fmt: skip
def test_translations_are_read_in_the_forms_of_prompts(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    opened = prompt_sets.open_translator(f"file:{tmp_path / name}", "kk")
    assert [each.text for each in opened([("7", "One"), ("b", "Two"), ("c", "Three")])] == ["Бір", "Екі", None]


@pytest.mark.parametrize("spec", ["nllb", "nllb:", "file:", "deepl", ""])
def test_unknown_translators_are_refused(spec):
    with pytest.raises(BadInput, match="google, nllb:<model> or file:<table>"):
        prompt_sets.open_translator(spec, "ba")


def test_google_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "deep_translator", None)
    with pytest.raises(ModelError, match=r"pip install refusalctl\[translate\]"):
        prompt_sets.open_translator("google", "be")


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for deep_translator: same names, answers taken from a table."""
    made = ModuleType("deep_translator")
    errors = ModuleType("deep_translator.exceptions")
    errors.BaseError = type("BaseError", (Exception,), {})
    errors.TranslationNotFound = type("TranslationNotFound", (errors.BaseError,), {})
    errors.RequestError, errors.TooManyRequests = (
        type(n, (Exception,), {}) for n in ("RequestError", "TooManyRequests")
    )
    answers: dict[str, Any] = {}

    class GoogleTranslator:
        def __init__(self, source: str, target: str) -> None:
            if target == "ba":
                raise errors.BaseError
            self.target = target

        def translate(self, text: str) -> Any:
            answer = answers[text]
            if isinstance(answer, type):
                raise answer
            return answer

    made.GoogleTranslator = GoogleTranslator
    monkeypatch.setitem(sys.modules, "deep_translator", made)
    monkeypatch.setitem(sys.modules, "deep_translator.exceptions", errors)
    return SimpleNamespace(answers=answers, errors=errors)


def test_google_answers_and_failures(deep):
    deep.answers |= {"a": "б", "b": None, "c": deep.errors.TranslationNotFound, "d": deep.errors.TooManyRequests}
    tool = prompt_sets.open_translator("google", "zh")
    assert tool.target.target == "zh-CN"
    assert tool([("1", "a"), ("2", "b"), ("3", "c")]) == [
        Outcome("б"), Outcome(None, "empty answer"), Outcome(None, "TranslationNotFound")
    ]  # fmt: skip
    with pytest.raises(ModelError, match="finished rows are kept"):
        tool([("4", "d")])


def test_google_without_the_language_names_the_others(deep):
    with pytest.raises(ModelError, match="nllb:MODEL"):
        prompt_sets.open_translator("google", "ba")


@pytest.fixture(scope="module")
def tiny_nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder-decoder of NLLB's architecture, with letters as tokens and two language codes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-nllb"
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz ", "eng_Latn", "bak_Cyrl"]
    core = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        "eng_Latn $A </s>", special_tokens=[("eng_Latn", 31), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        additional_special_tokens=["eng_Latn", "bak_Cyrl"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokens), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=128,
        pad_token_id=1, eos_token_id=2, bos_token_id=0, decoder_start_token_id=2, init_std=2.0,
    )  # fmt: skip
    network = M2M100ForConditionalGeneration(config)
    network.generation_config = GenerationConfig(
        decoder_start_token_id=2, eos_token_id=2, pad_token_id=1, bos_token_id=0, max_length=200, num_beams=5
    )
    network.save_pretrained(folder)
    return folder


def test_nllb_answers_the_same_in_a_batch_as_alone(tiny_nllb, monkeypatch):
    tool = prompt_sets.open_translator(f"nllb:{tiny_nllb}", "ba")
    assert tool.name == "nllb:tiny-nllb"
    tool.max_new_tokens = 6
    pairs = [(str(i), text) for i, text in enumerate(("write a letter", "bread", "name a tree in the north", "sea"))]
    assert {o.failed for o in tool(pairs)} == {"not finished after 6 tokens"}
    monkeypatch.setattr(tool, "_answer", lambda ids: Outcome(str(ids)), raising=False)
    together = [o.text for o in tool(pairs)]
    assert together == [tool([pair])[0].text for pair in pairs]
    assert len(set(together)) > 1
    assert all(text.startswith("[2, 32, ") for text in together)


def test_nllb_reads_the_language_and_refuses_an_unfinished_answer(tiny_nllb, monkeypatch):
    import torch

    tool = prompt_sets.open_translator(f"nllb:{tiny_nllb}", "ba")
    told: dict[str, Any] = {}

    def generate(**options: Any) -> torch.Tensor:
        told.update(options)
        letters = tool.tokenizer.convert_tokens_to_ids(["s", "u"])
        return torch.tensor([[2, 32, *letters, 2, 1], [2, 32, *letters, *letters], [2, 32, 2, 1, 1, 1]])

    monkeypatch.setattr(tool.model, "generate", generate)
    assert tool([("1", "a"), ("2", "be"), ("3", "sea")]) == [
        Outcome("su"), Outcome(None, "not finished after 512 tokens"), Outcome(None, "empty answer")
    ]  # fmt: skip
    assert told["forced_bos_token_id"] == 32
    assert told["input_ids"][0].tolist()[0] == 31
    assert told["attention_mask"].sum(dim=1).tolist() == [3, 4, 5]
    assert told["num_beams"] == 1


def test_nllb_without_the_language_or_the_model(tiny_nllb, tmp_path):
    with pytest.raises(ModelError, match="no language code tgk_Cyrl"):
        prompt_sets.open_translator(f"nllb:{tiny_nllb}", "tg")
    with pytest.raises(BadInput, match="--code"):
        prompt_sets.open_translator(f"nllb:{tiny_nllb}", "kk")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        prompt_sets.open_translator(f"nllb:{tmp_path}", "ba")
    assert set(nllb.CODES) >= set(sets.NAMES)


@pytest.mark.parametrize("text", [None, "", "  ", "?!"])
def test_an_answer_without_a_letter_is_a_failure(text):
    assert protocol.outcome(text).text is None
    assert issubclass(ModelError, RefusalctlError)
