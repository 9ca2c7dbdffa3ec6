"""Examples run: the notebook from a prompt to a verdict, cell by cell, and the shell scripts on pretended programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def cells(path: Path) -> list[str]:
    """The code cells of a notebook kept as text."""
    parts = re.split(r"^# %%(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [code for kind, code in zip(parts[::2], parts[1::2], strict=True) if "[markdown]" not in kind]


@pytest.mark.xdist_group("documents")
def test_the_notebook_goes_from_a_prompt_to_a_verdict(asked_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALCTL_STORE", str(asked_once))
    names: dict[str, object] = {}
    found = cells(EXAMPLES / "from_prompt_to_verdict.py")
    assert len(found) > 8
    for i, code in enumerate(found):
        exec(compile(code, f"cell {i}", "exec"), names)  # the file's own asserts are the test
    before, after, direction = names["before"], names["after"], names["direction"]
    assert after.rate().value < before.rate().value  # type: ignore[attr-defined]
    assert names["ablated"].checks["max_relative_projection"] < 1e-4  # type: ignore[attr-defined]
    kinds, todo = set(), [direction]
    while todo:
        result = todo.pop()
        kinds.add(result.kind)  # type: ignore[attr-defined]
        todo += result.lineage.values()  # type: ignore[attr-defined]
    assert "prompts" in kinds
    assert names["matrix"].verdict("qaa", "qab") == "transfers"  # type: ignore[attr-defined]


def test_the_notebook_is_that_of_its_text_and_holds_no_output() -> None:
    """docs/make.py makes it; here: that Jupyter will find in it what the text says, and nothing that was computed."""
    made = json.loads((EXAMPLES / "from_prompt_to_verdict.ipynb").read_text(encoding="utf-8"))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    code = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    assert code == [each.strip("\n") for each in cells(EXAMPLES / "from_prompt_to_verdict.py")]
    assert not [cell for cell in made["cells"] if cell.get("outputs") or cell.get("execution_count")]
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    first = made["cells"][0]
    assert (first["cell_type"], first["source"][0]) == ("markdown", "# From a prompt to a verdict\n")


SMOKE = """#!/bin/sh
echo "$*" >> "$SAID"
case "$1 $2" in
    "transfer --config") echo "$(cat "$IDS" | head -n 1)"; sed -i 1d "$IDS" ;;
    "artifacts verify") exit "$DAMAGED" ;;
esac
"""


@pytest.mark.parametrize(
    ("ids", "damaged", "verdict", "code"),
    [("aa\naa\n", 0, 0, 0), ("aa\nbb\n", 0, 0, 1), ("aa\naa\n", 1, 0, 1), ("aa\naa\n", 0, 1, 1)],
    ids=["right", "another id", "a damaged file", "another verdict"],
)
def test_the_smoke_test_fails_where_something_is_wrong(
    tmp_path: Path, ids: str, damaged: int, verdict: int, code: int
) -> None:
    """The script's own logic; that its question gives its verdict is tested by the tutorial's commands."""
    for name, text in {"refusalctl": SMOKE, "python3": f"#!/bin/sh\nexit {verdict}\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    said, left = tmp_path / "said", tmp_path / "ids"
    left.write_text(ids)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(said), "IDS": str(left), "DAMAGED": str(damaged)}
    env |= {"MODEL": "org/name", "TMPDIR": str(tmp_path)}
    done = subprocess.run([str(EXAMPLES / "smoke_test.sh")], env=env, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    asked = said.read_text().splitlines()
    assert asked[0].endswith("smoke_test.toml --name smoke")
    assert (len(asked) == 4 and "--model org/name" in asked[3]) == (code == 0)
    assert not list(tmp_path.glob("tmp.*"))  # its store is gone


def test_the_slurm_array_has_a_task_per_language_and_a_last_job_for_the_matrix(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name in ("sbatch", "refusalctl"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{said}"\n[ {name} = refusalctl ] || echo 42\n')
        program.chmod(0o755)
    script = str(EXAMPLES / "slurm_array.sh")
    plain = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([script, "x.toml", "en,de,ba", "--partition=gpu"], env=plain, check=True, capture_output=True)
    array, last = said.read_text().splitlines()
    assert array.startswith("sbatch --parsable --array=0-2 ")
    assert array.endswith(f"--partition=gpu {script} x.toml en,de,ba")
    assert "--dependency=afterany:42 " in last
    assert last.endswith("--partition=gpu --wrap refusalctl run 'x.toml'")
    said.unlink()
    subprocess.run([script, "x.toml", "en,de,ba"], env=plain | {"SLURM_ARRAY_TASK_ID": "1"}, check=True)
    assert said.read_text() == "refusalctl run x.toml --only-langs de\n"


def test_the_workflow_is_yaml_and_its_commands_exist() -> None:
    import yaml  # of huggingface_hub

    from tests.test_readme import unknown

    found = yaml.safe_load((EXAMPLES / "gate.yml").read_text(encoding="utf-8"))
    (job,) = found["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    lines = [step["run"] for step in job["steps"] if "run" in step]
    asked = [words for line in lines for words in called(line)]
    assert [words[0] for words in asked] == ["doctor", "run", "gate", "transfer"]
    assert not [wrong for words in asked for wrong in unknown(words)]


def called(line: str) -> list[list[str]]:
    """The words of every call of refusalctl in a line of shell: the outer one, and those in `$(...)`."""
    inner = re.findall(r"\$\((.*?)\)", line)
    outer = re.sub(r"\$\(.*?\)", "x", line)
    return [shlex.split(part)[1:] for part in (outer, *inner) if part.startswith("refusalctl ")]
