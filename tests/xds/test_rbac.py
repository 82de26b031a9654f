"""Grants as RBAC rules."""

import pytest

from smi_xds.mesh.model import Grant, HttpMatch, Source
from smi_xds.values import AccessMode
from smi_xds.xds.rbac import http_rules, tcp_shadow
from tests.support.objects import spiffe
from tests.support.shown import shown

NOWHERE = (Source(spiffe("client"), ()),)


def mk_grant(name: str, **fields: object) -> Grant:
    defaults = {"sources": (Source(spiffe("client")),), "ports": None, "http": None}
    return Grant(target=name, tcp=True, l7=True, **{**defaults, **fields})  # type: ignore[arg-type] # fields of a test


def test_no_grant_denies_everyone() -> None:
    """Rules without a policy allow nothing; rules that are absent would allow everything."""
    assert shown(http_rules(())) == {"rbac": {"rules": {}}}


def test_each_traffic_target_is_a_policy_of_its_own() -> None:
    """Named after it, with its own permissions and exact identities, in a stable order."""
    grants = (
        mk_grant("shop/b", http=(HttpMatch(path="/b"), HttpMatch(methods=("GET",)))),
        mk_grant("shop/a", sources=(Source(spiffe("client")), Source(spiffe("other")))),
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


def test_an_address_is_asked_for_beside_the_identity() -> None:
    """Both must hold, of several addresses any one: the connection's own, not a header's."""
    addresses = ("10.0.0.1", "fd00::1")
    grant = mk_grant("shop/a", sources=(Source(spiffe("client"), addresses),))
    (found,) = shown(http_rules((grant,)))["rbac"]["rules"]["policies"]["shop/a"]["principals"]
    assert found == {
        "and_ids": {
            "ids": [
                principal("client"),
                {
                    "or_ids": {
                        "ids": [
                            {"direct_remote_ip": {"address_prefix": it, "prefix_len": length}}
                            for it, length in zip(addresses, (32, 128), strict=True)
                        ]
                    }
                },
            ]
        }
    }


def test_in_the_shadow_the_same_rules_judge_and_deny_nobody() -> None:
    """What would be rules are shadow rules, for requests and for connections alike."""
    grants = (mk_grant("shop/a", ports=(80,)),)
    enforced = shown(http_rules(grants))["rbac"]
    assert shown(http_rules(grants, AccessMode.SHADOW))["rbac"] == {
        "shadow_rules": enforced["rules"]
    }
    assert shown(tcp_shadow("inbound|80", grants))["typed_config"] == {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
        "shadow_rules": enforced["rules"],
        "stat_prefix": "inbound|80.",
    }


def test_permissive_access_has_no_rules() -> None:
    """None at all: an empty list would deny everyone."""
    with pytest.raises(AssertionError):
        http_rules((), AccessMode.PERMISSIVE)


@pytest.mark.parametrize("empty", [{"sources": ()}, {"http": ()}, {"sources": NOWHERE}])
def test_empty_lists_never_reach_envoy(empty: dict[str, object]) -> None:
    """A grant without sources or matches is our own mistake: it must not be said at all."""
    with pytest.raises(AssertionError):
        http_rules((mk_grant("shop/a", **empty),))
