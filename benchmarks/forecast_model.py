"""Forecast against measured time of whole experiments: prompts, layers, positions and languages one at a time.

`python -m benchmarks.forecast_model [--model smollm2-refuser --out forecast.json]`. Each setting is planned with a
probe, as `refusalctl transfer --dry-run --probe` does it, and then run from an empty store; judging is only in the
measured time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from refusalctl.model.load import versions
from refusalctl.settings import Machine, Settings
from refusalctl.steps.forecast import forecast_work
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store

BASE = Settings.of(
    sources=("en",),
    targets=("en",),
    data="sample",
    n_train=16,
    n_val=8,
    n_test=16,
    positions=(-1,),
    layers=(14, 18, 22),
    rule="wang",
    max_kl=5.0,
    max_new_tokens=16,
    controls=False,
    induce=False,
)
SETTINGS = {
    "base": BASE,
    "n_test 48": BASE.changed(n_test=48),
    "n_train 48, n_val 18": BASE.changed(n_train=48, n_val=18),
    "9 layers": BASE.changed(layers=tuple(range(6, 23, 2))),
    "3 positions": BASE.changed(positions=(-3, -2, -1)),
    "32 new tokens": BASE.changed(max_new_tokens=32),
    "3 languages": BASE.changed(sources=("en", "be"), targets=("en", "de", "be")),
}


def measured(settings: Settings, model: str) -> dict[str, Any]:
    """Seconds forecast and taken; what the forecast counted."""
    with tempfile.TemporaryDirectory() as folder:
        planned = Workbench(Store(Path(folder)), Machine(model), settings, dry_run=True)
        measure_transfer(planned)
        forecast = forecast_work(planned, probe=True)
        bench = Workbench(Store(Path(folder)), Machine(model), settings)
        started = time.perf_counter()
        measure_transfer(bench)
        taken = time.perf_counter() - started
    assert forecast.seconds is not None
    return {"forecast": forecast.seconds, "measured": taken, "ratio": forecast.seconds / taken, **forecast.as_json()}


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="smollm2-refuser")
    parser.add_argument("--only", type=command.comma_list, help="names of settings")
    command.add_out(parser)
    given = parser.parse_args(args)
    found = {}
    for name in given.only or SETTINGS:
        found[name] = measured(SETTINGS[name], given.model)
        print(
            "{name:22} forecast {forecast:6.0f} s, measured {measured:6.0f} s, ratio {ratio:.2f}".format(
                name=name, **found[name]
            ),
            flush=True,
        )
    command.write_figures(given.out, {"settings": found, "versions": versions()})


if __name__ == "__main__":
    main()
