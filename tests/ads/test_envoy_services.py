"""A real Envoy that asks for each type on streams of their own, served by the library."""

import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret

from smi_xds.library import Message, Resources, Server, serving
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Resource
from tests.ads.envoy_config import (
    NODE,
    bootstrap_without_ads,
    cluster,
    endpoints,
    listener,
    own_stream,
    routes,
    secret,
)
from tests.ads.upstream import free_port, traffic, upstream
from tests.support.envoy import EnvoyProcess, envoy
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

_KINDS: dict[str, type[Message]] = {
    CLUSTER: Cluster,
    ENDPOINTS: ClusterLoadAssignment,
    LISTENER: Listener,
    ROUTES: RouteConfiguration,
    SECRET: Secret,
}


def messages(*resources: Resource) -> list[Message]:
    """What the library takes."""
    return [_KINDS[each.type].parse(each.body) for each in resources]


@pytest.fixture(scope="module")
def certificate() -> tuple[str, str]:
    """A certificate of somebody who answers for himself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    begin = datetime.fromtimestamp(time.time(), UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=1))
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return chain.decode(), private.decode()


def types(server: Server) -> list[str]:
    """The type of each stream that is open."""
    return sorted(type_ for stream in server.status.streams.values() for type_ in stream.types)


@pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
async def test_each_type_may_come_on_streams_of_its_own(
    is_delta: bool, certificate: tuple[str, str], tmp_path: Path
) -> None:
    """CDS, EDS, LDS, RDS and SDS without ADS: a request passes, and later changes arrive."""
    port, source = free_port(), own_stream(is_delta=is_delta)
    chain, key = certificate
    (tmp_path / "trusted.pem").write_text(chain)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "trusted.pem"))
    trusting.check_hostname = False
    there = (
        secret("mine", chain=chain, key=key),
        listener("l", port, source=source, certificate="mine"),
    )
    resources = Resources()
    async with (
        upstream("one") as one,
        upstream("two") as two,
        serving(resources, "127.0.0.1:0") as server,
        envoy(bootstrap_without_ads(server.port, source=source)) as proxy,
    ):
        first = (cluster("a", source=source), endpoints("a", one), routes("l", "a"))
        resources.set(NODE, messages(*there, *first))
        each = sorted((CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET))
        await eventually_async(lambda: types(server) == each, deadline=30)
        await eventually_async(lambda: _listens(proxy), deadline=30)
        async with traffic(port, tls=trusting) as seen:
            await eventually_async(lambda: seen.seen["200 one"] > 10, deadline=30)

            # A cluster that changes gets a new stream for its endpoints.
            changed = cluster("a", timeout="3s", source=source)
            resources.update(NODE, messages(changed, endpoints("a", two)))
            await eventually_async(lambda: seen.seen["200 two"] > 10, deadline=30)
            stats = await proxy.stats("cluster_manager")
            assert stats["cluster_manager.cluster_modified"] == 1
            assert stats["cluster_manager.warming_clusters"] == 0

        assert set(seen.seen) == {"200 one", "200 two"}
        assert {stream.is_delta for stream in server.status.streams.values()} == {is_delta}
        rejected = await proxy.stats("update_rejected")
        assert not any(rejected.values()), rejected


async def _listens(proxy: EnvoyProcess) -> bool:
    stats = await proxy.stats("total_listeners_active")
    return stats["listener_manager.total_listeners_active"] == 1
