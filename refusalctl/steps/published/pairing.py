"""Labels from elsewhere put into the cells of a matrix: what each is by its own record, whether it can be paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from refusalctl.data.languages import name as language_name
from refusalctl.errors import BadInput
from refusalctl.records.cell import Cell
from refusalctl.records.rows import Kind
from refusalctl.records.transfer import UnpairedLabels
from refusalctl.settings import AnswerSettings
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact


@dataclass(frozen=True)
class Pairing:
    """Labels by cell, harmless baselines by target, and what could not be paired, with the reason."""

    cells: dict[str, tuple[Cell, Artifact]] = field(default_factory=dict)
    harmless: dict[str, Artifact] = field(default_factory=dict)
    unpaired: list[UnpairedLabels] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Languages with a baseline on harmful prompts."""
        return sorted(cell.target for cell, _ in self.cells.values() if cell.source is None)

    @property
    def sources(self) -> list[str]:
        """Languages of the directions that were ablated."""
        return sorted({cell.source for cell, _ in self.cells.values() if cell.is_ablation and cell.source})

    def ordered(self) -> list[Cell]:
        """Cells by target, its baseline first."""
        found = [cell for cell, _ in self.cells.values()]
        return sorted(found, key=lambda cell: (cell.target, cell.condition == "induced", cell.source or ""))

    @property
    def by_position(self) -> bool:
        return any(_file_of_places(labels) is not None for _, labels in self.cells.values())

    def put(self, cell: Cell, labels: Artifact) -> None:
        _check_free(self.cells[cell.key][1] if cell.key in self.cells else None, labels, cell.key)
        self.cells[cell.key] = (cell, labels)

    def leave_out(self, labels: Artifact, reason: str) -> None:
        about = labels.about
        source = about.get("direction_lang")
        found = UnpairedLabels(labels.id, str(about["lang"]), str(about.get("condition", "")), reason, source)
        self.unpaired.append(found)


def labels_of_one_model(labels: Sequence[Artifact], judge: str) -> list[Artifact]:
    """The labels of one judge on one model's answers, each once. `judge` chooses where there are several.

    Raises `BadInput` for labels that were not imported, of several models, or of several judges of which none is asked.
    """
    given = list({each.id: each for each in labels}.values())
    own = [each for each in given if each.about.get("provenance") != "imported"]
    if own:
        raise BadInput(f"{own[0].label} was not imported", hint="`refusalctl transfer` without --from-labels measures")
    models = sorted({_model(each) for each in given})
    if len(models) != 1:
        raise BadInput(
            f"the labels are of {len(models)} models ({', '.join(models)}), expected one",
            hint="make a matrix of each; `refusalctl report FIRST SECOND` shows them on one page",
        )
    judges = sorted({str(each.about["judge"]) for each in given})
    named = [each for each in judges if each in (judge, f"imported:{judge}")]
    asked = judges if len(judges) == 1 and judge == AnswerSettings().judge else named  # the default names none of them
    if len(asked) != 1:
        raise BadInput(
            f"the labels are of {len(judges)} judges ({', '.join(judges)}), and a verdict is about one",
            hint=f"name it, such as --judge {judges[-1]}",
        )
    return [each for each in given if each.about["judge"] == asked[0]]


def _model(labels: Artifact) -> str:
    revision = labels.about.get("revision", "unknown")
    return str(labels.about["model"]) + ("" if revision == "unknown" else f"@{revision}")


def pair_up(labels: Sequence[Artifact]) -> Pairing:
    """Each condition with the baseline of its language. Raises `BadInput` where two labels claim one cell."""
    found, waiting = Pairing(), []
    for each in sorted(labels, key=lambda each: (str(each.about["lang"]), each.id)):
        cell = _cell(each)
        if isinstance(cell, str):
            found.leave_out(each, cell)
        elif cell.condition == "baseline" and each.about["kind"] == "harmless":
            _check_free(found.harmless.get(cell.target), each, f"{cell.key} (harmless)")
            found.harmless[cell.target] = each
        elif cell.condition == "baseline":
            found.put(cell, each)
        else:
            waiting.append((cell, each))
    for cell, each in sorted(waiting, key=lambda one: one[0].condition == "induced"):
        if (why := _unpaired(cell, each, found)) is not None:
            found.leave_out(each, why)
        else:
            found.put(cell, each)
    for target in sorted(set(found.harmless) - set(found.targets)):
        found.leave_out(found.harmless.pop(target), "there are no labels of harmful prompts without intervention here")
    return found


def _check_free(known: Artifact | None, labels: Artifact, key: str) -> None:
    """Raise `BadInput` where a cell has labels already: nobody here can know which of them are meant."""
    if known is not None:
        raise BadInput(f"{known.label} and {labels.label} are both of the cell {key}", hint="give one of them")


def _cell(labels: Artifact) -> Cell | str:
    """The cell that labels are of, by their own record, or why they are of none."""
    about = labels.about
    kind: Kind = about["kind"]
    target, done, source = str(about["lang"]), str(about.get("intervention", "")), about.get("direction_lang")
    if done == "none":
        return Cell(None, target, "baseline")
    if done not in ("ablate", "add"):
        return f"what “{about.get('condition', done)}” did to the model is not known: it may be more than an ablation"
    if source is None:
        return "the language of its direction is not known (`import --direction-lang` tells it)"
    if (done, kind) == ("ablate", "harmful"):
        return Cell(source, target, "native" if source == target else "transferred")
    if (done, kind) == ("add", "harmless"):
        return Cell(source, target, "induced")
    return f"no verdict is about {'ablation' if done == 'ablate' else 'addition'} on {kind} prompts"


def _unpaired(cell: Cell, labels: Artifact, found: Pairing) -> str | None:
    """Why a condition cannot be compared with a baseline, or None."""
    if cell.condition == "induced" and str(cell.pair) not in found.cells:
        return "the same direction was not ablated here, which a verdict on addition stands beside"
    plain = Cell(None, cell.target, "baseline").key
    if cell.condition == "induced":
        before = found.harmless.get(cell.target)
    else:
        before = found.cells[plain][1] if plain in found.cells else None
    if before is None:
        where = language_name(cell.target)
        return f"there are no labels of {labels.about['kind']} prompts in {where} without intervention"
    return _other_prompts(before, labels)


def _other_prompts(before: Artifact, after: Artifact) -> str | None:
    """Why two labels are not of the same prompts, judged on the same text, or None where they are."""
    if _file_of_places(before) != _file_of_places(after):
        return "its prompts are known by their place in a file, and its baseline is of another file"
    one, other = before.about.get("text", "native"), after.about.get("text", "native")
    if one != other:
        return f"its judge read the {other} text, and that of its baseline the {one} one"
    here, there = ({row.prompt_id: row.cluster for row in read_labels(each)} for each in (before, after))
    if set(here) != set(there):
        return f"its prompts are others than its baseline's: {len(set(here) & set(there))} of {len(there)} are the same"
    differing = sum(here[each] != there[each] for each in here)
    return f"{differing} of its prompts have other texts than those of its baseline" if differing else None


def _file_of_places(labels: Artifact) -> str | None:
    """Digest of the file in which prompts are known by their place alone; None where the prompts are known."""
    if "completions" in labels.inputs:
        return None
    return str(labels.manifest["recipe"]["params"].get("sha256", short(labels.id)))
