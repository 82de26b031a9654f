"""Policy at the destination: grants as RBAC rules.

One policy per TrafficTarget, so that TrafficTargets unite and the ports of one never combine
with the matches of another. Principals are exact URI SANs: a prefix would admit
`…/sa/client-evil` for `…/sa/client`. No policy at all denies everyone.
"""

from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    Policy,
    Principal,
    PrincipalAuthenticated,
    Rbac,
    RbacAction,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from smi_xds.mesh.model import Grant
from smi_xds.xds.matching import permission

FILTER = "envoy.filters.http.rbac"


def http_rules(grants: tuple[Grant, ...]) -> RbacPerRoute:
    """The rules of an HTTP port; `grants` are those that apply to it."""
    policies = {grant.target: _policy(grant) for grant in sorted(grants, key=lambda g: g.target)}
    return RbacPerRoute(rbac=HttpRbac(rules=Rbac(action=RbacAction.ALLOW, policies=policies)))


def _policy(grant: Grant) -> Policy:
    matches = [Permission(any=True)] if grant.http is None else [permission(m) for m in grant.http]
    # Envoy refuses empty lists; a grant that applies to a port never has them.
    assert matches, grant
    assert grant.sources, grant
    return Policy(
        permissions=matches,
        principals=[
            Principal(
                authenticated=PrincipalAuthenticated(principal_name=StringMatcher(exact=str(uri)))
            )
            for uri in grant.sources
        ],
    )
