"""The mesh as plain data."""

import json
from decimal import Decimal

import pytest

from smi_xds.mesh.model import Mesh, MeshSettings, PortRef, WeightedBackend
from smi_xds.mesh.plain import plain
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import AccessMode, Mode, ObjectRef, ProxyId, ServiceRef
from tests.support.mesh import build_mesh
from tests.support.objects import mk_pod, mk_service, mk_target, mk_tcp_route, spiffe, tcp

WEB = ServiceRef("shop", "web")


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, None),
        (True, True),
        (1, 1),
        (0.5, 0.5),
        ("text", "text"),
        (Mode.STRICT, "strict"),
        (WEB, "shop/web"),
        (ProxyId("shop", "web"), "shop/web"),
        (spiffe("web"), "spiffe://cluster.local/ns/shop/sa/web"),
        ([WEB, (1, 2)], ["shop/web", [1, 2]]),
        (frozenset({PortRef(WEB, 81), PortRef(WEB, 80)}), ["shop/web:80", "shop/web:81"]),
        ({PortRef(WEB, 80): WEB}, {"shop/web:80": "shop/web"}),
        (WeightedBackend(service=WEB, weight=1), {"service": "shop/web", "weight": 1}),
    ],
)
def test_plain_values(value: object, expected: object) -> None:
    """Names and enums are strings, sets are sorted lists, dataclasses are maps."""
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_defaults_are_left_out() -> None:
    """What nobody said is not shown, be it a default value or a default factory."""
    assert plain(MeshSettings()) == {}
    assert plain(MeshSettings(access=AccessMode.PERMISSIVE)) == {"access": "permissive"}
    assert plain(Mesh(trust_domain="d")) == {"trust_domain": "d"}


def test_problems_have_a_plain_form() -> None:
    """`check --output json` shows problems in the same way."""
    problem = Problem(
        ref=ObjectRef("Pod", "shop", "web"),
        field="",
        code=ProblemCode.NO_RULES,
        message="m",
        cure="c",
    )
    assert plain(problem) == {
        "ref": "Pod shop/web",
        "field": "",
        "code": "NoRules",
        "message": "m",
        "cure": "c",
    }


def test_a_whole_mesh_is_json() -> None:
    """Nothing in a mesh is left that JSON cannot say."""
    mesh = build_mesh(
        mk_pod("web"),
        mk_service("web"),
        mk_tcp_route("all"),
        mk_target("t", ["client"], "web", tcp("all")),
    )
    found = plain(mesh)
    assert json.loads(json.dumps(found)) == found


def test_other_values_are_our_own_mistake() -> None:
    """A value that no mesh holds is refused, not guessed at."""
    with pytest.raises(AssertionError, match="Decimal has no plain form"):
        plain(Decimal(1))
