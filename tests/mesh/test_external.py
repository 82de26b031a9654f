"""Splits of names outside the mesh, and of headless services."""

from dataclasses import replace

from smi_xds.mesh.model import PortRef
from smi_xds.problems import ProblemCode
from smi_xds.values import ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import mk_service, mk_split

OUTSIDE = replace(mk_service("outside"), type="ExternalName", external_name="example.com")
WEB = mk_service("web")


def test_a_name_for_something_outside_has_no_ports() -> None:
    """Nothing of ours stands before it."""
    mesh = build_mesh(OUTSIDE)
    assert mesh.services[ServiceRef("shop", "outside")].external
    assert mesh.routes == {}
    assert mesh.problems == ()


def test_it_cannot_be_split() -> None:
    """Neither as a root nor as a backend."""
    mesh = build_mesh(OUTSIDE, WEB, mk_split("s", "outside", {"web": 1}))
    assert told(mesh) == [("spec.service", ProblemCode.EXTERNAL_NAME)]
    mesh = build_mesh(OUTSIDE, WEB, mk_split("s", "web", {"outside": 1, "web": 1}))
    assert told(mesh) == [("spec.backends[0].service", ProblemCode.EXTERNAL_NAME)]
    (entry,) = mesh.routes[PortRef(ServiceRef("shop", "web"), 80)].entries
    assert [str(backend.service) for backend in entry.backends] == ["shop/web"]


def test_a_headless_root_is_split_for_some_alone() -> None:
    """A warning: intercepted callers choose a pod by themselves."""
    headless = replace(mk_service("db", app="web"), headless=True)
    mesh = build_mesh(headless, WEB, mk_split("s", "db", {"web": 1}))
    assert told(mesh) == [("spec.service", ProblemCode.HEADLESS_ROOT)]
    assert mesh.problems[0].code.severity == "warning"
