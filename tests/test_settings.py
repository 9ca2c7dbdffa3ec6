"""Settings: declared once, taken from flags, files and the environment, refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusalctl.cli.app import app
from refusalctl.errors import BadInput, DataError
from refusalctl.resolve import read_file, resolve
from refusalctl.settings import ControlSettings, GeometrySettings, Machine, Settings, declared

ROOT = Path(__file__).resolve().parents[1]


def test_a_flag_wins_over_the_file_the_file_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[experiment]\nmax_kl = 0.2\nseed = 3\ndata = "polyrefuse"\n[model]\nname = "smollm2"\n')
    env = {"REFUSALCTL_DATA": "mine", "REFUSALCTL_MODEL": "other", "REFUSALCTL_DEVICE": "cpu"}
    asked = resolve({"max_kl": 0.5, "n_val": None}, file, env)
    assert (asked.settings.selection.max_kl, asked.origins["max_kl"]) == (0.5, "flag")
    assert (asked.settings.prompts.seed, asked.origins["seed"]) == (3, str(file))
    assert (asked.settings.prompts.data, asked.machine.model) == ("polyrefuse", "smollm2")
    assert (asked.machine.device, asked.origins["device"]) == ("cpu", "REFUSALCTL_DEVICE")
    assert (asked.settings.prompts.n_val, asked.origins["n_val"]) == (None, "default")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_train": 0}, "n_train is 0, expected a whole number of at least 1"),
        ({"n_train": True}, "n_train is True, expected a whole number"),
        ({"max_kl": "much"}, "max_kl is 'much', expected a number"),
        ({"max_kl": float("nan")}, "max_kl is nan, expected a number; no limit is inf"),
        ({"max_kl": float("-inf")}, "max_kl is -inf"),
        ({"min_induce": float("inf")}, "min_induce is inf, expected a number; no limit is -inf"),
        ({"max_layer_share": 0.0}, "expected more than 0"),
        ({"margin": float("nan")}, "margin is nan"),
        ({"seed": 2**63}, "seed is a number beyond 64 bits"),
        ({"n_train": 10**5000}, "n_train is a number beyond 64 bits"),
        ({"sources": ["english"]}, "is no language code; did you mean .en. .English."),
        ({"criterion": "luck"}, "criterion is 'luck', expected refusal-score or cosmic"),
        ({"search": "luck"}, "search is 'luck', expected full or prune or screen"),
        ({"layers": "8"}, "layers is '8', expected a list of whole numbers"),
        ({"layers": [-1]}, "layers count from 0"),
        ({"positions": [0]}, "positions count back from the prompt's end"),
        ({"doses": [1.0, 1.0]}, "different numbers other than 0"),
        ({"margin": 0.5}, "the margin is 0.5"),
        ({"rule": "mine"}, "there is no selection rule 'mine'"),
        ({"n_controls": 18}, "expected at least 19"),
        ({"search": "prune", "criterion": "cosmic"}, "COSMIC needs every candidate"),
        ({"refusal_openings": [" "]}, "a refusal opening is empty"),
        ({"min_opening_auroc": 0.4}, "expected 0.5"),
        ({"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
        ({"marigin": 0.2}, "there is no setting 'marigin'; did you mean 'margin'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        resolve(values, environ={})


def test_an_environment_variable_is_read_as_its_type_and_named_where_it_is_wrong() -> None:
    assert resolve({}, environ={"REFUSALCTL_BATCH_SIZE": "7"}).machine.batch_size == 7
    with pytest.raises(BadInput, match="REFUSALCTL_BATCH_SIZE is 'seven', expected a whole number"):
        resolve({}, environ={"REFUSALCTL_BATCH_SIZE": "seven"})


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[experiment]\nmax_new_token = 32\n")
    with pytest.raises(BadInput, match=r"unknown key 'max_new_token' in .experiment.; did you mean 'max_new_tokens'"):
        read_file(file)


def test_names_are_unique_and_every_setting_has_help() -> None:
    names = [each.name for each in declared()]
    assert len(set(names)) == len(names)
    assert all(each.help for each in declared())
    assert len({each.flag for each in declared()}) == len(names)


def test_settings_survive_json_and_a_file(tmp_path: Path) -> None:
    asked = Settings.of(sources=["en"], targets=["ba"], layers=[3, 4], doses=[1.0, 2.0], max_kl=0.3, induce=False)
    assert Settings.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    assert Settings.of(**asked.by_name()) == asked
    assert Machine.from_json(Machine("smollm2", batch_size=3).to_json()).batch_size == 3
    with pytest.raises(DataError, match="unknown field"):
        Settings.from_json({"sorces": ["en"]})


def run(*args: str) -> str:
    result = CliRunner().invoke(app, [*args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_setting_is_an_option_of_run_and_transfer() -> None:
    for command in ("run", "transfer"):
        shown = CliRunner(env={"COLUMNS": "300"}).invoke(app, [command, "--help"]).stdout
        missing = [each.flag for each in declared() if each.flag not in shown]
        assert missing == []


def test_explain_says_where_each_value_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[experiment]\nsources = ["en"]\ntargets = ["be"]\nseed = 5\n')
    monkeypatch.setenv("REFUSALCTL_JUDGE", "wildguard")
    rows = json.loads(run("run", str(file), "--max-kl", "0.4", "--explain", "--json"))
    told = {row["setting"]: (row["value"], row["from"]) for row in rows}
    assert told["seed"] == (5, str(file))
    assert told["max_kl"] == (0.4, "flag")
    assert told["judge"] == ("wildguard", "REFUSALCTL_JUDGE")
    assert told["margin"] == (0.1, "default")
    assert len(rows) == len(declared())


def test_a_file_gives_one_step_the_prompts_of_the_whole_matrix(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[experiment]\nsources = ["en"]\ntargets = ["be"]\nn_train = 4\ndata = "sample"\n')
    args = ("extract", "--lang", "en", "--dry-run", "--json", "--store", str(tmp_path / "s"))
    alone, together = (json.loads(run(*args, *more))["plan"] for more in ((), ("--config", str(file))))
    assert [line["about"].get("n") for line in together if line["step"] == "prompts"] == [4, 4]
    assert [line["about"].get("n") for line in alone if line["step"] == "prompts"] != [4, 4]


def test_two_searches_are_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["select", "--lang", "en", "--prune", "--screen"])
    assert result.exit_code == 2
    assert "give one" in result.output


def test_languages_are_text_or_a_list_each_once(tmp_path: Path) -> None:
    """A target named twice would be measured, and corrected for, twice."""
    for given in ("en,ba,en", ["en", "ba", "en"], ("en", "ba")):
        assert Settings.of(targets=given).targets == ("en", "ba")
        assert Settings.of(targets="de").changed(targets=given).targets == ("en", "ba")
    (tmp_path / "x.toml").write_text('[experiment]\ntargets = "en,ba"\n')
    assert resolve({}, tmp_path / "x.toml", {}).settings.targets == ("en", "ba")
    with pytest.raises(BadInput, match="no language was named"):
        Settings.of(sources=" ,")


def test_records_refuse_what_does_not_fit_however_they_are_made() -> None:
    for wrong in (
        lambda: Machine(batch_size=0),
        lambda: Machine().changed(batch_size=0),
        lambda: ControlSettings(control_prompts=0),
        lambda: GeometrySettings(halves=0),
    ):
        with pytest.raises(BadInput, match="is 0, expected a whole number of at least 1"):
            wrong()


def test_least_values_are_known_to_the_command_line() -> None:
    for flag in ("--batch-size", "--max-new-tokens", "--rank", "--control-prompts", "--n-train"):
        assert CliRunner().invoke(app, ["transfer", flag, "0"]).exit_code == 2, flag


def test_a_rule_of_a_group_names_the_file_that_breaks_it(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[experiment]\nmargin = 0.9\n")
    with pytest.raises(BadInput, match=r"x\.toml: the margin is 0\.9"):
        resolve({}, file, {})
    with pytest.raises(BadInput, match="cannot be read"):
        resolve({}, tmp_path, {})


def test_settings_have_no_place_for_the_machines() -> None:
    with pytest.raises(BadInput, match="there is no setting 'batch_size'"):
        Settings.of(batch_size=2)
