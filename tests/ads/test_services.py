"""A service of its own for each type: the same session, and the type need not be named (E1)."""

import json
from collections.abc import AsyncIterator

import grpc
import pytest

from smi_xds.ads.services import DISCOVERY_SERVICES, Service
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, SECRET
from tests.ads.client import NODE, Served, serving, stream
from tests.ads.play import resources
from tests.support.grpcurl import needs_grpcurl, run_grpcurl

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
OWN = [service for service in DISCOVERY_SERVICES if service.type is not None]
EACH = pytest.mark.parametrize("service", OWN, ids=[service.noun for service in OWN])

# Listeners and routes that name others, which a stream of their own knows nothing of.
LINES = ("secret x", "endpoints x", "routes x")


def everything(version: int) -> list[str]:
    """One resource of each type, called x."""
    return [
        *(f"{line} {version}" for line in LINES),
        f"cluster x {version} > endpoints x, secret x",
        f"listener x {version} > routes x, cluster x",
    ]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as here:
        here.cache.publish({NODE: resources(*everything(1))})
        yield here


@BOTH
@EACH
async def test_e1_the_type_is_implied(served: Served, service: Service, is_delta: bool) -> None:
    """E1, E3: asked without a type it answers with its own, takes the ACK, and pushes."""
    async with stream(served.target, is_delta=is_delta, service=service) as client:
        await client.ask(TypeUrl(""), "x")
        first = await client.hear()
        assert first.type_url == service.type
        assert len(first.resources) == 1
        first.type_url = ""
        await client.answer(first, *(() if is_delta else ("x",)))
        await served.status.converged()

        served.cache.publish({NODE: resources(*everything(2))})

        second = await client.hear()
        assert second.type_url == service.type
        assert second.SerializeToString().count(b"x@2") == 1
        await client.answer(second, *(() if is_delta else ("x",)))
        await served.status.converged()


@BOTH
@EACH
async def test_e1_the_type_may_be_named(served: Served, service: Service, is_delta: bool) -> None:
    """E1: its own type is understood, another one is refused with the cure."""
    assert service.type is not None
    async with stream(served.target, is_delta=is_delta, service=service) as client:
        await client.ask(service.type, "x")
        assert (await client.hear()).type_url == service.type
        other = SECRET if service.type == CLUSTER else CLUSTER
        await client.ask(other, "x")
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert f"ask for {other} on ADS" in await client.call.details()


@needs_grpcurl
@pytest.mark.timeout(600)  # the first build takes a minute and a half
async def test_the_real_grpcurl_lists_and_calls_them(served: Served) -> None:
    """All are listed and described, and one answers a request without a type."""
    listed = (await run_grpcurl(served.target, "list")).splitlines()
    assert {service.name for service in DISCOVERY_SERVICES} <= {*listed}
    for service in OWN:
        described = await run_grpcurl(served.target, "describe", service.name)
        assert f"rpc Delta{service.noun}" in described
    request = json.dumps({"node": {"id": "default/nobody"}})
    method = "envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters"
    answer = json.loads(await run_grpcurl("-d", request, served.target, method))
    assert answer["type_url"] == CLUSTER
