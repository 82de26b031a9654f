"""What it costs to let a proxy in: in plaintext, with a token over TLS, with a certificate.

`python -m benchmarks.doors [--streams 500] [--json]`

A server in a process of its own, and a client that opens connections, one stream on each, until it
has its first answer; the server's CPU time says what each cost. An API server is played by a
pause of two milliseconds, about what a real one takes.
"""

import asyncio
import json
import multiprocessing
import resource
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import AsyncExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Final

import grpc
import structlog
import uvloop

from benchmarks.ads.tables import Table, run
from smi_xds.ads.auth import Authenticate, Known
from smi_xds.ads.cache import Cache
from smi_xds.ads.guard import Guard
from smi_xds.ads.limits import DEFAULTS
from smi_xds.ads.server import Door, opened
from smi_xds.ads.status import Status
from smi_xds.ads.tokens import Review, judging_tokens
from smi_xds.app.xds_ports import Served
from smi_xds.identity.ca import Authority
from smi_xds.identity.clients import ClientCertificates
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls
from smi_xds.values import ProxyId, Secret, ServiceAccountRef, SpiffeId
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import stream
from tests.ads.play import resources
from tests.support.identity import mk_authority

_ACCOUNT: Final = ServiceAccountRef("shop", "web")
_REVIEW: Final = 0.002
_AT_ONCE: Final = 25
PLAINTEXT, TOKENS, CERTIFICATES = "plaintext", "tokens", "certificates"


def main() -> int:
    """Print the table."""
    return run("doors", __doc__, lambda given: [measure(given.streams)], streams=500)


def measure(streams: int) -> Table:
    """So many streams by each door."""
    kinds = (PLAINTEXT, TOKENS, CERTIFICATES)
    return Table(
        title=f"{streams:,} streams, each on a connection of its own",
        columns=("", "server's CPU, ms each", "a second, with this client"),
        rows=tuple(row for kind in kinds for row in _measured(kind, streams)),
    )


def _measured(kind: str, streams: int) -> list[tuple[str, float, float]]:
    """Each twice: the second time the tokens are known."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(kind, streams, theirs))
    process.start()
    try:
        port, root, chain, key = ours.recv()
        found = []
        for turn in ("", ", again"):
            ours.send("cpu")
            used, began = ours.recv(), time.perf_counter()
            uvloop.run(_connect(kind, port, streams, tls=(root, key, chain)))
            took = time.perf_counter() - began
            ours.send("cpu")
            found.append((kind + turn, 1000 * (ours.recv() - used) / streams, streams / took))
    finally:
        ours.send("end")
        process.join()
    return found


# ------------------------------------------------------------------ the client


async def _connect(kind: str, port: int, streams: int, *, tls: tuple[bytes, bytes, bytes]) -> None:
    root, key, chain = tls
    credentials = {
        PLAINTEXT: None,
        TOKENS: grpc.ssl_channel_credentials(root),
        CERTIFICATES: grpc.ssl_channel_credentials(root, key, chain),
    }[kind]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        node, token = f"shop/web-{number}", _token(number) if kind == TOKENS else None
        async with (
            turns,
            stream(f"127.0.0.1:{port}", node=node, credentials=credentials, token=token) as client,
        ):
            await client.ask(CLUSTER)
            await client.answer(await client.hear())

    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(one(number))


def _token(number: int) -> str:
    claims = json.dumps({"exp": 4e9, "aud": ["smi-xds"], "sub": "x" * 700, "pod": f"web-{number}"})
    return f"e30.{urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.{'s' * 342}"


# ------------------------------------------------------------------ the server


class _Pods:
    """All that there may be."""

    edition = None

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def find(self, proxy: ProxyId, /) -> Known:
        uid = f"uid-{proxy.name}" if self._kind == TOKENS else ""
        return Known(account=_ACCOUNT, uid=uid)


class _ApiServer:
    """Takes every token for that of the pod which stands in it."""

    async def review(self, token: Secret, *, audience: str) -> Review:  # noqa: ARG002 - as any
        await asyncio.sleep(_REVIEW)
        part = token.value.split(b".")[1]
        claims = json.loads(_decoded(part))
        return Review(
            authenticated=True,
            account=_ACCOUNT,
            pod=claims["pod"],
            uid=f"uid-{claims['pod']}",
        )


def _decoded(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def serve(kind: str, streams: int, pipe: Connection) -> None:
    """In the process of the server."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(_serve(kind, streams, pipe))


async def _serve(kind: str, streams: int, pipe: Connection) -> None:
    authority = mk_authority(now=wall_clock())
    leaf = authority.issue(SpiffeId.of("cluster.local", _ACCOUNT), now=wall_clock())
    cache, status = Cache(), Status()
    cache.publish({f"shop/web-{n}": resources("cluster a 1") for n in range(streams)})
    async with AsyncExitStack() as stack:
        door = Door(host="127.0.0.1", port=0)
        if kind != PLAINTEXT:
            judge: Authenticate = ClientCertificates(
                lambda: ["cluster.local"], lambda: authority.trust_bundle
            )
            if kind == TOKENS:
                judge = await stack.enter_async_context(judging_tokens(_ApiServer()))
            door = _guarded(kind, authority, judge, status, streams)
        [port] = await stack.enter_async_context(opened(cache, status, [door]))
        pipe.send((port, authority.trust_bundle, leaf.certificate_chain, leaf.private_key.value))
        while await asyncio.to_thread(pipe.recv) != "end":
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(used.ru_utime + used.ru_stime)


def _guarded(
    kind: str, authority: Authority, judge: Authenticate, status: Status, streams: int
) -> Door:
    roots = (lambda: authority.trust_bundle) if kind == CERTIFICATES else None
    served = Served(ServerTls(authority, ["127.0.0.1"]), roots, begun=lambda: None)
    # One certificate stands for all of the client's.
    limits = replace(DEFAULTS, streams_per_caller=streams)
    guard = Guard(judge, _Pods(kind), refusals=status.meters.unproven, limits=limits)
    return Door(host="127.0.0.1", port=0, credentials=served.credentials(), guard=guard)


if __name__ == "__main__":
    raise SystemExit(main())
