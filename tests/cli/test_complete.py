"""What Tab shows: fast, from a table that is the command line itself, and nothing that a shell would run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from refusalctl.cli.app import app
from refusalctl.cli.complete import answer, suggestions
from refusalctl.cli.completion_table import ARGUMENTS, OPTIONS, table

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"


def values(line: str, **environ: str) -> list[str]:
    """What is offered where the line ends."""
    *words, last = line.split(" ")
    return [value for value, _ in suggestions(words, last, {"REFUSALCTL_STORE": str(GOLDEN), **environ})]


def test_commands_and_options() -> None:
    assert "gate" in values("")
    assert values("art") == ["artifacts"]
    assert values("artifacts ver") == ["verify"]
    assert values("transfer --max-k") == ["--max-kl"]
    assert values("transfer --no-cont") == ["--no-controls"]


def test_values_of_options() -> None:
    assert values("collect --lang b")[:2] == ["ba", "be"]
    assert values("transfer --sources en,b")[:2] == ["en,ba", "en,be"]
    assert "en,en" not in values("transfer --sources en,e")
    assert values("run --model smollm2-") == ["smollm2-refuser", "smollm2-refuser-en"]
    assert "substring" in values("judge --judge ")
    assert values("judge --judge=qwen3guard-0") == ["--judge=qwen3guard-0.6b"]
    assert values("transfer --thinking ") == ["auto", "off", "on"]
    assert values("report --format l") == ["latex"]
    assert values("artifacts ls trans") == ["transfer", "translations"]
    assert values("collect --kind ") == ["harmful", "harmless"]
    assert "sample" in values("transfer --data ")


def test_artifacts_by_id_and_name_of_the_kind_that_is_asked_for(tmp_path: Path) -> None:
    (matrix,) = (p.name[:12] for p in (GOLDEN / "transfer").iterdir())
    assert values("gate ") == [matrix]
    assert len(values("artifacts show ")) == len([p for p in GOLDEN.glob("*/*") if len(p.name) == 64])
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "mine").write_text(f"transfer/{'a' * 64}\n")
    (tmp_path / "transfer" / ("a" * 64)).mkdir(parents=True)
    for line in (f"gate --store {tmp_path} ", f"gate --store={tmp_path} "):
        assert values(line) == ["mine", "a" * 12]
    assert values(f"judge --store {tmp_path} ") == []
    assert values("gate ", REFUSALCTL_STORE=str(tmp_path / "nowhere")) == []


def test_models_of_the_hub_s_cache_and_sets_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "models--org--name").mkdir()
    (tmp_path / "own" / "mine").mkdir(parents=True)
    environ = {"HF_HUB_CACHE": str(tmp_path), "REFUSALCTL_DATA_DIR": str(tmp_path)}
    assert values("run --model org/", **environ) == ["org/name"]
    assert values("run --data mi", **environ) == ["mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "pwsh"])
def test_a_name_that_a_shell_would_run_is_not_offered(tmp_path: Path, shell: str) -> None:
    (tmp_path / "names").mkdir()
    for name in ("good", "$(touch gone)", "`touch gone`", "a'b", 'a"b', "a b", "a\nb", "a;b"):
        (tmp_path / "names" / name).write_text(f"transfer/{'a' * 64}\n")
    line = "refusalctl gate "
    environ = {"COMP_WORDS": line, "COMP_CWORD": "2", "_TYPER_COMPLETE_ARGS": line}
    found = answer({"_REFUSALCTL_COMPLETE": f"complete_{shell}", "REFUSALCTL_STORE": str(tmp_path), **environ})
    assert found is not None
    assert "good" in found[0]
    assert "gone" not in found[0]
    assert len(found[0].splitlines()) == 1


def test_every_shell_gets_its_own_form() -> None:
    def said(shell: str, line: str = "refusalctl artifacts verif", **more: str) -> tuple[str, int] | None:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TYPER_COMPLETE_ARGS": line}
        return answer({"_REFUSALCTL_COMPLETE": f"complete_{shell}", **words, **more})

    told = dict(suggestions(["artifacts"], "verif", {}))["verify"]
    assert said("bash") == ("verify", 0)
    assert said("zsh") == (f"""_arguments '*: :(("verify":"{told}"))'""", 0)
    assert said("fish", _TYPER_COMPLETE_FISH_ACTION="get-args") == (f"verify\t{told}", 0)
    assert said("fish", _TYPER_COMPLETE_FISH_ACTION="is-args") == ("", 0)
    assert said("pwsh", _TYPER_COMPLETE_WORD_TO_COMPLETE="verif") == (f"verify:::{told}", 0)
    assert said("zsh", "refusalctl run some") == ("_files", 0)
    assert said("bash", "refusalctl judge 'unfinished") == ("", 0)
    # as bash takes words apart
    assert said("bash", "refusalctl judge --judge = qwen3guard-0") == ("qwen3guard-0.6b", 0)
    assert said("bash", "refusalctl judge --judge = ")[0].startswith("e5-refusal")  # type: ignore[index]
    assert said("bash", "refusalctl run --model organism : mirr") == ("mirror", 0)
    assert answer({"_REFUSALCTL_COMPLETE": "source_bash"}) is None


def test_it_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; from refusalctl.cli.complete import answer\n"
        "import os; answer(os.environ)\n"
        "ours = {m for m in sys.modules if m.startswith('refusalctl')}\n"
        "heavy = {'typer', 'rich', 'msgspec', 'torch', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy | ours) if heavy or len(ours) > 5 else 0)"
    )
    words = {"_REFUSALCTL_COMPLETE": "complete_bash", "COMP_WORDS": "refusalctl gate ", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_answers_a_shell() -> None:
    words = {"_REFUSALCTL_COMPLETE": "complete_bash", "COMP_WORDS": "refusalctl artifacts verif", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "refusalctl"], env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "verify\n", "")


def test_the_table_knows_what_options_and_arguments_take() -> None:
    """A flag or an argument that is renamed must not leave a dead line behind."""
    made = table(typer.main.get_command(app))
    commands = made["commands"]
    flags = {flag for each in commands.values() for flag in each["options"]}
    assert set(OPTIONS) <= flags
    kinds = {kind for each in commands.values() for kind in each["arguments"]}
    assert {kind for kind in ARGUMENTS.values() if kind} <= kinds
    asked = {kind for each in commands.values() for _, kind in each["options"].values() if kind} | kinds
    known = {*made["choices"], "", "artifact", "run", "folder of the store"}
    assert {kind for kind in asked if not kind.startswith("artifact ")} <= known
