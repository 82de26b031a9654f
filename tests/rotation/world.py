"""A small mesh under load while its certificates change: a server that dies, real Envoys, openssl.

HTTP requests go over connections that are kept; every TCP connection is a handshake of its own, in
which each side judges the other.
"""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from smi_xds.cli.offline import read_mesh
from smi_xds.config import Address, MeshConfig, parse_address
from smi_xds.debug.client import list_proxies
from smi_xds.demo import http1
from smi_xds.demo.envoy import Sidecar
from smi_xds.identity.document import Phase, State
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.state import FolderStore, read_state
from smi_xds.mesh.model import Mesh, PortRef
from smi_xds.problems import AskError
from smi_xds.values import ProxyId, ServiceAccountRef, ServiceRef, SpiffeId
from smi_xds.xds.bootstrap import sidecar
from smi_xds.xds.dump import to_json
from smi_xds.xds.names import ALPN
from tests.support.command import COMMAND, application, started_sidecar
from tests.support.wait import eventually_async

_PODS = """
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {smi-xds.io/sidecar: bound}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: shop
  annotations: {smi-xds.io/address: BLOCK.2, smi-xds.io/app-address: BLOCK.102}
spec: {serviceAccountName: client}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {smi-xds.io/address: BLOCK.3, smi-xds.io/app-address: BLOCK.103}
spec: {serviceAccountName: web}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
    - {name: http, port: 8080}
    - {name: tcp-greeting, port: 7000}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all, pathRegex: /.*, methods: ["*"]}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: greeting, namespace: shop}
spec: {matches: {ports: [7000]}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: client-web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: shop}
  sources: [{kind: ServiceAccount, name: client, namespace: shop}]
  rules:
    - {kind: HTTPRouteGroup, name: all, matches: [all]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: client-greeting, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: shop}
  sources: [{kind: ServiceAccount, name: client, namespace: shop}]
  rules:
    - {kind: TCPRoute, name: greeting}
"""
_GREETING = b"hello\n"
_WORKERS = 10

# A server that does not wait for those who are not connected: here all are, and only what they
# acknowledge keeps them from refusing each other.
_FLOOR = """
from datetime import timedelta
from smi_xds.app import keeping
keeping.floor_of = lambda *_, **__: timedelta(seconds={floor})
{command}
"""


