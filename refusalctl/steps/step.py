"""A step and the workbench that runs it: look up the recipe, compute what is missing, commit it whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refusalctl.store.hashing import digest, short
from refusalctl.store.store import Artifact, Store

if TYPE_CHECKING:
    from refusalctl.model.files.resolve import ModelRef
    from refusalctl.model.judges.protocol import Judge
    from refusalctl.model.load import ChatModel


BATCH_SIZE = 32  # prompts at once


class Advance(Protocol):
    def __call__(self, n: int = 1) -> None: ...


class Progress(Protocol):
    """Where long work tells how far it is. The command line draws bars; a library user may stay silent."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]: ...


class Silent:
    """No progress display."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        yield self.advance

    @staticmethod
    def advance(n: int = 1) -> None:
        """Nothing to show."""


@dataclass(frozen=True)
class Job:
    """What a step's function gets: its parameters and inputs, and folders to write to."""

    params: Mapping[str, Any]
    inputs: Mapping[str, Artifact]
    out: Path
    partial: Path
    bench: Workbench


@dataclass(frozen=True)
class Step:
    """One kind of work. `run` writes payload files into `job.out` and returns its run-time checks.

    Raise `version` whenever the same recipe would give another result.
    """

    name: str
    version: int
    kind: str
    run: Callable[[Job], dict[str, Any]]
    uses_model: bool = False


@dataclass(frozen=True)
class Planned:
    """One line of a plan: a step, what it is about, and whether its result is there already."""

    step: str
    about: dict[str, Any]
    done: bool
    id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of its inputs, where they say


