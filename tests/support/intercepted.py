"""A live mesh whose workloads know of no sidecar: a namespace each, and iptables in between.

Runs inside a namespace of its own (`tests.kube.netns.in_netns`). Each Pod of the objects gets a
network namespace with its addresses; those with `smi-xds.io/sidecar: intercepted` also the rules
of `deploy/interception/iptables.sh` and an Envoy that runs as the sidecar's user.
"""

import asyncio
import contextlib
import http.client
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from smi_xds import app
from smi_xds.config import Address, parse_mesh, parse_serve
from smi_xds.demo import http1
from smi_xds.mesh.model import Sidecar, Workload
from smi_xds.values import ProxyId
from smi_xds.xds.bootstrap import sidecar
from smi_xds.xds.dump import to_json
from tests.support.envoy import EnvoyProcess, envoy
from tests.support.live import Reply
from tests.support.namespaces import HUB, Namespace, make_hub, need_interception
from tests.support.wait import eventually_async

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@dataclass(slots=True)
class InterceptedMesh:
    """A folder of objects, and everything that was started for it."""

    folder: Path
    server: app.Running
    stack: AsyncExitStack
    pods: dict[str, Namespace] = field(default_factory=dict)
    envoys: dict[str, EnvoyProcess] = field(default_factory=dict)

    def workload(self, name: str) -> Workload:
        """The workload of that name in the namespace `test`."""
        return self.server.mesh.workloads[ProxyId("test", name)]

    async def serve(self, pod: str, port: int, talk: Talk, *, address: str = "") -> None:
        """Let an application listen in a pod, on all of its addresses unless one is given."""
        everywhere = "::" if any(":" in it for it in self.pods[pod].addresses) else "0.0.0.0"
        listening = self.pods[pod].listening(address or everywhere, port)
        server = await asyncio.start_server(talk, sock=listening)  # type: ignore[arg-type]
        self.stack.callback(server.close)

    async def serve_http(self, pod: str, port: int) -> None:
        """Answer requests with what was seen, in the pod's name."""
        await self.serve(pod, port, lambda r, w: _answer(pod, r, w))

    async def serve_echo(self, pod: str, port: int) -> None:
        """Send lines back, with the pod's name before them."""
        await self.serve(pod, port, lambda r, w: _echo(pod, r, w))

    async def serve_greeting(self, pod: str, port: int) -> None:
        """Speak first, then echo."""

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{pod}\n".encode())
            await _echo(pod, reader, writer)

        await self.serve(pod, port, greet)

    async def get(
        self,
        source: str,
        address: str,
        port: int,
        path: str = "/",
        *,
        host: str = "any.host",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A request from a pod, on a connection of its own; status 0 where it got no answer."""
        try:
            connection = http1.Connection(*await self.pods[source].connect(address, port))
        except OSError:
            return Reply(0)
        try:
            async with asyncio.timeout(20):
                answer = await connection.send(
                    http1.request("GET", path, host=host, headers=headers or {})
                )
        except http1.HttpError:
            return Reply(0)
        finally:
            connection.close()
        return Reply(int(answer.first_line[1]), answer.headers, answer.body)

    async def shares(
        self, source: str, address: str, port: int, count: int, path: str = "/"
    ) -> Counter[str]:
        """Who answered, of that many requests."""
        found: Counter[str] = Counter()
        for _ in range(count):
            reply = await self.get(source, address, port, path)
            found[reply.answered_by or str(reply.status)] += 1
        return found

    async def first_line(self, source: str, address: str, port: int, say: str = "") -> bytes:
        """What a TCP server says first, or to what is said; empty where it says nothing."""
        try:
            reader, writer = await self.pods[source].connect(address, port)
        except OSError:
            return b""
        try:
            async with asyncio.timeout(20):
                writer.write(say.encode())
                return await reader.readline()
        except OSError:
            return b""
        finally:
            writer.close()

    async def edit(self, change: Callable[[str], str]) -> None:
        """Change the objects as a user would, and wait until every sidecar has it."""
        path, before = self.folder / "objects.yaml", self.server.round
        text = change(path.read_text())
        assert text != path.read_text(), "the change changes nothing"
        path.write_text(text)
        async with asyncio.timeout(30):
            await self.server.next_round(before)
        await self.converged()

    async def converged(self) -> None:
        """Wait until every sidecar has ACKed everything."""
        async with asyncio.timeout(60):
            await self.server.converged([f"test/{name}" for name in self.envoys])

    def access_log(self, pod: str) -> list[dict[str, object]]:
        """What a sidecar has logged so far."""
        lines = self.envoys[pod].log.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stats(self, pod: str, containing: str) -> dict[str, int]:
        """Counters and gauges of a sidecar whose names have this in them."""
        admin = http.client.HTTPConnection("127.0.0.1", 15000)
        admin.sock = self.pods[pod].make_socket("127.0.0.1")
        admin.sock.setblocking(True)
        with contextlib.closing(admin):
            admin.sock.connect(("127.0.0.1", 15000))
            admin.request("GET", f"/stats?filter={containing}")
            lines = admin.getresponse().read().decode().splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}


@asynccontextmanager
async def intercepted_mesh(
    objects: str, tmp_path: Path, *, access: str = "strict", mtls: str = "strict"
) -> AsyncIterator[InterceptedMesh]:
    """Serve objects, and start a namespace for every Pod and an Envoy for every sidecar."""
    need_interception()
    make_hub()
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "objects.yaml").write_text(objects)
    config = parse_serve(
        files=[folder],
        xds_address="127.0.0.1:0",
        state_folder=tmp_path / "state",
        mesh=parse_mesh(access_mode=access, mtls_mode=mtls),
    )
    # Plaintext xDS is for loopback; here the bridge is as private.
    config = replace(config, xds_address=Address("::", 0))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(app.running(config))
        mesh = InterceptedMesh(folder=folder, server=server, stack=stack)
        for number, (name, addresses) in enumerate(_pods(objects).items()):
            mesh.pods[name] = stack.enter_context(Namespace(number, addresses))
        for workload in server.mesh.workloads.values():
            await _start_sidecar(mesh, workload, tmp_path)
        await mesh.converged()
        yield mesh


async def _start_sidecar(mesh: InterceptedMesh, workload: Workload, tmp_path: Path) -> None:
    name = workload.proxy.name
    pod = mesh.pods[name]
    if workload.sidecar is Sidecar.INTERCEPTED:
        pod.redirect()
    hub = HUB[":" in workload.address]
    bootstrap = sidecar(workload, server_host=hub, server_port=mesh.server.xds_port)
    mesh.envoys[name] = await mesh.stack.enter_async_context(
        envoy(
            to_json(bootstrap),
            log=tmp_path / f"{name}.log",
            prefix=pod.as_sidecar,
            options=("--drain-time-s", "2", "--file-flush-interval-msec", "250"),
        )
    )


def _pods(objects: str) -> dict[str, tuple[str, ...]]:
    """The addresses of every Pod, by its name."""
    found = {}
    for document in yaml.safe_load_all(objects):
        if document is not None and document["kind"] == "Pod":
            text = document["metadata"]["annotations"]["smi-xds.io/address"]
            found[document["metadata"]["name"]] = tuple(it.strip() for it in text.split(","))
    return found


async def _answer(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (asked := await http1.read_message(reader)) is not None:
            peer = writer.get_extra_info("peername")[0]
            body = {"path": asked.first_line[1], "headers": dict(asked.headers), "peer": peer}
            said = json.dumps(body).encode()
            writer.write(http1.response(200, said, headers={"x-served-by": pod}))
    except http1.HttpError:
        pass  # the sidecar went away
    finally:
        writer.close()


async def _echo(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(f"{pod}: ".encode() + line)
    except OSError:
        pass  # the sidecar went away
    finally:
        writer.close()


async def eventually_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closes the connection in time."""

    async def at_end() -> bool:
        return reader.at_eof() or await reader.read(1) == b""

    return await eventually_async(at_end)
