"""What the control plane is allowed in a cluster: as much as it uses, and no more."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from smi_xds.crds.webhooks import webhook_role_rules
from smi_xds.install.names import AUTHORITY_SECRET, NAMESPACE, TRUST_CONFIG_MAP
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_kinds import KINDS

Rule: TypeAlias = Mapping[str, Sequence[str]]

# Of objects that are known by name; `create` cannot be limited so (Kubernetes, "RBAC").
_KEEP = ("get", "update")


def cluster_rules() -> list[dict[str, Any]]:
    """What holds in every namespace; the rights of the webhooks are a role of their own."""
    groups = sorted({it.group for it in KINDS})
    reads = [
        _rule(group, [it.plural for it in KINDS if it.group == group], _reading(group))
        for group in groups
    ]
    return [*reads, *_status(), *_telling()]


def _reading(group: str) -> list[str]:
    # Before it writes what became of an object, the leader reads that one.
    return [*(["get"] if group in {it.group for it in SMI_KINDS.values()} else []), "list", "watch"]


def _status() -> Iterable[dict[str, Any]]:
    """Conditions, and nothing else of an object: what users wrote is theirs."""
    by_group = sorted(SMI_KINDS.values(), key=lambda it: it.group)
    for group, kinds in groupby(by_group, key=lambda it: it.group):
        yield _rule(group, [f"{it.plural}/status" for it in kinds], ["patch"])


def _telling() -> Iterable[dict[str, Any]]:
    yield _rule("events.k8s.io", ["events"], ["create", "patch"])
    # Whose token a sidecar shows.
    yield _rule("authentication.k8s.io", ["tokenreviews"], ["create"])
    # Our root, where pods can mount it.
    yield _rule("", ["configmaps"], ["create"])
    yield _rule("", ["configmaps"], _KEEP, names=[TRUST_CONFIG_MAP])


def own_rules() -> list[dict[str, Any]]:
    """What holds in our own namespace alone."""
    leases = "coordination.k8s.io"
    return [
        # One says who leads; in one of its own each other replica tells what its proxies have.
        _rule(leases, ["leases"], ["get", "list", "create", "update", "delete"]),
        _rule("", ["secrets"], ["create"]),
        _rule("", ["secrets"], _KEEP, names=[AUTHORITY_SECRET]),
    ]


def all_rules() -> Iterable[tuple[str, Rule]]:
    """Each rule with the namespace that it holds in; empty for all."""
    yield from (("", rule) for rule in (*cluster_rules(), *webhook_role_rules()))
    yield from ((NAMESPACE, rule) for rule in own_rules())


def _rule(
    group: str, resources: Sequence[str], verbs: Sequence[str], *, names: Sequence[str] = ()
) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": list(resources)}
    if names:
        rule["resourceNames"] = list(names)
    return rule | {"verbs": list(verbs)}
