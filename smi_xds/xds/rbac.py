"""Policy at the destination: grants as RBAC rules.

One policy per TrafficTarget, so that TrafficTargets unite and the ports of one never combine
with the matches of another. Principals are exact URI SANs: a prefix would admit
`…/sa/client-evil` for `…/sa/client`. No policy at all denies everyone. In shadow mode the same
rules judge, count and tell the access log, and deny nobody.
"""

from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    Policy,
    Principal,
    PrincipalAuthenticated,
    PrincipalSet,
    Rbac,
    RbacAction,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from smi_xds.mesh.model import Grant, Source
from smi_xds.values import AccessMode
from smi_xds.xds.common import host
from smi_xds.xds.encode import pack
from smi_xds.xds.matching import permission

FILTER = "envoy.filters.http.rbac"
NETWORK_FILTER = "envoy.filters.network.rbac"


def http_rules(grants: tuple[Grant, ...], access: AccessMode = AccessMode.STRICT) -> RbacPerRoute:
    """The rules of an HTTP port, enforced or in the shadow; `grants` are those that apply to it.

    Envoy counts `http.inbound|PORT.rbac.shadow_allowed` and `…shadow_denied`.
    """
    assert access is not AccessMode.PERMISSIVE, "permissive ports have no rules"
    rules = _rules({grant: _requests(grant) for grant in grants})
    if access is AccessMode.SHADOW:
        return RbacPerRoute(rbac=HttpRbac(shadow_rules=rules))
    return RbacPerRoute(rbac=HttpRbac(rules=rules))


def tcp_shadow(stat_prefix: str, grants: tuple[Grant, ...]) -> Filter:
    """What would have been denied on a TCP port: judged at a connection's first byte.

    Envoy counts `inbound|PORT.rbac.shadow_allowed` and `…shadow_denied`.
    """
    rules = _rules({grant: [Permission(any=True)] for grant in grants})
    rbac = NetworkRbac(stat_prefix=f"{stat_prefix}.", shadow_rules=rules)
    return Filter(name=NETWORK_FILTER, typed_config=pack(rbac))


def _rules(grants: dict[Grant, list[Permission]]) -> Rbac:
    policies = {
        grant.target: Policy(permissions=grants[grant], principals=_principals(grant))
        for grant in sorted(grants, key=lambda grant: grant.target)
    }
    return Rbac(action=RbacAction.ALLOW, policies=policies)


def _requests(grant: Grant) -> list[Permission]:
    matches = [Permission(any=True)] if grant.http is None else [permission(m) for m in grant.http]
    # Envoy refuses empty lists; a grant that applies to a port never has them.
    assert matches, grant
    return matches


def _principals(grant: Grant) -> list[Principal]:
    assert grant.sources, grant
    return [_principal(source) for source in grant.sources]


def _principal(source: Source) -> Principal:
    name = StringMatcher(exact=str(source.identity))
    identity = Principal(authenticated=PrincipalAuthenticated(principal_name=name))
    if source.addresses is None:
        return identity
    # No address at all would be an empty list: nobody, said in a way that Envoy refuses.
    assert source.addresses, source
    addresses = [Principal(direct_remote_ip=host(address)) for address in source.addresses]
    anywhere = Principal(or_ids=PrincipalSet(ids=addresses))
    return Principal(and_ids=PrincipalSet(ids=[identity, anywhere]))