@dataclass
class Workbench:
    """A store, a model loaded at most once, and the settings that every step of a session shares."""

    store: Store
    model_spec: str
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    batch_size: int = BATCH_SIZE
    system: str | None = None
    trust_remote_code: bool = False
    progress: Progress = field(default_factory=Silent)
    dry_run: bool = False
    judge_url: str | None = None
    judges: dict[str, Judge] = field(default_factory=dict)  # by digest, opened in this session
    plan: list[Planned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def ref(self) -> ModelRef:
        from refusalctl.model.files.resolve import resolve

        return resolve(self.model_spec, trust_remote_code=self.trust_remote_code)

    @cached_property
    def model(self) -> ChatModel:
        from refusalctl.model.load import load

        self._only(None)
        with self.progress.task(f"load {self.ref.name}", 1) as advance:
            model = load(
                self.ref, device=self.device, dtype=self.resolved_dtype, system=self.system, attention=self.attention
            )  # fmt: skip
            advance()
        if self.resolved_dtype != "float32":
            check = f"refusalctl doctor --precision --model {self.model_spec} --dtype {self.resolved_dtype}"
            self.note(f"computed in {self.resolved_dtype}; `{check}` measures how far that is from float32")
        return model

    def judge(self, spec: str) -> Judge:
        """A judge by `NAME` or `NAME=MODEL`, opened once. Raises `BadInput` or `ModelError` when it cannot be."""
        from refusalctl.model.judges import judge_named
        from refusalctl.model.judges.weights import Settings

        settings = Settings(self.device, self.dtype, self.batch_size, self.judge_url)
        opened = judge_named(spec, settings)
        return self.judges.setdefault(opened.digest, opened)

    def release(self) -> None:
        """Drop the model under study. It is loaded again when a step needs it; no two large models stay in memory."""
        if self.__dict__.pop("model", None) is not None:
            from refusalctl.model.batching import free

            free()

    def make_room_for(self, judge: Judge) -> None:
        """Release every other model before this judge loads its own."""
        if judge.declaration.model is not None:
            self.release()
            self._only(judge)

    def _only(self, kept: Judge | None) -> None:
        for other in self.judges.values():
            if other is not kept and other.declaration.model is not None:
                other.release()

    @cached_property
    def resolved_dtype(self) -> str:
        """The dtype of recipes: `auto` is float32 where there is no accelerator, which needs no torch to see."""
        if self.dtype == "auto" and (self.device == "cpu" or no_accelerator()):
            return "float32"
        from refusalctl.model.load import pick_dtype

        return pick_dtype(self.dtype, self.device)

    def recipe(self, step: Step, params: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> dict[str, Any]:
        """What was asked, as the JSON value whose digest is the recipe key."""
        recipe: dict[str, Any] = {
            "step": step.name,
            "version": step.version,
            "params": dict(params),
            "inputs": {name: artifact.id for name, artifact in inputs.items()},
        }
        if step.uses_model:
            recipe["model"] = self.model_key()
        return recipe

    def model_key(self) -> dict[str, Any]:
        """What of the model's side changes results by design: weights, template, dtype, attention kernel, system."""
        chosen = {"dtype": self.resolved_dtype, "attention": self.attention, "system": self.system}
        return self.ref.key() | chosen

    def obtain(
        self, step: Step, params: Mapping[str, Any], inputs: Mapping[str, Artifact], about: dict[str, Any]
    ) -> Artifact:
        """The artifact of this recipe: the finished one, or computed now. In a dry run, a stand-in."""
        recipe = self.recipe(step, params, inputs)
        key = digest(recipe)
        results = self.store.results(key)
        if len(results) > 1:
            found = ", ".join(short(a.id) for a in results)
            self.note(f"{step.name}: this recipe gave {len(results)} different results ({found}); the oldest is used")
        if results:
            self._planned(Planned(step.name, results[0].about, True, results[0].id))
            return results[0]
        sizes = {name: int(a.about["n"]) for name, a in inputs.items() if a.about.get("n") is not None}
        self._planned(Planned(step.name, about, False, key, params, sizes))
        if self.dry_run:
            manifest = {"recipe": recipe, "about": about, "files": {}}
            return Artifact(step.kind, f"planned-{key}", Path(), manifest)
        return self._compute(step, recipe, key, params, inputs, about)

    def _compute(
        self,
        step: Step,
        recipe: dict[str, Any],
        key: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        about: dict[str, Any],
    ) -> Artifact:
        started = time.time()
        for artifact in inputs.values():
            self.store.check(artifact)
        with self.store.partial(key) as partial:
            finished = self.store.find(key)  # another process may have done it while this one waited
            if finished is not None:
                return finished
            with self.store.draft() as out:
                checks = step.run(Job(params, inputs, out, partial, self))
                run = {"checks": checks, "seconds": round(time.time() - started, 3), "code": _code_version()}
                if step.uses_model:
                    run |= {"device": str(self.model.device), "batch_size": self._fitting()} | self._versions()
                return self.store.commit(out, step.kind, recipe, about, run)

    def _fitting(self) -> int:
        """The batch size that memory had room for."""
        size = self.model.room.size(self.batch_size)
        if size < self.batch_size:
            self.note(f"{self.batch_size} prompts at once did not fit into memory: {size} were run at a time")
        return size

    def _versions(self) -> dict[str, Any]:
        from refusalctl.model.load import versions

        return versions()

    def _planned(self, line: Planned) -> None:
        if all(p.id != line.id for p in self.plan):
            self.plan.append(line)

    def note(self, text: str) -> None:
        """Something the user should read, once."""
        if text not in self.notes:
            self.notes.append(text)


def no_accelerator() -> bool:
    """Whether this machine surely has none: Linux without a GPU's device files, or a CPU build of torch."""
    from importlib.metadata import version

    if version("torch").endswith("+cpu"):
        return True
    devices = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri")
    return sys.platform == "linux" and not any(Path(device).exists() for device in devices)


@cache
def _code_version() -> dict[str, Any]:
    """This package's version, and where it runs from a checkout the commit; asked once, for the code that is loaded."""
    from refusalctl import __version__

    top = Path(__file__).resolve().parents[2]
    version: dict[str, Any] = {"refusalctl": __version__}
    if not (top / ".git").exists():
        return version
    head = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "-C", str(top), "status", "--porcelain", "--", "refusalctl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if head.returncode == 0:
        version |= {"commit": head.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
    return version
