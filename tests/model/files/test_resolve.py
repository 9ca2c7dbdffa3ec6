"""From a name to a model on this machine: adapters find their base, and a change after that is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files import embedded
from refusalctl.model.files.resolve import resolve, unchanged
from refusalctl.model.judges.harmbench import DECLARATION
from refusalctl.model.judges.weights import find
from refusalctl.model.translators.sequence_models import folder_of
from refusalctl.study import Study
from tests import tiny
from tests.model.files import folders


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


def adapter(path: Path, base: object, **settings: object) -> Path:
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    return folders.with_json(path, "adapter_config.json", base_model_name_or_path=base, peft_type="LORA", **settings)


def test_an_adapter_is_its_base_and_itself(folder: Path, tmp_path: Path) -> None:
    base = resolve(str(folder))
    ref = resolve(str(adapter(tmp_path / "mine", str(folder))))
    assert (ref.name, ref.folder, ref.adapter) == ("mine", folder, tmp_path / "mine")
    assert ref.revision.startswith(f"{base.revision}+adapter-")
    unchanged(ref)
    folders.with_json(tmp_path / "mine", "adapter_config.json", r=4)
    assert resolve(str(tmp_path / "mine")).revision != ref.revision
    with pytest.raises(ModelError, match="changed after it was looked up"):
        unchanged(ref)


@pytest.mark.parametrize(
    ("base", "words"), [("/no/such/base", "needs its base model /no/such/base"), (None, "does not say")]
)
def test_an_adapter_without_its_base(tmp_path: Path, base: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        resolve(str(adapter(tmp_path / "mine", base)))
    assert "base_model_name_or_path" in str(raised.value.hint)


def test_an_adapter_on_an_adapter(folder: Path, tmp_path: Path) -> None:
    lower = adapter(tmp_path / "lower", str(folder))
    with pytest.raises(ModelError, match="names another adapter as its base"):
        resolve(str(adapter(tmp_path / "upper", str(lower))))


def test_an_adapter_beside_a_whole_model(folder: Path) -> None:
    folders.with_json(folder, "adapter_config.json", base_model_name_or_path="org/base")
    with pytest.raises(ModelError, match="holds a whole model and an adapter"):
        resolve(str(folder))


def test_an_adapter_without_weights(folder: Path, tmp_path: Path) -> None:
    (adapter(tmp_path / "mine", str(folder)) / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        resolve(str(tmp_path / "mine"))


def test_a_folder_of_an_embedded_name_is_no_embedded_model(folder: Path) -> None:
    """Its name alone would once have put our adapter on it."""
    place = folder.rename(folder.parent / embedded.REFUSER)
    assert resolve(str(place)).adapter is None


def test_a_change_after_the_lookup_is_noticed(folder: Path) -> None:
    ref = resolve(str(folder))
    unchanged(ref)
    folders.with_weights(folder, folders.filled("lm_head.weight", 2.0))
    with pytest.raises(ModelError, match="changed after it was looked up"):
        unchanged(ref)


def test_a_quantised_model_says_so_in_recipes(folder: Path) -> None:
    assert "quantization" not in resolve(str(folder)).key()
    folders.with_json(folder, quantization_config={"quant_method": "fp8"})
    assert resolve(str(folder)).key()["quantization"] == "fp8"


@pytest.mark.parametrize("written", ["~/models/tiny", "$MODELS/tiny"])
def test_a_path_means_what_it_means_in_a_shell_wherever_it_is_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", str(tmp_path / "models"))
    folder = tmp_path / "models" / "tiny"
    folder.parent.mkdir()
    folder.symlink_to(tiny_folder)
    (tmp_path / "models" / "template.jinja").write_text(tiny.TEMPLATE, encoding="utf-8")
    file = tmp_path / "experiment.toml"
    file.write_text(f'[model]\nmodel = "{written}"\nchat_template = "~/models/template.jinja"\n', encoding="utf-8")
    found = Study.from_file("~/experiment.toml").bench.ref
    assert found == resolve(str(folder), template=str(tmp_path / "models" / "template.jinja"))
    assert find(DECLARATION, written).folder == tiny_folder.resolve()
    assert folder_of(written) == tiny_folder.resolve()


def test_an_unset_variable_in_a_model_s_path_is_named() -> None:
    with pytest.raises(BadInput, match=r"--model '\$NOWHERE/tiny' names the variable \$NOWHERE, which is not set"):
        resolve("$NOWHERE/tiny")
