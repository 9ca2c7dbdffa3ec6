"""The comprehension gate: on organisms whose truth is known, and on scores that are plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.records.comprehension import Comprehension
from refusalctl.settings import Machine, Settings
from refusalctl.stats import held_out as stats
from refusalctl.steps.comprehension import measure_comprehension, read_comprehension
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def gate(folder: Path, design: str, lang: str, n_train: int = 64) -> Comprehension:
    name = f"organism:{design}"
    bench = Workbench(Store(folder), Machine(name, batch_size=64))
    return read_comprehension(measure_comprehension(bench.asking(Settings.of(data=name, n_train=n_train)), lang))


@pytest.mark.parametrize(
    ("design", "lang", "passed"),
    [("floor", "qac", False), ("floor", "qaa", True), ("detect-not-act", "qac", True), ("none", "qaa", False)],
)
def test_the_gate_knows_where_harmfulness_is_represented(tmp_path: Path, design: str, lang: str, passed: bool) -> None:
    found = gate(tmp_path, design, lang)
    assert found.passed is passed, found.reason
    assert "necessary, not sufficient" in str(found.caveat)


def test_too_few_prompts_cannot_tell(tmp_path: Path) -> None:
    found = gate(tmp_path, "shared", "qaa", 10)
    assert found.passed is None
    assert "at least 15" in str(found.reason)


def test_a_language_that_refuses_everything_is_a_concern(tmp_path: Path) -> None:
    found = gate(tmp_path, "floor", "qac")
    assert any("0 of 64 harmless train prompts were answered" in c for c in found.concerns)


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    found = stats.auroc([3.0, 2.0, 1.0], [2.0, 0.0])
    assert found.value == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert found.low <= found.value <= found.high
    for bad in ([], [float("nan")]):
        with pytest.raises(BadInput):
            stats.auroc(bad, [1.0])


def test_what_holds_on_known_topics_alone_is_not_counted() -> None:
    """Harmfulness readable by topic only: random folds would separate the classes, held-out topics do not."""
    from sklearn.model_selection import cross_val_score

    rng = np.random.default_rng(0)
    harmful = np.arange(200) < 100
    groups = np.tile(np.arange(5), 40)
    markers = rng.normal(size=(10, 40))  # each class's topics have feature patterns of their own
    rows = rng.normal(size=(200, 40)) * 0.3 + markers[groups + 5 * harmful]
    assert cross_val_score(stats._classifier(), rows, harmful, cv=5, scoring="roc_auc").mean() > 0.95
    scores, _layers = stats.held_out_scores(rows[:, None], harmful, groups)
    assert stats.auroc(scores[harmful], scores[~harmful]).value < 0.8
    shared = rows + np.outer(harmful, rng.normal(size=40))
    scores, _layers = stats.held_out_scores(shared[:, None], harmful, groups)
    assert stats.auroc(scores[harmful], scores[~harmful]).low > 0.7


def test_the_best_of_many_noise_layers_is_chance() -> None:
    rng = np.random.default_rng(1)
    harmful = np.arange(120) < 60
    rows = rng.normal(size=(120, 12, 8))
    scores, layers = stats.held_out_scores(rows, harmful, np.tile(np.arange(5), 24))
    assert len(layers) == 5
    assert 0.3 < stats.auroc(scores[harmful], scores[~harmful]).value < 0.68


def test_topics_are_paired_so_that_every_fold_holds_both_classes() -> None:
    about = {
        "sea": "salt wave",
        "bread": "flour oven",
        "stars": "night sky",
        "music": "song choir",
        "trees": "leaf root",
    }
    texts = [f"{topic} {words}" for topic, words in about.items() for _ in range(8)]
    groups = stats.paired_topics(texts, texts[::-1])
    assert set(groups[:40]) == set(groups[40:]) == set(range(5))
    assert all(len(set(groups[i : i + 8])) == 1 for i in range(0, 80, 8))


def test_answers_to_their_own_questions_match_and_stock_answers_do_not() -> None:
    questions = [
        f"How do I look after a {thing}?" for thing in ("garden", "kitten", "guitar", "bicycle", "kettle", "boat")
    ]
    answers = [f"A {q.split()[-1][:-1]} needs care." for q in questions]
    good, stock = stats.answer_match(questions, answers), stats.answer_match(questions, ["All is well."] * 6)
    assert good is not None
    assert good.low > 0.8
    assert stock is not None
    assert stock.value == pytest.approx(0.5, abs=0.2)
    assert stats.answer_match(questions[:4], answers[:4]) is None


def test_bits_per_byte_equal_a_plain_calculation(tiny_folder: Path) -> None:
    import torch

    from refusalctl.model.files.resolve import resolve
    from refusalctl.model.load import load
    from refusalctl.model.perplexity import bits_per_byte

    model = load(resolve(str(tiny_folder)), device="cpu")
    texts = ["Мама мыла раму", "", "kind words"]
    found = bits_per_byte(model, texts, 2)
    assert bool(found[1].isnan())
    for i in (0, 2):
        ids = model.tokenizer(texts[i], add_special_tokens=False)["input_ids"]
        logits = model.model(torch.tensor([[model.tokenizer.bos_token_id, *ids]])).logits[0].double().log_softmax(-1)
        total = -sum(float(logits[k, t]) for k, t in enumerate(ids)) / np.log(2)
        assert float(found[i]) == pytest.approx(total / len(texts[i].encode()), rel=1e-4)
