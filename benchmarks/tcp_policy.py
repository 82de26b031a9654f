"""Who may open a TCP connection: names in the handshake, or CONNECT with HTTP RBAC.

`python -m benchmarks.tcp_policy`. Hand-made configurations that differ in that alone, side by side
through the same pair of Envoys, and beside a bare connection. The decision is in
`docs/decisions`.
"""

import asyncio
import json
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.far_end import READY
from benchmarks.udp import far_end
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import envoy_binary, running_sidecar
from smi_xds.identity.ca import Authority, create_key, create_root
from smi_xds.identity.issuer import wall_clock
from smi_xds.values import SpiffeId

Json = dict[str, Any]
Address = tuple[str, int]

_SAN, _CONNECT, _APP = 9001, 9002, 9000
_DOMAIN = "bench"
_ALLOWED, _DENIED, _SERVER = (f"spiffe://{_DOMAIN}/ns/test/sa/{it}" for it in ("a", "d", "s"))
_ROUNDS, _PATIENCE = 5, 20.0

# ------------------------------------------------------------------ configurations

_T = "type.googleapis.com/envoy."
_HTTP2: Json = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": f"{_T}extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {"allow_connect": True}},
    }
}


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _tls(authority: Authority, identity: str, peers: Iterable[str], *, server: bool) -> Json:
    leaf = authority.issue(SpiffeId.parse(identity), now=wall_clock())
    sans = [{"san_type": "URI", "matcher": {"exact": peer}} for peer in peers]
    context: Json = {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": leaf.certificate_chain.decode()},
                "private_key": {"inline_string": leaf.private_key.value.decode()},
            }
        ],
        "validation_context": {
            "trusted_ca": {"inline_string": authority.trust_bundle.decode()},
            "match_typed_subject_alt_names": sans,
        },
    }
    kind = "DownstreamTlsContext" if server else "UpstreamTlsContext"
    body: Json = {
        "@type": f"{_T}extensions.transport_sockets.tls.v3.{kind}",
        "common_tls_context": context,
    }
    if server:
        body["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": body}


def _cluster(name: str, address: str, port: int, **more: Json) -> Json:
    endpoint = {"endpoint": {"address": _socket(address, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        **more,
    }


def _filter(name: str, kind: str, **body: Any) -> Json:
    return {"name": name, "typed_config": {"@type": _T + kind, **body}}


def _tcp_proxy(cluster: str, **more: Json) -> Json:
    kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return _filter(
        "envoy.filters.network.tcp_proxy", kind, stat_prefix=cluster, cluster=cluster, **more
    )


def client(authority: Authority, identity: str, block: str, number: int) -> Json:
    """The caller's sidecar: a local port for each way."""
    here, there = f"{block}.{number}", f"{block}.3"
    tls = _tls(authority, identity, [_SERVER], server=False)
    tunnel = {"hostname": "app.test:9000"}
    return {
        "admin": {"address": _socket(here, 15000)},
        "static_resources": {
            "listeners": [
                {
                    "name": name,
                    "address": _socket(here, port),
                    "enable_reuse_port": False,
                    "filter_chains": [{"filters": [proxy]}],
                }
                for name, port, proxy in (
                    ("san", _SAN, _tcp_proxy("san")),
                    ("connect", _CONNECT, _tcp_proxy("connect", tunneling_config=tunnel)),
                )
            ],
            "clusters": [
                _cluster("san", there, _SAN, transport_socket=tls),
                _cluster(
                    "connect",
                    there,
                    _CONNECT,
                    transport_socket=tls,
                    typed_extension_protocol_options=_HTTP2,
                ),
            ],
        },
    }


def server(block: str, folder: Path) -> Json:
    """The called sidecar: its listeners and routes are files that can be changed."""
    return {
        "node": {"id": "s", "cluster": "s"},
        "admin": {"address": _socket(f"{block}.3", 15000)},
        "dynamic_resources": {
            "lds_config": {
                "path_config_source": {"path": str(folder / "lds.json")},
                "resource_api_version": "V3",
            }
        },
        "static_resources": {"clusters": [_cluster("app", f"{block}.103", _APP)]},
    }


def server_listeners(
    authority: Authority, block: str, folder: Path, callers: list[str], chain: str
) -> list[Json]:
    """Both listeners; only one of them lists callers."""
    routes = {
        "config_source": {
            "path_config_source": {"path": str(folder / "rds.json")},
            "resource_api_version": "V3",
        },
        "route_config_name": "connect",
    }
    manager = _filter(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="connect",
        codec_type="HTTP2",
        http2_protocol_options={"allow_connect": True},
        stream_idle_timeout="0s",
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        rds=routes,
        http_filters=[
            _filter("envoy.filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC"),
            _filter("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
    )
    return [
        {
            "@type": f"{_T}config.listener.v3.Listener",
            "name": name,
            "address": _socket(f"{block}.3", port),
            "enable_reuse_port": False,
            "filter_chains": [
                {
                    "name": f"{name}-{chain}",
                    "transport_socket": _tls(authority, _SERVER, peers, server=True),
                    "filters": [judged],
                }
            ],
        }
        for name, port, peers, judged in (
            ("san", _SAN, callers, _tcp_proxy("app")),
            ("connect", _CONNECT, [], manager),
        )
    ]


def server_routes(callers: list[str]) -> list[Json]:
    """The routes of CONNECT, with the rules."""
    names = [{"authenticated": {"principal_name": {"exact": it}}} for it in callers]
    policies = {"p": {"permissions": [{"any": True}], "principals": names}} if names else {}
    action = {
        "cluster": "app",
        "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
    }
    rules = {"@type": f"{_T}extensions.filters.http.rbac.v3.RBACPerRoute"}
    return [
        {
            "@type": f"{_T}config.route.v3.RouteConfiguration",
            "name": "connect",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"connect_matcher": {}}, "route": action}],
                }
            ],
            "typed_per_filter_config": {
                "envoy.filters.http.rbac": {
                    **rules,
                    "rbac": {"rules": {"action": "ALLOW", "policies": policies}},
                }
            },
        }
    ]


