"""lm-eval in process: tasks run on the loaded model under an intervention, item by item, proved to be under it.

lm-eval's response cache stays off: its key is the request alone, so it would hand a steered run what the plain model
said. What is kept of an item are its hashes and scores, no text.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refusalctl.errors import BadInput, ModelError

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.hooks import Checks
    from refusalctl.model.interventions import Intervention

INSTALL = "pip install 'refusalctl[lm-eval]'"


class HarnessTask(NamedTuple):
    """A task, group or tag by its name. `folder`: where its YAML and what that names lies, None: lm-eval's own.
    `limit`: items of each task, the first ones. `chat`: put requests into the model's chat template."""

    name: str
    folder: Path | None = None
    limit: int | None = None
    chat: bool = False


class HarnessItem(NamedTuple):
    """One item under one filter: lm-eval's hashes of its content, first request and answer, and its scores."""

    task: str
    item: str
    filter: str
    doc: str
    prompt: str
    target: str
    metrics: dict[str, float]


class HarnessRun(NamedTuple):
    """Items of one run, forward passes that it took, and metrics that are no number for each item."""

    items: list[HarnessItem]
    passes: int
    left_out: tuple[str, ...]


def version() -> str:
    """lm-eval's version. Raises `BadInput` where it is not installed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise BadInput("tasks are run by lm-eval, which is not installed", hint=INSTALL) from error


def count_requests(task: HarnessTask) -> int:
    """Requests that a task puts to the model, of as many items as are asked for; texts that both are long and asked
    once count once. Data that is not on this machine is fetched. Raises `BadInput` for a task that is not there."""
    with _quiet(), _told(task):
        found = 0
        for each in _loaded(task)["tasks"].values():
            each.build_all_requests(limit=task.limit, rank=0, world_size=1)
            found += len(each.instances)
    return found


def run_task(
    chat_model: ChatModel, task: HarnessTask, intervention: Intervention, batch_size: int, checks: Checks
) -> HarnessRun:
    """Every item of a task under an intervention, scored by lm-eval. What the hooks saw is added to `checks`.

    Raises `ModelError` where a forward pass ran without the intervention, or none ran at all; `BadInput` for a task
    that is not there or cannot be run, and for an intervention at chosen positions: requests of lm-eval are texts.
    """
    from refusalctl.model.hooks import intervene

    if intervention.positions is not None:
        raise BadInput(
            "an intervention at chosen positions of the prompt has no meaning for lm-eval's requests",
            hint="leave --at-positions out, or the tasks",
        )
    with _quiet(), _told(task):
        import torch
        from lm_eval import evaluate
        from lm_eval.defaults import DEFAULT_OTHER_SEED

        wrapped, loaded = _as_lm(chat_model, batch_size), _loaded(task)
        with (
            torch.random.fork_rng(),
            intervene(chat_model.residual, intervention) as seen,
            _watched(chat_model, intervention, seen) as passes,
        ):
            torch.manual_seed(DEFAULT_OTHER_SEED)  # a task may sample: both conditions draw alike
            found: Any = evaluate(  # `simple_evaluate` would also ask git, pip and the card's driver who they are
                lm=wrapped,
                task_dict=loaded,
                cache_requests=False,
                limit=task.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=task.chat,
                fewshot_as_multiturn=task.chat,
            )
    checks.merge(seen)
    if not passes:
        raise ModelError(f"lm-eval answered the task {task.name!r} without running the model")
    items, left_out = _items(found["samples"])
    if not items:
        raise BadInput(f"the task {task.name!r} gave no item with a score", hint="choose a task that scores each item")
    return HarnessRun(items, len(passes), left_out)


def _items(samples: Mapping[str, list[dict[str, Any]]]) -> tuple[list[HarnessItem], tuple[str, ...]]:
    """Items in lm-eval's order; metrics of some items that are no plain number (pairs for a weighted average) left out
    and named."""
    found, left_out = [], dict[str, None]()
    for task, rows in sorted(samples.items()):
        for row in rows:
            scores = {name: row[name] for name in row["metrics"]}
            numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
            left_out |= dict.fromkeys(f"{task}: {name}" for name in scores if name not in numbers)
            hashes = (row["doc_hash"], row["prompt_hash"], row["target_hash"])
            if numbers:
                found.append(HarnessItem(task, str(row["doc_id"]), str(row["filter"]), *hashes, numbers))
    return found, tuple(left_out)


@contextmanager
def _watched(chat_model: ChatModel, intervention: Intervention, seen: Checks) -> Iterator[list[int]]:
    """How often the hooks changed something in each forward pass. Raises `ModelError` in a pass where they did not."""
    passes: list[int] = []
    before = 0

    def begun(*_: object) -> None:
        nonlocal before
        before = seen.fired

    def ended(*_: object) -> None:
        if intervention.kind != "none" and seen.fired == before:
            raise ModelError(f"forward pass {len(passes) + 1} of lm-eval ran without the intervention")
        passes.append(seen.fired - before)

    root = chat_model.residual.root
    handles = (root.register_forward_pre_hook(begun), root.register_forward_hook(ended))
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _as_lm(chat_model: ChatModel, batch_size: int) -> Any:
    """The loaded model as lm-eval takes one. Its constructor sets the tokenizer's pad token and ties weights: the
    tokenizer is a copy, and weights stay as they were loaded (an adapter may have untied them)."""
    from lm_eval.models.huggingface import HFLM

    class Silent(HFLM):
        """Without bars: progress is shown in one place."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:  # noqa: ARG002
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:  # noqa: ARG002
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:  # noqa: ARG002
            return super().generate_until(requests, disable_tqdm=True)

    model: Any = chat_model.model
    model.tie_weights = lambda *_args, **_kwargs: None  # of this object, until it is deleted again
    try:
        return Silent(
            pretrained=model,
            tokenizer=copy.deepcopy(chat_model.tokenizer),
            backend="causal",
            batch_size=chat_model.batch_limit.size(batch_size),
        )
    finally:
        del model.tie_weights


