"""The keeper of the authority: follows the state, reports, leads, and outlives every mishap."""

import asyncio
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from smi_xds.app.authority import Keeper
from smi_xds.app.distribution import Tally
from smi_xds.config import BroughtConfig
from smi_xds.identity.ca import Authority
from smi_xds.identity.document import Phase, State
from smi_xds.identity.rotation import begin
from smi_xds.identity.signer import create_signer
from smi_xds.identity.state import (
    ConflictError,
    ExpiredStateError,
    FolderStore,
    Stored,
    UnreachableStateError,
    files_of,
    read_state,
)
from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId
from tests.identity.test_ca import openssl
from tests.support.authorities import brought_files
from tests.support.identity import NOW
from tests.support.wait import eventually_async

FLOOR = timedelta(minutes=10)
DONE = Tally(waiting=0, refusing=0, named=())


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Watched:
    """A distribution that says what the test says."""

    tally: Tally | None = DONE
    begun: list[bool] = field(default_factory=list)
    looks: int = 0

    def begins(self, *, everything: bool) -> None:
        self.begun.append(everything)

    def look(self) -> Tally | None:
        self.looks += 1
        return self.tally


class Faulty(FolderStore):
    """A folder with an API server's moods."""

    error: Exception | None = None

    async def read(self) -> Stored:
        if self.error is not None:
            raise self.error
        return await super().read()

    async def write(self, files: Mapping[str, bytes], /, *, over: Stored) -> None:
        if self.error is not None:
            raise self.error
        await super().write(files, over=over)


class Replica:
    """One keeper and all that it sees."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        name: str = "one",
        leads: bool = True,
        brought: BroughtConfig | None = None,
        every: float = 1.0,
    ) -> None:
        self.store = Faulty(folder)
        self.clock = clock
        self.watched = Watched()
        self.heard: list[Authority] = []
        self.keeper = Keeper(
            self.store,
            floor=FLOOR,
            name=name,
            brought=brought,
            every=every,
            is_leader=lambda: leads,
            clock=clock,
        )

    async def open(self, trust_domain: str = "cluster.local") -> None:
        await self.keeper.open(trust_domain)
        self.keeper.current.follow(self.heard.append)

    async def step(self, *, later: timedelta = timedelta()) -> State:
        self.clock.now += later
        await self.keeper.step(self.watched)  # type: ignore[arg-type]  # as much as it needs
        return self.state

    @property
    def state(self) -> State:
        state = read_state(self.store.load(), self.store, now=self.clock.now)
        assert state is not None
        return state

    def rotate(self, trust_domain: str = "cluster.local") -> State:
        """What `smi-xds ca rotate` does."""
        now = self.clock.now
        stored = self.store.load()
        state = begin(self.state, create_signer(trust_domain, now=now), now=now)
        self.store.save(files_of(state), over=stored)
        return state


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_rotation_goes_from_phase_to_phase(tmp_path: Path, clock: Clock) -> None:
    """Begun by somebody else, led to its end; whoever follows hears of each phase once."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    first = one.keeper.current.now
    assert first.created
    one.rotate()

    assert (await one.step()).phase is Phase.TRUST
    assert (await one.step(later=FLOOR - timedelta(minutes=1))).phase is Phase.TRUST
    assert (await one.step(later=timedelta(minutes=1))).phase is Phase.SIGN
    assert (await one.step(later=timedelta(minutes=1))).phase is Phase.SIGN
    assert (await one.step(later=FLOOR)).phase is Phase.STEADY

    trust, sign, steady = one.heard
    assert trust.certificate == first.certificate
    assert trust.trust_bundle == sign.trust_bundle
    assert sign.certificate == steady.certificate != first.certificate
    assert steady.roots == (steady.certificate,)


