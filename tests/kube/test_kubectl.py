"""kubectl, in every version of every kind: with conversion and validation in between."""

import json
from typing import Any

import pytest

from smi_xds.objects.versions import SMI_KINDS
from tests.kube.api import Kube
from tests.kube.installed import (
    NAMESPACE,
    Installed,
    as_list,
    documents,
    fields,
    mk_split,
    read,
    refusal,
)

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]

EVERY = [(it, version) for it in SMI_KINDS.values() for version in it.versions]
BETA = {"kind": "HTTPRouteGroup", "name": "beta"}


def _apply(kube: Kube, text: str, *flags: str) -> list[str]:
    """What became of each object, in one word."""
    done = kube.kubectl("apply", *flags, "-n", NAMESPACE, "-f", "-", stdin=text)
    return [line.split()[1] for line in done.splitlines()]


@pytest.mark.parametrize("how", ["client-side", "server-side"])
def test_applied_again_nothing_changes(installed: Installed, how: str) -> None:
    """In whatever version a manifest is: a GitOps tool finds no difference, and writes nothing."""
    kube, flags = installed.kube, ("--server-side",) if how == "server-side" else ()
    text = as_list(documents(how, per_version=9))
    first, versions = _apply(kube, text, *flags), _resource_versions(installed, how)

    again = _apply(kube, text, *flags)

    assert set(first) == {"created" if how == "client-side" else "serverside-applied"}
    assert set(again) == {"unchanged" if how == "client-side" else "serverside-applied"}
    assert _resource_versions(installed, how) == versions


