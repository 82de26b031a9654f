"""Our annotations: a pod's own over its namespace's over the mesh's settings."""

from itertools import product

import pytest

from smi_xds.mesh.annotations import PodSettings, pod_settings
from smi_xds.mesh.model import Egress, MeshSettings, Sidecar
from smi_xds.problems import ProblemCode
from smi_xds.values import AccessMode, Mode, ObjectRef
from tests.support.objects import mk_namespace, mk_pod

STRICT = MeshSettings()


def test_a_pod_says_nothing() -> None:
    """Without annotations a pod has no sidecar, and the mesh's modes."""
    settings = MeshSettings(access=AccessMode.PERMISSIVE)
    found, problems = pod_settings(mk_pod("p", sidecar=""), None, settings)
    assert found == PodSettings(
        sidecar=Sidecar.NONE,
        access=AccessMode.PERMISSIVE,
        mtls=Mode.STRICT,
        app_address="127.0.0.1",
    )
    assert problems == ()


def test_a_namespace_gives_the_defaults_of_its_pods() -> None:
    """What a namespace says holds for its pods, unless they say otherwise."""
    namespace = mk_namespace(sidecar="bound", access="permissive", mtls="permissive")
    plain, _ = pod_settings(mk_pod("p", sidecar=""), namespace, STRICT)
    assert (plain.sidecar, plain.access, plain.mtls) == (
        Sidecar.BOUND,
        AccessMode.PERMISSIVE,
        Mode.PERMISSIVE,
    )
    own, _ = pod_settings(mk_pod("p", sidecar="none", access="strict"), namespace, STRICT)
    assert (own.sidecar, own.access, own.mtls) == (Sidecar.NONE, AccessMode.STRICT, Mode.PERMISSIVE)


@pytest.mark.parametrize(
    "mesh, namespace, pod",
    list(product(AccessMode, (None, *AccessMode), (None, *AccessMode))),
)
def test_the_nearest_word_on_access_counts(
    mesh: AccessMode, namespace: AccessMode | None, pod: AccessMode | None
) -> None:
    """Strict, shadow and permissive alike: the pod's, else its namespace's, else the mesh's."""
    found, problems = pod_settings(
        mk_pod("p", access=pod or ""),
        mk_namespace(**({"access": namespace} if namespace else {})),
        MeshSettings(access=mesh),
    )
    assert found.access is (pod or namespace or mesh)
    assert (found.mtls, problems) == (Mode.STRICT, ())


def test_mtls_has_no_shadow() -> None:
    """Who has no certificate cannot be judged by it: mTLS is strict or permissive."""
    found, problems = pod_settings(mk_pod("p", mtls="shadow"), None, STRICT)
    assert found.mtls is Mode.STRICT
    assert [problem.code for problem in problems] == [ProblemCode.INVALID_ANNOTATION]


def test_the_address_of_the_application_is_an_address_in_its_short_form() -> None:
    """`app-address` takes IPv4 and IPv6."""
    pod = mk_pod("p", app_address="fd00:0:0::1")
    assert pod_settings(pod, None, STRICT)[0].app_address == "fd00::1"


def test_an_address_with_a_zone_is_none() -> None:
    """Envoy takes no such address: it would refuse the whole listener."""
    found, problems = pod_settings(mk_pod("p", app_address="fe80::1%eth0"), None, STRICT)
    assert found.app_address == "127.0.0.1"
    assert [problem.message for problem in problems] == [
        "'fe80::1%eth0' is not an IP address without a zone."
    ]


def test_a_value_that_cannot_be_read_counts_as_the_strictest() -> None:
    """A misspelt mode is strict, a misspelt sidecar is one, and each is told."""
    pod = mk_pod("p", sidecar="Bound", access="open", mtls="", app_address="localhost")
    found, problems = pod_settings(pod, None, MeshSettings(access=AccessMode.PERMISSIVE))
    assert found == PodSettings(
        sidecar=Sidecar.BOUND, access=AccessMode.STRICT, mtls=Mode.STRICT, app_address="127.0.0.1"
    )
    assert {problem.code for problem in problems} == {ProblemCode.INVALID_ANNOTATION}
    assert [problem.field for problem in problems] == [
        "metadata.annotations[smi-xds.io/sidecar]",
        "metadata.annotations[smi-xds.io/access]",
        "metadata.annotations[smi-xds.io/app-address]",
    ]
    assert problems[1].message == "'open' is not one of strict, shadow, permissive."


def test_a_problem_stands_at_the_object_that_says_it() -> None:
    """What a namespace writes wrong is its own problem, once, and not one of each pod."""
    _, problems = pod_settings(mk_pod("p"), mk_namespace(access="open"), STRICT)
    assert [problem.ref for problem in problems] == [ObjectRef("Namespace", "", "shop")]


@pytest.mark.parametrize(
    "ip, said, expected",
    [
        ("10.0.0.1", {}, "10.0.0.1"),
        ("fd00::1 10.0.0.1", {}, "fd00::1"),
        ("", {}, "127.0.0.1"),
        ("10.0.0.1", {"app_address": "127.0.0.1"}, "127.0.0.1"),
    ],
)
def test_an_intercepted_application_listens_where_it_would_without_us(
    ip: str, said: dict[str, str], expected: str
) -> None:
    """At its pod's own address, unless it says another one."""
    pod = mk_pod("p", ip, sidecar="intercepted", **said)  # type: ignore[arg-type] # annotations
    found, problems = pod_settings(pod, None, STRICT)
    assert (found.sidecar, found.app_address) == (Sidecar.INTERCEPTED, expected)
    assert problems == ()


def test_egress_is_open_unless_somebody_closes_it() -> None:
    """What cannot be read closes it, too."""
    for value, expected, codes in (
        ("", Egress.OPEN, []),
        ("closed", Egress.CLOSED, []),
        ("ajar", Egress.CLOSED, [ProblemCode.INVALID_ANNOTATION]),
    ):
        found, problems = pod_settings(mk_pod("p", egress=value), None, STRICT)
        assert (found.egress, [it.code for it in problems]) == (expected, codes)
