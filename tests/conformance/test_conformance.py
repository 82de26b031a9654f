"""The 24 steps of the official conformance suites, with real Envoys and a real API server.

The ids are those of the suites (traffic-access TA, traffic-spec TSC, traffic-split TS).
"""

from pathlib import Path
from typing import Any

import pytest

from tests.conformance.application import Metrics
from tests.conformance.suite import (
    Check,
    Suite,
    rights_of_the_harness,
    suite,
    target,
    tcp_route,
)
from tests.kube.netns import in_netns

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

ACCOUNTS = {"app-a": "service-a", "app-b": "service-b", "app-c": "service-c"}
SERVICES = {"app-a": "app-a", "app-b": "app-b", "app-c": "app-c"}

ALL_PORTS = tcp_route("service-tcp-route")
ALLOWED = target(
    "service-targets",
    "service-b",
    "service-a",
    {"kind": "TCPRoute", "name": "service-tcp-route"},
)


@in_netns()
async def test_traffic_access(kube_binary: Path, tmp_path: Path) -> None:
    """TA 01 to 07: nobody may call, then one may, then nobody."""
    async with suite(kube_binary, tmp_path, access="strict") as it:
        await it.check_crd(
            "TA 01", "traffictargets.access.smi-spec.io", kind="TrafficTarget", short="tt"
        )
        await it.install("TA 02", accounts=ACCOUNTS, services=SERVICES)
        await it.apply(*rights_of_the_harness([*ACCOUNTS.values()]))

        await it.shows("TA 03 trafficDefault", _blocked(it))
        await it.apply(ALL_PORTS, ALLOWED)
        await it.check_applied("TA 04", ALL_PORTS, ALLOWED)
        await it.shows("TA 05 trafficAllowed", _allowed(it))
        await it.delete("traffictarget/service-targets", "tcproute/service-tcp-route")
        gone = await it.get("traffictargets")
        names = {target["metadata"]["name"] for target in gone["items"]}
        it.expect("TA 06", "service-targets" not in names, names)
        await it.shows("TA 07 trafficBlocked", _blocked(it))

    assert len(it.told) >= 7


def _blocked(it: Suite) -> Check:
    url = it.url("app-b", "/echo")

    async def check() -> str:
        metrics = await it.traffic([("GET", url)])
        failed = _urls(metrics["app-a"], "RespFailed")
        right = failed == [url] and not metrics["app-a"]["RespSucceeded"]
        return "" if right and not metrics["app-b"]["ReqReceived"] else str(metrics)

    return check


def _allowed(it: Suite) -> Check:
    url = it.url("app-b", "/echo")

    async def check() -> str:
        metrics = await it.traffic([("GET", url)])
        succeeded = _urls(metrics["app-a"], "RespSucceeded")
        right = succeeded == [url] and not metrics["app-a"]["RespFailed"]
        return "" if right and metrics["app-b"]["ReqReceived"] == ["app-a"] else str(metrics)

    return check


def _routes(path: str, methods: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "http-rg"},
        "spec": {"matches": [{"name": "testMatch", "pathRegex": path, "methods": methods}]},
    }


BY_ROUTES = target(
    "path-specific",
    "service-b",
    "service-a",
    {"kind": "HTTPRouteGroup", "name": "http-rg", "matches": ["testMatch"]},
)


@in_netns()
async def test_traffic_spec(kube_binary: Path, tmp_path: Path) -> None:
    """TSC 01 to 06: a path alone is allowed, then a method alone."""
    async with suite(kube_binary, tmp_path, access="strict") as it:
        await it.check_crd(
            "TSC 01", "httproutegroups.specs.smi-spec.io", kind="HTTPRouteGroup", short="htr"
        )
        await it.install("TSC 02", accounts=ACCOUNTS, services=SERVICES)
        await it.apply(*rights_of_the_harness([*ACCOUNTS.values()]))

        by_path, by_method = _routes("/metrics", ["*"]), _routes(".*", ["GET"])
        await it.apply(by_path, BY_ROUTES)
        await it.check_applied("TSC 03", by_path, BY_ROUTES)
        await it.shows("TSC 04 trafficPath", _one_of_two(it, ("GET", "/metrics"), ("GET", "/echo")))
        await it.apply(by_method, BY_ROUTES)
        await it.check_applied("TSC 05", by_method, BY_ROUTES)
        await it.shows("TSC 06 trafficMethod", _one_of_two(it, ("GET", "/echo"), ("POST", "/echo")))

    assert len(it.told) >= 6


def _one_of_two(it: Suite, good: tuple[str, str], bad: tuple[str, str]) -> Check:
    """The one request succeeds, the other fails."""

    async def check() -> str:
        calls = [(method, it.url("app-b", path)) for method, path in (good, bad)]
        counted = (await it.traffic(calls))["app-a"]
        found = (_urls(counted, "RespSucceeded"), _urls(counted, "RespFailed"))
        return "" if found == ([calls[0][1]], [calls[1][1]]) else str(counted)

    return check


def _split(b: int, c: int) -> dict[str, Any]:
    backends = [{"service": "app-b", "weight": b}, {"service": "app-c", "weight": c}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "split"},
        "spec": {"service": "app-svc", "backends": backends},
    }


@in_netns()
async def test_traffic_split(kube_binary: Path, tmp_path: Path) -> None:
    """TS 01 to 11: all to one, all to the other, most to the one, most to the other."""
    everyone = dict.fromkeys(ACCOUNTS, "")
    async with suite(kube_binary, tmp_path, access="permissive") as it:
        await it.check_crd(
            "TS 01", "trafficsplits.split.smi-spec.io", kind="TrafficSplit", short="ts"
        )
        await it.install("TS 02", accounts=everyone, services={**SERVICES, "app-svc": "app"})
        await it.shows("TS 03 trafficDefault", _spread(it, lambda b, c: b > 0 and c > 0))
        for step, (b, c), holds in (
            (4, (1, 0), lambda b, c: (b, c) == (50, 0)),
            (6, (0, 1), lambda b, c: (b, c) == (0, 50)),
            (8, (75, 25), lambda b, c: b > c > 0),
            (10, (25, 75), lambda b, c: c > b > 0),
        ):
            split = _split(b, c)
            await it.apply(split)
            await it.check_applied(f"TS {step:02}", split)
            await it.shows(f"TS {step + 1:02} {b}/{c}", _spread(it, holds))

    assert len(it.told) >= 11


def _spread(it: Suite, holds: Any) -> Check:
    # With the dot that ends an absolute name, as the suite writes it.
    url = it.url("app-svc", "/echo", dot=".")

    async def check() -> str:
        metrics = await it.traffic([("GET", url)] * 50)
        b, c = (len(metrics[name]["ReqReceived"]) for name in ("app-b", "app-c"))
        right = b + c == 50 and not metrics["app-a"]["RespFailed"]
        return "" if right and holds(b, c) else f"{b} to app-b, {c} to app-c: {metrics['app-a']}"

    return check


def _urls(metrics: Metrics, what: str) -> list[str]:
    return [entry["URL"] for entry in metrics[what]]