def _manager(task: HarnessTask) -> Any:
    from lm_eval.tasks import TaskManager

    if task.folder is None:
        return TaskManager()
    return TaskManager(include_path=str(task.folder), include_defaults=False)  # thousands, and read each time


def _loaded(task: HarnessTask) -> Any:
    """A task, group or tag with its parts, as lm-eval's own entry point prepares them: examples as the task says, none
    where it says nothing, drawn with lm-eval's seeds."""
    import random

    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    loaded = _manager(task).load([task.name])
    for each in loaded["tasks"].values():
        if each.get_config("num_fewshot") is None:
            each.set_config(key="num_fewshot", value=0)
        each.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return loaded


@contextmanager
def _told(task: HarnessTask) -> Iterator[None]:
    """What goes wrong inside lm-eval and its data library, as one line; our own errors pass."""
    from refusalctl.errors import RefusalctlError
    from refusalctl.file_errors import first_line

    version()
    try:
        with _data_beside(task.folder):
            yield
    except (RefusalctlError, KeyboardInterrupt):
        raise
    except Exception as error:
        where = "" if task.folder is None else f" in {task.folder.name}"
        raise BadInput(
            f"lm-eval could not run the task {task.name!r}{where}: {first_line(error)}",
            hint="try it with lm-eval alone; its own tasks need their data set on this machine, or the hub",
        ) from error


@contextmanager
def _data_beside(folder: Path | None) -> Iterator[None]:
    """Names of a task's data files count from its folder, wherever one is; data from elsewhere is refused, as the
    folder's digest would not tell when it changes."""
    if folder is None:
        yield
        return
    import datasets

    plain = datasets.load_dataset

    def load(path: str, *args: Any, **kwargs: Any) -> Any:
        here = (folder / path).is_dir()
        for name in ("data_files", "data_dir"):
            if kwargs.get(name) is not None:
                kwargs[name] = _inside(folder, kwargs[name])
        return plain(_inside(folder, path) if here else path, *args, **kwargs)

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = plain


def _inside(folder: Path, named: Any) -> Any:
    """File names, or lists or splits of these, as paths in a folder. Raises `BadInput` for one that leads out of it."""
    if isinstance(named, Mapping):
        return {key: _inside(folder, value) for key, value in named.items()}
    if isinstance(named, list | tuple):
        return [_inside(folder, each) for each in named]
    path = (folder / str(named)).resolve()
    if "://" in str(named) or not path.is_relative_to(folder.resolve()):
        raise BadInput(
            f"the task's data {Path(str(named)).name!r} is not in the folder of its YAML file",
            hint="put it there: everything in that folder enters the recipe, and nothing else does",
        )
    return str(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what lm-eval and datasets log and draw; what matters of it is said by this tool."""
    names = ("lm_eval", "datasets", "evaluate")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _no_bars():
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _no_bars() -> Iterator[None]:
    """tqdm's bars of building requests and reading data cannot be turned off by argument."""
    try:
        import tqdm.std as bars
    except ImportError:
        yield
        return
    plain = bars.tqdm.__init__

    def without(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **{**kwargs, "disable": True})

    bars.tqdm.__init__ = without
    try:
        yield
    finally:
        bars.tqdm.__init__ = plain
