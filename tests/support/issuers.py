"""What every issuer of leaves has to do, as tests: subclass, and give it a fixture `world`."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.ca import Leaf
from smi_xds.identity.issuer import Issuer, Standing, wall_clock
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.wait import eventually_async

DEADLINE = 60.0


def mk_identity(name: str, *, trust_domain: str = "cluster.local") -> SpiffeId:
    """Of a service account in `shop`."""
    return SpiffeId.of(trust_domain, ServiceAccountRef("shop", name))


A, B = mk_identity("a"), mk_identity("b")
NO_URI = mk_identity("not a name")


class Clock:
    """The time as it is, moved by a test."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return wall_clock() + self.offset


class World:
    """An issuer that runs, and those who are told."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self.issuer = issuer
        self.clock = clock
        self.told: list[int] = []

    async def complete(self, identities: Collection[SpiffeId]) -> Standing:
        """What there is once nobody is pending."""
        wanted = set(identities)

        def answered() -> bool:
            standing = self.issuer.ask(wanted)
            return standing.leaves.keys() | standing.refused.keys() == wanted

        await eventually_async(answered, deadline=DEADLINE, what=f"{len(wanted)} answers")
        return self.issuer.ask(wanted)


@asynccontextmanager
async def running_world(issuer: Issuer, clock: Clock) -> AsyncIterator[World]:
    """Run an issuer while the block runs."""
    world = World(issuer, clock)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(issuer.run(lambda: world.told.append(issuer.changes)))
        try:
            yield world
        finally:
            task.cancel()


def check_leaf(leaf: Leaf, identity: SpiffeId, *, bundle: bytes, now: datetime) -> None:
    """It is what a workload may prove itself with, under one of these roots."""
    certificate, *chain = x509.load_pem_x509_certificates(leaf.certificate_chain)
    get = certificate.extensions.get_extension_for_class
    key = load_pem_private_key(leaf.private_key.value, password=None)
    names = get(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [str(identity)]
    assert certificate.public_key() == key.public_key()
    assert not get(x509.BasicConstraints).value.ca
    usage = get(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert set(get(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert leaf.not_before <= now < leaf.renew_at < leaf.not_after
    last = chain[-1] if chain else certificate
    roots = x509.load_pem_x509_certificates(bundle)
    signers = [root for root in roots if root.subject == last.issuer]
    assert signers, "no root of the bundle signed it"
    last.verify_directly_issued_by(signers[0])
    assert not set(chain) & set(roots), "roots are not presented"


class IssuerContract:
    """The suite; each test is given a world of its own."""

    async def test_whoever_asks_gets_a_leaf_under_the_trust_bundle(self, world: World) -> None:
        """Certificate, key, names, usages and life are those of a workload."""
        standing = await world.complete({A, B})

        assert standing.refused == {}
        for identity, leaf in standing.leaves.items():
            check_leaf(leaf, identity, bundle=world.issuer.trust_bundle, now=world.clock())

    async def test_a_leaf_is_kept(self, world: World) -> None:
        """Whoever asks again gets the very same, and is not told of changes."""
        first = await world.complete({A})
        changes = world.issuer.changes

        assert world.issuer.ask({A}).leaves[A] is first.leaves[A]
        assert (await world.complete({A, B})).leaves[A] is first.leaves[A]
        assert world.issuer.changes > changes

    async def test_who_is_not_in_use_is_forgotten(self, world: World) -> None:
        """The key is gone; who comes back gets another one."""
        first = await world.complete({A, B})
        world.issuer.ask({B})
        second = await world.complete({A, B})

        assert second.leaves[A].private_key != first.leaves[A].private_key
        assert second.leaves[B] is first.leaves[B]

    async def test_who_cannot_be_signed_stands_alone(self, world: World) -> None:
        """A reason is given once; everyone else is served."""
        standing = await world.complete({A, NO_URI})

        assert standing.leaves.keys() == {A}
        assert list(standing.refused) == [NO_URI]
        assert "not a SPIFFE id" in standing.refused[NO_URI]
        changes = world.issuer.changes
        assert world.issuer.ask({A, NO_URI}).refused == standing.refused
        assert world.issuer.changes == changes

    async def test_a_renewal_leaves_nobody_without(self, world: World) -> None:
        """The former leaf is given until the next is there, which is told."""
        first = (await world.complete({A})).leaves[A]
        world.clock.offset = first.renew_at - world.clock() + timedelta(seconds=1)

        def renewed() -> bool:
            leaves = world.issuer.ask({A}).leaves
            assert A in leaves
            return leaves[A] is not first

        world.issuer.ask({A})
        told = len(world.told)
        await self.nudge(world)
        await eventually_async(renewed, deadline=DEADLINE)
        await eventually_async(lambda: len(world.told) > told, deadline=DEADLINE)
        check_leaf(
            world.issuer.ask({A}).leaves[A],
            A,
            bundle=world.issuer.trust_bundle,
            now=world.clock(),
        )

    async def test_an_ended_leaf_is_not_given(self, world: World) -> None:
        """After a machine slept for a week there is a new one, or none yet."""
        first = (await world.complete({A})).leaves[A]
        world.clock.offset = timedelta(days=7)

        assert world.issuer.ask({A}).leaves.get(A) is not first
        await self.nudge(world)
        check_leaf(
            (await world.complete({A})).leaves[A],
            A,
            bundle=world.issuer.trust_bundle,
            now=world.clock(),
        )

    async def test_many_at_once_all_come(self, world: World) -> None:
        """Nobody is waited for, and everyone is told of; the loop turns meanwhile."""
        many = {mk_identity(f"many-{number}") for number in range(120)}
        assert len(world.issuer.ask(many).leaves) < len(many)

        standing = await world.complete(many)

        assert (len(standing.leaves), standing.refused) == (len(many), {})
        await eventually_async(lambda: world.told[-1:] == [world.issuer.changes], deadline=DEADLINE)

    async def nudge(self, world: World) -> None:
        """Have the loop look at a clock that was moved: someone new asks, and goes."""
        world.issuer.ask({A, *(mk_identity(f"new-{number}") for number in range(60))})
        world.issuer.ask({A})
