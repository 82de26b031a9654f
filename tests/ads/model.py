"""A model of a client, to judge any sequence of responses: legal, necessary, and converging."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from smi_xds.ads.session import HOLD, Response
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    WILDCARD_TYPES,
    Need,
    Resource,
    ResourceSet,
)

CHILD: Final[Mapping[TypeUrl, TypeUrl]] = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}
USERS: Final[Mapping[TypeUrl, tuple[TypeUrl, ...]]] = {
    CLUSTER: (LISTENER, ROUTES),
    ENDPOINTS: (CLUSTER,),
    ROUTES: (LISTENER,),
    LISTENER: (),
}
MODELLED: Final = tuple(USERS)


@dataclass
class Interest:
    """What a client asks for of one type."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names


@dataclass
class Client:
    """What a client asked for, was told, and may have in use."""

    is_delta: bool
    interest: dict[TypeUrl, Interest] = field(default_factory=dict)
    """Of the types that it asked for on this stream."""
    told: dict[TypeUrl, dict[str, Resource]] = field(default_factory=dict)
    """The last that it heard of each name."""
    using: dict[TypeUrl, dict[str, set[Resource]]] = field(default_factory=dict)
    """What it may have in use: several forms while it did not say which."""
    owed: dict[TypeUrl, set[str]] = field(default_factory=dict)
    """Names that must be answered whatever it was told before."""
    in_flight: dict[TypeUrl, Response] = field(default_factory=dict)
    answered: set[TypeUrl] = field(default_factory=set)
    clusters_sent_at: float = -1000.0
    refused_clusters: set[str] = field(default_factory=set)
    claimed_at: float | None = None
    """When it first said on this stream what it brought from another one."""
    nonces: set[str] = field(default_factory=set)

    # ------------------------------------------------------------------ asking

    def ask(self, type_: TypeUrl, wanted: Interest, *, asked: Iterable[str]) -> None:
        """It asks for `wanted` from now on; `asked` are to be answered in any case."""
        self.interest[type_] = wanted
        for store in (self.told, self.using):
            kept = {n: v for n, v in store.get(type_, {}).items() if wanted.covers(n)}
            store[type_] = kept  # type: ignore[assignment]  # the same type as before
        owed = self.owed.get(type_, set()) | set(asked)
        self.owed[type_] = {name for name in owed if wanted.covers(name)}

    def reconnect(self) -> None:
        """Its stream ended; it keeps what it has and asks anew. It knows what it is using."""
        self.using = {
            type_: {name: {max(forms, key=lambda r: r.version)} for name, forms in names.items()}
            for type_, names in self.using.items()
        }
        self.told = {t: {n: next(iter(f)) for n, f in ns.items()} for t, ns in self.using.items()}
        self.interest, self.owed, self.in_flight = {}, {}, {}
        self.answered, self.refused_clusters, self.nonces = set(), set(), set()
        self.clusters_sent_at, self.claimed_at = -1000.0, None

    # ------------------------------------------------------------------ hearing

    def hear(self, response: Response, published: ResourceSet, now: float) -> None:
        """Take a response; it must be legal and necessary."""
        type_ = response.type
        assert type_ in self.interest, "nobody asked for the type"
        assert type_ not in self.in_flight, "the last response is not answered"
        assert response.nonce not in self.nonces, "the nonce came before"
        self.nonces.add(response.nonce)
        new = {each.name: each for each in response.resources}
        assert len(new) == len(response.resources), "a name comes twice"
        assert not new.keys() & set(response.removed), "given and taken"
        gone = set(response.removed)
        told = self.told.setdefault(type_, {})
        if not self.is_delta and type_ in WILDCARD_TYPES:
            gone = told.keys() - new.keys()
        self._check_content(type_, new, gone, published)
        self._check_need(type_, new, gone)
        self._check_order(type_, new, gone, published=published, now=now)
        self._apply(response, new, gone, now)

    def _check_content(
        self, type_: TypeUrl, new: Mapping[str, Resource], gone: set[str], published: ResourceSet
    ) -> None:
        told = self.told[type_]
        for name, resource in new.items():
            assert resource.body, "a stand-in was sent"
            assert self.interest[type_].covers(name), f"{name} was not asked for"
            current = published.get(type_, name)
            if current is None:
                assert told.get(name) == resource, f"{name} does not exist"
            elif told.get(name) != resource:
                assert current == resource, f"{name} is neither as published nor as told"
        for name in gone:
            assert self.interest[type_].covers(name), f"{name} was not asked for"
            if name not in told:
                assert published.get(type_, name) is None, f"{name} is told absent but exists"

    def _check_need(self, type_: TypeUrl, new: Mapping[str, Resource], gone: set[str]) -> None:
        told, owed = self.told[type_], self.owed[type_]
        is_first = type_ not in self.answered
        news = {name for name, resource in new.items() if told.get(name) != resource}
        losses = {name for name in gone if name in told}
        if type_ in WILDCARD_TYPES and not self.is_delta:
            assert is_first or news or losses or owed, "full state without a reason"
            return
        for name in new:
            assert name in news or name in owed, f"{name} is sent again without a reason"
        for name in gone:
            assert name in losses or name in owed, f"{name} is removed without a reason"
        assert new or gone or (self.is_delta and is_first and self.interest[type_].wildcard), (
            "empty"
        )

    def _check_order(
        self,
        type_: TypeUrl,
        new: Mapping[str, Resource],
        gone: set[str],
        *,
        published: ResourceSet,
        now: float,
    ) -> None:
        for name in gone:
            if name in self.told[type_]:  # else it was told before that it is gone
                self._check_unused(Need(type_, name), now)
        if type_ not in (LISTENER, ROUTES) or CLUSTER not in self.interest:
            return
        is_late = now >= self.clusters_sent_at + HOLD
        flight = self.in_flight.get(CLUSTER)
        for name, resource in new.items():
            before = self.told[type_].get(name)
            needs = resource.needs - (before.needs if before is not None else frozenset())
            for need in needs:
                if need.type != CLUSTER or not self.interest[CLUSTER].covers(need.name):
                    continue
                if published.get(CLUSTER, need.name) is None:
                    continue
                assert need.name in self.told[CLUSTER], f"{name} before its cluster"
                if not is_late:
                    waits = flight is not None and need.name in flight.replaced
                    assert not waits, f"{name} before its cluster is warm"
                    assert need.name not in self.refused_clusters, f"{name} with a refused cluster"

    def _check_unused(self, need: Need, now: float) -> None:
        for user in USERS[need.type]:
            if user not in self.interest and not self._is_believed(now):
                continue
            for name, forms in self.using.get(user, {}).items():
                assert all(need not in form.needs for form in forms), (
                    f"{need.name} is taken from {user} {name}"
                )

    def _is_believed(self, now: float) -> bool:
        """Whether a server may know that it has resources which it has not asked for yet."""
        return self.claimed_at is not None and now < self.claimed_at + HOLD

    def _apply(
        self, response: Response, new: Mapping[str, Resource], gone: set[str], now: float
    ) -> None:
        type_ = response.type
        told, using = self.told[type_], self.using.setdefault(type_, {})
        changed = {name for name, resource in new.items() if told.get(name) != resource}
        for name, resource in new.items():
            told[name] = resource
            using.setdefault(name, set()).add(resource)
        for name in gone:
            told.pop(name, None)
        is_complete = not self.is_delta and type_ in WILDCARD_TYPES
        # What is held is answered later.
        self.owed[type_] = set() if is_complete else self.owed[type_] - new.keys() - gone
        self.answered.add(type_)
        self.in_flight[type_] = response
        if type_ == CLUSTER:
            self.clusters_sent_at = now
        child = CHILD.get(type_)
        if child in self.interest:
            needs = {n.name for name in changed for n in new[name].needs if n.type == child}
            wanted = {name for name in needs if self.interest[child].covers(name)}
            self.owed[child] |= wanted

    # ------------------------------------------------------------------ answering

    def accept(self, type_: TypeUrl) -> Response:
        """It has applied the response."""
        response = self.in_flight.pop(type_)
        told, using = self.told[type_], self.using[type_]
        names = {r.name for r in response.resources} | set(response.removed)
        if not self.is_delta and type_ in WILDCARD_TYPES:
            names |= using.keys()
        for name in names:
            if name in told:
                using[name] = {told[name]}
            else:
                using.pop(name, None)
        if type_ == CLUSTER:
            self.refused_clusters -= names
        return response

    def refuse(self, type_: TypeUrl) -> Response:
        """It refused the response as a whole; part of it may be in use all the same."""
        response = self.in_flight.pop(type_)
        if type_ == CLUSTER:
            self.refused_clusters |= response.replaced.keys()
        return response

    # ------------------------------------------------------------------ in the end

    def check_converged(self, published: ResourceSet) -> None:
        """It has what is published, of what it asked for, and is using just that."""
        assert not self.in_flight
        for type_, interest in self.interest.items():
            there = published.all(type_)
            wanted = {name: r for name, r in there.items() if interest.covers(name)}
            has = self.told.get(type_, {})
            # What is gone remains as long as something that is in use refers to it.
            has = {n: r for n, r in has.items() if n in there or not self._is_stuck(type_, n)}
            assert has == wanted, f"{type_}: {has} instead of {wanted}"

    def _is_stuck(self, type_: TypeUrl, name: str) -> bool:
        if not self.is_delta and type_ not in WILDCARD_TYPES:
            return True  # state of the world cannot tell that routes are gone
        in_use = (self.using.get(user, {}).values() for user in USERS[type_])
        forms = (form for each in in_use for forms in each for form in forms)
        return any(Need(type_, name) in form.needs for form in forms)
