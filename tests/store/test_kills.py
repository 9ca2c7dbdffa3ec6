"""kill -9 before every single change of the disk that an operation of the store makes: nothing is damaged, lost or half
done, the operation goes on, and nothing is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.torture import forked
from benchmarks.torture.forked import Moment
from benchmarks.torture.stores import left_over, payload, put, recipe, whole_artifacts
from refusalctl.store import garbage
from refusalctl.store.cache import TextCache
from refusalctl.store.dead import sweep_dead
from refusalctl.store.hashing import digest
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify

MADE, OTHER, NEW = 1, 2, 3  # recipes that are there, and one that is not


def compute(store: Store) -> None:
    key = digest(recipe(NEW))
    with store.partial(key) as rows:
        if store.find(key) is None:
            (rows / "rows").write_bytes(b"finished")
            put(store, NEW)


def replace_damaged(store: Store) -> None:
    put(store, MADE)


def name(store: Store) -> None:
    store.name("new", given(store, MADE))


def move_name(store: Store) -> None:
    store.name("mine", given(store, OTHER))


def remove(store: Store) -> None:
    with suppress(FileNotFoundError):
        garbage.remove(store, "labels", given(store, MADE).id)


def collect(store: Store) -> None:
    garbage.sweep(store, garbage.garbage(store), garbage.left_behind(store))


def remember(store: Store) -> None:
    TextCache(store, "translations", "key").add({"a": "one"})


def given(store: Store, number: int) -> Artifact:
    found = store.find(digest(recipe(number)))
    if found is None:
        raise FileNotFoundError(number)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts, one of them named."""
    store = Store(tmp_path_factory.mktemp("prepared") / "store")
    store.name("mine", put(store, MADE))
    put(store, OTHER)
    return store.root


def state(root: Path) -> tuple[object, ...]:
    store = Store(root)
    return whole_artifacts(root), store.names(), TextCache(store, "translations", "key").read()


@pytest.mark.parametrize("operation", [compute, replace_damaged, name, move_name, remove, collect, remember])
def test_a_kill_before_any_change_of_the_disk_harms_nothing(
    prepared: Path, tmp_path: Path, operation: Callable[[Store], None]
) -> None:
    def fresh(name: str) -> Path:
        root = shutil.copytree(prepared, tmp_path / name)
        if operation is replace_damaged:
            (given(Store(root), MADE).path / "rows.jsonl").write_bytes(payload(MADE).swapcase())
        return root

    undisturbed = fresh("undisturbed")
    operation(Store(undisturbed))
    wanted, before = state(undisturbed), state(fresh("before"))
    assert not left_over(undisturbed)
    change, killed = 0, True
    while killed:
        change += 1
        root = fresh(f"store-{change}")
        killed = forked.run(lambda root=root: operation(Store(root)), root, Moment(change)).killed
        problems = [problem.what for problem in verify(Store(root)).problems]
        if operation is not replace_damaged:
            assert problems == [], change
        else:
            sweep_dead(root)  # as the next start does: damaged is better than gone
            assert len(Store(root).folders("labels")) == 2, change
            assert len(list((root / "recipes").glob("*/*"))) == 2, change
        for artifact in whole_artifacts(root)[0]:
            assert Store(root).find(artifact.key), f"{artifact} would be computed again after a kill at {change}"
        if operation in (name, move_name):
            assert state(root) in (before, wanted), change
        with suppress(FileNotFoundError):  # it was removed
            operation(Store(root))
        garbage.sweep(Store(root), [], garbage.left_behind(Store(root)))
        assert state(root) == wanted, change
        assert left_over(root) == [], change
        assert verify(Store(root)).problems == [], change
        shutil.rmtree(root)
    assert change > 5
