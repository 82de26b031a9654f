"""Grants as RBAC rules."""

import pytest

from smi_xds.mesh.model import Grant, HttpMatch
from smi_xds.xds.rbac import http_rules
from tests.support.objects import spiffe
from tests.support.shown import shown


def mk_grant(name: str, **fields: object) -> Grant:
    defaults = {"sources": (spiffe("client"),), "ports": None, "http": None}
    return Grant(target=name, tcp=True, l7=True, **{**defaults, **fields})  # type: ignore[arg-type] # fields of a test


def test_no_grant_denies_everyone() -> None:
    """Rules without a policy allow nothing; rules that are absent would allow everything."""
    assert shown(http_rules(())) == {"rbac": {"rules": {}}}


def test_each_traffic_target_is_a_policy_of_its_own() -> None:
    """Named after it, with its own permissions and exact identities, in a stable order."""
    grants = (
        mk_grant("shop/b", http=(HttpMatch(path="/b"), HttpMatch(methods=("GET",)))),
        mk_grant("shop/a", sources=(spiffe("client"), spiffe("other"))),
    )
    found = shown(http_rules(grants))
    assert found == {
        "rbac": {
            "rules": {
                "policies": {
                    "shop/a": {
                        "permissions": [{"any": True}],
                        "principals": [principal("client"), principal("other")],
                    },
                    "shop/b": {
                        "permissions": [
                            {"url_path": {"path": {"safe_regex": {"regex": "(?:/b).*"}}}},
                            {
                                "header": {
                                    "name": ":method",
                                    "string_match": {"safe_regex": {"regex": "GET"}},
                                }
                            },
                        ],
                        "principals": [principal("client")],
                    },
                }
            }
        }
    }
    assert http_rules(grants) == http_rules(grants[::-1])


def principal(account: str) -> dict[str, object]:
    return {"authenticated": {"principal_name": {"exact": str(spiffe(account))}}}


@pytest.mark.parametrize("empty", [{"sources": ()}, {"http": ()}])
def test_empty_lists_never_reach_envoy(empty: dict[str, object]) -> None:
    """A grant without sources or matches is our own mistake: it must not be said at all."""
    with pytest.raises(AssertionError):
        http_rules((mk_grant("shop/a", **empty),))
