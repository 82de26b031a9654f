"""access.smi-spec.io: TrafficTarget and IdentityBinding."""

from typing import Any

from smi_xds.crds.schema import Schema, a_list, a_text, an_object, column, texts
from smi_xds.objects.smi import ACCESS_GROUP

# Smi-sdk-go once had it as a string, and so manifests have. Later versions have no such field, yet
# it restricts: it must not be pruned where somebody writes it.
_PORT: Schema = {
    "description": "The only port that may be called, a port of the pods. It has a field until "
    "v1alpha2; later, list ports in a TCPRoute.",
    "x-kubernetes-int-or-string": True,
    "minimum": 1,
    "maximum": 65535,
    "pattern": "^[0-9]{1,5}$",
}


def target(version: str) -> Schema:
    """Schema of the root of a TrafficTarget, without what all objects have."""
    return _target(version, _group() if version == "v1alpha4" else {})


def unconverted_target(version: str) -> Schema:
    """The same where nobody converts: v1alpha3 and v1alpha4 are one and the same.

    A client of v1alpha3 drops the group. So it may only be the one that it is without.
    """
    with_group = version in {"v1alpha3", "v1alpha4"}
    return _target(version, _group(enum=["", ACCESS_GROUP]) if with_group else {})


def _group(**more: Any) -> dict[str, Schema]:
    description = f"API group of the kind; {ACCESS_GROUP} for IdentityBinding."
    return {"group": a_text(description, **more)}


def _target(version: str, group: dict[str, Schema]) -> Schema:
    rules = "specs" if version == "v1alpha1" else "rules"
    body = {"destination": _destination(group), rules: _rules(), "sources": _sources(group)}
    description = (
        "Allows sources to call a destination where a rule matches. What no TrafficTarget allows "
        "is denied; several TrafficTargets add up."
    )
    if version == "v1alpha1":
        return an_object(description, body, required=["destination"])
    # v1alpha3 "must specify a destination, at least one rule, and at least one source"; the lists
    # may be empty all the same (and allow nothing): the published schemas accept them so.
    required = ["destination"] if version == "v1alpha2" else ["destination", "rules", "sources"]
    spec = an_object("Who may call whom, and what.", body, required=required)
    return an_object(description, {"spec": spec}, required=["spec"])


def target_columns(version: str) -> list[dict[str, Any]]:
    """What `kubectl get tt` shows."""
    at = "" if version == "v1alpha1" else ".spec"
    rules = "specs" if version == "v1alpha1" else "rules"
    return [
        column("Destination", f"{at}.destination.name", "Who may be called."),
        column("Sources", f"{at}.sources", "Who may call.", priority=1),
        column("Rules", f"{at}.{rules}", "What may be called.", priority=1),
    ]


def _subject(description: str, more: dict[str, Schema]) -> Schema:
    properties = {
        "kind": a_text("ServiceAccount or IdentityBinding."),
        "name": a_text("Its name."),
        "namespace": a_text("Its namespace; where left out, that of the TrafficTarget."),
        **more,
    }
    return an_object(description, properties, required=["kind", "name"])


def _destination(group: dict[str, Schema]) -> Schema:
    description = (
        "The identity of the pods that may be called. A TrafficTarget counts only in the "
        "namespace of its destination."
    )
    return _subject(description, {"port": _PORT, **group})


def _sources(group: dict[str, Schema]) -> Schema:
    return a_list("Who may call. An empty list allows nobody.", _subject("A caller.", group))


def _rules() -> Schema:
    kinds = ["HTTPRouteGroup", "TCPRoute", "UDPRoute"]
    matches = "Names of matches of the HTTPRouteGroup; all of them, where left out or empty."
    rule = an_object(
        "A route.",
        {
            # UDPRoute is younger than the first versions; in an enum without it, an object that
            # was read in such a version could not be written back.
            "kind": a_text("The kind of route.", enum=kinds),
            "name": a_text("Name of a route in the namespace of the TrafficTarget."),
            "matches": a_list(matches, texts()),
        },
        required=["kind", "name"],
    )
    return a_list(
        "What is allowed. All ports of the TCPRoutes and all matches of the HTTPRouteGroups "
        "unite; where there are both, both have to hold. An empty list allows nothing.",
        rule,
    )


def binding(_version: str) -> Schema:
    """Schema of the root of an IdentityBinding."""
    selector = an_object(
        "Pods, by their labels.",
        {
            "matchLabels": {
                "description": "Labels that a pod has to have, all of them.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": texts(),
            }
        },
        required=["matchLabels"],
    )
    identities = a_list(
        "SPIFFE ids of the same namespace and trust domain, such as "
        "spiffe://cluster.local/ns/shop/sa/web.",
        a_text("A SPIFFE id.", pattern="^spiffe://[a-z0-9._-]+/.+"),
        minItems=1,
    )
    exclusive = {
        "rule": "!(has(self.podLabelSelector) && has(self.serviceAccount))",
        "message": "podLabelSelector and serviceAccount exclude each other: keep one, and write "
        "another IdentityBinding for the other",
    }
    schemes = an_object(
        "Whoever one of these names is meant.",
        {
            "podLabelSelector": selector,
            "spiffeIdentities": identities,
            "serviceAccount": a_text("A ServiceAccount of the same namespace.", minLength=1),
        },
        minProperties=1,
    ) | {"x-kubernetes-validations": [exclusive]}
    spec = an_object("Whom it names.", {"schemes": schemes}, required=["schemes"])
    return an_object(
        "Names identities of its namespace, for TrafficTargets to refer to.",
        {"spec": spec},
        required=["spec"],
    )


def binding_columns(_version: str) -> list[dict[str, Any]]:
    """What `kubectl get ib` shows."""
    at = ".spec.schemes"
    return [
        column("Service Account", f"{at}.serviceAccount", "The ServiceAccount."),
        column("Labels", f"{at}.podLabelSelector.matchLabels", "Labels of the pods."),
        column("Identities", f"{at}.spiffeIdentities", "SPIFFE ids.", priority=1),
    ]
