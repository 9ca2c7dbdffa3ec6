"""Dataset repositories, against a stand-in for the hub: no real hub is asked here."""

from __future__ import annotations

import pytest

from refusalctl.errors import BadInput, Corrupt, NotFound, StoreError
from refusalctl.store.exchange import hub as hub_module
from refusalctl.store.exchange.card import MARK
from refusalctl.store.exchange.hub import HubSide
from refusalctl.store.exchange.planning import plan
from refusalctl.store.exchange.sides import StoreSide
from refusalctl.store.store import Store
from refusalctl.store.verify import verify
from tests.fake_hub import Hub
from tests.store.exchange.conftest import contents, put

URL = "hf://datasets/own/set"


def push(store: Store, *asked: str) -> int:
    there = HubSide(URL)
    shipment = plan(StoreSide(store), there, asked, everything=not asked, names=True)
    there.receive(shipment, StoreSide(store), lambda _n: None)
    return len(shipment.artifacts)


def pull(store: Store, *asked: str) -> int:
    there = HubSide(URL)
    shipment = plan(there, StoreSide(store), asked, everything=not asked, names=True)
    StoreSide(store).receive(shipment, there, lambda _n: None)
    return len(shipment.artifacts)


def test_there_and_back_every_byte_is_the_same(store: Store, other: Store, hub: Hub) -> None:
    assert push(store) == 4
    assert hub.private is True
    assert pull(other, "native") == 3
    assert pull(other) == 1
    assert contents(other) == contents(store)
    assert other.names() == store.names()
    assert verify(other).problems == []
    assert push(store) == 0
    assert sum(len(each) for each in hub.commits) == 4 * 3 + 2  # files and manifests, the name and the card


def test_the_card_says_what_is_there_and_an_own_one_stays(store: Store, hub: Hub) -> None:
    push(store, "labels")
    first = hub.files["README.md"].decode()
    assert "not-for-all-audiences" not in first
    assert "| `labels` | 1 |" in first
    push(store)
    text = hub.files["README.md"].decode()
    assert MARK in text
    assert "not-for-all-audiences" in text
    assert "| `activations` | 1 |" in text
    assert "refusalctl artifacts pull hf://datasets/own/set --all" in text
    hub.files["README.md"] = b"# My own words\n"
    put(store, "labels", b"more")
    push(store)
    assert hub.files["README.md"] == b"# My own words\n"


def test_a_commit_holds_whole_artifacts_with_inputs_first(
    store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOST_FILES", 1)
    push(store)
    kinds = [{path.split("/")[0] for path in each} for each in hub.commits]
    assert kinds[:4] == [{"labels"}, {"prompts"}, {"activations"}, {"selection"}]
    assert all(len(each) == 3 for each in hub.commits[:4])


def test_another_pusher_who_was_faster_is_waited_for(store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "WAIT", 0.01)
    hub.races = 3
    assert push(store) == 4
    hub.races = 99
    put(store, "labels", b"more")
    with pytest.raises(StoreError, match="was changed by others all the time"):
        push(store)


def test_a_changed_byte_is_refused(store: Store, other: Store, hub: Hub) -> None:
    push(store)
    path = f"activations/{store.resolve('activations').id}/rows.bin"
    hub.files[path] = b"b" + hub.files[path][1:]
    with pytest.raises(Corrupt, match="bytes were changed"):
        pull(other)


def test_what_is_damaged_here_makes_no_repository(store: Store, hub: Hub) -> None:
    (store.resolve("activations").path / "rows.bin").write_bytes(b"b" * 200_000)
    with pytest.raises(Corrupt, match="nothing of it was sent"):
        push(store)
    assert hub.private is None


def test_what_is_no_repository_is_one_line(store: Store, other: Store, hub: Hub) -> None:
    with pytest.raises(NotFound):
        pull(other, "native")
    with pytest.raises(BadInput, match="hf://datasets/owner/name"):
        HubSide("hf://own/set")
