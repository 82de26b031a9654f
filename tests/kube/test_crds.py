"""The CRDs in deploy/crds, as a real API server takes them."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.kube.api import Kube, KubectlError
from tests.kube.plugin import CRDS

EVERY_VERSION = CRDS.parent / "kubernetes" / "crds"

ACCESS = "access.smi-spec.io/v1alpha4"
SPECS = "specs.smi-spec.io/v1alpha4"
SPLIT = "split.smi-spec.io/v1alpha4"

DESTINATION = {"kind": "ServiceAccount", "name": "bookstore"}
PARTNERS = {"kind": "IdentityBinding", "name": "partners", "group": "access.smi-spec.io"}
SOURCES = [{"kind": "ServiceAccount", "name": "bookbuyer", "namespace": "shop"}]
RULES = [{"kind": "HTTPRouteGroup", "name": "books", "matches": ["buy"]}]
TARGET = {"destination": DESTINATION, "rules": RULES, "sources": SOURCES}


def _object(api_version: str, kind: str, **rest: object) -> dict[str, object]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "tried"}} | rest


def _target(spec: object) -> dict[str, object]:
    return _object(ACCESS, "TrafficTarget", spec=spec)


def _match(**match: object) -> dict[str, object]:
    spec = {"matches": [{"name": "buy"} | match]}
    return _object(SPECS, "HTTPRouteGroup", spec=spec)


def _binding(**schemes: object) -> dict[str, object]:
    return _object("access.smi-spec.io/v1alpha4", "IdentityBinding", spec={"schemes": schemes})


def _split(*weights: object, **spec: object) -> dict[str, object]:
    backends = [{"service": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    return _object(SPLIT, "TrafficSplit", spec={"service": "web", "backends": backends} | spec)


ACCEPTED = {
    "a full TrafficTarget": _target(TARGET),
    "a TrafficTarget for nobody": _target(TARGET | {"rules": [], "sources": []}),
    "a kind of source that we do not know": _target(
        TARGET | {"sources": [{"kind": "Group", "name": "people"}]}
    ),
    # Only v1alpha1 and v1alpha2 have a field for it; pruned, it would not restrict.
    "a port of an older version": _target(TARGET | {"destination": DESTINATION | {"port": 80}}),
    "the same as text": _target(TARGET | {"destination": DESTINATION | {"port": "80"}}),
    "a TrafficTarget of the version before": _target(TARGET)
    | {"apiVersion": "access.smi-spec.io/v1alpha3"},
    "an IdentityBinding with its group": _target(TARGET | {"sources": [PARTNERS]}),
    "an identity by pod labels": _binding(podLabelSelector={"matchLabels": {"a": "b"}}),
    "identities by both other schemes": _binding(
        serviceAccount="web", spiffeIdentities=["spiffe://cluster.local/ns/shop/sa/db"]
    ),
    "rules of every kind": _target(
        TARGET
        | {"rules": [RULES[0], *({"kind": f"{x}Route", "name": "x"} for x in ("TCP", "UDP"))]}
    ),
    "a match of everything": _match(),
    "a match of all that can be said": _match(
        pathRegex="/api", methods=["GET", "*"], headers=[{"x": "y"}]
    ),
    "headers as smi-sdk-go writes them": _match(headers=[{"x": "1"}, {"y": "2"}]),
    "headers in one map": _match(headers={"x": "1", "y": "2"}),
    "several headers in one entry": _match(headers=[{"x": "1", "y": "2"}]),
    "TCP ports": _object(SPECS, "TCPRoute", spec={"matches": {"name": "db", "ports": [5432]}}),
    "all TCP ports, written": _object(SPECS, "TCPRoute", spec={"matches": {"ports": []}}),
    "all TCP ports, by smi-sdk-go": _object(SPECS, "TCPRoute", spec={"matches": {}}),
    "all TCP ports, left out": _object(SPECS, "TCPRoute", spec={}),
    "UDP ports": _object(SPECS, "UDPRoute", spec={"matches": {"ports": [53, 65535]}}),
    "whole weights": _split(0, 100),
    "weights beyond 100": _split(1000, 500),
    "a weight of any number": _split(0.5, -200),
    "a split without backends": _split(),
    "a split of some requests": _split(
        1, matches=[{"apiGroup": "specs.smi-spec.io", "kind": "HTTPRouteGroup", "name": "x"}]
    ),
    "a root in words of DNS": _split(1, service="web.shop.svc.cluster.local"),
    "a split of the version before": _split(1, 2) | {"apiVersion": "split.smi-spec.io/v1alpha3"},
    "matches of the version before": _match(headers={"x": "1"})
    | {"apiVersion": "specs.smi-spec.io/v1alpha3"},
}

REFUSED = {
    "a TrafficTarget without spec": (_object(ACCESS, "TrafficTarget"), "spec: Required"),
    "no destination": (_target({"rules": [], "sources": []}), "spec.destination: Required"),
    "no sources": (_target({"destination": DESTINATION, "rules": []}), "spec.sources: Required"),
    "no rules": (_target({"destination": DESTINATION, "sources": []}), "spec.rules: Required"),
    "a source without name": (
        _target(TARGET | {"sources": [{"kind": "ServiceAccount"}]}),
        "sources[0].name: Required",
    ),
    "an unknown kind of rule": (
        _target(TARGET | {"rules": [{"kind": "GRPCRoute", "name": "x"}]}),
        'rules[0].kind: Unsupported value: "GRPCRoute"',
    ),
    "a port of an older version that is none": (
        _target(TARGET | {"destination": DESTINATION | {"port": 0}}),
        "destination.port",
    ),
    # A client of v1alpha3 that writes it back drops the group, and then it would be one of ours.
    "a group of somebody else": (
        _target(TARGET | {"sources": [PARTNERS | {"group": "example.com"}]}),
        'sources[0].group: Unsupported value: "example.com"',
    ),
    "an identity by two names": (
        _binding(serviceAccount="web", podLabelSelector={"matchLabels": {"a": "b"}}),
        "podLabelSelector and serviceAccount exclude each other",
    ),
    "an identity of nobody": (_binding(), "schemes"),
    "an identity of every pod": (_binding(podLabelSelector={"matchLabels": {}}), "matchLabels"),
    "an identity by expressions": (
        _binding(podLabelSelector={"matchLabels": {"a": "b"}, "matchExpressions": []}),
        'unknown field "spec.schemes.podLabelSelector.matchExpressions"',
    ),
    "an identity without scheme": (
        _binding(spiffeIdentities=["cluster.local/ns/shop/sa/web"]),
        "spiffeIdentities[0]",
    ),
    "matches of an older version": (
        _object(SPECS, "HTTPRouteGroup", matches=[{"name": "buy"}]),
        'unknown field "matches"',
    ),
    "a match without name": (
        _object(SPECS, "HTTPRouteGroup", spec={"matches": [{"pathRegex": "/"}]}),
        "matches[0].name: Required",
    ),
    "two matches of one name": (
        _object(SPECS, "HTTPRouteGroup", spec={"matches": [{"name": "a"}, {"name": "a"}]}),
        "matches[1]: Duplicate value",
    ),
    "an unknown method": (_match(methods=["FETCH"]), 'Unsupported value: "FETCH"'),
    "a number as header in a list": (_match(headers=[{"x": 1}]), "headers[0].x"),
    "a number as header in a map": (_match(headers={"x": 1}), "headers.x"),
    "a bare name as header": (_match(headers=["x"]), "headers[0]"),
    "a port that is none": (
        _object(SPECS, "TCPRoute", spec={"matches": {"ports": [65536]}}),
        "ports[0]",
    ),
    "a port in words": (_object(SPECS, "UDPRoute", spec={"matches": {"ports": ["dns"]}}), "ports"),
    "ports outside of matches": (
        _object(SPECS, "TCPRoute", spec={"ports": [1]}),
        'unknown field "spec.ports"',
    ),
    "a weight in words": (_split("500m"), "backends[0].weight"),
    "a backend without weight": (_split(backends=[{"service": "v1"}]), "weight: Required"),
    "a split of nothing": (_object(SPLIT, "TrafficSplit", spec={"backends": []}), "service"),
    "a split by TCPRoute": (
        _split(1, matches=[{"kind": "TCPRoute", "name": "x"}]),
        'Unsupported value: "TCPRoute"',
    ),
}


@pytest.fixture(scope="module")
def place(kube: Kube) -> Iterator[str]:
    """Give one namespace for all cases: to make one takes longer than a case."""
    name = "test-crds"
    kube.make_namespace(name)
    yield name
    kube.remove_namespace(name)


@pytest.mark.parametrize("how", ["client-side", "server-side"])
@pytest.mark.parametrize("written", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_keeps_what_smi_allows(
    kube: Kube, place: str, written: Mapping[str, Any], how: str
) -> None:
    """What SMI and its known writers say is accepted and kept as it was written."""
    flags = ("apply", "--server-side") if how == "server-side" else ("create",)
    text = json.dumps({**written, "metadata": {"name": f"case-{secrets.token_hex(4)}"}})

    kept = kube.kubectl(*flags, "-o", "json", "-n", place, "-f", "-", stdin=text)

    assert json.loads(kept)["spec"] == written["spec"]


@pytest.mark.parametrize("written, reason", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_smi_does_not_allow(
    kube: Kube, place: str, written: Mapping[str, Any], reason: str
) -> None:
    """What SMI does not allow is refused, with the field that is wrong."""
    with pytest.raises(KubectlError) as refusal:
        kube.kubectl("create", "-n", place, "-f", "-", stdin=json.dumps(written))

    assert reason in str(refusal.value)


def test_short_names_and_columns(kube: Kube, namespace: str) -> None:
    """The short names of SMI work, and the columns show what an operator looks for."""
    route = ACCEPTED["TCP ports"]
    kube.apply(
        _target(TARGET),
        _match(),
        route,
        _split(90, 10),
        _binding(serviceAccount="web"),
        namespace=namespace,
    )

    short = kube.kubectl("get", "tt,htr,tr,ur,ts,ib", "-n", namespace)
    by_category = kube.kubectl("get", "smi", "-n", namespace, "-o", "name")

    rows = {line.split()[0]: line.split()[1:-1] for line in short.splitlines() if line}
    assert rows["traffictarget.access.smi-spec.io/tried"] == ["bookstore"]
    assert rows["httproutegroup.specs.smi-spec.io/tried"] == []
    assert rows["tcproute.specs.smi-spec.io/tried"] == ["[5432]"]
    weights = '[{"service":"v0","weight":90},{"service":"v1","weight":10}]'
    assert rows["trafficsplit.split.smi-spec.io/tried"] == ["web", weights]
    assert rows["identitybinding.access.smi-spec.io/tried"] == ["web"]
    assert sorted(by_category.split()) == sorted(name for name in rows if name.endswith("/tried"))
    wide = kube.kubectl("get", "tt,htr", "-n", namespace, "-o", "wide")
    assert "bookbuyer" in wide
    assert "buy" in wide


@pytest.mark.parametrize(
    "field", ["tt.spec.sources", "htr.spec.matches.headers", "tr", "ur", "ts", "ib", "ts.status"]
)
def test_explains_itself(kube: Kube, field: str) -> None:
    """`kubectl explain` describes every kind and its fields."""
    assert "<empty>" not in kube.kubectl("explain", field)


def test_conditions_are_kept_apart(kube: Kube, namespace: str) -> None:
    """Who writes the status changes nothing else, and no generation; the columns show it."""
    kube.apply(_split(1), namespace=namespace)
    times = {"lastTransitionTime": "2024-01-01T00:00:00Z", "observedGeneration": 1}
    told = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""} | times
    patch = json.dumps({"status": {"conditions": [told]}, "spec": {"service": "other"}})

    kube.kubectl(
        "patch", "ts", "tried", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )

    kept = kube.get("ts", "tried", "-n", namespace)
    assert kept["status"]["conditions"] == [told]
    assert (kept["spec"]["service"], kept["metadata"]["generation"]) == ("web", 1)
    assert "True" in kube.kubectl("get", "ts", "-n", namespace)


def test_definitions_with_a_webhook(kube: Kube) -> None:
    """An API server takes the definitions of every version; nothing is changed by asking."""
    done = kube.kubectl("apply", "-k", str(EVERY_VERSION), "--dry-run=server", "--server-side")

    assert done.count("serverside-applied") == 6


def test_a_weight_is_patched_as_rollout_tools_do(kube: Kube, namespace: str) -> None:
    """A merge patch replaces the backends whole, in the order written."""
    kube.apply(_split(0, 100), namespace=namespace)
    wanted = [{"service": "b", "weight": 75}, {"service": "a", "weight": 25}]
    patch = json.dumps({"spec": {"backends": wanted}})

    kube.kubectl("patch", "ts", "tried", "-n", namespace, "--type=merge", "-p", patch)

    assert kube.get("ts", "tried", "-n", namespace)["spec"]["backends"] == wanted