async def test_nothing_goes_on_while_proxies_have_not_acknowledged(
    tmp_path: Path, clock: Clock
) -> None:
    """However long they take; what they miss is in the state, for `ca status`."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    one.rotate()
    one.watched.tally = None
    for _ in range(3):
        assert (await one.step(later=FLOOR)).replicas == {}

    one.watched.tally = Tally(waiting=1, refusing=1, named=("shop/a", "shop/b"))
    for _ in range(3):
        state = await one.step(later=FLOOR)
        assert state.phase is Phase.TRUST
        assert (state.replicas["one"].waiting, state.replicas["one"].refusing) == (1, 1)

    one.watched.tally = DONE
    await one.step(later=timedelta(minutes=2))
    assert (await one.step(later=FLOOR)).phase is Phase.SIGN


async def test_a_restart_goes_on_where_it_was(tmp_path: Path, clock: Clock) -> None:
    """In whatever phase; nothing but the state is needed."""
    first = Replica(tmp_path / "state", clock)
    await first.open()
    first.rotate("example.org")
    await first.step()

    second = Replica(tmp_path / "state", clock)
    await second.open()
    assert second.keeper.current.trust_domains == ("cluster.local", "example.org")
    clock.now += FLOOR / 2
    await second.step()
    assert (await second.step(later=FLOOR)).phase is Phase.SIGN

    third = Replica(tmp_path / "state", clock)
    await third.open()
    assert third.keeper.current.trust_domains == ("example.org", "cluster.local")
    await third.step()
    assert (await third.step(later=2 * FLOOR)).phase is Phase.FADE

    fourth = Replica(tmp_path / "state", clock)
    await fourth.open()
    assert fourth.keeper.current.now.fading
    assert len(fourth.keeper.current.now.roots) == 1
    await fourth.step()
    assert (await fourth.step(later=2 * FLOOR)).phase is Phase.STEADY

    # Its flag still says the former trust domain.
    last = Replica(tmp_path / "state", clock)
    await last.open("cluster.local")
    assert last.keeper.current.trust_domains == ("example.org",)


async def test_a_server_waits_for_its_proxies_to_come_back(tmp_path: Path, clock: Clock) -> None:
    """Just started it has none, so none is behind: that is no reason to go on."""
    first = Replica(tmp_path / "state", clock)
    await first.open()
    first.rotate()
    clock.now += 2 * FLOOR  # nobody served for long

    second = Replica(tmp_path / "state", clock, every=0.001)
    await second.open()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(second.keeper.run(second.watched))  # type: ignore[arg-type]  # as above
        await eventually_async(lambda: second.watched.looks > 10)
        assert (second.state.phase, second.state.replicas) == (Phase.TRUST, {})
        clock.now += timedelta(seconds=10)
        await eventually_async(lambda: second.state.phase is Phase.SIGN)
        running.cancel()


async def test_who_does_not_lead_follows_and_reports(tmp_path: Path, clock: Clock) -> None:
    """All replicas sign by the same authority; the leader waits for each."""
    leader = Replica(tmp_path / "state", clock, name="leader")
    await leader.open()
    other = Replica(tmp_path / "state", clock, name="other", leads=False)
    await other.open()
    leader.rotate()
    other.watched.tally = Tally(waiting=1, refusing=0, named=("shop/a",))

    async def both(later: timedelta) -> State:
        await other.step(later=later)
        return await leader.step()

    state = leader.state
    for _ in range(8):
        state = await both(FLOOR / 4)
        assert state.phase is Phase.TRUST
    assert set(state.replicas) == {"leader", "other"}

    other.watched.tally = DONE
    for _ in range(8):
        state = await both(FLOOR / 4)
    assert state.phase is not Phase.TRUST
    await both(timedelta())
    assert other.keeper.current.now == leader.keeper.current.now


async def test_in_quiet_times_nothing_is_written(tmp_path: Path, clock: Clock) -> None:
    """A state that does not change is read, and that is all."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    before = one.store.load()

    for _ in range(10):
        await one.step(later=timedelta(hours=1))

    assert one.store.load() == before
    assert one.heard == []


async def test_reports_are_not_written_at_every_look(tmp_path: Path, clock: Clock) -> None:
    """While proxies answer one by one, an API server has other things to do."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    one.rotate()
    versions = set()
    for waiting in range(100, 0, -1):
        one.watched.tally = Tally(waiting=waiting, refusing=0, named=())
        await one.step(later=timedelta(milliseconds=50))
        versions.add(one.store.load().version)

    assert len(versions) <= 7


async def test_a_root_that_is_two_thirds_through_is_replaced(tmp_path: Path, clock: Clock) -> None:
    """By the leader, with nobody asking."""
    one = Replica(tmp_path / "state", clock)
    await one.open()

    assert (await one.step(later=timedelta(days=2430))).phase is Phase.STEADY
    assert (await one.step(later=timedelta(days=10))).phase is Phase.TRUST


@pytest.mark.parametrize(
    "error",
    [UnreachableStateError("away"), IdentityError("forbidden"), ConflictError()],
    ids=["away", "forbidden", "conflict"],
)
async def test_trouble_with_the_state_ends_nothing(
    tmp_path: Path, clock: Clock, error: Exception
) -> None:
    """What is served goes on, and afterwards so does the rotation."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    one.rotate()
    await one.step()
    before = one.keeper.current.now

    one.store.error = error
    for _ in range(3):
        await one.step(later=FLOOR / 8)
    assert one.keeper.current.now == before

    one.store.error = None
    await one.step()
    assert (await one.step(later=FLOOR)).phase is Phase.SIGN


