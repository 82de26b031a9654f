"""One root after another: every order of crashes, delays and refusals, and nobody is refused."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from smi_xds.identity.document import Phase, Report, State, parse_state, write_state
from smi_xds.identity.rotation import (
    abort,
    adopt,
    advance,
    begin,
    floor_of,
    force,
    is_due,
    reported,
    standing,
)
from smi_xds.identity.signer import Signer, create_signer
from smi_xds.identity.state import state_of
from smi_xds.problems import IdentityError
from tests.support.identity import NOW

HOUR = timedelta(hours=1)
LIFETIME = 24 * HOUR
FLOOR = floor_of(LIFETIME)
# What a replica that is alive takes at most until it has read and reported; a tenth is allowed.
DELAY = 2 * HOUR


def mk_state() -> State:
    return state_of(create_signer("cluster.local", now=NOW), now=NOW)


def mk_report(at: datetime = NOW, *, waiting: int = 0, refusing: int = 0) -> Report:
    return Report(since=at, at=at, floor=FLOOR, waiting=waiting, refusing=refusing)


def mk_next(trust_domain: str = "cluster.local") -> Signer:
    return create_signer(trust_domain, now=NOW)


@dataclass(frozen=True, slots=True)
class Leaf:
    """As much of a certificate as peers judge."""

    root: str
    domain: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class Trust:
    """As much of a configuration as peers are judged by."""

    roots: frozenset[str]
    domains: frozenset[str]
    era: str


@dataclass(eq=False)
class Holder:
    """A proxy, or a process that has its certificate from a file."""

    name: str
    trust: Trust | None = None
    leaf: Leaf | None = None
    replica: int | None = None
    refuses: bool = False
    # What was sent and not yet applied; each comes by itself.
    sent_trust: Trust | None = None
    sent_leaf: Leaf | None = None

    @property
    def is_synced(self) -> bool:
        return self.sent_trust is None and self.sent_leaf is None


@dataclass(eq=False)
class Replica:
    """A server: what it read last, and since when it serves that."""

    state: State | None = None
    read_at: datetime = NOW
    reported: int = 0
    since: datetime | None = None


def trust_of(state: State) -> Trust:
    authority = state.authority()
    return Trust(
        frozenset(it.subject.rfc4514_string() for it in authority.roots),
        frozenset(authority.trust_domains),
        authority.trust_domain if authority.fading else "",
    )


def leaf_of(state: State, now: datetime) -> Leaf:
    signer = state.active
    return Leaf(signer.root.subject.rfc4514_string(), signer.trust_domain, now + LIFETIME)


class Mesh(RuleBasedStateMachine):
    """Replicas that share a state, proxies that come and go, and time."""

    proxies = Bundle("proxies")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state = mk_state()
        self.replicas = [Replica(), Replica()]
        self.holders: list[Holder] = []
        self.domains = 0
        # By client and server: the trust domain with which a connection began.
        self.connections: dict[tuple[Holder, Holder], str] = {}

    # ------------------------------------------------------------------ proxies

    @initialize()
    def begins(self) -> None:
        for number in range(2):
            self.start(number)
            self.connects_first(number)

    @rule(number=st.integers(0, 1), times=st.integers(1, 3))
    def is_well(self, number: int, times: int) -> None:
        """What a replica and its proxies do where nothing goes wrong."""
        for _ in range(times):
            self.reads(number)
            for holder in self.connected(number):
                self.apply(holder)
            self.reports(number)
            self.leads(number, stale=False)

    @rule(target=proxies, replica=st.integers(0, 1))
    def another_connects(self, replica: int) -> Holder:
        return self.connects_first(replica)

    def connects_first(self, replica: int) -> Holder:
        holder = Holder(f"proxy-{len(self.holders)}")
        self.holders.append(holder)
        self.connect(holder, replica)
        self.apply(holder)
        return holder

    @rule(holder=proxies, replica=st.integers(0, 1))
    def comes_back(self, holder: Holder, replica: int) -> None:
        if holder.replica is None:
            self.connect(holder, replica)

    @rule(holder=proxies)
    def goes_away(self, holder: Holder) -> None:
        self.disconnect(holder)

    @rule(holder=proxies, leaf_first=st.booleans())
    def applies_a_part(self, holder: Holder, leaf_first: bool) -> None:
        if holder.refuses:
            return
        if leaf_first and holder.sent_leaf is not None:
            holder.leaf, holder.sent_leaf = holder.sent_leaf, None
        elif holder.sent_trust is not None:
            self.trusts(holder)

    @rule(holder=proxies)
    def applies_all(self, holder: Holder) -> None:
        self.apply(holder)

    @rule(holder=proxies, refuses=st.booleans())
    def refuses(self, holder: Holder, refuses: bool) -> None:
        holder.refuses = refuses

    @rule()
    def is_handed_a_file(self) -> None:
        """By whoever runs `smi-xds bootstrap --certificates`; it is never renewed."""
        state = self.state
        leaf = leaf_of(state, self.now)
        until = max(state.handed_out_until, leaf.ends)
        self.state = replace(state, handed_out_until=until)
        self.holders.append(Holder(f"file-{len(self.holders)}", trust_of(state), leaf))

    def connect(self, holder: Holder, number: int) -> None:
        state = self.replicas[number].state
        if state is None:
            return
        holder.replica = number
        holder.sent_trust, holder.sent_leaf = trust_of(state), leaf_of(state, self.now)

    def disconnect(self, holder: Holder) -> None:
        holder.replica = holder.sent_trust = holder.sent_leaf = None

    def apply(self, holder: Holder) -> None:
        if not holder.refuses:
            self.trusts(holder)
            holder.leaf = holder.sent_leaf or holder.leaf
            holder.sent_leaf = None

    def trusts(self, holder: Holder) -> None:
        before, after = holder.trust, holder.sent_trust
        if after is None:
            return
        holder.trust, holder.sent_trust = after, None
        if before is not None and after.era not in ("", before.era):
            for pair in [it for it in self.connections if it[1] is holder]:
                del self.connections[pair]

    @rule()
    def everybody_calls(self) -> None:
        """On a connection that is kept, if there is one."""
        for one in self.valid():
            for other in self.valid():
                assert one.leaf is not None
                self.connections.setdefault((one, other), one.leaf.domain)

    def valid(self) -> list[Holder]:
        """Who has a certificate that counts, and its first configuration."""
        return [
            it
            for it in self.holders
            if it.trust is not None and it.leaf is not None and self.now < it.leaf.ends
        ]

    # ------------------------------------------------------------------ replicas

    @rule(number=st.integers(0, 1))
    def reads(self, number: int) -> None:
        replica = self.replicas[number]
        if replica.state is None:
            return
        before, state = replica.state, self.state
        replica.state, replica.read_at = state, self.now
        if state.epoch == before.epoch:
            return
        replica.since = None
        for holder in self.connected(number):
            if trust_of(state) != (holder.sent_trust or holder.trust):
                holder.sent_trust = trust_of(state)
            sent = holder.sent_leaf or holder.leaf
            leaf = leaf_of(state, self.now)
            if sent is None or (sent.root, sent.domain) != (leaf.root, leaf.domain):
                holder.sent_leaf = leaf

    @rule(number=st.integers(0, 1))
    def reports(self, number: int) -> None:
        replica, state = self.replicas[number], self.state
        if replica.state is None or replica.state.epoch != state.epoch:
            return
        replica.since = replica.since or self.now
        there = self.connected(number)
        refusing = [it for it in there if it.refuses and not it.is_synced]
        waiting = [it for it in there if not it.refuses and not it.is_synced]
        report = Report(
            since=replica.since,
            at=self.now,
            floor=FLOOR,
            waiting=len(waiting),
            refusing=len(refusing),
        )
        self.state = reported(state, str(number), report)
        replica.read_at = self.now

    @rule(number=st.integers(0, 1), stale=st.booleans())
    def leads(self, number: int, stale: bool) -> None:
        replica = self.replicas[number]
        if replica.state is None:
            return
        read = replica.state if stale else self.state
        after = advance(read, now=self.now)
        # Written over what was read, or not at all.
        if after is not None and read is self.state:
            self.state = after

    @rule(number=st.integers(0, 1))
    def crashes(self, number: int) -> None:
        self.replicas[number] = Replica()
        for holder in self.connected(number):
            self.disconnect(holder)

    @rule(number=st.integers(0, 1))
    def starts(self, number: int) -> None:
        self.start(number)

    def start(self, number: int) -> None:
        if self.replicas[number].state is None:
            state = self.state
            self.replicas[number] = Replica(state=state, read_at=self.now, since=state.began)

    def connected(self, number: int) -> list[Holder]:
        return [holder for holder in self.holders if holder.replica == number]

    # ------------------------------------------------------------------ operators, and time

    @precondition(lambda self: self.state.phase is Phase.STEADY)
    @rule(other_domain=st.booleans())
    def rotates(self, other_domain: bool) -> None:
        self.domains += other_domain
        signer = create_signer(f"domain-{self.domains}", now=self.now)
        self.state = begin(self.state, signer, now=self.now)

    @precondition(lambda self: self.state.phase is Phase.TRUST)
    @rule()
    def gives_up(self) -> None:
        self.state = abort(self.state, now=self.now)

    @rule(hours=st.integers(1, 30))
    def time_goes_by(self, hours: int) -> None:
        for _ in range(hours):
            self.now += HOUR
            for number, replica in enumerate(self.replicas):
                if replica.state is not None and self.now - replica.read_at >= DELAY:
                    self.reads(number)
                    self.reports(number)
                self.renews(number)

    def renews(self, number: int) -> None:
        state = self.replicas[number].state
        for holder in self.connected(number):
            sent = holder.sent_leaf or holder.leaf
            if state is not None and (sent is None or sent.ends - self.now < LIFETIME / 3):
                holder.sent_leaf = leaf_of(state, self.now)

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def nobody_with_a_valid_certificate_refuses_another(self) -> None:
        for one in self.valid():
            for other in self.valid():
                assert one.leaf is not None
                assert other.trust is not None
                assert one.leaf.root in other.trust.roots, (one, other)
                assert one.leaf.domain in other.trust.domains, (one, other)

    @invariant()
    def no_request_is_refused_for_the_name_its_connection_began_with(self) -> None:
        for (one, other), domain in self.connections.items():
            if other.replica is not None and not other.refuses and other.trust is not None:
                assert domain in other.trust.domains, (one, other, domain)

    @invariant()
    def what_is_not_to_sign_has_no_key(self) -> None:
        state = self.state
        assert (state.signer.key is None) == (state.phase in (Phase.SIGN, Phase.FADE))

    def teardown(self) -> None:
        """Whatever happened: once all are well, it comes to its end."""
        for number in range(2):
            self.start(number)
        for number, holder in enumerate(self.holders):
            holder.refuses = False
            if holder.name.startswith("proxy") and holder.replica is None:
                self.connect(holder, number % 2)
        if self.state.phase is Phase.STEADY:
            self.everybody_calls()
            self.rotates(other_domain=True)
        for _ in range(16):
            self.everybody_calls()
            for number in range(2):
                self.is_well(number, 1)
                self.nobody_with_a_valid_certificate_refuses_another()
            self.nobody_with_a_valid_certificate_refuses_another()
            self.no_request_is_refused_for_the_name_its_connection_began_with()
            self.now += FLOOR / 2
            for number in range(2):
                self.renews(number)
            for holder in self.holders:
                self.apply(holder)
        assert self.state.phase is Phase.STEADY
        assert len(self.state.authority().roots) == 1


def test_nobody_is_ever_refused() -> None:
    """Whatever crashes, waits, goes away or is handed out, in whatever order."""
    run_state_machine_as_test(
        Mesh, settings=settings(max_examples=80, stateful_step_count=40, deadline=None)
    )


# ---------------------------------------------------------------------- one by one


def test_phases_follow_each_other() -> None:
    """Trusted beside, signing, alone: at each step the authority is what it says."""
    first, successor = mk_state(), mk_next()

    trust = begin(first, successor, now=NOW)
    sign = advance(reported(trust, "one", mk_report(NOW + FLOOR)), now=NOW + 2 * FLOOR)
    assert sign is None, "a report counts from when it serves"
    sign = advance(reported(trust, "one", mk_report(NOW)), now=NOW + FLOOR - HOUR)
    assert sign is None
    report = replace(mk_report(NOW), at=NOW + FLOOR)
    sign = advance(reported(trust, "one", report), now=NOW + FLOOR)
    assert sign is not None

    assert trust.authority().certificate == first.signer.root
    assert trust.authority().roots == sign.authority().roots
    assert trust.authority().trust_bundle == sign.authority().trust_bundle
    assert sign.authority().certificate == successor.root
    assert sign.signer.key is None
    assert sign.replicas == {}
    later = sign.began + FLOOR
    report = replace(mk_report(sign.began), at=later)
    steady = advance(reported(sign, "one", report), now=later)
    assert steady is not None
    assert steady.authority().roots == (successor.root,)
    assert [it.epoch for it in (first, trust, sign, steady)] == [1, 2, 3, 4]
    assert steady.former == ()


def test_without_a_report_nothing_goes_on() -> None:
    """However long nobody serves."""
    trust = begin(mk_state(), mk_next(), now=NOW)

    assert advance(trust, now=NOW + 100 * FLOOR) is None
    assert standing(trust, now=NOW).replicas == 0


@pytest.mark.parametrize("waiting, refusing", [(1, 0), (0, 1), (2, 3)])
def test_who_has_not_acknowledged_is_waited_for(waiting: int, refusing: int) -> None:
    """Until the operator says not to; the floor is waited for even then."""
    trust = begin(mk_state(), mk_next(), now=NOW)
    report = replace(mk_report(waiting=waiting, refusing=refusing), at=NOW + FLOOR)
    stuck = reported(trust, "one", report)

    assert advance(stuck, now=NOW + FLOOR) is None

    assert advance(force(stuck), now=NOW + FLOOR - HOUR) is None
    forced = advance(force(stuck), now=NOW + FLOOR)
    assert forced is not None
    assert forced.forced, "to the end"


def test_a_replica_that_says_nothing_is_taken_for_dead() -> None:
    """Its proxies went elsewhere; until then it is waited for."""
    trust = begin(mk_state(), mk_next(), now=NOW)
    dead = reported(trust, "dead", mk_report(NOW + HOUR, waiting=1))

    def both(now: datetime) -> State:
        return reported(dead, "alive", replace(mk_report(NOW), at=now))

    assert advance(both(NOW + FLOOR), now=NOW + FLOOR) is None
    assert advance(both(NOW + FLOOR + HOUR), now=NOW + FLOOR + HOUR) is not None


def test_what_was_handed_out_as_files_is_waited_for() -> None:
    """Nobody renews them; those of a phase's own time are the next one's affair."""
    until = NOW + 10 * FLOOR
    trust = begin(replace(mk_state(), handed_out_until=until), mk_next(), now=NOW)
    report = replace(mk_report(), at=until)
    later = replace(trust, handed_out_until=until + FLOOR)

    assert advance(reported(trust, "one", report), now=until - HOUR) is None
    sign = advance(reported(later, "one", report), now=until)

    assert sign is not None
    assert sign.held_until == until + FLOOR


def test_a_restarted_replica_does_not_forget_since_when_it_serves() -> None:
    """What it handed out before lives on."""
    trust = begin(mk_state(), mk_next(), now=NOW)
    late = reported(trust, "one", mk_report(NOW + HOUR))

    again = reported(late, "one", replace(mk_report(NOW), at=NOW + 2 * HOUR))

    assert again.replicas["one"].since == NOW + HOUR
    assert again.replicas["one"].at == NOW + 2 * HOUR


def test_a_rotation_is_given_up_before_it_signs_or_not_at_all() -> None:
    """Afterwards it could be too late: leaves of the new root are about."""
    state = mk_state()
    trust = begin(state, mk_next(), now=NOW)

    assert abort(trust, now=NOW).authority() == state.authority()
    sign = advance(reported(trust, "one", replace(mk_report(), at=NOW + FLOOR)), now=NOW + FLOOR)
    assert sign is not None
    with pytest.raises(IdentityError, match="the new root signs already"):
        abort(sign, now=NOW + FLOOR)
    with pytest.raises(IdentityError, match="none is under way"):
        abort(state, now=NOW)


def test_only_one_rotation_is_under_way() -> None:
    """And to what signs already nobody can change."""
    state = mk_state()
    trust = begin(state, mk_next(), now=NOW)

    with pytest.raises(IdentityError, match="a rotation is under way"):
        begin(trust, mk_next(), now=NOW)
    with pytest.raises(IdentityError, match="a rotation is under way"):
        adopt(trust, replace(state.signer, key=None), now=NOW)
    with pytest.raises(IdentityError, match="nothing to rotate"):
        begin(state, state.signer, now=NOW)
    with pytest.raises(IdentityError, match="no rotation to force"):
        force(state)


def test_nobody_waits_for_what_has_ended() -> None:
    """A root that ends while its successor is made known is not waited for: it signs nothing."""
    state = mk_state()
    end = state.signer.not_after
    trust = begin(state, create_signer("cluster.local", now=end), now=end - HOUR)

    assert advance(trust, now=end - timedelta(seconds=1)) is None
    sign = advance(trust, now=end)

    assert sign is not None
    assert sign.phase is Phase.SIGN
    assert advance(sign, now=end + FLOOR) is None, "proxies are waited for as ever"


def test_trust_domains_change_by_the_same_road() -> None:
    """Both are accepted in between, and the former is remembered for servers' flags."""
    trust = begin(mk_state(), mk_next("example.org"), now=NOW)
    report = replace(mk_report(), at=NOW + FLOOR)
    sign = advance(reported(trust, "one", report), now=NOW + FLOOR)
    assert sign is not None
    report = replace(mk_report(sign.began), at=sign.began + FLOOR)
    fade = advance(reported(sign, "one", report), now=sign.began + FLOOR)
    assert fade is not None
    report = replace(mk_report(fade.began), at=fade.began + FLOOR)
    steady = advance(reported(fade, "one", report), now=fade.began + FLOOR)
    assert steady is not None

    assert trust.authority().trust_domains == ("cluster.local", "example.org")
    assert sign.authority().trust_domains == ("example.org", "cluster.local")
    assert fade.authority().trust_domains == ("example.org", "cluster.local")
    assert fade.authority().roots == steady.authority().roots
    assert [it.authority().fading for it in (trust, sign, fade, steady)] == [0, 0, 1, 0]
    assert steady.authority().trust_domains == ("example.org",)
    assert steady.former == ("cluster.local",)


def test_a_root_is_due_at_two_thirds_of_its_life() -> None:
    """Of our own; what an operator brought is the operator's to replace."""
    state = mk_state()
    late = NOW + timedelta(days=2434)

    assert not is_due(state, now=NOW + timedelta(days=2430))
    assert is_due(state, now=late)
    assert not is_due(begin(state, mk_next(), now=NOW), now=late)
    brought = replace(state, signer=replace(state.signer, brought=True))
    assert not is_due(brought, now=late)


def test_a_state_is_the_same_after_it_was_written() -> None:
    """With everything: phases, reports, trust domains."""
    trust = begin(replace(mk_state(), former=("old.example",)), mk_next("example.org"), now=NOW)
    state = force(reported(trust, "one", replace(mk_report(waiting=1), named=("shop/web",))))

    assert parse_state(write_state(state)) == state
