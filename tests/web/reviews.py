"""Reviews as API servers post them, and what is answered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smi_xds.web.review import Reviewed

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def conversion(objects: Sequence[object], desired: str) -> bytes:
    """A ConversionReview."""
    request = {"uid": UID, "desiredAPIVersion": desired, "objects": list(objects)}
    return json.dumps(
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
    ).encode()


def admission(new: object, old: object = None, **request: object) -> bytes:
    """An AdmissionReview; an UPDATE where there is a former object."""
    given = {
        "uid": UID,
        "operation": "CREATE" if old is None else "UPDATE",
        "name": "it",
        "namespace": "shop",
        "object": new,
        "oldObject": old,
        "dryRun": False,
    } | request
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": given}
    ).encode()


def response(reviewed: Reviewed) -> Mapping[str, Any]:
    """What a review was answered."""
    reply = reviewed.reply
    assert (reply.status, reply.content_type) == (200, "application/json")
    review = json.loads(reply.body)
    assert "request" not in review
    answered: Mapping[str, Any] = review["response"]
    assert answered["uid"] == UID
    return answered


def split(*weights: object, version: str = "v1alpha4", **spec: object) -> dict[str, Any]:
    """A TrafficSplit as JSON."""
    backends = [{"service": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    return {
        "apiVersion": f"split.smi-spec.io/{version}",
        "kind": "TrafficSplit",
        "metadata": {"name": "it", "namespace": "shop"},
        "spec": {"service": "web", "backends": backends, **spec},
    }
