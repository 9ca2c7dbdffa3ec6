"""A step and the workbench that runs it: look up the recipe, compute what is missing, commit it whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl.errors import EmptySelection, ModelError
from refusalctl.json_types import Json, JsonObject
from refusalctl.model.accelerators import no_accelerator
from refusalctl.model.context import positions_of
from refusalctl.progress import Progress, Silent
from refusalctl.redaction import refuse_secret
from refusalctl.settings import Machine, Settings
from refusalctl.steps.code_version import code_version
from refusalctl.steps.prompt_rows import check_room, encoded, rows_of
from refusalctl.store.event_log import End, Events, NoEvents, told
from refusalctl.store.hashing import digest, short
from refusalctl.store.store import Artifact, Store

if TYPE_CHECKING:
    from refusalctl.model.chat import Chat
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.files.resolve import ModelRef
    from refusalctl.model.judges.protocol import Judge
    from refusalctl.model.reasoning import Thinking
    from refusalctl.model.transformers_types import Config


RunChecks = Mapping[str, object]  # what a step measured while it ran, for run.json


@dataclass(frozen=True)
class Job:
    """What a step's function gets: its parameters and inputs, and folders to write to."""

    params: Mapping[str, Any]
    inputs: Mapping[str, Artifact]
    out: Path
    partial: Path
    bench: Workbench
    asked: dict[str, Any] = field(default_factory=dict)  # what its prompts became, for run.json; see `asking`


@dataclass(frozen=True)
class Step:
    """One kind of work. `run` writes payload files into `job.out` and returns its run-time checks.

    Raise `version` whenever the same recipe would give another result.
    """

    name: str
    version: int
    kind: str
    run: Callable[[Job], RunChecks]
    uses_model: bool = False


@dataclass(frozen=True)
class Planned:
    """One line of a plan: a step, what it is about, and whether its result is there already."""

    step: str
    about: dict[str, Any]
    done: bool
    id: str
    key: str  # of its recipe
    params: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of its inputs, where they say


