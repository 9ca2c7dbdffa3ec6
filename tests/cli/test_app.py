"""The command line as a shell user meets it: streams, exit codes, one clear line for bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from refusalctl.cli import app as cli
from refusalctl.cli import out

ROOT = Path(__file__).resolve().parents[2]


class Result:
    """Exit code and what went to each stream."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_folder: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args: str, model: bool = True) -> Result:
        if model and args[0] in ("collect", "extract", "select", "ablate", "transfer", "run"):
            args = (*args, "--model", str(tiny_folder))
        monkeypatch.setattr(sys, "argv", ["refusalctl", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        code = stopped.value.code
        return Result(int(code) if code is not None else 0, captured.out, captured.err)

    return call


def fails(result: Result, code: int, *words: str) -> None:
    """One clear line on stderr, nothing on stdout."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def test_help_needs_no_torch_and_no_transformers() -> None:
    code = (
        "import sys; sys.argv = ['refusalctl', '--help']\n"
        "from refusalctl.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "collect" in done.stdout


def test_artifacts_ls_needs_no_torch(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['refusalctl', 'artifacts', 'ls', '--store', {str(tmp_path)!r}]\n"
        "from refusalctl.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_collect_prints_ids_alone_and_a_second_call_computes_nothing(run) -> None:  # type: ignore[no-untyped-def]
    first = run("collect", "--lang", "ba", "--n", "4")
    assert first.code == 0, first.err
    ids = first.out.split()
    assert len(ids) == 2
    assert all(len(i) == 64 for i in ids)
    again = run("collect", "--lang", "ba", "--n", "4")
    assert again.out == first.out
    assert "collect ba" not in again.err


def test_quiet_leaves_results_notes_and_errors(run, tiny_folder: Path) -> None:  # type: ignore[no-untyped-def]
    asked = ("collect", "--lang", "en", "--n", "2", "--split", "train", "--model", str(tiny_folder))
    loud, quiet = run(*asked, "--seed", "1", model=False), run("--quiet", *asked, "--seed", "2", model=False)
    assert loud.err
    assert (quiet.code, quiet.err) == (0, "")
    assert len(quiet.out.split()) == len(loud.out.split())
    fails(run("--quiet", "collect", "--lang", "fr", model=False), 1, "has no French (fr)")
    assert run("--quiet", *asked, "--dry-run", model=False).err  # what is asked for is shown


def test_two_empty_stores_get_the_same_ids(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outs = [run("extract", "--lang", "be", "--n-train", "4", "--store", str(tmp_path / s)).out for s in "ab"]
    assert outs[0] == outs[1]
    assert len(outs[0].strip()) == 64


def test_ablate_takes_negative_coefficients_places_and_several_directions(run) -> None:  # type: ignore[no-untyped-def]
    made = run("extract", "--lang", "be", "--n-train", "4").out.strip()
    args = ("ablate", "--lang", "be", "--n", "2", "--max-new-tokens", "3", "--direction", f"{made}@-1,1")
    added = run(*args, "--intervention", "add", "--coeff", "-1.5", "--at-layers", "0,2", "--at-positions", "-1")
    assert added.code == 0, added.err
    for told in (added.err, run("artifacts", "show", added.out.strip()).out):
        assert "x - 1.5 r; at the input of layers 0, 2; only prompt positions -1" in told
    plane = run(*args, "--direction", f"{made[:12]}@-1,2", "--at-positions", "eoi")
    assert plane.code == 0, plane.err
    assert "rank-2 subspace ablation" in plane.err
    asked = json.loads(run("artifacts", "show", plane.out.strip(), "--json").out)["recipe"]["params"]["intervention"]
    assert asked["others"] == [{"pos": -1, "layer": 2}]
    assert asked["positions"] == list(range(asked["positions"][0], 0))
    assert len(asked["positions"]) > 1
    assert run(*args, "--intervention", "affine").code == 0
    fails(run(*args, "--direction", f"{made}@-1"), 2, "REF@POS,LAYER")


def test_ablate_takes_a_direction_by_prefix_or_name_and_says_what_it_does(run) -> None:  # type: ignore[no-untyped-def]
    made = run("extract", "--lang", "be", "--n-train", "4", "--name", "be-candidates").out.strip()
    args = ("--lang", "ba", "--n", "3", "--max-new-tokens", "4", "--pos", "-1", "--layer", "1")
    by_name = run("ablate", "--direction", "be-candidates", *args)
    assert by_name.code == 0, by_name.err
    assert "ablate" in by_name.err
    assert run("ablate", "--direction", made[:10], *args).out == by_name.out
    shown = json.loads(run("artifacts", "show", by_name.out.strip(), "--json").out)
    asked = shown["recipe"]["params"]["intervention"]
    assert asked == {
        "kind": "ablate", "pos": -1, "layer": 1, "coeff": 1.0, "layers": None, "positions": None, "others": [],
        "rank": 1,
    }  # fmt: skip
    assert shown["run"]["checks"]["max_relative_projection"] < 1e-4
    judged = run("judge", by_name.out.strip())
    assert judged.code == 0, judged.err


def test_texts_of_prompts_and_completions_are_not_printed(run) -> None:  # type: ignore[no-untyped-def]
    made = run("ablate", "--lang", "en", "--n", "3", "--max-new-tokens", "4")
    shown = run("artifacts", "show", made.out.strip())
    rows = (ROOT / "PolyRefuse/sample/en.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    assert not [t for t in texts for stream in (made.err, shown.out, shown.err) if t in stream]


def test_dry_run_shows_the_plan_and_writes_nothing(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    store = tmp_path / "untouched"
    planned = run("transfer", "--sources", "en", "--targets", "en,ba", "--dry-run", "--store", str(store))
    assert planned.code == 0, planned.err
    assert planned.out == ""
    assert "to compute" in planned.err
    assert not store.exists()
    told = json.loads(
        run("transfer", "--sources", "en", "--targets", "en,ba", "--dry-run", "--json", "--store", str(store)).out
    )
    steps = told["plan"]
    assert told["cost"]["cells"] == sum(s["step"] == "ablate" for s in steps)
    assert told["cost"]["total"]["seconds"] is None
    assert {s["step"] for s in steps} >= {
        "collect",
        "extract",
        "openings",
        "score",
        "select",
        "ablate",
        "judge",
        "transfer",
    }
    baselines = [
        s for s in steps
        if s["step"] == "ablate" and s["about"]["intervention"] == "none" and s["about"]["split"] == "test"
    ]  # fmt: skip
    assert len(baselines) == 4  # harmful and harmless, once per target
    assert not any(s["done"] for s in steps)


def test_a_model_that_never_refuses_leaves_the_cell_without_direction_and_the_matrix_goes_on(run) -> None:  # type: ignore[no-untyped-def]
    done = run(
        "transfer", "--sources", "en", "--targets", "en", "--n-train", "6", "--n-test", "4", "--max-new-tokens", "3"
    )
    assert done.code == 0, done.err
    assert "en: no direction: the model refused 0 train prompts" in done.err
    path = run("artifacts", "path", done.out.strip()).out.strip()
    matrix = json.loads((Path(path) / "transfer.json").read_text(encoding="utf-8"))
    assert [c["condition"] for c in matrix["cells"]] == ["baseline"]
    assert "the model refused 0 train prompts" in matrix["no_direction"]["en"]
    assert matrix["directions"] == {}


def test_select_on_a_model_that_never_refuses_is_an_error(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("select", "--lang", "en", "--n-train", "6"), 1, "the model refused 0 train prompts", "--n-train")


# --- bad input -------------------------------------------------------------------------------------------


def test_unknown_language(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "fr"), 1, "has no French (fr)", "en, de, ru, be, ba, tg", "--data polyrefuse")
    fails(run("collect", "--lang", "Klingon"), 1, "is no language code", "give an ISO 639 code")


def test_prompts_that_were_not_fetched(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "fr", "--data", "polyrefuse"), 1, "refusalctl data fetch")


def test_model_that_is_not_there(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "en", "--model", "nothing", model=False), 1, "there is no model 'nothing'")


def test_a_hub_model_without_a_hub(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fails(run("collect", "--lang", "en", "--model", "org/model", model=False), 1, "org/model", "local folder")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_checkpoint_that_is_not_the_models(run, tiny_folder: Path, tmp_path: Path, dry: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    from tests.model.files import folders

    broken = folders.copy(tiny_folder, tmp_path / "broken")
    folders.with_weights(broken, folders.renamed("layers.1.", "layers.1._orig_mod."))
    found = run("collect", "--lang", "en", "--n", "2", "--model", str(broken), *dry, model=False)
    fails(found, 1, "9 tensors are missing", "9 tensors are not read", "torch.compile")
    assert "LOAD REPORT" not in found.err


def test_tokenizer_without_chat_template(run, tiny_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny_folder, bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    fails(run("collect", "--lang", "en", "--model", str(bare), model=False), 1, "no chat template")


def test_more_prompts_than_there_are(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "en", "--n", "999"), 1, "999 harmful train prompts were asked for, 50 are shared")


def test_a_direction_of_another_model(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from tests import tiny

    made = run("extract", "--lang", "be", "--n-train", "4").out.strip()
    other = tiny.folder(tmp_path / "other", d_model=16)
    result = run(
        "ablate", "--lang", "be", "--direction", made, "--pos", "-1", "--layer", "1", "--model", str(other), model=False
    )
    fails(result, 1, "was extracted from", "other")


def test_directions_need_a_position_and_a_layer_that_exist(run) -> None:  # type: ignore[no-untyped-def]
    made = run("extract", "--lang", "be", "--n-train", "4").out.strip()
    base = ("ablate", "--lang", "be", "--n", "2", "--direction", made)
    fails(run(*base), 1, "--pos and --layer")
    fails(run(*base, "--pos", "-1", "--layer", "99"), 1, "layer 99", "layers 0 to 2")
    fails(run("ablate", "--lang", "be", "--intervention", "ablate"), 1, "needs a direction")
    fails(run("ablate", "--lang", "be", "--direction", made[:3] + "zzz"), 1, "there is no artifact named")


def test_an_ambiguous_prefix_lists_its_candidates(run) -> None:  # type: ignore[no-untyped-def]
    run("collect", "--lang", "ba", "--n", "4")
    fails(run("artifacts", "show", "activations:lang=ba"), 1, "ambiguous", "activations/")


def test_positions_and_layers_outside_the_model(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "en", "--n", "2", "--positions", "-999"), 1, "position -999", "to -1")
    fails(run("select", "--lang", "en", "--layers", "a,b"), 2, "--layers takes numbers")


def test_a_truncated_artifact_is_named(run) -> None:  # type: ignore[no-untyped-def]
    first = run("collect", "--lang", "ba", "--n", "4").out.split()[0]
    file = Path(run("artifacts", "path", first).out.strip()) / "activations.h5"
    whole = file.read_bytes()
    file.write_bytes(whole[:5000])
    verified = run("artifacts", "verify")
    assert verified.code == 1
    assert "5000 bytes, expected" in verified.out
    again = run("collect", "--lang", "ba", "--n", "4")
    assert "5000 bytes, expected" in again.err  # healed, and told of
    assert (again.out.split()[0], file.read_bytes()) == (first, whole)
    assert run("artifacts", "verify").code == 0
    file.write_bytes(whole[:-1] + b"x")
    fails(run("extract", "--lang", "ba", "--n-train", "4"), 1, "activations.h5: its bytes were changed", "artifacts rm")


def test_wrong_usage_exits_with_two(run) -> None:  # type: ignore[no-untyped-def]
    assert run("collect").code == 2
    assert run("collect", "--lang", "en", "--wrong").code == 2
    assert run("nothing").code == 2


def test_a_file_as_store(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    fails(run("collect", "--lang", "en", "--n", "2", "--store", str(tmp_path / "file")), 1, "cannot write to the store")


def test_experiment_files_are_checked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "x.toml"
    for content, words in (
        ("[experiment]\nsource = ['en']\n", ("unknown key 'source'",)),
        ("[experimnt]\n", ("unknown section",)),
        ("[experiment]\nsources = 3\ntargets=['en']\n", ("sources in [experiment] is 3", "a list of texts")),
        ("not toml", ("not TOML",)),
        ("[model]\nbatch_size = '64'\n", ("batch_size in [model] is '64', expected a whole number",)),
        ("[model]\nbatch_size = 0\n", ("batch_size in [model] is 0",)),
    ):
        file.write_text(content)
        fails(run("run", str(file)), 1, *words)
    fails(run("run", str(tmp_path / "missing.toml")), 1, "is not there")


def test_example_files_are_valid_experiments() -> None:
    from refusalctl.resolve import resolve

    for file in sorted((ROOT / "examples").glob("*.toml")):
        assert resolve({}, file, {}).settings.sources


def test_an_interrupt_exits_with_130_and_the_next_run_goes_on(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from refusalctl.model import generate

    whole = run("ablate", "--lang", "be", "--n", "6", "--max-new-tokens", "4", "--batch-size", "2", "--store", "other")
    plain = generate.complete

    def interrupted(*args: object, **options: object):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(plain(*args, **options)):  # type: ignore[arg-type]
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    args = ("ablate", "--lang", "be", "--n", "6", "--max-new-tokens", "4", "--batch-size", "2")
    monkeypatch.setattr(generate, "complete", interrupted)
    stopped = run(*args)
    assert stopped.code == 130
    assert stopped.out == ""
    monkeypatch.setattr(generate, "complete", plain)
    resumed = run(*args)
    assert resumed.out == whole.out
    checks = json.loads(run("artifacts", "show", resumed.out.strip(), "--json").out)["run"]["checks"]
    assert checks["resumed"] == 4


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mode", ["a file", "no writing"])
def test_a_run_needs_no_home_and_no_cache_that_can_be_written(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    if mode == "a file":
        home.write_text("x")
    else:  # root may write everywhere: what a read-only mount answers
        home.mkdir()
        real = os.open, Path.mkdir

        def refuse(path: object) -> None:
            if str(path).startswith(str(home)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(Path, "mkdir", lambda self, *a, **k: refuse(self) or real[1](self, *a, **k))
        monkeypatch.setattr(
            os, "open", lambda p, flags, *a, **k: (flags & os.O_CREAT and refuse(p)) or real[0](p, flags, *a, **k)
        )
    for name in ("HOME", "XDG_CACHE_HOME", "REFUSALCTL_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(home))
    made = run("ablate", "--lang", "en", "--n", "2", "--max-new-tokens", "2")
    assert made.code == 0, made.err
    assert len(made.out.split()) == 1
    assert run("artifacts", "verify").code == 0
    assert not home.is_dir() or not list(home.iterdir())
    asked = run("ablate", "--lang", "en", "--n", "2", "--model", "organism:shared", model=False)
    fails(asked, 1, "cannot write to the cache", "REFUSALCTL_CACHE")


def test_versions_agree() -> None:
    from refusalctl.version import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


def test_a_coefficient_belongs_to_an_addition(run) -> None:  # type: ignore[no-untyped-def]
    made = run("extract", "--lang", "be", "--n-train", "4").out.strip()
    args = ("--direction", made, "--pos", "-1", "--layer", "1", "--coeff", "0.5")
    fails(run("ablate", "--lang", "be", "--n", "2", *args), 1, "coefficient has no meaning for 'ablate'")
    assert run("ablate", "--lang", "be", "--n", "2", "--intervention", "add", *args).code == 0


def test_a_language_that_the_judge_does_not_know_is_found_out_before_the_work(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [
        json.dumps({"text": f"Text number {i}", "kind": kind, "split": split})
        for i in range(3) for kind in ("harmful", "harmless") for split in ("train", "val", "test")
    ]  # fmt: skip
    (tmp_path / "kk.jsonl").write_text("\n".join(dict.fromkeys(rows)), encoding="utf-8")
    lines = [json.loads(r) | {"text": f"{json.loads(r)['text']} {n}"} for n, r in enumerate(rows)]
    (tmp_path / "kk.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert run("data", "add", str(tmp_path / "kk.jsonl"), "--lang", "kk", "--name", "mine").code == 0
    planned = run("transfer", "--sources", "kk", "--targets", "kk", "--data", "mine", "--dry-run")
    fails(planned, 1, "does not know the language 'kk'")


def test_a_name_that_cannot_be_one_is_refused_before_the_work(run) -> None:  # type: ignore[no-untyped-def]
    result = run("extract", "--lang", "be", "--n-train", "4", "--name", "a/b")
    fails(result, 1, "'a/b' cannot be a name")
    assert "collect" not in result.err


def test_a_device_that_is_not_there(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("collect", "--lang", "en", "--n", "2", "--device", "gpu"), 1, "the device 'gpu' cannot be used")


def test_the_judge_is_the_settings_unless_one_is_named(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    written = run("ablate", "--lang", "en", "--n", "2", "--max-new-tokens", "2").out.strip()
    (tmp_path / "x.toml").write_text('[experiment]\njudge = "no-such-judge"\n')
    fails(run("judge", written, "--config", str(tmp_path / "x.toml")), 1, "no-such-judge")
    assert run("judge", written, "--config", str(tmp_path / "x.toml"), "--judge", "substring").code == 0


def test_judges_are_listed_with_what_they_can_and_what_they_need(run) -> None:  # type: ignore[no-untyped-def]
    listed = run("judge", "--list")
    assert listed.code == 0
    for words in ("wildguard", "allenai/wildguard", "gated", "qwen3guard-0.6b", "openai-compatible", "unverified"):
        assert words in listed.out
    rows = {row["name"]: row for row in json.loads(run("judge", "--list", "--json").out)}
    assert {"ba", "be", "tg"} <= set(rows["qwen3guard-8b"]["languages"])
    without = {name for name, row in rows.items() if not row["refusal_label"]}
    assert without == {"llama-guard-3", "llama-guard-4", "harmbench"}


def test_several_judges_one_of_them_with_weights_in_a_folder(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from tests.model.judges import tiny as tiny_judges

    lines = ["Harmful request: no\n", "Response refusal: yes\n", "Harmful response: no"]
    folder = tiny_judges.generative(tmp_path / "wildguard", "mistral", lines)
    made = run("ablate", "--lang", "en", "--n", "3", "--intervention", "none").out.strip()
    both = run("judge", made, "--judge", "substring", "--judge", f"wildguard={folder}", "--device", "cpu")
    assert both.code == 0, both.err
    assert len(both.out.split()) == 2
    alone = run("judge", made, "--judge", "wildguard", "--judge-model", str(folder), "--device", "cpu")
    assert alone.out.split() == both.out.split()[1:]
    assert str(tmp_path) not in (ROOT / run("artifacts", "path", alone.out.strip()).out.strip()).joinpath(
        "manifest.json"
    ).read_text(encoding="utf-8")


def test_judge_says_what_is_missing(run) -> None:  # type: ignore[no-untyped-def]
    fails(run("judge"), 2, "name the completions to judge")
    made = run("ablate", "--lang", "en", "--n", "2", "--intervention", "none").out.strip()
    fails(run("judge", made, "--judge", "oracle"), 1, "there is no judge 'oracle'")
    fails(run("judge", made, "--judge", "wildguard"), 1, "needs allenai/wildguard", "hf auth login", "--judge-model")
    fails(run("judge", made, "--judge", "openai-compatible"), 1, "needs the name of a model", "--judge-model NAME")
    missing = run("judge", made, "--judge", "openai-compatible", "--judge-model", "m")
    fails(missing, 1, "neither an address nor a key", "REFUSALCTL_JUDGE_KEY")
    fails(run("judge", made, "--judge", "minos", "--judge", "substring", "--judge-model", "x"), 2, "one judge")


def test_a_judge_that_cannot_measure_refusal_or_is_not_there_is_found_out_before_the_work(run) -> None:  # type: ignore[no-untyped-def]
    for judge, words in (("llama-guard-3", "gives no refusal label"), ("qwen3guard-0.6b", "hf download")):
        result = run("transfer", "--sources", "en", "--targets", "be", "--judge", judge)
        fails(result, 1, words)
        assert "collect" not in result.err


def test_published_files_people_and_panels_from_the_shell(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Import, judge again, compare, draw a sheet, read it back, correct: ids on stdout, no text anywhere."""
    rows = [
        {"instruction": f"Wie backe ich Brot Nummer {i} mit viel Mehl?", "instruction_en": f"How do I bake loaf {i}?",
         "response": "Dabei kann ich leider nicht helfen." if i % 2 else f"Mische Mehl und Wasser, warte {i} Stunden.",
         "response_translated": "I cannot help with that." if i % 2 else "Mix flour.",
         "wildguard": {"request_harmful": 0, "refusal": i % 2, "response_harmful": 0}}
        for i in range(40)
    ]  # fmt: skip
    path = tmp_path / "harmful_baseline_evaluations.json"
    path.write_text(json.dumps({"completions": rows}), encoding="utf-8")
    done = run("import", str(path), "--lang", "de", "--source", "somewhere@1")
    assert done.code == 0, done.err
    _prompts, written, _translations, old = done.out.split()
    new = run("judge", written, "--text", "both")
    assert new.code == 0, new.err
    native, english = new.out.split()
    panel = run("panel", old, native, english)
    assert panel.code == 0, panel.err
    assert len(panel.out.split()) == 2
    sampled = run("labels", "sample", old, "--out", str(tmp_path / "sheets"), "--n", "40")
    assert sampled.code == 0, sampled.err
    sheet = tmp_path / "sheets" / "sheet-de.csv"
    text = sheet.read_text(encoding="utf-8-sig")
    fails(run("labels", "import", str(sheet), "--sample", sampled.out.strip(), "--annotator", "n1"), 1, "have no label")
    lines = [
        line.replace('"",""', '"refusal",""' if "leider" in line else '"compliance",""') for line in text.splitlines()
    ]
    sheet.write_text("\n".join(lines), encoding="utf-8")
    human = run("labels", "import", str(sheet), "--sample", sampled.out.strip(), "--annotator", "n1")
    assert human.code == 0, human.err
    fixed = run("labels", "correct", native, "--human", human.out.strip(), "--json")
    assert fixed.code == 0, fixed.err
    assert json.loads(fixed.out)["kind"] == "correction"
    for shown in (done, new, panel, sampled, human, fixed):
        assert "Mehl" not in shown.out + shown.err
        assert "leider" not in shown.out + shown.err


def test_bad_imports_and_translators_are_one_line(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mean_diffs.pt").write_bytes(b"no tensor")
    fails(run("import", str(tmp_path / "mean_diffs.pt"), "--lang", "de"), 1, "mean_diffs.pt")
    fails(run("import", str(tmp_path / "nothing.json")), 1, "is not there")
    fails(run("import", str(tmp_path), "--rule", "best"), 2, "arditi or wang")
    fails(run("panel", "abc"), 1, "no artifact answers")
    fails(run("translate", "abc", "--translator", "google"), 1, "no artifact answers")
    fails(run("judge", "abc", "--text", "french"), 2, "back-translation")


def test_a_long_table_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"id{i}", "be" if i % 2 else "日本", i) for i in range(out.LONG + 1)]
    out.table("", ("id", "lang", "n"), rows, right=("n",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "id     lang    n"
    assert lines[1] == "id0    日本    0"
    assert lines[2] == "id1    be      1"
    assert lines[-1] == "id500  日本  500"


@pytest.mark.parametrize(
    "command",
    [
        ("extract", "--lang"), ("collect", "--lang"), ("select", "--lang"), ("ablate", "--lang"),
        ("geometry", "--langs", "en,be", "--reference"), ("report", "--reference"), ("import", "x", "--lang"),
        ("import", "x", "--lang", "en", "--direction-lang"), ("data", "add", "x.csv", "--lang"),
        ("data", "translate", "--translator", "google", "--to"), ("data", "audit", "--lang"),
        ("transfer", "--sources", "en", "--targets"), ("geometry", "--langs"),
        ("select", "--lang", "en", "--refusal-openings"),
    ],
)  # fmt: skip
def test_a_wrong_language_is_told_what_it_meant_wherever_one_is_given(run, command: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    wrong = "by=No" if command[-1] == "--refusal-openings" else "by"
    fails(run(*command, wrong), 1, "'by' is no language code", "did you mean 'be' (Belarusian)?")


def test_options_spell_a_language_once(run) -> None:  # type: ignore[no-untyped-def]
    ids = [
        json.loads(run("extract", "--lang", code, "--dry-run", "--json").out)["plan"] for code in ("be", "BEL", "Be")
    ]
    assert ids[0] == ids[1] == ids[2]
