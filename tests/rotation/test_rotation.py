"""Root and trust domain change under traffic, while the server is killed in each phase."""

import asyncio
from pathlib import Path

import pytest

from smi_xds.demo.addresses import free_block
from smi_xds.identity.document import Phase
from tests.rotation.world import goes_on, running_world

pytestmark = pytest.mark.envoy

# A server that is killed has minutes to come back before a leaf ends, on however busy a machine.
# What a phase takes is the floor's to say.
LIFETIME = "600s"
# Longer than Envoys take to drain connections (ten seconds).
FLOOR = 12.0


async def test_nobody_is_refused_while_root_and_trust_domain_change(tmp_path: Path) -> None:
    """No request and no handshake fails, and at the end the old root is worth nothing."""
    with free_block() as block:
        async with running_world(
            tmp_path, block, lifetime=LIFETIME, floor=FLOOR, requests=100, connections=10
        ) as world:
            first = await world.presented()
            assert first.trusted
            assert first.identity == "spiffe://cluster.local/ns/shop/sa/web"
            old = world.state.signer
            stolen = world.kept_credentials("stolen")
            old_roots = tmp_path / "old-roots.pem"
            old_roots.write_bytes((world.state_folder / "ca.crt").read_bytes())
            assert await asyncio.to_thread(stolen)

            await world.rotate("--trust-domain", "example.org")
            # While it is dead the state stays as it is, so that there is time to look.
            await world.kill_server()
            assert world.is_in(Phase.TRUST)
            trusting = await world.presented()
            assert (trusting.identity, trusting.issuer) == (first.identity, first.issuer)
            await goes_on(world)
            await world.start_server()

            await world.reaches(Phase.SIGN, deadline=90)
            await world.kill_server()
            assert world.is_in(Phase.SIGN)
            assert world.state.signer.key is None
            assert (await world.presented()).trusted
            assert await asyncio.to_thread(stolen)
            await goes_on(world)
            await world.start_server()
            await world.all_synced()
            signed = await world.presented()
            assert signed.trusted
            assert signed.identity == "spiffe://example.org/ns/shop/sa/web"
            assert signed.issuer != first.issuer

            await world.reaches(Phase.STEADY, deadline=90)
            await world.all_synced()
            await goes_on(world)
            last = await world.presented()

            assert last.trusted
            assert last.identity == signed.identity
            assert world.state.authority().roots == (world.state.signer.root,)
            assert world.state.signer.root != old.root
            assert world.state.former == ("cluster.local",)
            # Good for a day by its dates, but its root is gone; and who trusts that alone is alone.
            assert not await asyncio.to_thread(stolen)
            assert not world.is_believed(old_roots)
            assert await asyncio.to_thread(world.kept_credentials("renewed"))
            assert world.load.failures == []
            assert set(world.load.http) == {"200"}
            assert set(world.load.tcp) == {"hello"}
