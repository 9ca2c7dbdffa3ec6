"""The part of a `Study` that measures what interventions break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from refusalctl import results as r
from refusalctl.data.documents import read_documents
from refusalctl.errors import BadInput
from refusalctl.interventions import Intervention
from refusalctl.language_codes import check_code
from refusalctl.steps.costs.arms import LADDER, Arm, named_arms
from refusalctl.steps.costs.benchmark import asked_task
from refusalctl.steps.costs.panel import Behaviour, CostQuestion, measure_cost
from refusalctl.steps.step import Workbench


class Costing:
    """Cost panels of a study."""

    bench: Workbench

    def cost(
        self,
        interventions: Intervention | Sequence[Intervention] = (),
        *,
        langs: Sequence[str] | None = None,
        doses: Sequence[float] = LADDER,
        tasks: Sequence[str | Path] = (),
        limit: int | None = None,
        chat: bool = False,
        texts: Mapping[str, Path | str] | Sequence[tuple[str, Path | str]] = (),
        contrasts: Sequence[str] = (),
        behaviours: Sequence[Behaviour] = (),
        match_removal: float | None = None,
        match_kl: float | None = None,
    ) -> r.Cost:
        """What interventions break beside what they remove, each paired with the baseline, at every dose.

        Always measured in each of `langs` (by default the study's targets, else the directions' languages): removal on
        harmful test prompts; KL, and the loss on the model's own baseline answers, on harmless ones. `doses`: shares
        of an ablation, multiples of an addition; 1 is always among them. `tasks`: names of lm-eval, or YAML files,
        with `limit` items of each, in the chat template where `chat`. `texts`: files by language, or such pairs.
        `contrasts`: prompt sets whose harmless prompts are safe and whose harmful ones are not. `behaviours`: what else
        is counted in answers. `match_removal` (a share), `match_kl` (nats): levels at which arms are compared; by
        default the least that an arm reaches, where there are several. Raises `BadInput` for what cannot be asked.
        """
        asked = [interventions] if isinstance(interventions, Intervention) else list(interventions)
        named = [check_code(lang) for lang in langs or ()]
        arms = named_arms([each.spec() for each in asked])
        pairs = list(texts.items()) if isinstance(texts, Mapping) else list(texts)
        _check_levels(match_removal, match_kl)
        if (limit is not None or chat) and not tasks:
            raise BadInput(
                "a limit and the chat template are of lm-eval's tasks, and none was given", hint="name a task"
            )
        question = CostQuestion(
            arms=arms,
            langs=tuple(dict.fromkeys(named or self.bench.settings.targets or _languages(arms))),
            doses=tuple(doses),
            tasks=tuple(asked_task(str(task), limit, chat=chat) for task in tasks),
            texts=tuple((check_code(lang), read_documents(Path(path))) for lang, path in pairs),
            contrasts=tuple(contrasts),
            behaviours=tuple(behaviours),
            match_removal=match_removal,
            match_kl=match_kl,
        )
        return r.Cost(self.bench.store, measure_cost(self.bench, question))


def _languages(arms: Sequence[Arm]) -> tuple[str, ...]:
    return tuple(lang for arm in arms for lang in arm.langs)


def _check_levels(removal: float | None, kl: float | None) -> None:
    if removal is not None and not 0 < removal <= 1:
        raise BadInput(f"the removal to match is {removal:g}, expected a share above 0, at most 1")
    if kl is not None and not kl > 0:
        raise BadInput(f"the KL to match is {kl:g} nats, expected more than 0")
