"""Bytes of lists and watches become events, whatever the size of the chunks they come in."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.objects.kube import ServiceAccount
from smi_xds.objects.parse import FORMS, JsonParser
from smi_xds.objects.store import Applied, Deleted, Failed
from smi_xds.sources.kube_kinds import KINDS
from smi_xds.sources.kube_wire import (
    AnswerError,
    GoneError,
    LineSplitter,
    batch_from,
    page_from,
    replaced_from,
    status_from,
)
from smi_xds.values import ObjectRef

ACCOUNTS = JsonParser(FORMS["v1", "ServiceAccount"])
SLICES = JsonParser(FORMS["discovery.k8s.io/v1", "EndpointSlice"])


def line(kind: str, name: str = "a", **fields: object) -> bytes:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": "7"}
    return json.dumps({"type": kind, "object": {"metadata": metadata, **fields}}).encode()


@given(st.lists(st.binary(max_size=6)))
def test_lines(chunks: list[bytes]) -> None:
    """Lines come out as they were, however they were cut; empty ones are left out."""
    splitter, whole = LineSplitter(), b"".join(chunks)

    found = [line for chunk in chunks for line in splitter.feed(chunk)]

    *lines, _ = whole.split(b"\n")
    assert found == [line for line in lines if line]


def test_events() -> None:
    """Objects are applied, deleted or failed; the last line says where to go on."""
    account = ServiceAccount(namespace="shop", name="a")
    bookmark = b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}'

    batch = batch_from(
        [
            line("ADDED"),
            line("MODIFIED", metadata2=1),
            line("DELETED"),
            line("ADDED", "A"),
            bookmark,
        ],
        ACCOUNTS,
    )

    applied, again, deleted, failed = batch.events
    assert (applied, again) == (Applied(account), Applied(account))
    assert deleted == Deleted(account.ref)
    assert isinstance(failed, Failed)
    assert failed.problem.ref == ObjectRef("ServiceAccount", "shop", "A")
    assert batch.resource_version == "9"


def test_an_object_that_stops_to_be_one_of_ours() -> None:
    """A slice that lost its service's label is gone."""
    batch = batch_from([line("MODIFIED", addressType="IPv4")], SLICES)

    assert batch.events == (Deleted(ObjectRef("EndpointSlice", "shop", "a")),)


def test_a_version_that_is_gone() -> None:
    """An error line of code 410 says to list again."""
    status = {"kind": "Status", "code": 410, "reason": "Expired"}

    with pytest.raises(GoneError):
        batch_from([json.dumps({"type": "ERROR", "object": status}).encode()], ACCOUNTS)


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"type": "ADDED"}',
        b'{"type": "DELETED", "object": 7}',
        b'{"type": "BOOKMARK", "object": {}}',
        b'{"type": "ERROR", "object": {"code": 500, "message": "broken"}}',
        b'{"type": "ERROR", "object": "broken"}',
        b'{"type": "\xff", "object": {}}',
    ],
)
def test_lines_that_cannot_be_understood(text: bytes) -> None:
    """Anything else that is no event is an error, never an exception of another kind."""
    with pytest.raises(AnswerError):
        batch_from([text], ACCOUNTS)


def test_lists() -> None:
    """A page keeps its items raw; those that are none of ours are left out, bad ones told."""
    items = [{"metadata": {"name": name}} for name in ("a", "B")]
    body = {"metadata": {"resourceVersion": "7", "continue": "x"}, "items": items}
    page = page_from(json.dumps(body).encode())
    replaced = replaced_from(page.items or (), ACCOUNTS)

    assert (page.metadata.resource_version, page.metadata.token) == ("7", "x")
    assert [it.name for it in replaced.objects] == ["a"]
    assert [problem.ref.name for problem in replaced.problems] == ["B"]
    assert replaced_from([msgspec.Raw(line("X"))], SLICES).objects == ()


def test_a_slice_of_no_service_in_a_list() -> None:
    """It is left out without a problem."""
    raw = msgspec.Raw(b'{"metadata": {"name": "a"}, "addressType": "IPv4"}')

    assert replaced_from([raw], SLICES) == replaced_from([], SLICES)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff"])
def test_a_list_that_is_none(body: bytes) -> None:
    """Whatever a proxy on the way answers is an error of one kind."""
    with pytest.raises(AnswerError):
        page_from(body)


def test_status() -> None:
    """Why a request was refused is read where it is told."""
    assert status_from(b'{"code": 403, "message": "no"}').message == "no"
    assert status_from(b"<html>").message == ""


def test_paths() -> None:
    """Every kind has the path that kubectl uses, a form, and the name that RBAC knows."""
    paths = {kind.full_name: kind.path(namespace="") for kind in KINDS}

    assert paths == {
        "namespaces": "/api/v1/namespaces",
        "serviceaccounts": "/api/v1/serviceaccounts",
        "services": "/api/v1/services",
        "pods": "/api/v1/pods",
        "endpointslices.discovery.k8s.io": "/apis/discovery.k8s.io/v1/endpointslices",
        "traffictargets.access.smi-spec.io": "/apis/access.smi-spec.io/v1alpha4/traffictargets",
        "identitybindings.access.smi-spec.io": "/apis/access.smi-spec.io/v1alpha4/identitybindings",
        "httproutegroups.specs.smi-spec.io": "/apis/specs.smi-spec.io/v1alpha4/httproutegroups",
        "tcproutes.specs.smi-spec.io": "/apis/specs.smi-spec.io/v1alpha4/tcproutes",
        "udproutes.specs.smi-spec.io": "/apis/specs.smi-spec.io/v1alpha4/udproutes",
        "trafficsplits.split.smi-spec.io": "/apis/split.smi-spec.io/v1alpha4/trafficsplits",
    }
    assert [kind.form.kind for kind in KINDS] == [kind.kind for kind in KINDS]


def test_versions_in_the_order_of_preference() -> None:
    """The stored version comes first, then the newest; kinds of Kubernetes itself have one."""
    versions = {kind.kind: [it.version for it in kind.in_all_versions()] for kind in KINDS}

    assert versions["TrafficTarget"] == ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"]
    assert versions["UDPRoute"] == ["v1alpha4"]
    assert versions["Pod"] == ["v1"]


def test_paths_of_one_namespace() -> None:
    """One namespace's objects have their own path; the Namespace itself is picked by name."""
    namespaces, accounts, *_ = KINDS

    assert accounts.path(namespace="shop") == "/api/v1/namespaces/shop/serviceaccounts"
    assert accounts.selector(namespace="shop") == {}
    assert namespaces.path(namespace="shop") == "/api/v1/namespaces"
    assert namespaces.selector(namespace="shop") == {"fieldSelector": "metadata.name=shop"}