@dataclass
class Workbench:
    """What every step needs: a store, a machine with its model loaded at most once, and what is asked.

    Copies with other settings (`asking`) share the loaded model, the judges, the plan and the notes. `fruitless` keeps
    why a recipe gave no result, so that it is not computed twice in a session.
    """

    store: Store
    machine: Machine = field(default_factory=Machine)
    settings: Settings = field(default_factory=Settings)
    progress: Progress = field(default_factory=Silent)
    dry_run: bool = False
    judge_url: str | None = None
    judges: dict[str, Judge] = field(default_factory=dict)  # by digest, opened in this session
    plan: list[Planned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refs: dict[Machine, ModelRef] = field(default_factory=dict, repr=False)
    models: dict[Machine, ChatModel] = field(default_factory=dict, repr=False)
    foreseen: set[Machine] = field(default_factory=set, repr=False)  # models that a dry run has looked at
    foreseen_judges: set[str] = field(default_factory=set, repr=False)  # the same, by digest
    smalls: dict[Machine, tuple[Config, Chat]] = field(default_factory=dict, repr=False)
    foreseen_prompts: set[tuple[Machine, str, int]] = field(default_factory=set, repr=False)
    thoughts: dict[Machine, Thinking] = field(default_factory=dict, repr=False)
    unusable: list[ModelError] = field(default_factory=list, repr=False)  # why the model under study cannot be had
    anew: bool = False  # finished results are no reason not to compute: they are damaged
    events: Events = field(default_factory=NoEvents, repr=False)
    fruitless: dict[str, tuple[str, str | None]] = field(default_factory=dict, repr=False)  # recipes that give nothing

    def asking(self, settings: Settings) -> Workbench:
        """The same workbench with another question."""
        return replace(self, settings=settings)

    def planning(self) -> Workbench:
        """The same workbench, which only plans. Its plan and notes are its own."""
        return replace(self, dry_run=True, plan=[], notes=[])

    @property
    def small(self) -> tuple[Config, Chat]:
        """The model's configuration and chat template, without its weights."""
        if self.machine not in self.smalls:
            from refusalctl.model.load import small

            with self._had():
                self.smalls[self.machine] = small(self.ref, self.machine.system, self.machine.thinking)
        return self.smalls[self.machine]

    @property
    def ref(self) -> ModelRef:
        """The model that was asked for, at its revision. No weights are read."""
        if self.machine not in self.refs:
            from refusalctl.model.files.resolve import resolve

            asked = self.machine
            with self._had():
                self.refs[asked] = resolve(
                    asked.model, trust_remote_code=asked.trust_remote_code, template=asked.chat_template
                )
        return self.refs[self.machine]

    @property
    def model(self) -> ChatModel:
        """The model under study, loaded when first asked for."""
        if self.machine not in self.models:
            from refusalctl.steps.loading import load_model

            alike = next((self.models[each] for each in self._of_same_weights), None)
            with self._had():
                self.models[self.machine] = load_model(self) if alike is None else alike.asked_with(self.machine.system)
        return self.models[self.machine]

    @property
    def _of_same_weights(self) -> list[Machine]:
        """Loaded models that differ from the asked one by their system prompt at most."""
        bare = self.machine.changed(system=None)
        return [each for each in self.models if each.changed(system=None) == bare]

    @contextmanager
    def _had(self) -> Iterator[None]:
        """Around what every goal needs of the model under study: what it raises would stop them all."""
        try:
            yield
        except ModelError as error:
            self.unusable.append(error)
            raise

    def judge(self, spec: str) -> Judge:
        """A judge by `NAME` or `NAME=MODEL`, opened once. Raises `BadInput` or `ModelError` when it cannot be."""
        from refusalctl.model.judges import judge_named
        from refusalctl.model.judges.weights import Settings as JudgeSettings

        asked = self.machine
        opened = judge_named(spec, JudgeSettings(asked.device, self.judge_dtype, asked.batch_size, self.judge_url))
        return self.judges.setdefault(opened.digest, opened)

    def release(self) -> None:
        """Drop the model under study. It is loaded again when a step needs it; no two large models stay in memory."""
        dropped = [self.models.pop(each) for each in self._of_same_weights]
        if dropped:
            dropped.clear()
            from refusalctl.model.batching import free

            free()

    def make_room_for(self, judge: Judge) -> None:
        """Release every other model before this judge loads its own."""
        if judge.declaration.model is not None:
            self.release()
            self.only(judge)

    def only(self, kept: Judge | None) -> None:
        """Release the weights of every judge but this one."""
        for other in self.judges.values():
            if other is not kept and other.declaration.model is not None:
                other.release()

    @property
    def resolved_dtype(self) -> str:
        """The dtype of recipes: `auto` is float32 where there is no accelerator, which needs no torch to see."""
        asked = self.machine
        if asked.dtype == "auto" and (asked.device == "cpu" or no_accelerator()):
            return "float32"
        from refusalctl.model.load import pick_dtype

        return pick_dtype(asked.dtype, asked.device)

    @property
    def judge_dtype(self) -> str:
        """The dtype of judges and translators: the model's, but plain where its weights are quantised."""
        from refusalctl.model.files.quantisation import BITS

        return "auto" if self.machine.dtype in BITS else self.machine.dtype

    @property
    def thinking(self) -> Thinking:
        """What is done about the model's thoughts, from its small files: `auto` resolved. No weights are read."""
        asked = self.machine
        if asked not in self.thoughts:
            from refusalctl.model.reasoning import NONE, may_think

            silent = asked.thinking != "on" and not may_think(self.ref.tokenizer, self.ref.template_source)
            self.thoughts[asked] = NONE if silent else self.small[1].thinking
        return self.thoughts[asked]

    def recipe(self, step: Step, params: Mapping[str, Json], inputs: Mapping[str, Artifact]) -> JsonObject:
        """What was asked, as the JSON value whose digest is the recipe key."""
        recipe: JsonObject = {
            "step": step.name,
            "version": step.version,
            "params": dict(params),
            "inputs": {name: artifact.id for name, artifact in inputs.items()},
        }
        if step.uses_model:
            recipe["model"] = self.model_key()
        return recipe

    def model_key(self) -> JsonObject:
        """What of the model's side changes results by design: weights, template, dtype, attention, system, thinking."""
        chosen: JsonObject = {
            "dtype": self.resolved_dtype,
            "attention": self.machine.attention,
            "system": self.machine.system,
            "control_tokens": "broken",  # those inside prompts and system text: see model/control_tokens.py
            "thinking": self.thinking.label,
        }
        return self.ref.key() | chosen

    def obtain(
        self, step: Step, params: Mapping[str, Json], inputs: Mapping[str, Artifact], about: Mapping[str, Json]
    ) -> Artifact:
        """The artifact of this recipe: the finished one, or computed now. In a dry run, a stand-in."""
        recipe = self.recipe(step, params, inputs)
        refuse_secret(recipe, about, step.name)
        key = digest(recipe)
        results = self.store.results(key)
        if len(results) > 1:
            found = ", ".join(short(a.id) for a in results)
            self.note(f"{step.name}: this recipe gave {len(results)} different results ({found}); the oldest is used")
        for problem in self.store.damaged(key) if not results else ():
            self.note(f"{step.name}: {problem}: it is computed again")
        if results:
            if self._planned(Planned(step.name, results[0].about, True, results[0].id, key)) and not self.dry_run:
                self.events.write("found", "step", step.name, kind=step.kind, id=results[0].id, about=results[0].about)
            return results[0]
        if key in self.fruitless:
            message, hint = self.fruitless[key]
            raise EmptySelection(message, hint=hint)
        sizes = {name: int(a.about["n"]) for name, a in inputs.items() if a.about.get("n") is not None}
        self._planned(Planned(step.name, dict(about), False, key, key, params, sizes))
        if self.dry_run:
            if step.uses_model:
                self._foresee()
                self._foresee_prompts(params, inputs)
            manifest = {"recipe": recipe, "about": about, "files": {}}
            return Artifact(step.kind, key, Path(), manifest, planned=True)
        nothing: EmptySelection | None = None
        with told(self.events, "step", step.name, kind=step.kind, about=dict(about)) as ended:
            try:
                made = self._compute(step, recipe, key, params, inputs, about, ended)
                ended.facts["id"] = made.id
            except EmptySelection as error:  # a result, of which the log must not say that something failed
                nothing = error
                ended.facts |= {"message": error.message, "recipe": key}
        if nothing is not None:
            self.fruitless[key] = nothing.message, nothing.hint
            raise nothing
        return made

    def again(
        self, step: Step, params: Mapping[str, Json], inputs: Mapping[str, Artifact], about: Mapping[str, Json]
    ) -> Artifact:
        """Compute a recipe whose result is damaged; what comes out takes its place where it is the same artifact."""
        recipe = self.recipe(step, params, inputs)
        with told(self.events, "step", step.name, kind=step.kind, about=dict(about)) as ended:
            made = replace(self, anew=True)._compute(step, recipe, digest(recipe), params, inputs, about, ended)
            ended.facts["id"] = made.id
        return made

    def _compute(
        self,
        step: Step,
        recipe: JsonObject,
        key: str,
        params: Mapping[str, Json],
        inputs: Mapping[str, Artifact],
        about: Mapping[str, Json],
        ended: End,
    ) -> Artifact:
        started = time.time()
        for artifact in inputs.values():
            self.store.check(artifact)
        with self.store.partial(key, [artifact.id for artifact in inputs.values()]) as partial:
            finished = self.store.find(key)  # another process may have done it while this one waited
            if finished is not None and not self.anew:
                ended.event = "found"
                return finished
            with self.store.draft() as out:
                job = Job(params, inputs, out, partial, self)
                checks = step.run(job)
                run: dict[str, object] = {
                    "checks": checks,
                    "seconds": round(time.time() - started, 3),
                    "code": code_version(),
                }
                run |= {"asked": job.asked} if job.asked else {}
                if step.uses_model:
                    run |= {"device": str(self.model.device), "batch_size": self._fitting()} | self._versions()
                    run |= {"quantization": self.model.quantization} if self.model.quantization else {}
                    run["padding"] = self._padding()
                return self.store.commit(out, step.kind, recipe, about, run)

    def foresee_judges(self) -> None:
        """Raise before the work what loading the opened judges would raise, as far as that shows."""
        for judge in self.judges.values():
            look = getattr(judge, "foresee", None)  # those without weights have none
            if look is not None and judge.digest not in self.foreseen_judges:
                look()
                self.foreseen_judges.add(judge.digest)

    def _foresee(self) -> None:
        """Raise at once what loading would raise, as far as it shows without reading weights."""
        if self.machine in self.models or self.machine in self.foreseen:
            return
        from refusalctl.model.load import foresee

        with self.progress.task(f"look at {self.ref.name}", 1) as advance:
            foresee(self.ref, dtype=self.machine.dtype, attention=self.machine.attention)
            advance()
        self.foreseen.add(self.machine)

    def _foresee_prompts(self, params: Mapping[str, Json], inputs: Mapping[str, Artifact]) -> None:
        """Raise what asking a planned step's prompts would raise; weights are not read."""
        limits = (params.get(name) for name in ("max_new_tokens", "max_think_tokens"))
        new_tokens, think_tokens = (each if isinstance(each, int) else 0 for each in limits)
        for artifact in inputs.values():
            key = (self.machine, artifact.id, new_tokens + think_tokens)
            if artifact.kind != "prompts" or key in self.foreseen_prompts:
                continue
            self.foreseen_prompts.add(key)
            config, chat = self.small
            check_room(encoded(chat, rows_of(artifact)), positions_of(config), new_tokens, think_tokens)
            for note in chat.notes:
                self.note(note)

    def _padding(self) -> JsonObject:
        """Whether rows were padded, and what proved it."""
        from refusalctl.model.padding import settle

        return settle(self.model).as_json()

    def _fitting(self) -> int:
        """The batch size that memory had room for."""
        asked = self.machine.batch_size
        size = self.model.batch_limit.size(asked)
        padding = self.model.batch_limit.padding
        if size < asked and (padding is None or padding.together):
            self.note(f"{asked} prompts at once did not fit into memory: {size} were run at a time")
        return size

    def _versions(self) -> JsonObject:
        from refusalctl.model.load import versions

        return versions()

    def _planned(self, line: Planned) -> bool:
        """Whether this recipe was not planned before."""
        is_new = all(p.key != line.key for p in self.plan)
        if is_new:
            self.plan.append(line)
        return is_new

    def note(self, text: str) -> None:
        """Something the user should read, once."""
        if text not in self.notes:
            self.notes.append(text)
