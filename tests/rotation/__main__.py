"""`make rotation`: minutes of leaves, roots, trust domains and modes that change under load.

    python -m tests.rotation [--seconds N] [--requests N] [--connections N]

Leaves are renewed every ten seconds for that long. Then a root, a trust domain and the mTLS mode
are changed, with the server killed in each phase. The exit code is 1 where anything failed.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from smi_xds.demo.addresses import free_block
from smi_xds.identity.document import Phase
from tests.rotation.world import Presented, World, goes_on, percentile, running_world

# Renewed at nine to ten seconds.
_LEAVES = "15s"
# A server that is killed has twenty seconds to come back, on a machine that is busy.
_ROTATION = "60s"
_LOOK_EVERY = 2.0
_DEADLINE = 180.0


async def run(*, seconds: float, requests: int, connections: int) -> int:
    """Everything, in two meshes; how much failed."""
    failed = 0
    for what, lifetime in ((_leaves, _LEAVES), (_rotations, _ROTATION)):
        with tempfile.TemporaryDirectory(prefix="smi-xds-rotation-") as folder, free_block() as own:
            async with running_world(
                Path(folder), own, lifetime=lifetime, requests=requests, connections=connections
            ) as world:
                await what(world, seconds)
                failed += len(world.load.failures)
                _tell("\n".join(world.load.failures[:20]) or "no failure")
    return failed


async def _leaves(world: World, seconds: float) -> None:
    """Nothing but leaves: how many were seen, and whether each was trusted."""
    async with _measured(world, f"leaves of {world.lifetime}"):
        seen: dict[str, Presented] = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = await world.presented()
            seen[shown.serial] = shown
            await asyncio.sleep(_LOOK_EVERY)
        trusted = sum(it.trusted for it in seen.values())
        _tell(f"  {len(seen)} leaves of web in {seconds:.0f} s, {trusted} of them trusted")


async def _rotations(world: World, _: float) -> None:
    await _rotated(world, "root")
    await _rotated(world, "trust domain", "--trust-domain", "example.org")
    for mode in ("permissive", "strict", "permissive", "strict"):
        async with _measured(world, f"mTLS becomes {mode}"):
            _set_mode(world, mode)
            await asyncio.sleep(_LOOK_EVERY)
            await world.all_synced()
            await goes_on(world)


async def _rotated(world: World, what: str, *words: str) -> None:
    old = world.kept_credentials(what.replace(" ", "-"))
    roots = world.home / "old-roots.pem"
    roots.write_bytes((world.state_folder / "ca.crt").read_bytes())
    began = time.monotonic()
    async with _measured(world, f"{what}: phase 1, trusted"):
        await world.rotate(*words)
        await _inspected(world)
        await world.restart_server()
        await _inspected(world)
        await world.reaches(Phase.SIGN, deadline=_DEADLINE)
    async with _measured(world, f"{what}: phase 2, signing, to the end"):
        await _inspected(world)
        await world.restart_server()
        await _inspected(world)
        if words:
            await world.reaches(Phase.FADE, deadline=_DEADLINE)
            await world.restart_server()
            await _inspected(world)
        await world.reaches(Phase.STEADY, deadline=_DEADLINE)
    async with _measured(world, f"{what}: over after {time.monotonic() - began:.0f} s"):
        await world.all_synced()
        await world.restart_server()
        await goes_on(world)
        shown = await _inspected(world)
        refused = not await asyncio.to_thread(old)
        alone = not world.is_believed(roots)
        _tell(f"  certificate of the old root refused: {refused}; who trusts it alone: {alone}")
        if not (refused and alone and shown.trusted):
            world.load.failed(f"{what}: the old root is worth something still")


async def _inspected(world: World) -> Presented:
    shown = await world.presented()
    _tell(f"  openssl: {shown.identity} by root {shown.issuer}, verified: {shown.trusted}")
    if not shown.trusted:
        world.load.failed(f"not trusted: {shown}")
    return shown


def _set_mode(world: World, mode: str) -> None:
    file = world.home / "objects" / "shop.yaml"
    plain = file.read_text().replace(", smi-xds.io/mtls: permissive", "")
    if mode == "permissive":
        bound = "smi-xds.io/sidecar: bound"
        plain = plain.replace(bound, f"{bound}, smi-xds.io/mtls: permissive")
    file.write_text(plain)


@asynccontextmanager
async def _measured(world: World, what: str) -> AsyncIterator[None]:
    load = world.load
    before = sum(load.http.values()), sum(load.tcp.values()), len(load.failures)
    load.latencies.clear()
    began = time.monotonic()
    _tell(f"{what}:")
    yield
    took = time.monotonic() - began
    requests, handshakes = sum(load.http.values()) - before[0], sum(load.tcp.values()) - before[1]
    p50, p99 = (percentile(load.latencies, share) * 1000 for share in (0.5, 0.99))
    _tell(
        f"  {took:.0f} s: {requests} requests ({requests / took:.0f}/s, p50 {p50:.1f} ms, "
        f"p99 {p99:.1f} ms), {handshakes} TCP connections, "
        f"{len(load.failures) - before[2]} failed, {await world.retries()} retries in all"
    )


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Parse, run, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.rotation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of leaves alone")
    parser.add_argument("--requests", type=int, default=500, help="a second")
    parser.add_argument("--connections", type=int, default=20, help="TCP connections a second")
    words = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    failed = asyncio.run(
        run(seconds=words.seconds, requests=words.requests, connections=words.connections)
    )
    _tell(f"failures: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