async def test_a_damaged_state_is_told_and_not_followed(tmp_path: Path, clock: Clock) -> None:
    """Nor written over: somebody may mend it."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    before = one.keeper.current.now
    file = tmp_path / "state" / "authority.json"
    content = file.read_bytes()
    file.write_bytes(b"garbage")

    await one.keeper.step(one.watched)  # type: ignore[arg-type]  # as much as it needs

    assert one.keeper.current.now == before
    assert file.read_bytes() == b"garbage"
    file.write_bytes(content)
    one.rotate()
    assert (await one.step()).phase is Phase.TRUST
    assert len(one.heard) == 1


async def test_a_state_that_is_lost_is_restored(tmp_path: Path, clock: Clock) -> None:
    """What all proxies trust must not be replaced because a file is gone."""
    one = Replica(tmp_path / "state", clock)
    await one.open()
    for path in (tmp_path / "state").iterdir():
        path.unlink()

    state = await one.step()

    assert state.authority() == replace(one.keeper.current.now, created=False)


async def test_what_an_operator_brings_takes_over_in_phases(tmp_path: Path, clock: Clock) -> None:
    """Trusted first, as any other root; then its own renewal below it takes no phases."""
    own = Replica(tmp_path / "state", clock)
    await own.open()
    files = brought_files(tmp_path / "pki")
    one = Replica(tmp_path / "state", clock, brought=files.config)
    await one.open()
    assert one.keeper.current.now.certificate == own.keeper.current.now.certificate

    assert (await one.step()).phase is Phase.TRUST
    await one.step()
    assert (await one.step(later=FLOOR)).phase is Phase.SIGN
    await one.step()
    steady = await one.step(later=FLOOR)
    assert steady.phase is Phase.STEADY
    assert steady.signer.brought
    signed = one.keeper.current.now
    assert signed.roots == (files.root,)

    files.renew()
    await one.step()
    renewed = one.keeper.current.now
    assert renewed.certificate != signed.certificate
    assert renewed.roots == signed.roots
    assert one.state.phase is Phase.STEADY


async def test_the_first_state_may_be_what_an_operator_brought(
    tmp_path: Path, clock: Clock
) -> None:
    """Then no root of our own is ever made, and what it signs openssl believes."""
    files = brought_files(tmp_path / "pki")
    one = Replica(tmp_path / "state", clock, brought=files.config)
    await one.open()
    authority = one.keeper.current.now
    assert authority.created
    await one.step()

    assert one.state.signer.brought
    assert len(authority.intermediates) == 1
    identity = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(authority.issue(identity, now=NOW).certificate_chain)
    when = ("-x509_strict", "-attime", str(int(NOW.timestamp())))
    roots = ("-CAfile", tmp_path / "state" / "ca.crt")
    done = openssl("verify", *when, *roots, "-untrusted", leaf, leaf)
    assert done.returncode == 0, done.stderr


async def test_files_that_are_bad_are_an_error_at_the_start_and_a_line_later(
    tmp_path: Path, clock: Clock
) -> None:
    """A mount that is being replaced ends no server."""
    files = brought_files(tmp_path / "pki")
    one = Replica(tmp_path / "state", clock, brought=files.config)
    await one.open()
    before = one.keeper.current.now
    files.config.chain.write_text("garbage")

    await one.step()

    assert one.keeper.current.now == before
    other = Replica(tmp_path / "state", clock, brought=files.config)
    with pytest.raises(IdentityError, match="has no readable certificates in PEM"):
        await other.open()


async def test_files_that_were_renewed_too_late_are_taken_at_the_start(
    tmp_path: Path, clock: Clock
) -> None:
    """All servers were off when the intermediate ended: nothing has to be deleted by hand."""
    files = brought_files(tmp_path / "pki")
    before = Replica(tmp_path / "state", clock, brought=files.config)
    await before.open()
    clock.now += timedelta(days=400)
    one = Replica(tmp_path / "state", clock, brought=files.config)
    with pytest.raises(IdentityError, match=r"--ca-cert .* is valid from .* and not now"):
        await one.open()
    with pytest.raises(IdentityError, match=r"authority.json expired at 2031-01-01"):
        await Replica(tmp_path / "state", clock).open()

    late = brought_files(tmp_path / "other", now=clock.now)
    one = Replica(tmp_path / "state", clock, brought=late.config)
    await one.open()

    assert one.keeper.current.now.roots == (late.root,)
    assert not one.keeper.current.now.created
    assert (await one.step()).phase is Phase.STEADY
    assert one.state.epoch == before.keeper.state.epoch + 1


async def test_files_that_are_renewed_too_late_are_taken_at_once(
    tmp_path: Path, clock: Clock
) -> None:
    """Also below another root: nobody has a certificate that others would refuse."""
    files = brought_files(tmp_path / "pki")
    one = Replica(tmp_path / "state", clock, brought=files.config)
    await one.open()
    await one.step()
    clock.now += timedelta(days=400)
    with pytest.raises(ExpiredStateError):  # for whoever looks at it; the server goes on
        await one.step()
    assert one.keeper.current.now.roots == (files.root,)
    stored = one.store.load()
    one.store.save({**stored.files, "ca.crt": b"touched"}, over=stored)

    late = brought_files(tmp_path / "other", now=clock.now)
    for file, newer in zip(astuple(files.config), astuple(late.config), strict=True):
        file.write_bytes(newer.read_bytes())
    await one.step()

    assert one.keeper.current.now.roots == (late.root,)
    assert one.state.phase is Phase.STEADY
