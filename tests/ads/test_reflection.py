"""Reflection in both versions, by a client of grpcio and by the real grpcurl."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from smi_xds.ads.services import AGGREGATED, DISCOVERY_SERVICES
from tests.ads.client import Served, serving
from tests.support.grpcurl import needs_grpcurl, run_grpcurl

DELTA_REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as here:
        yield here


async def ask(target: str, version: str, **question: Any) -> Any:
    """One question to the reflection service of that version."""
    async with grpc.aio.insecure_channel(target) as channel:
        call: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )()
        await call.write(pb.ServerReflectionRequest(**question))
        answer = await call.read()
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.OK
        return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_lists_and_describes(served: Served, version: str) -> None:
    """Every listed service can be described, with all the files that it needs."""
    listed = await ask(served.target, version, list_services="")
    services = [each.name for each in listed.list_services_response.service]
    assert services == [
        *sorted(each.name for each in DISCOVERY_SERVICES),
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    for symbol in (*services, DELTA_REQUEST):
        found = await ask(served.target, version, file_containing_symbol=symbol)
        blobs = found.file_descriptor_response.file_descriptor_proto
        files = {file.name: file for file in map(FileDescriptorProto.FromString, blobs)}
        assert files, symbol
        assert all(name in files for file in files.values() for name in file.dependency)


async def test_what_is_unknown_is_not_found(served: Served) -> None:
    """A wrong name is an error of the answer, not of the stream."""
    answer = await ask(served.target, "v1", file_containing_symbol="no.such.Service")

    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@needs_grpcurl
@pytest.mark.timeout(600)  # the first build takes a minute and a half
async def test_the_real_grpcurl_works(served: Served) -> None:
    """`list`, `describe`, health, and a stream, as a user would type them."""
    served.cache.publish({})
    assert AGGREGATED in (await run_grpcurl(served.target, "list")).splitlines()
    described = await run_grpcurl(served.target, "describe", AGGREGATED)
    assert "rpc DeltaAggregatedResources" in described
    assert "SERVING" in await run_grpcurl(served.target, "grpc.health.v1.Health/Check")
    request = {
        "node": {"id": "default/a"},
        "type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    }
    method = f"{AGGREGATED}/DeltaAggregatedResources"
    answer = json.loads(await run_grpcurl("-d", json.dumps(request), served.target, method))
    assert answer["control_plane"]["identifier"] == "test"
