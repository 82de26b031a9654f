"""How one root, or trust domain, takes the place of another without anybody being refused.

    steady ──begin──► trust ──────► sign ──────► (fade) ──────► steady
                      both are      the new      the old root   its trust
                      trusted       one signs    is gone        domain is, too

Before each arrow every connected proxy must have acknowledged what the phase is about, and what
the former phase handed out must have ended: so whoever is not connected holds nothing any more
that others refuse, or that has it refuse others. All functions are pure; whatever calls them writes
the result over the very state it had read, or begins anew.

Why it holds. At a phase's end each live replica has reported that it serves this epoch, and when it
began to (`since`); whatever it handed out before ends a floor later. A proxy that is connected
acknowledged; one that is not has, after the floor, no valid certificate of before: nobody takes it
for anybody, whatever it trusts, and when it comes back it is told first. A replica that says
nothing for a floor is taken for dead, as its proxies went elsewhere. Connections outlive the
certificates with which they began, and requests are judged by those: so where the trust domain
changes, its old name is accepted for one phase more, in which such connections are drained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from smi_xds.identity.document import Phase, Report, State
from smi_xds.identity.signer import Signer
from smi_xds.problems import IdentityError

# Replicas learn of a phase seconds after it began, and their clocks differ.
_MARGIN: Final = 0.1
# A root of our own is replaced at two thirds of its life, as leaves are.
_RENEWAL: Final = 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the next phase waits for."""

    earliest: datetime
    """It may not begin before, whoever acknowledged."""
    waiting: int
    """Connected proxies that have not acknowledged."""
    refusing: int
    """Connected proxies that refused."""
    named: tuple[str, ...]
    """Some of these."""
    replicas: int
    """That have reported, and are alive."""

    def is_over(self, now: datetime, *, forced: bool) -> bool:
        """Whether nothing is waited for any more."""
        answered = forced or not (self.waiting or self.refusing)
        return answered and self.replicas > 0 and now >= self.earliest


def floor_of(lifetime: timedelta, *, minimum: timedelta = timedelta(0)) -> timedelta:
    """How long a phase takes at least, where leaves live for that long."""
    return max(lifetime * (1 + _MARGIN), minimum)


def begin(state: State, successor: Signer, *, now: datetime) -> State:
    """Trust a successor beside the signer of now; IdentityError where that cannot be."""
    if state.phase is not Phase.STEADY:
        raise IdentityError(
            f"a rotation is under way (phase {state.phase.value}): see `smi-xds ca status`, which "
            "exits with 0 when it is over"
        )
    if successor.is_same(state.signer):
        raise IdentityError("it signs already: nothing to rotate")
    return _next(
        state, phase=Phase.TRUST, signer=state.signer, successor=successor, forced=False, now=now
    )


def adopt(state: State, signer: Signer, *, now: datetime) -> State:
    """Let another signer take over: at once below the same root, in phases below another one.

    At once as well where the one of now has ended: what it signed has, too, and refuses nobody.
    """
    if now >= state.active.not_after:
        return _next(
            state, phase=Phase.STEADY, signer=signer, successor=None, forced=False, now=now
        )
    if signer.root != state.signer.root or signer.trust_domain != state.signer.trust_domain:
        return begin(state, signer, now=now)
    if state.phase is not Phase.STEADY:
        raise IdentityError("a rotation is under way")
    return _next(state, phase=Phase.STEADY, signer=signer, successor=None, forced=False, now=now)


def abort(state: State, *, now: datetime) -> State:
    """Forget a successor that has not signed yet."""
    if state.phase is not Phase.TRUST:
        raise IdentityError(
            "there is no rotation that could be given up: "
            + (
                "none is under way"
                if state.phase is Phase.STEADY
                else "the new root signs already; when it is through, rotate again"
            )
        )
    return _next(
        state, phase=Phase.STEADY, signer=state.signer, successor=None, forced=False, now=now
    )


def force(state: State) -> State:
    """Go on without proxies that refuse or do not answer, from now to the end."""
    if state.phase is Phase.STEADY:
        raise IdentityError("there is no rotation to force: begin one without --force")
    return replace(state, forced=True)


def reported(state: State, name: str, report: Report) -> State:
    """Take down what a replica says of this epoch."""
    known = state.replicas.get(name)
    if known is not None and known.since > report.since:
        # It was restarted: what it did before still counts.
        report = replace(report, since=known.since)
    return replace(state, replicas={**state.replicas, name: report})


def standing(state: State, *, now: datetime) -> Standing:
    """What is waited for before the next phase may begin."""
    live = {name: it for name, it in state.replicas.items() if now < it.at + it.floor}
    begins = max((it.since for it in live.values()), default=state.began)
    floor = max((it.floor for it in state.replicas.values()), default=timedelta(0))
    return Standing(
        earliest=max(max(begins, state.began) + floor, state.held_until),
        waiting=sum(it.waiting for it in live.values()),
        refusing=sum(it.refusing for it in live.values()),
        named=_named(live),
        replicas=len(live),
    )


def advance(state: State, *, now: datetime) -> State | None:
    """The next phase, if it is time; None while there is something to wait for."""
    if state.phase is Phase.STEADY:
        return None
    # By one that has ended nothing can be signed, and nothing that it signed is believed.
    has_ended = state.phase is Phase.TRUST and now >= state.signer.not_after
    if not (has_ended or standing(state, now=now).is_over(now, forced=state.forced)):
        return None
    successor = state.successor
    assert successor is not None
    if state.phase is Phase.TRUST:
        return _next(
            state,
            phase=Phase.SIGN,
            # It has signed its last: whoever steals the state from now on gets nothing of it.
            signer=state.signer.without_key(),
            successor=successor,
            forced=state.forced,
            now=now,
        )
    if state.phase is Phase.SIGN and state.signer.trust_domain != successor.trust_domain:
        return _next(
            state,
            phase=Phase.FADE,
            signer=state.signer,
            successor=successor,
            forced=state.forced,
            now=now,
        )
    former = dict.fromkeys((*state.former, state.signer.trust_domain))
    former.pop(successor.trust_domain, None)
    ended = _next(
        state, phase=Phase.STEADY, signer=successor, successor=None, forced=False, now=now
    )
    return replace(ended, former=tuple(former))


def is_due(state: State, *, now: datetime) -> bool:
    """Whether it is time to replace a root of our own, before it ends."""
    signer = state.signer
    if state.phase is not Phase.STEADY or signer.brought:
        return False
    return now >= signer.not_before + (signer.not_after - signer.not_before) * _RENEWAL


def _next(
    state: State,
    *,
    phase: Phase,
    signer: Signer,
    successor: Signer | None,
    forced: bool,
    now: datetime,
) -> State:
    return replace(
        state,
        phase=phase,
        signer=signer,
        successor=successor,
        forced=forced,
        epoch=state.epoch + 1,
        began=now,
        held_until=max(now, state.handed_out_until),
        replicas={},
    )


def _named(live: Mapping[str, Report]) -> tuple[str, ...]:
    return tuple(sorted({name for it in live.values() for name in it.named}))
