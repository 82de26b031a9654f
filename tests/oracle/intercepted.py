"""The cast in network namespaces, where iptables hand all that it says and hears to sidecars.

To be played in a namespace of its own (`tests.kube.netns`).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from smi_xds.config import Address
from smi_xds.values import ProxyId
from smi_xds.xds.bootstrap import sidecar
from smi_xds.xds.dump import to_json
from tests.oracle.fleet import (
    APP_PORTS,
    BLOCK,
    HELLO,
    PLAIN_PORTS,
    Answer,
    Fleet,
    application,
    as_list,
    encode,
    exchange,
    running,
)
from tests.oracle.worlds import (
    CAST,
    Document,
    HttpQuestion,
    Member,
    PlainQuestion,
    Question,
    TcpQuestion,
    cluster_ip,
)
from tests.support.envoy import envoy
from tests.support.namespaces import HUB, Namespace, make_hub, need_interception

_PODS = "10.244.0"
_OUTSIDE = next(member for member in CAST if not member.meshed)


@dataclass(slots=True)
class InterceptedFleet(Fleet):
    """Everyone calls by address, and knows of no sidecar."""

    pods: dict[str, Namespace] = field(default_factory=dict)
    intercepted: ClassVar[bool] = True

    def written(self, documents: Iterable[Document]) -> str:
        """With sidecars that intercept, and the addresses of the namespaces."""
        return _written(documents)

    async def ask(self, question: Question) -> Answer:
        """By the address of a service, or as somebody outside the mesh to a pod's own."""
        match question:
            case HttpQuestion(caller, request, service, port):
                return await self._exchange(caller, _cluster_ip(service), port, encode(request))
            case TcpQuestion(caller, service, port):
                return await self._exchange(caller, _cluster_ip(service), port, HELLO)
            case PlainQuestion(pod, port, request):
                return await self._exchange(_OUTSIDE, _address(pod), port, encode(request))

    async def _exchange(self, caller: Member, address: str, port: int, sent: bytes) -> Answer:
        return await exchange(lambda: self.pods[caller.key].connect(address, port), sent)


@asynccontextmanager
async def playing(folder: Path, documents: Sequence[Document]) -> AsyncIterator[Fleet]:
    """Start everything; `documents` is the first mesh, in which the whole cast is."""
    need_interception()
    make_hub()
    async with AsyncExitStack() as stack:
        # Plaintext xDS is for loopback; here the bridge is as private.
        server = await stack.enter_async_context(
            running(folder, _written(documents), address=Address("::", 0))
        )
        fleet = InterceptedFleet(folder / "objects", server)
        for number, member in enumerate(CAST):
            pod = stack.enter_context(Namespace(number, (_address(member),)))
            fleet.pods[member.key] = pod
            for port in APP_PORTS if member.meshed else PLAIN_PORTS:
                listening = pod.listening("0.0.0.0", port)
                started = await asyncio.start_server(application(member, port), sock=listening)
                stack.callback(started.close)
            if member.meshed:
                await _start_sidecar(stack, fleet, member, folder)
        await server.converged(fleet.proxies)
        yield fleet


async def _start_sidecar(
    stack: AsyncExitStack, fleet: InterceptedFleet, member: Member, folder: Path
) -> None:
    pod = fleet.pods[member.key]
    pod.redirect()
    workload = fleet.server.mesh.workloads[ProxyId(member.namespace, member.name)]
    bootstrap = sidecar(workload, server_host=HUB[0], server_port=fleet.server.xds_port)
    await stack.enter_async_context(
        envoy(
            to_json(bootstrap),
            log=folder / f"{member.namespace}.{member.name}.log",
            prefix=pod.as_sidecar,
            options=("--drain-time-s", "10"),
        )
    )
    fleet.proxies.append(member.key)


def _written(documents: Iterable[Document]) -> str:
    return as_list(map(_redirected, documents)).replace(f"{BLOCK}.", f"{_PODS}.")


def _redirected(document: Document) -> Document:
    if document["kind"] != "Pod":
        return document
    document = deepcopy(document)
    annotations = document["metadata"]["annotations"]
    annotations.pop("smi-xds.io/app-address", None)
    if annotations["smi-xds.io/sidecar"] == "bound":
        annotations["smi-xds.io/sidecar"] = "intercepted"
    return document


def _address(member: Member) -> str:
    return f"{_PODS}.{member.number}"


def _cluster_ip(service: str) -> str:
    namespace, _, name = service.partition("/")
    return cluster_ip(namespace, name)