@dataclass(slots=True)
class Bench:
    """The running pair, and the files that the called one watches."""

    authority: Authority
    block: str
    folder: Path
    version: int = 0

    def publish(self, file: str, resources: list[Json]) -> None:
        """Put a file in place as Envoy wants it: by renaming another."""
        self.version += 1
        answer = {"version_info": str(self.version), "resources": resources}
        draft = self.folder / f".{file}"
        draft.write_text(json.dumps(answer))
        draft.replace(self.folder / file)

    def listeners(self, callers: list[str], chain: str = "1") -> None:
        """Publish the listeners."""
        listeners = server_listeners(self.authority, self.block, self.folder, callers, chain)
        self.publish("lds.json", listeners)

    def routes(self, callers: list[str]) -> None:
        """Publish the routes."""
        self.publish("rds.json", server_routes(callers))

    def at(self, number: int, port: int) -> Address:
        """An address of the block."""
        return (f"{self.block}.{number}", port)


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    """Two callers, one of them allowed, and the called sidecar with its application."""
    key, now = create_key(), wall_clock()
    root = create_root(key, trust_domain=_DOMAIN, now=now)
    authority = Authority(trust_domain=_DOMAIN, certificate=root, key=key)
    async with AsyncExitStack() as stack:
        block = stack.enter_context(free_block())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(authority, block, folder)
        bench.routes([_ALLOWED])
        bench.listeners([_ALLOWED])
        configurations = (
            ("server", 3, server(block, folder)),
            ("allowed", 2, client(authority, _ALLOWED, block, 2)),
            ("denied", 4, client(authority, _DENIED, block, 4)),
        )
        for name, number, configuration in configurations:
            path = folder / f"{name}.json"
            path.write_text(json.dumps(configuration))
            envoy, _ = await stack.enter_async_context(
                running_sidecar(
                    name=name,
                    binary=envoy_binary(),
                    bootstrap=path,
                    admin_host=f"{block}.{number}",
                    logs=folder,
                )
            )
            await envoy.wait_until_ready()
        await stack.enter_async_context(far_end("tcp", bench.at(103, _APP)))
        yield bench


# ------------------------------------------------------------------ measurements


