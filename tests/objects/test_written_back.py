"""What is written back to objects, and what tells which state of which object that was about."""

import json
from typing import Any

import pytest

from smi_xds.objects.forms import FORMS
from smi_xds.objects.parse import JsonParser, Parsed, parse
from smi_xds.objects.smi import TrafficSplit
from smi_xds.objects.store import Applied, Origin, Store

SPLIT: dict[str, Any] = {
    "apiVersion": "split.smi-spec.io/v1alpha4",
    "kind": "TrafficSplit",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "0815",
        "generation": 3,
        "resourceVersion": "77",
    },
    "spec": {"service": "web", "backends": [{"service": "web-v1", "weight": 1}]},
}
CONDITION = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
ORIGIN = Origin("kubernetes", "trafficsplits")


def parsed(**metadata: Any) -> TrafficSplit:
    document = {**SPLIT, "metadata": {**SPLIT["metadata"], **metadata}}
    outcome = parse({key: value for key, value in document.items() if value is not None})
    assert isinstance(outcome, Parsed)
    assert isinstance(outcome.object, TrafficSplit)
    return outcome.object


def test_which_state_of_which_object() -> None:
    """An API server says it, files do not."""
    it, written = parsed(), parsed(uid=None, generation=None)

    assert (it.uid, it.generation) == ("0815", 3)
    assert (written.uid, written.generation) == ("", 0)


def test_another_status_is_no_change() -> None:
    """Of what we write ourselves, no round may come; the very same object stays."""
    store = Store(["kubernetes"])
    store.apply(ORIGIN, Applied(parsed()))
    before = store.objects()
    status = {"conditions": [CONDITION]}
    managed = [{"manager": "smi-xds", "subresource": "status"}]
    metadata = {**SPLIT["metadata"], "resourceVersion": "78", "managedFields": managed}
    line = json.dumps({**SPLIT, "metadata": metadata, "status": status}).encode()
    outcome = JsonParser(FORMS["split.smi-spec.io/v1alpha4", "TrafficSplit"]).parse(line)
    assert isinstance(outcome, Parsed)

    assert store.apply(ORIGIN, Applied(outcome.object)) is False
    assert store.objects() is before


@pytest.mark.parametrize("change", [{"uid": "0816"}, {"generation": 4}])
def test_another_generation_and_another_object_are_changes(change: dict[str, Any]) -> None:
    """Even where what we read of them is the same: that is to be said of them anew."""
    store = Store(["kubernetes"])
    store.apply(ORIGIN, Applied(parsed()))

    assert store.apply(ORIGIN, Applied(parsed(**change))) is True
