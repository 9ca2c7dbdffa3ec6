"""A plan's forecast against what the steps then really ask of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusalctl.model import forward, generate
from refusalctl.model.savings import sweeps
from refusalctl.settings import Machine, Settings
from refusalctl.steps.forecast import Work, forecast_work
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store

LANGS = ("qaa", "qab")
SMALL = Settings.of(
    sources=LANGS,
    targets=LANGS,
    data="organism:shared",
    n_train=24,
    n_val=10,
    n_test=12,
    positions=(-2, -1),
    layers=(1, 2, 3),
    max_new_tokens=6,
    n_controls=19,
    control_prompts=6,
)


def bench(folder: Path, *, dry_run: bool = False) -> Workbench:
    return Workbench(Store(folder), Machine("organism:shared", device="cpu", batch_size=32), dry_run=dry_run)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Prompts that went through the model, by what was wanted of them."""
    seen: Counter[str] = Counter()

    def counted(module: Any, name: str, what: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def counting(model: Any, encoded: Any, *args: Any, **named: Any) -> Any:
            seen[what] += len(encoded)
            if what == "answers":
                seen["new_tokens"] += len(encoded) * named["max_new_tokens"]
            return real(model, encoded, *args, **named)

        monkeypatch.setattr(module, name, counting)

    for module, name, what in (
        (forward, "last_logprobs", "forward"), (forward, "activations", "forward"),
        (forward, "opening_logprob", "scored"), (generate, "complete", "answers"),
    ):  # fmt: skip
        counted(module, name, what)
    plain = sweeps.Sweeps.run

    def run(self: sweeps.Sweeps, intervention: Any, wanted: Any, checks: Any = None, **less: Any) -> Any:
        for kind, what in wanted.items():
            scored = "added" if intervention.kind == "add" else "scored"
            seen["forward" if what == "next" else scored] += len(self.prompts[kind])
        return plain(self, intervention, wanted, checks, **less)

    monkeypatch.setattr(sweeps.Sweeps, "run", run)
    return seen


def test_a_forecast_counts_what_is_then_computed(tmp_path: Path, asked: Counter[str]) -> None:
    planned = bench(tmp_path, dry_run=True)
    measure_transfer(planned.asking(SMALL))
    found = forecast_work(planned.asking(SMALL))
    assert found.seconds is None
    total = found.total
    assert not asked  # nothing was run
    real = bench(tmp_path)
    measure_transfer(real.asking(SMALL))
    # no prompt of this organism is filtered, and none of its draws damages enough to be ablated in part
    assert (asked["answers"], asked["new_tokens"]) == (total.answers, total.new_tokens)
    own_text = sum(r.work.forward for r in found.rows if r.step == "comprehension")  # bits per byte: another function
    assert total.forward - own_text <= asked["forward"] <= total.forward
    assert asked["scored"] == pytest.approx(total.scored, rel=0.1)
    assert asked["added"] == pytest.approx(total.added, rel=0.1)
    again = bench(tmp_path, dry_run=True)
    measure_transfer(again.asking(SMALL))
    nothing = forecast_work(again.asking(SMALL))
    assert (nothing.rows, nothing.cells, nothing.labels) == ([], 0, 0)


def test_a_probe_gives_every_language_a_time(tmp_path: Path) -> None:
    planned = bench(tmp_path, dry_run=True)
    measure_transfer(planned.asking(SMALL))
    found = forecast_work(planned.asking(SMALL), probe=True)
    assert {row.lang for row in found.rows} == set(LANGS)
    assert all(row.seconds is not None and row.seconds > 0 for row in found.rows)
    assert found.seconds == pytest.approx(sum(row.seconds or 0 for row in found.rows))


def test_work_adds_up_and_time_follows_the_rates() -> None:
    from refusalctl.model.probe import Rates

    both = Work(1, 2, 3, 4, 5) + Work(10, 20, 30, 40, 50)
    assert both == Work(11, 22, 33, 44, 55)
    rates = Rates(forward=1.0, scored=10.0, added=5.0, token=100.0, prompt_tokens=5.0)
    assert both.seconds(rates) == 11 + 44 + 220 + 165 + 5500
    untimed = rates._replace(token=None)
    assert both.seconds(untimed) is None  # never 0 for what was not measured
    assert Work(scored=2).seconds(untimed) == 20


def test_passes_cost_by_the_length_of_prompts_and_tokens_do_not() -> None:
    from refusalctl.model.probe import Rates

    rates = Rates(forward=1.0, scored=10.0, added=5.0, token=0.5, prompt_tokens=50.0)
    assert rates.scaled(100.0) == (2.0, 20.0, 10.0, 0.5, 100.0)
    assert rates.scaled(50.0) == rates


def test_a_token_s_time_is_a_full_batch_s_step_divided_by_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from refusalctl.model import probe
    from tests import exactness

    model = exactness.chat_model("Llama")
    model.__dict__["eos_ids"] = []
    ticks = iter(range(0, 10_000, 6))
    monkeypatch.setattr(probe.time, "perf_counter", lambda: float(next(ticks)))
    encoded = [model.chat.encode(text) for text in exactness.TEXTS]
    assert probe._token(model, encoded, exactness.interventions()["ablate"], 12) == 0.5  # 6 a step, 12 answers
    monkeypatch.setattr(probe, "NEW_TOKENS", 0)
    assert probe._token(model, encoded, exactness.interventions()["ablate"], 12) is None
    assert not model.residual.blocks[0]._forward_pre_hooks


def test_whole_answers_give_a_time_per_token_where_steps_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from refusalctl.model import probe
    from tests import exactness

    model = exactness.chat_model("Llama")
    before = list(model.eos_ids)
    rows = [model.chat.encode("Please, now and here, what?")] * 4
    asked = exactness.interventions()["ablate"]
    written: list[int] = []

    def timed(work: Callable[[], Any]) -> float:
        ((_, answers, _),) = work()
        written.append(len(answers[0].ids))
        return 3.0 + 0.5 * written[-1]

    monkeypatch.setattr(probe, "_seconds", timed)
    assert probe._whole_answers(model, rows, asked, (4, 10)) == pytest.approx(0.5 / 4)
    assert written == [4, 10]  # to the limit, whatever ends an answer
    assert model.eos_ids == before
    monkeypatch.setattr(probe, "_seconds", lambda _work: 1.0)
    assert probe._whole_answers(model, rows, asked, (4, 10)) is None


def test_a_plan_says_what_controls_cost_and_the_smallest_p_that_they_can_give(tmp_path: Path) -> None:
    planned = bench(tmp_path, dry_run=True)
    measure_transfer(planned.asking(SMALL))
    found = forecast_work(planned.asking(SMALL))
    per_cell = 6 * 20 + 6 + 6 * 20 + 6 + 6 * 20  # KL and baseline, drops and baseline as looked at, additions
    assert found.controls is not None
    assert found.controls[:3] == (4, 19, 0.05)
    places = 6  # two positions, three layers
    searched = 2 * (
        19 * places * 10 + 20 * 10
    )  # two sources: bypass at every place; KL once a draw, and the baseline's
    assert found.controls.passes == pytest.approx(4 * per_cell + searched, rel=0.05)
    # every draw matched in part, none placed at the first try, all harmful prompts looked at
    more = 4 * (19 * 6 * 6 + (12 - 6)) + 2 * 19 * (places - 1) * 10
    assert found.controls.most == found.controls.passes + more
    assert found.as_json()["controls"]["draws"] == 19  # type: ignore[index, call-overload]
    without = bench(tmp_path, dry_run=True)
    asked = without.asking(SMALL.changed(controls=False))
    measure_transfer(asked)
    assert forecast_work(asked).controls is None