def set_up(there: Address) -> float:
    """Microseconds from dialling to the application's greeting, the median of 50."""
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        with _dialled(there) as here:
            assert here.recv(64) == READY
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def latency(there: Address) -> float:
    """Microseconds for 64 bytes there and back, the median of 300."""
    taken, data = [], b"E" * 64
    with _dialled(there) as here:
        here.recv(64)
        for _ in range(300):
            start = time.perf_counter()
            here.sendall(data)
            here.recv(4096)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def throughput(there: Address, connections: int) -> float:
    """Megabytes a second that are taken from us."""
    data, sent = b"S" * 65_536, 0
    open_now = [_dialled(there) for _ in range(connections)]
    try:
        for here in open_now:
            here.recv(64)
            here.settimeout(0)
        start = time.perf_counter()
        while time.perf_counter() - start < 1.0:
            for here in select.select([], open_now, [], 1)[1]:
                sent += here.send(data)
        return sent / (time.perf_counter() - start) / 1e6
    finally:
        for here in open_now:
            here.close()


def denied_sees(there: Address) -> str:
    """What a denied caller gets of a server that speaks first, and when."""
    start = time.perf_counter()
    with _dialled(there) as here:
        try:
            found = here.recv(64)
        except OSError as error:
            found = type(error).__name__.encode()
    took = (time.perf_counter() - start) * 1e3
    return f"{found.decode() or 'the end, without a byte'} after {took:.1f} ms"


def revoked(there: Address, revoke: Callable[[], None]) -> tuple[float, float]:
    """Seconds until a new connection is refused, and until an open one is dead."""
    with _dialled(there) as here:
        assert here.recv(64) == READY
        revoke()
        start = time.perf_counter()
        new = _until(lambda: not _greets(there))
        old = _until(lambda: not _answers(here))
        passed = time.perf_counter() - start
        return new, passed if old < _PATIENCE else old


def _until(holds: Callable[[], bool]) -> float:
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < _PATIENCE:
        if holds():
            return passed
        time.sleep(0.02)  # noqa: TID251 - between two tries
    return float("inf")


def _greets(there: Address) -> bool:
    try:
        with _dialled(there) as here:
            return here.recv(64) == READY
    except OSError:
        return False


def _answers(here: socket.socket) -> bool:
    try:
        here.sendall(b"E")
        return here.recv(64) == b"E"
    except OSError:
        return False


def _dialled(there: Address) -> socket.socket:
    here = socket.create_connection(there, timeout=10)
    here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return here


def measure(bench: Bench) -> None:
    """Print everything."""
    ways = {
        "bare": bench.at(103, _APP),
        "handshake": bench.at(2, _SAN),
        "CONNECT": bench.at(2, _CONNECT),
    }
    for there in ways.values():
        _until(lambda there=there: _greets(there))  # type: ignore[misc] # bound now
    plans: tuple[tuple[str, Callable[[Address], float]], ...] = (
        ("set-up to the greeting, µs", set_up),
        ("64 B there and back, µs", latency),
        ("one connection, MB/s", lambda there: throughput(there, 1)),
        ("8 connections, MB/s", lambda there: throughput(there, 8)),
    )
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, plan in plans:
        found = [[plan(there) for there in ways.values()] for _ in range(_ROUNDS)]
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        row = "  ".join(f"{way} {it:9.1f}" for way, it in zip(ways, medians, strict=True))
        print(f"{name:30} {row}  CONNECT/handshake {medians[2] / medians[1]:.2f}")
    for way, port in (("handshake", _SAN), ("CONNECT", _CONNECT)):
        print(f"denied, {way:24} {denied_sees(bench.at(4, port))}")
    trials: tuple[tuple[str, int, Callable[[], None]], ...] = (
        ("handshake: another list", _SAN, lambda: bench.listeners([_DENIED], "2")),
        ("CONNECT: rules alone", _CONNECT, lambda: bench.routes([_DENIED])),
        ("CONNECT: chain, too", _CONNECT, lambda: _both(bench)),
    )
    for name, port, revoke in trials:
        bench.routes([_ALLOWED])
        bench.listeners([_ALLOWED], name)
        there = bench.at(2, port)
        _until(lambda there=there: _greets(there))  # type: ignore[misc] # bound now
        new, old = revoked(there, revoke)
        print(
            f"revoked, {name:26} new refused after {new:5.2f} s, open one dead after {old:5.1f} s"
        )


def _both(bench: Bench) -> None:
    bench.routes([_DENIED])
    bench.listeners([_DENIED], "3")


async def _run() -> None:
    async with running() as bench:
        await asyncio.to_thread(measure, bench)


def main() -> int:
    """Measure and report; there is no bar."""
    asyncio.run(_run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