def _resource_versions(installed: Installed, prefix: str) -> dict[str, str]:
    found = [read(installed.kube, it.kind, it.stored) for it in SMI_KINDS.values()]
    return {
        f"{it['kind']}/{name}": it["metadata"]["resourceVersion"]
        for its in found
        for name, it in its.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("flags", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_a_manifest_moves_to_another_version(installed: Installed, flags: tuple[str, ...]) -> None:
    """What the older manifest said and the newer does not is gone; with fields of other names."""
    kube, name = installed.kube, f"moves-{len(flags)}"
    spec: dict[str, Any] = {
        "destination": {"kind": "ServiceAccount", "name": "web", "port": 8080},
        "specs": [{"kind": "TCPRoute", "name": "all"}],
        "sources": [{"kind": "ServiceAccount", "name": "client"}],
    }
    head = {"kind": "TrafficTarget", "metadata": {"name": name, "namespace": NAMESPACE}}
    group = "access.smi-spec.io"
    _apply(kube, json.dumps({**head, "apiVersion": f"{group}/v1alpha1", **spec}), *flags)
    newer = {
        "destination": {"kind": "ServiceAccount", "name": "web"},
        "rules": [{"kind": "TCPRoute", "name": "some"}],
        "sources": spec["sources"],
    }

    document = {**head, "apiVersion": f"{group}/v1alpha3", "spec": newer}
    _apply(kube, json.dumps(document), *flags)

    shown = kube.get(f"traffictargets.v1alpha3.{group}", name, "-n", NAMESPACE)
    assert shown["spec"] == newer
    port = kube.get(f"traffictargets.v1alpha1.{group}", name, "-n", NAMESPACE)["destination"]
    # A restriction that v1alpha3 cannot show is not dropped by who cannot see it.
    assert port.get("port") == 8080


@pytest.mark.parametrize("version", SMI_KINDS["TrafficSplit"].versions)
def test_edited_in_any_version(installed: Installed, version: str) -> None:
    """What the version shows can be changed; what it cannot show stays."""
    kube, name = installed.kube, f"edited-{version}"
    kube.apply(mk_split(name, matches=[BETA]))

    kube.edit(f"trafficsplits.{version}.split.smi-spec.io", name, r"s/\(weight: .*\)1/\17/")

    spec = read(kube, "TrafficSplit", "v1alpha4")[name]["spec"]
    assert spec == {
        "service": "web", "backends": [{"service": "v1", "weight": 7}], "matches": [BETA]
    }  # fmt: skip


@pytest.mark.parametrize("kind, version", EVERY, ids=lambda it: getattr(it, "short", it))
def test_explained_in_any_version(installed: Installed, kind: Any, version: str) -> None:
    """With the fields that this version has."""
    shown = installed.kube.kubectl(
        "explain", kind.plural, f"--api-version={kind.group}/{version}", "--recursive"
    )

    assert f"VERSION:    {version}" in shown
    assert "<empty>" not in shown
    if kind.kind == "TrafficTarget":
        assert ("specs\t" in shown, "port\t" in shown, "group\t" in shown) == (
            version == "v1alpha1", True, version == "v1alpha4"
        )  # fmt: skip


def test_a_dry_run_stores_nothing(installed: Installed) -> None:
    """It gives what would be stored, in the version of the manifest, by either way to apply."""
    kube = installed.kube
    manifests = [*documents("dry", per_version=1)]
    text = as_list(manifests)

    for flags in ((), ("--server-side",)):
        command = ("apply", "--dry-run=server", *flags, "-o", "json", "-n", NAMESPACE, "-f", "-")
        shown = json.loads(kube.kubectl(*command, stdin=text))["items"]
        assert [it["apiVersion"] for it in shown] == [it["apiVersion"] for it in manifests]
        assert [_without_status(fields(it)) for it in shown] == [fields(it) for it in manifests]

    assert not _resource_versions(installed, "dry")


def _without_status(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "status"}


WEB = {"kind": "ServiceAccount", "name": "default"}
# By what it is told by: one of each kind, in some version.
WARNED: dict[str, dict[str, Any]] = {
    "[NoRules]": {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "spec": {"destination": WEB, "rules": [], "sources": [WEB]},
    },
    "specs[0].name: There is no TCPRoute default/nowhere": {
        "apiVersion": "access.smi-spec.io/v1alpha1",
        "kind": "TrafficTarget",
        "destination": WEB,
        "specs": [{"kind": "TCPRoute", "name": "nowhere"}],
        "sources": [WEB],
    },
    "[UnprovableIdentity]": {
        "apiVersion": "access.smi-spec.io/v1alpha4",
        "kind": "IdentityBinding",
        "spec": {"schemes": {"spiffeIdentities": ["spiffe://example.com/ns/a/sa/b"]}},
    },
    "matches[0].pathRegex: RE2 refuses the expression '(': missing ): (. [InvalidRegex]": {
        "apiVersion": "specs.smi-spec.io/v1alpha1",
        "kind": "HTTPRouteGroup",
        "matches": [{"name": "a", "pathRegex": "(", "methods": ["GET"]}],
    },
    "[NegativeWeight]": {
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "spec": {"service": "kubernetes", "backends": [{"service": "kubernetes", "weight": -1}]},
    },
}


@pytest.mark.parametrize("told", WARNED)
def test_warned_of_in_any_version(installed: Installed, told: str) -> None:
    """What can become right is taken, with our words."""
    document = WARNED[told] | {"metadata": {"name": "warned"}}

    message = refusal(installed.kube, "create", document, "--warnings-as-errors")

    assert "Warning: " in message
    assert told in message
    installed.kube.kubectl("delete", document["kind"], "warned", "-n", NAMESPACE)


def test_rows_are_the_same_in_every_version(installed: Installed) -> None:
    """Columns show what an operator looks for, wherever a version has it."""
    kube = installed.kube
    target = {
        "destination": {"kind": "ServiceAccount", "name": "books"},
        "rules": [{"kind": "TCPRoute", "name": "all"}],
        "sources": [{"kind": "ServiceAccount", "name": "buyer"}],
    }
    metadata = {"name": "row", "namespace": NAMESPACE}
    api_version = "access.smi-spec.io/v1alpha4"
    kube.apply(
        {"apiVersion": api_version, "kind": "TrafficTarget", "metadata": metadata, "spec": target},
        mk_split("row", "v1alpha4"),
    )

    for version in SMI_KINDS["TrafficTarget"].versions:
        heads, row = _table(kube, f"traffictargets.{version}.access.smi-spec.io")
        assert heads == ["NAME", "DESTINATION", "SOURCES", "RULES", "ACCEPTED", "PROGRAMMED", "AGE"]
        assert row[:2] == ["row", "books"]
        assert '"name":"buyer"' in row[2]
        assert '"name":"all"' in row[3]
    for version in SMI_KINDS["TrafficSplit"].versions:
        heads, row = _table(kube, f"trafficsplits.{version}.split.smi-spec.io")
        assert heads[:3] == ["NAME", "SERVICE", "BACKENDS"]
        assert row[:2] == ["row", "web"]
        weight = '"1"' if version == "v1alpha1" else "1"
        assert row[2] == f'[{{"service":"v1","weight":{weight}}}]'


def _table(kube: Kube, kind: str) -> tuple[list[str], list[str]]:
    """Heads and the one row; no cell has a blank in it."""
    shown = kube.kubectl("get", kind, "row", "-n", NAMESPACE, "-o", "wide")
    heads, row = shown.splitlines()
    return heads.split(), row.split()
