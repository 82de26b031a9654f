"""The state of the authority as one document: who signs, what is trusted, how far a rotation is.

It is the truth at every moment: replaced as a whole, by whoever read it last, and whatever a
process knows besides follows from it. `rotation` says how one state follows another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from smi_xds.identity.ca import Authority
from smi_xds.identity.signer import (
    Signer,
    check_key,
    check_trust_domain,
    encode_certificates,
    encode_signing_key,
    parse_certificates,
    parse_signing_key,
)
from smi_xds.values import is_trust_domain

_VERSION: Final = 1


class Phase(StrEnum):
    """What is trusted and what signs."""

    STEADY = "steady"
    """One signer, and it is trusted."""
    TRUST = "trust"
    """Its successor is trusted beside it, and does not sign yet."""
    SIGN = "sign"
    """The successor signs, and its predecessor is trusted still."""
    FADE = "fade"
    """The predecessor is not. It signed for another trust domain, whose names are accepted still:
    connections that began with them are being drained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one replica says of the proxies that are connected to it, in the epoch of now."""

    since: datetime
    """When it had begun to serve this epoch."""
    at: datetime
    """When it said so."""
    floor: timedelta
    """How long what it hands out lives, with a margin."""
    waiting: int = 0
    """Proxies that did not acknowledge yet."""
    refusing: int = 0
    """Proxies that refused."""
    named: tuple[str, ...] = ()
    """Some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that outlives a process."""

    signer: Signer
    """The one of now; while its successor signs, it is only trusted."""
    successor: Signer | None = None
    phase: Phase = Phase.STEADY
    epoch: int = 1
    """Counts what proxies have to be told."""
    began: datetime
    """When this phase did."""
    held_until: datetime
    """Certificates live as long that no server renews, and that this phase must outlive."""
    handed_out_until: datetime
    """When the last certificate ends that was handed out as a file."""
    forced: bool = False
    """Proxies that refuse are not waited for."""
    former: tuple[str, ...] = ()
    """Trust domains that once were."""
    replicas: Mapping[str, Report] = field(default_factory=dict)

    @property
    def active(self) -> Signer:
        """Who signs."""
        if self.phase in (Phase.SIGN, Phase.FADE):
            assert self.successor is not None
            return self.successor
        return self.signer

    def authority(self, *, created: bool = False) -> Authority:
        """What follows from it for whoever signs and trusts."""
        active = self.active
        # The old one first, whoever signs: nothing but leaves changes when the other does.
        both = [self.signer, *([self.successor] if self.successor else [])]
        assert active.key is not None
        return Authority(
            trust_domain=active.trust_domain,
            certificate=active.certificates[0],
            key=active.key,
            intermediates=active.certificates[:-1],
            roots=tuple(
                dict.fromkeys(it.root for it in ([active] if self.phase is Phase.FADE else both))
            ),
            aliases=tuple({it.trust_domain for it in both} - {active.trust_domain}),
            fading=self.phase is Phase.FADE,
            created=created,
        )


class _Signer(msgspec.Struct, rename="camel"):
    trust_domain: str
    certificates: str
    key: str
    brought: bool

    def __repr__(self) -> str:
        return f"<a signer of {self.trust_domain}>"


class _Report(msgspec.Struct, rename="camel"):
    since: datetime
    at: datetime
    floor: float
    waiting: int
    refusing: int
    named: list[str]


class _Document(msgspec.Struct, rename="camel"):
    version: int
    epoch: int
    phase: Phase
    began: datetime
    held_until: datetime
    handed_out_until: datetime
    forced: bool
    former: list[str]
    signer: _Signer
    successor: _Signer | None
    replicas: dict[str, _Report]


def write_state(state: State) -> bytes:
    """As JSON, with the keys: only for the eyes of its owner."""
    document = _Document(
        version=_VERSION,
        epoch=state.epoch,
        phase=state.phase,
        began=state.began,
        held_until=state.held_until,
        handed_out_until=state.handed_out_until,
        forced=state.forced,
        former=list(state.former),
        signer=_written(state.signer),
        successor=_written(state.successor) if state.successor else None,
        replicas={name: _report_written(it) for name, it in sorted(state.replicas.items())},
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def parse_state(content: bytes) -> State:
    """Read it again; ValueError says what is wrong with it, and quotes nothing."""
    try:
        version: Any = msgspec.json.decode(content).get("version")
    except (msgspec.MsgspecError, AttributeError, UnicodeError):
        raise ValueError("is not a readable JSON object") from None
    if version != _VERSION:
        raise ValueError("was written by another version of smi-xds: use that one")
    try:
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.MsgspecError, UnicodeError):
        raise ValueError("is not complete: fields are missing or have other values") from None
    state = State(
        signer=_read(document.signer),
        successor=_read(document.successor) if document.successor else None,
        phase=document.phase,
        epoch=document.epoch,
        began=_utc(document.began),
        held_until=_utc(document.held_until),
        handed_out_until=_utc(document.handed_out_until),
        forced=document.forced,
        former=tuple(document.former),
        replicas={name: _report_read(it) for name, it in document.replicas.items()},
    )
    if (state.successor is None) != (state.phase is Phase.STEADY) or state.active.key is None:
        raise ValueError("is not complete: it does not say who signs")
    if state.successor is not None and state.successor.key is None:
        raise ValueError("is not complete: it does not say who is to sign")
    return state


def _written(signer: Signer) -> _Signer:
    return _Signer(
        trust_domain=signer.trust_domain,
        certificates=encode_certificates(signer.certificates).decode(),
        key=encode_signing_key(signer.key).value.decode(),
        brought=signer.brought,
    )


def _read(signer: _Signer) -> Signer:
    if not is_trust_domain(signer.trust_domain):
        raise ValueError("does not name a trust domain")
    certificates = parse_certificates(signer.certificates.encode())
    check_trust_domain(certificates[0], signer.trust_domain)
    key = parse_signing_key(signer.key.encode()) if signer.key else None
    if key is not None:
        check_key(certificates, key)
    return Signer(
        trust_domain=signer.trust_domain,
        certificates=certificates,
        key=key,
        brought=signer.brought,
    )


def _report_written(report: Report) -> _Report:
    return _Report(
        since=report.since,
        at=report.at,
        floor=report.floor.total_seconds(),
        waiting=report.waiting,
        refusing=report.refusing,
        named=list(report.named),
    )


def _report_read(report: _Report) -> Report:
    return Report(
        since=_utc(report.since),
        at=_utc(report.at),
        floor=timedelta(seconds=report.floor),
        waiting=report.waiting,
        refusing=report.refusing,
        named=tuple(report.named),
    )


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("is not complete: it has a time without a zone")
    return time.astimezone(UTC)
