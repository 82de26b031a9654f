"""The oracle itself, on what the texts of SMI say in so many words."""

from fractions import Fraction
from typing import Any

import pytest
import yaml

from tests.oracle.smi.judging import Account, Oracle, Request, Verdict

ANN, BOB, CAT = Account("test", "ann"), Account("test", "bob"), Account("test", "cat")

CAST = """
apiVersion: v1
kind: Pod
metadata:
  name: bob-1
  namespace: test
  labels: {app: web}
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.1.0.2}
spec: {serviceAccountName: bob}
---
apiVersion: v1
kind: Pod
metadata:
  name: cat-1
  namespace: test
  labels: {app: other}
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.1.0.3}
spec: {serviceAccountName: cat}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: test}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 9000}]
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: test}
spec: {selector: {app: other}, ports: [{name: http, port: 80}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: test}
spec:
  matches:
    - {name: api, pathRegex: /api, methods: [GET]}
    - {name: firefox, headers: [{user-agent: .*Firefox.*}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: http-port, namespace: test}
spec: {matches: {ports: [8080]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: test}
spec: {matches: {ports: []}}
"""

NOBODY = Verdict(denied=Fraction(1), rightless=True)


def _target(rules: str, *, account: str = "bob") -> dict[str, Any]:
    target: dict[str, Any] = yaml.safe_load(f"""
    apiVersion: access.smi-spec.io/v1alpha3
    kind: TrafficTarget
    metadata: {{name: {account}-{len(rules)}, namespace: test}}
    spec:
      destination: {{kind: ServiceAccount, name: {account}}}
      rules: {rules}
      sources: [{{kind: ServiceAccount, name: ann}}]
    """)
    return target


def _split(backends: str, extra: str = "") -> dict[str, Any]:
    split: dict[str, Any] = yaml.safe_load(f"""
    apiVersion: split.smi-spec.io/v1alpha4
    kind: TrafficSplit
    metadata: {{name: split, namespace: test}}
    spec: {{service: web, backends: {backends}{extra}}}
    """)
    return split


class _Oracle(Oracle):
    def get(self, source: Account, request: Request) -> Verdict:
        return self.http(source, request, service="test/web", number=80)


def _oracle(*more: dict[str, Any]) -> _Oracle:
    return _Oracle([*yaml.safe_load_all(CAST), *more])


def _get(path: str = "/api", **headers: str) -> Request:
    return Request(host="web.test", path=path, headers=tuple(headers.items()))


BY_ROUTES = "[{kind: HTTPRouteGroup, name: routes}]"
BY_API = "[{kind: HTTPRouteGroup, name: routes, matches: [api]}]"
BY_BOTH = "[{kind: HTTPRouteGroup, name: routes}, {kind: TCPRoute, name: http-port}]"
BY_PORTS = "[{kind: TCPRoute, name: all}]"


def test_nobody_is_allowed_by_default() -> None:
    """Access: "all traffic is denied by default"."""
    assert _oracle().get(ANN, _get()) == NOBODY
    assert _oracle().tcp(ANN, "test/web", 9000) == NOBODY


@pytest.mark.parametrize(
    "path, allowed",
    [
        ("/api", True),
        ("/apiary?x", True),
        ("/x/api", False),
        ("/x/../api", True),
        ("/api/../x", False),
        ("//api", True),
    ],
)
def test_a_path_is_anchored_at_its_start_and_judged_as_what_it_means(
    path: str, *, allowed: bool
) -> None:
    """Specs: pathRegex is anchored to the beginning of the URI."""
    assert _oracle(_target(BY_API)).get(ANN, _get(path)).is_allowed is allowed


def test_a_match_that_is_left_out_means_all_of_them() -> None:
    """Access: without `matches` every match of the group is valid, as alternatives."""
    firefox = {"user-agent": "a Firefox b"}
    request = Request(host="web.test", path="/x", headers=tuple(firefox.items()))

    assert _oracle(_target(BY_ROUTES)).get(ANN, request).is_allowed
    assert not _oracle(_target(BY_API)).get(ANN, request).is_allowed


def test_only_sources_are_allowed_and_only_where_a_rule_says_so() -> None:
    """Access: source and rule both have to hold; an HTTPRouteGroup admits no connection."""
    oracle = _oracle(_target(BY_ROUTES))

    assert oracle.get(ANN, _get()).answers == {"test/bob-1": 1}
    assert not oracle.get(CAT, _get()).is_allowed
    assert not oracle.tcp(ANN, "test/web", 9000).is_allowed


def test_a_tcp_route_admits_requests_too_and_narrows_those_of_a_group() -> None:
    """The examples of access v1alpha3, and the step 05 of traffic-access."""
    assert _oracle(_target(BY_PORTS)).get(ANN, _get("/anything")).is_allowed
    assert _oracle(_target(BY_PORTS)).tcp(ANN, "test/web", 9000).is_allowed
    assert _oracle(_target(BY_BOTH)).get(ANN, _get()).is_allowed
    assert not _oracle(_target(BY_BOTH)).get(ANN, _get("/x")).is_allowed


def test_weights_are_shares_and_each_backend_judges_for_itself() -> None:
    """Split: weights are relative; access is the destination's own."""
    split = _split("[{service: web, weight: 1}, {service: other, weight: 3}]")
    verdict = _oracle(_target(BY_PORTS), split).get(ANN, _get())

    assert verdict.answers == {"test/bob-1": Fraction(1, 4)}
    assert verdict.denied == Fraction(3, 4)


@pytest.mark.parametrize(
    "backends, unavailable",
    [
        ("[{service: web, weight: 0}]", True),
        ("[{service: gone, weight: 1}]", True),
        ("[]", True),
        ("[{service: gone, weight: 9}, {service: web, weight: 1}]", False),
    ],
)
def test_traffic_without_a_backend_finds_nobody(backends: str, *, unavailable: bool) -> None:
    """All-zero, missing, none; one that is missing among others is left out."""
    verdict = _oracle(_target(BY_PORTS), _split(backends)).get(ANN, _get())

    assert bool(verdict.unavailable) is unavailable
    assert bool(verdict.answers) is not unavailable


def test_a_split_with_matches_leaves_the_rest_to_the_root() -> None:
    """Split v1alpha3: requests that match go to the backends, others to the root service."""
    matches = ", matches: [{kind: HTTPRouteGroup, name: routes}]"
    split = _split("[{service: other, weight: 1}]", matches)
    oracle = _oracle(_target(BY_PORTS), _target(BY_PORTS, account="cat"), split)

    assert oracle.get(ANN, _get("/api")).answers == {"test/cat-1": 1}
    assert oracle.get(ANN, _get("/x")).answers == {"test/bob-1": 1}
