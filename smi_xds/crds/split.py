"""split.smi-spec.io: TrafficSplit.

Nothing here has a default: Flagger compares what it wrote with what it reads.
"""

from typing import Any

from smi_xds.crds.schema import Schema, a_list, a_text, an_object, column

_WITHOUT_MATCHES = ("v1alpha1", "v1alpha2")

# Strings from Flagger and Argo Rollouts, whole numbers from k8s-deploy. The grammar is that of
# objects.quantity.
_QUANTITY: Schema = {
    "description": "The share, relative to the sum of all weights: a number, or one with a unit "
    "such as 500m. If all are 0, requests fail.",
    "x-kubernetes-int-or-string": True,
    "maxLength": 100,
    "pattern": r"^ *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"
    r"([KMGTPE]i|[eE][+-]?[0-9]{1,9}|[numkMGTPE])? *$",
}
# Clients write whole numbers, and published schemas allow any number.
_NUMBER: Schema = {
    "description": "The share, relative to the sum of all weights: a number, 0 for nothing. "
    "If all are 0, requests fail.",
    "type": "number",
}


def split(version: str) -> Schema:
    """Schema of the root of a TrafficSplit, without what all objects have."""
    is_first = version == "v1alpha1"
    service = "A service of the same namespace; the root itself stands for its own endpoints."
    backend = an_object(
        "A part of the traffic.",
        {"service": a_text(service), "weight": _QUANTITY if is_first else _NUMBER},
        required=["service"] if is_first else ["service", "weight"],
    )
    properties = {
        "service": a_text("The service that clients call (the root), by name or FQDN."),
        "backends": a_list("Where its traffic goes.", backend),
    }
    if version not in _WITHOUT_MATCHES:
        properties["matches"] = a_list(
            "Splits only requests that fit one of these HTTPRouteGroups; others go to the root "
            "itself.",
            _match(),
        )
    spec = an_object("What is split, and how.", properties, required=["service", "backends"])
    return an_object(
        "Sends the traffic for one service to several, by weight.",
        {"spec": spec},
        required=["spec"],
    )


def _match() -> Schema:
    return an_object(
        "A kind of requests.",
        {
            "apiGroup": a_text("specs.smi-spec.io."),
            "kind": a_text("HTTPRouteGroup.", enum=["HTTPRouteGroup"]),
            "name": a_text("Name of an HTTPRouteGroup in the same namespace."),
        },
        required=["kind", "name"],
    )


def split_columns(version: str) -> list[dict[str, Any]]:
    """What `kubectl get ts` shows."""
    matches = [column("Matches", ".spec.matches", "For which requests.", priority=1)]
    return [
        column("Service", ".spec.service", "The service whose traffic is split."),
        column("Backends", ".spec.backends", "Where it goes, in which shares."),
        *([] if version in _WITHOUT_MATCHES else matches),
    ]
