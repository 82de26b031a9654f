"""Any sequence of requests: every response is legal and necessary, and the client converges."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from smi_xds.ads.session import (
    HOLD,
    Acked,
    Close,
    DeltaRequest,
    DeltaSession,
    Memo,
    Rejected,
    SotwRequest,
    SotwSession,
    Stale,
)
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import (
    CLUSTER,
    EMPTY,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    WILDCARD_TYPES,
    ResourceSet,
)
from tests.ads.model import MODELLED, Client, Interest
from tests.ads.play import resources

NAMES = ("a", "b", "c")
TYPES = st.sampled_from(MODELLED)
SOME = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
STAR = st.sampled_from(("", "+", "-"))
CONTENT = st.sampled_from("12")


@st.composite
def meshes(draw: st.DrawFn) -> tuple[str, ...]:
    """Clusters with endpoints, listeners with routes or a cluster, routes to clusters."""
    clusters = [f"cluster {n} {draw(CONTENT)} > endpoints {n}" for n in draw(SOME)]
    endpoints = [f"endpoints {n} {draw(CONTENT)}" for n in draw(SOME)]
    kinds = [(name, draw(st.sampled_from(("routes", "cluster")))) for name in draw(SOME)]
    listeners = [f"listener {n} {draw(CONTENT)}{kind} > {kind} {n}" for n, kind in kinds]
    targets = [(name, draw(st.sampled_from(NAMES))) for name in draw(SOME)]
    routes = [f"routes {n} {to} > cluster {to}" for n, to in targets]
    return (*clusters, *endpoints, *listeners, *routes)


SHARED = Memo()  # by all examples, as by all streams of a server


class Machine(RuleBasedStateMachine):
    """What both dialects have in common."""

    is_delta: bool
    client: Client
    published: ResourceSet
    now: float

    @initialize(mesh=meshes())
    def begin(self, mesh: tuple[str, ...]) -> None:
        self.now = 0.0
        self.published = resources(*mesh)
        self.client = Client(self.is_delta)
        self.open()

    def open(self) -> None:
        """A new stream."""
        raise NotImplementedError

    def take(self) -> bool:
        """Hear the next response, if there is one."""
        raise NotImplementedError

    def answer(self, type_: TypeUrl, nonce: str, error: str | None) -> object:
        """Acknowledge or refuse without any other change; the event."""
        raise NotImplementedError

    @rule(mesh=meshes())
    def publish(self, mesh: tuple[str, ...]) -> None:
        self.published = resources(*mesh)
        self.update()

    @rule()
    def publish_nothing(self) -> None:
        self.published = EMPTY
        self.update()

    def update(self) -> None:
        """Hand the published set over."""
        raise NotImplementedError

    @rule()
    def hear(self) -> None:
        self.take()

    @rule()
    def hear_all(self) -> None:
        while self.take():
            pass

    @precondition(lambda self: bool(self.client.in_flight))
    @rule(data=st.data(), accept=st.booleans())
    def respond(self, data: st.DataObject, accept: bool) -> None:
        type_ = data.draw(st.sampled_from(sorted(self.client.in_flight)))
        self.settle_one(type_, accept=accept)

    def settle_one(self, type_: TypeUrl, *, accept: bool) -> None:
        """Answer the response in flight."""
        client = self.client
        response = client.accept(type_) if accept else client.refuse(type_)
        event = self.answer(type_, response.nonce, None if accept else "no")
        assert isinstance(event, Acked if accept else Rejected)
        assert event.response is response

    @rule(seconds=st.sampled_from((0.1, 5.0, HOLD)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """Whatever happened: a client that goes on reading and answering gets everything."""
        if not hasattr(self, "client"):
            return
        for _ in range(40):
            while self.take():
                pass
            for type_ in sorted(self.client.in_flight):
                self.settle_one(type_, accept=True)
            self.now += HOLD
        self.client.check_converged(self.published)
        assert self.is_settled()

    def is_settled(self) -> bool:
        """Whether the session says so."""
        raise NotImplementedError


class DeltaMachine(Machine):
    """Incremental."""

    is_delta = True
    session: DeltaSession

    def open(self) -> None:
        self.session = DeltaSession(self.published, memo=SHARED)

    def update(self) -> None:
        self.session.update(self.published)

    def take(self) -> bool:
        response = self.session.next(self.now)
        if response is not None:
            self.client.hear(response, self.published, self.now)
        return response is not None

    def answer(self, type_: TypeUrl, nonce: str, error: str | None) -> object:
        return self.session.receive(DeltaRequest(type=type_, nonce=nonce, error=error), self.now)

    def is_settled(self) -> bool:
        return self.session.is_settled

    @rule(
        type_=TYPES,
        asked=SOME,
        gone=SOME,
        star=st.sampled_from(("", "+", "-")),
        nonce=st.sampled_from(("", "no such")),
    )
    def ask(
        self,
        type_: TypeUrl,
        asked: tuple[str, ...],
        gone: tuple[str, ...],
        star: str,
        nonce: str,
    ) -> None:
        client, before = self.client, self.client.interest.get(type_)
        if before is None:
            self.first(type_, asked, star == "+")
            return
        subscribe = (*asked, *("*" if star == "+" else ""))
        unsubscribe = (*gone, *("*" if star == "-" else ""))
        named = before.names | set(asked)
        wildcard = (before.wildcard or star == "+") and star != "-"
        owed = set(asked) - set(gone)
        if wildcard:
            owed |= set(gone) & named
        if star == "+":
            owed |= client.told[type_].keys()
            client.answered.discard(type_)
        client.ask(type_, Interest(wildcard, named - set(gone)), asked=owed)
        request = DeltaRequest(
            type=type_, subscribe=subscribe, unsubscribe=unsubscribe, nonce=nonce
        )
        event = self.session.receive(request, self.now)
        assert isinstance(event, Stale) if nonce else event is None

    def first(self, type_: TypeUrl, asked: tuple[str, ...], star: bool) -> None:
        """The first request of a type, with what the client brought from another stream."""
        client = self.client
        subscribe = (*asked, *("*" if star else ""))
        wildcard = star or (not subscribe and type_ in WILDCARD_TYPES)
        wanted = Interest(wildcard, set(asked))
        client.ask(type_, wanted, asked=())
        brought = client.told[type_]
        parent = {ENDPOINTS: CLUSTER, ROUTES: LISTENER}.get(type_)
        is_orphan = parent is not None and parent not in client.interest
        owed = set(asked) if is_orphan else set(asked) - brought.keys()
        flight = client.in_flight.get(parent) if parent is not None else None
        if flight is not None:
            owed |= {n for n in flight.warms if wanted.covers(n)}
        client.owed[type_] = owed
        known = {name: resource.version for name, resource in brought.items()}
        if known and client.claimed_at is None:
            client.claimed_at = self.now
        request = DeltaRequest(type=type_, subscribe=subscribe, known=known, nonce="old")
        assert self.session.receive(request, self.now) is None

    @rule()
    def reconnect(self) -> None:
        self.client.reconnect()
        self.open()


class SotwMachine(Machine):
    """State of the world."""

    is_delta = False
    session: SotwSession
    ever_named: set[TypeUrl]

    def open(self) -> None:
        self.session = SotwSession(self.published, memo=SHARED)
        self.ever_named = set()

    def update(self) -> None:
        self.session.update(self.published)

    def take(self) -> bool:
        response = self.session.next(self.now)
        if response is not None:
            self.client.hear(response, self.published, self.now)
        return response is not None

    def is_settled(self) -> bool:
        return self.session.is_settled

    def names(self, type_: TypeUrl) -> tuple[str, ...]:
        """What the client names to ask for what it asks for."""
        interest = self.client.interest[type_]
        star = interest.wildcard and (type_ in self.ever_named or type_ not in WILDCARD_TYPES)
        return (*sorted(interest.names), *("*" if star else ""))

    def nonce(self, type_: TypeUrl) -> str:
        """Of the last response that the client heard."""
        sub = self.session._subs.get(type_)
        return sub.nonce if sub is not None else ""

    def answer(self, type_: TypeUrl, nonce: str, error: str | None) -> object:
        names = self.names(type_)
        request = SotwRequest(type=type_, names=names, nonce=nonce, error=error)
        return self.session.receive(request, self.now)

    @rule(type_=TYPES, asked=SOME, star=st.booleans(), answer=st.sampled_from((None, True, False)))
    def ask(self, type_: TypeUrl, asked: tuple[str, ...], star: bool, answer: bool | None) -> None:
        """A list of names, alone or in the answer to what is in flight (S5)."""
        client, before = self.client, self.client.interest.get(type_, Interest())
        flight = client.in_flight.get(type_)
        if flight is not None:
            if answer is None:
                return  # an Envoy does not ask before it has answered
            (client.accept if answer else client.refuse)(type_)
        names = (*asked, *("*" if star else ""))
        if names:
            self.ever_named.add(type_)
        legacy = type_ in WILDCARD_TYPES and type_ not in self.ever_named
        wanted = Interest(star or legacy, set(asked))
        owed = set(asked) - before.names
        parent = {ENDPOINTS: CLUSTER, ROUTES: LISTENER}.get(type_)
        upper = client.in_flight.get(parent) if parent is not None else None
        if upper is not None:
            owed |= upper.warms
        client.ask(type_, wanted, asked=owed)
        if wanted.wildcard and not before.wildcard and type_ in WILDCARD_TYPES:
            client.answered.discard(type_)  # turning to the wildcard is answered
        nonce = flight.nonce if flight is not None else self.nonce(type_)
        error = None if answer is None or answer else "no"
        request = SotwRequest(type=type_, names=names, nonce=nonce, error=error)
        event = self.session.receive(request, self.now)
        assert not isinstance(event, Close | Stale)

    @precondition(lambda self: bool(self.client.in_flight))
    @rule(data=st.data(), asked=SOME)
    def ask_with_an_old_nonce(self, data: st.DataObject, asked: tuple[str, ...]) -> None:
        type_ = data.draw(st.sampled_from(sorted(self.client.in_flight)))
        request = SotwRequest(type=type_, names=asked, nonce="old", error="old")
        assert isinstance(self.session.receive(request, self.now), Stale)

    @rule()
    def reconnect(self) -> None:
        # The server cannot know what the client has; the client drops nothing by itself.
        self.client = Client(self.is_delta)
        self.open()


SETTINGS = settings(
    max_examples=200, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)


def test_delta_laws() -> None:
    """Incremental, with reconnections that bring resources."""
    run_state_machine_as_test(DeltaMachine, settings=SETTINGS)


def test_sotw_laws() -> None:
    """State of the world."""
    run_state_machine_as_test(SotwMachine, settings=SETTINGS)
