"""Sessions as scripts: a list of steps, read from top to bottom, with neither loop nor socket.

play(
    DELTA,
    publish("cluster a 1 > endpoints a", "endpoints a 1"),
    ask(CLUSTER),
    hear(CLUSTER, "a"),
    ack(CLUSTER),
    silence,
)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from smi_xds.ads.session import (
    Acked,
    DeltaRequest,
    DeltaSession,
    Event,
    Memo,
    Rejected,
    Request,
    Response,
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
    SECRET,
    Need,
    Resource,
    ResourceSet,
)

DELTA: Final = "delta"
SOTW: Final = "sotw"

_KINDS: Final[Mapping[str, TypeUrl]] = {
    "secret": SECRET,
    "cluster": CLUSTER,
    "endpoints": ENDPOINTS,
    "listener": LISTENER,
    "routes": ROUTES,
}


def resource(line: str) -> Resource:
    """`cluster a 1 > endpoints a, secret s`: kind, name, content, and what it refers to."""
    head, _, needs = line.partition(">")
    kind, name, content = head.split()
    pairs = (need.split() for need in needs.split(",") if need.strip())
    return Resource.of(
        _KINDS[kind],
        name,
        f"{name}@{content}".encode(),
        needs=(Need(_KINDS[needed], to) for needed, to in pairs),
    )


def resources(*lines: str) -> ResourceSet:
    """A set with one layer per type."""
    layers: dict[TypeUrl, dict[str, Resource]] = {}
    for each in map(resource, lines):
        layers.setdefault(each.type, {})[each.name] = each
    return ResourceSet({type_: (layer,) for type_, layer in layers.items()})


@dataclass
class Play:
    """A session with the clock and the last things that came out of it."""

    session: DeltaSession | SotwSession
    now: float = 0.0
    heard: dict[TypeUrl, Response] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    event: Event | None = None

    def receive(self, request: Request) -> None:
        """Hand over a request in the dialect of the session."""
        match self.session, request:
            case DeltaSession(), DeltaRequest():
                self.event = self.session.receive(request, self.now)
            case SotwSession(), SotwRequest():
                self.event = self.session.receive(request, self.now)
            case _:
                raise AssertionError(f"{request} is not for {self.session}")

    def next(self) -> Response | None:
        """Take the next response out."""
        response = self.session.next(self.now)
        if response is not None:
            assert response.nonce not in self.nonces, "a nonce came twice (E6)"
            self.nonces.add(response.nonce)
            self.heard[response.type] = response
        return response


Step: TypeAlias = Callable[[Play], None]


def play(dialect: str, *steps: Step, memo: Memo | None = None) -> Play:
    """Run the steps on a fresh session; whoever plays again with the same memo shares it."""
    kind = DeltaSession if dialect == DELTA else SotwSession
    play = Play(kind(EMPTY, memo=memo or Memo()))
    for number, step in enumerate(steps, 1):
        try:
            step(play)
        except AssertionError as error:
            error.add_note(f"in step {number} of {len(steps)}")
            raise
    return play


def is_delta(play: Play) -> bool:
    """Which dialect is spoken."""
    return isinstance(play.session, DeltaSession)


# ---------------------------------------------------------------------- what the mesh does


def publish(*lines: str) -> Step:
    """New resources for this client, and nothing else."""
    return publish_set(resources(*lines))


def publish_set(published: ResourceSet) -> Step:
    """The same, ready-made."""

    def step(play: Play) -> None:
        play.session.update(published)

    return step


def wait(seconds: float) -> Step:
    """Time passes."""

    def step(play: Play) -> None:
        play.now += seconds

    return step


# ---------------------------------------------------------------------- what the client does


def ask(
    type_: TypeUrl,
    *names: str,
    nonce: str = "",
    version: str = "",
    known: Mapping[str, str] | None = None,
    leave: tuple[str, ...] = (),
) -> Step:
    """Subscribe. In SotW these are all names, in delta further ones (and `leave` those to drop)."""

    def step(play: Play) -> None:
        if is_delta(play):
            play.receive(
                DeltaRequest(
                    type=type_, subscribe=names, unsubscribe=leave, known=known or {}, nonce=nonce
                )
            )
        else:
            play.receive(SotwRequest(type=type_, names=names, nonce=nonce, version=version))

    return step


def ask_again(type_: TypeUrl, *names: str) -> Step:
    """SotW: name all anew, with the nonce of the last response."""

    def step(play: Play) -> None:
        nonce = play.heard[type_].nonce if type_ in play.heard else ""
        play.receive(SotwRequest(type=type_, names=names, nonce=nonce))

    return step


def leave(type_: TypeUrl, *names: str) -> Step:
    """Delta: drop names."""
    return ask(type_, leave=names)


def _answer(play: Play, type_: TypeUrl, names: tuple[str, ...] | None, error: str | None) -> None:
    response = play.heard[type_]
    if is_delta(play):
        play.receive(
            DeltaRequest(type=type_, subscribe=names or (), nonce=response.nonce, error=error)
        )
        return
    assert isinstance(play.session, SotwSession)
    if names is None:
        interest = play.session._subs[type_].interest
        is_legacy = interest.wildcard and not play.session._subs[type_].ever_named
        names = () if is_legacy else (*(["*"] if interest.wildcard else []), *interest.names)
    play.receive(
        SotwRequest(
            type=type_,
            names=names,
            nonce=response.nonce,
            version=response.version if error is None else "",
            error=error,
        )
    )


def ack(*types: TypeUrl, names: tuple[str, ...] | None = None) -> Step:
    """Accept the last response of each type."""

    def step(play: Play) -> None:
        for type_ in types:
            _answer(play, type_, names, None)
            assert isinstance(play.event, Acked), play.event

    return step


def nack(type_: TypeUrl, text: str = "bad", *, names: tuple[str, ...] | None = None) -> Step:
    """Refuse the last response."""

    def step(play: Play) -> None:
        _answer(play, type_, names, text)
        assert isinstance(play.event, Rejected), play.event
        assert play.event.text == text

    return step


# ---------------------------------------------------------------------- what the client hears


def hear(type_: TypeUrl, *names: str, removed: tuple[str, ...] = ()) -> Step:
    """The next response has just these resources (`name` or `name@content`)."""

    def step(play: Play) -> None:
        response = play.next()
        assert response is not None, f"silence instead of {type_}"
        assert response.type == type_
        got = [
            each.body.decode() if "@" in want else each.name
            for each, want in zip(response.resources, sorted(names), strict=False)
        ]
        got += [each.name for each in response.resources[len(names) :]]
        assert got == sorted(names)
        assert response.removed == tuple(sorted(removed))

    return step


def silence(play: Play) -> None:
    """There is nothing to hear now."""
    response = play.next()
    assert response is None, f"{response.type}: {response.resources}, removed {response.removed}"


def stale(play: Play) -> None:
    """The last request answered an old response."""
    assert isinstance(play.event, Stale), play.event


def settled(play: Play) -> None:
    """Nothing is awaited from the client, nor owed to it."""
    silence(play)
    assert play.session.is_settled


def unsettled(play: Play) -> None:
    """Something is still under way."""
    assert not play.session.is_settled


def start(*types: TypeUrl, endpoints: tuple[str, ...] = (), routes: tuple[str, ...] = ()) -> Step:
    """An Envoy that has everything and acknowledged it; then the script begins."""
    names = {ENDPOINTS: endpoints, ROUTES: routes}

    def step(play: Play) -> None:
        for type_ in types or (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
            ask(type_, *names.get(type_, ()))(play)
            while play.next() is not None:
                pass
            for heard in list(play.heard):
                if play.session._subs[heard].in_flight is not None:
                    ack(heard)(play)
        while (response := play.next()) is not None:
            ack(response.type)(play)
        settled(play)

    return step