@dataclass(slots=True)
class Load:
    """What callers were told so far."""

    http: Counter[str] = field(default_factory=Counter)
    """By status, or by what broke."""
    tcp: Counter[str] = field(default_factory=Counter)
    """Connections, each with handshakes of its own: `hello`, or what broke."""
    failures: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def failed(self, what: str) -> None:
        """Take down when it was, for whoever looks for the reason."""
        self.failures.append(f"{wall_clock():%H:%M:%S.%f} {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A certificate that a sidecar presents, as openssl reads it."""

    identity: str
    issuer: str
    serial: str
    trusted: bool
    """By the roots that the state has now."""


class World:
    """The mesh, its server, and how to look at it."""

    def __init__(self, home: Path, block: str, *, lifetime: str, floor: float | None) -> None:
        self.home, self.block = home, block
        self.lifetime = lifetime
        self._code = COMMAND if floor is None else _FLOOR.format(floor=floor, command=COMMAND)
        self.load = Load()
        self.sidecars: dict[str, Sidecar] = {}
        self.address: Address | None = None
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        (home / "objects").mkdir()
        (home / "objects" / "shop.yaml").write_text(_PODS.replace("BLOCK", block))
        self.mesh: Mesh = read_mesh([home / "objects"], MeshConfig())

    # ------------------------------------------------------------------ the server

    @property
    def state_folder(self) -> Path:
        """Where its authority is."""
        return self.home / "state"

    @property
    def state(self) -> State:
        """The authority's state."""
        store = FolderStore(self.state_folder)
        state = read_state(store.load(), store, now=wall_clock())
        assert state is not None
        return state

    async def start_server(self) -> None:
        """Start it, at the address where it was before."""
        self.starts += 1
        log = self.home / f"serve-{self.starts}.log"
        where = str(self.address or "127.0.0.1:0")
        words = [sys.executable, "-c", self._code, "serve", "--files", str(self.home / "objects")]
        words += ["--xds-address", where, "--monitoring-address", "127.0.0.1:0"]
        words += ["--state-folder", str(self.state_folder), "--log-format", "json"]
        words += ["--leaf-lifetime", self.lifetime]
        with log.open("wb") as written:
            self._process = await asyncio.create_subprocess_exec(
                *words, stdout=written, stderr=written
            )

        process = self._process

        def bound() -> str:
            if process.returncode is not None:
                raise RuntimeError(f"the server ended: {log.read_text()}")
            events = map(json.loads, log.read_text().splitlines())
            return next((it["xds_address"] for it in events if it["event"] == "serving"), "")

        found = await eventually_async(bound, deadline=60, retry_on=(ValueError,))
        self.address = parse_address(found, flag="log")

    async def kill_server(self) -> None:
        """End it as a lost machine does."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def restart_server(self) -> None:
        """Lose it, and have it back."""
        await self.kill_server()
        await self.start_server()
        await self.all_synced()

    async def all_synced(self) -> None:
        """Wait until both sidecars have all that the server has for them."""
        address = self.address
        assert address is not None

        def synced() -> bool:
            try:
                return [it["state"] for it in list_proxies(address)] == ["STATE_SYNCED"] * 2
            except AskError:
                return False

        async def look() -> bool:
            return await asyncio.to_thread(synced)

        await eventually_async(look, deadline=60)

    async def rotate(self, *words: str) -> str:
        """Call `smi-xds ca rotate`; what it said."""
        command = [sys.executable, "-c", COMMAND, "ca", "rotate", *words]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--state-folder", str(self.state_folder)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said
        return said.decode()

    async def reaches(self, phase: Phase, *, deadline: float) -> None:
        """Wait for a phase of a rotation."""
        await eventually_async(
            lambda: self.is_in(phase), deadline=deadline, what=f"phase {phase.value}"
        )

    def is_in(self, phase: Phase) -> bool:
        """Whether that is the phase now."""
        return self.state.phase is phase

    # ------------------------------------------------------------------ looking

    async def presented(self) -> Presented:
        """What `web` presents to callers now, by `openssl s_client`, `x509` and `verify`."""
        return await asyncio.to_thread(self._presented)

    def _presented(self) -> Presented:
        where = f"{self.block}.3:8080"
        shown = _openssl("s_client", "-connect", where, "-alpn", ALPN, "-showcerts", check=False)
        begin = shown.index("-----BEGIN CERTIFICATE-----")
        pem = shown[begin : shown.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----"
        path = self.home / "presented.pem"
        path.write_text(pem)
        text = _openssl("x509", "-noout", "-text", "-in", str(path))
        issuer = _openssl("x509", "-noout", "-issuer", "-in", str(path)).strip()
        serial = _openssl("x509", "-noout", "-serial", "-in", str(path)).strip()
        (identity,) = (it.split("URI:")[1] for it in text.splitlines() if "URI:spiffe://" in it)
        return Presented(
            identity=identity.strip(),
            issuer=issuer.rpartition("root ")[2].split(",")[0],
            serial=serial,
            trusted=self.is_believed(self.state_folder / "ca.crt"),
        )

    def kept_credentials(self, name: str) -> Callable[[], bool]:
        """A certificate of `client`, good for a day, by who signs now: does `web` let it in?"""
        authority = self.state.authority()
        identity = SpiffeId.of(authority.trust_domain, ServiceAccountRef("shop", "client"))
        leaf = authority.issue(identity, now=wall_clock(), lifetime=timedelta(days=1))
        file = self.home / f"{name}.pem"
        file.touch(mode=0o600)
        file.write_bytes(leaf.certificate_chain + leaf.private_key.value)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
        context.load_cert_chain(file)
        return lambda: _is_let_in(context, f"{self.block}.3")

    def is_believed(self, roots: Path) -> bool:
        """Whether who trusts these believes what `web` presented last."""
        presented = str(self.home / "presented.pem")
        return "OK" in _openssl("verify", "-CAfile", str(roots), presented, check=False)

    async def retries(self) -> int:
        """How often a sidecar had to ask again."""
        found = [await it.retries() for it in self.sidecars.values()]
        return sum(sum(it.values()) for it in found)


def _is_let_in(context: ssl.SSLContext, address: str) -> bool:
    """Whether a request gets an answer; in TLS 1.3 the refusal comes after the handshake."""
    try:
        with (
            socket.create_connection((address, 8080), timeout=10) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            wrapped.sendall(http1.request("GET", "/", host="web.shop:8080", headers={}))
            return wrapped.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _openssl(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["openssl", *words], input=b"", capture_output=True, check=check, timeout=30
    )
    return done.stdout.decode()


@asynccontextmanager
async def running_world(
    home: Path,
    block: str,
    *,
    lifetime: str,
    requests: int,
    connections: int,
    floor: float | None = None,
) -> AsyncIterator[World]:
    """Everything, with that many requests and TCP connections a second from `client` to `web`.

    `floor` are the seconds that a phase takes at least; None for what the leaves' lifetime asks.
    """
    world = World(home, block, lifetime=lifetime, floor=floor)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.kill_server)
        await world.start_server()
        await stack.enter_async_context(_web(f"{block}.103"))
        for name in ("client", "web"):
            world.sidecars[name] = await stack.enter_async_context(_sidecar(world, name))
        await world.all_synced()
        await stack.enter_async_context(_calling(world, requests, connections))
        await goes_on(world)
        yield world


async def goes_on(world: World) -> None:
    """Wait for further answers, of both kinds."""
    before = world.load.http["200"], world.load.tcp["hello"]
    await eventually_async(
        lambda: world.load.http["200"] > before[0] + 10 and world.load.tcp["hello"] > before[1] + 2,
        deadline=30,
        what="answers",
    )


def _sidecar(world: World, name: str) -> AbstractAsyncContextManager[Sidecar]:
    assert world.address is not None
    workload = world.mesh.workloads[ProxyId("shop", name)]
    bootstrap = sidecar(workload, server_host=world.address.host, server_port=world.address.port)
    return started_sidecar(name, world.home, json.dumps(to_json(bootstrap)))


@asynccontextmanager
async def _web(address: str) -> AsyncIterator[None]:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_GREETING)
        writer.close()

    tcp = await asyncio.start_server(greet, address, 7000)
    try:
        async with application(address):
            yield
    finally:
        tcp.close()


@asynccontextmanager
async def _calling(world: World, requests: int, connections: int) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_http(world, _WORKERS / requests, phase / requests))
            for phase in range(_WORKERS)
        ]
        tasks.append(group.create_task(_tcp(world, 1 / connections)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _http(world: World, period: float, phase: float) -> None:
    """Ask at fixed times, on one connection as long as it lasts, and never twice."""
    encoded = http1.request("GET", "/", host="web.shop:8080", headers={})
    connection: http1.Connection | None = None
    due = time.perf_counter() + phase
    try:
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            begun, due = time.perf_counter(), due + period
            try:
                if connection is None or not connection.is_open or connection.was_closed:
                    connection = await http1.Connection.open(f"{world.block}.2", 15001)
                status = (await connection.send(encoded)).first_line[1]
            except http1.HttpError as error:
                status, connection = str(error), None
            world.load.http[status] += 1
            world.load.latencies.append(time.perf_counter() - begun)
            if status != "200":
                world.load.failed(f"HTTP: {status}")
    finally:
        if connection is not None:
            connection.close()


async def _tcp(world: World, period: float) -> None:
    """Connect at fixed times; the server's greeting has come through two handshakes' worth."""
    port = world.mesh.bound_ports[PortRef(ServiceRef("shop", "web"), 7000)]
    due = time.perf_counter()
    while True:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due += period
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection(f"{world.block}.2", port)
                try:
                    said = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            said = repr(error).encode()
        what = "hello" if said == _GREETING else said.decode() or "closed without a byte"
        world.load.tcp[what] += 1
        if what != "hello":
            world.load.failed(f"TCP: {what}")


def percentile(values: Sequence[float], share: float) -> float:
    """Of these, sorted; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
