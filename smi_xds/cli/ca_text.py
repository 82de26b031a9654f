"""What `smi-xds ca` shows of a state. Keys are not among it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from smi_xds.cli.output import to_table
from smi_xds.identity.document import Phase, Report, State
from smi_xds.identity.rotation import standing
from smi_xds.identity.signer import Signer

_NEXT: Final = {
    Phase.TRUST: "the new root signs",
    Phase.SIGN: "the old root is gone",
    Phase.FADE: "the old trust domain is gone",
}
_SHORT: Final = 16  # digits of a fingerprint, in tables


def as_json(state: State, *, now: datetime) -> Mapping[str, Any]:
    """Everything, for programs."""
    waits = None if state.phase is Phase.STEADY else standing(state, now=now)
    authority = state.authority()
    return {
        "trustDomain": authority.trust_domain,
        "aliases": list(authority.aliases),
        "formerTrustDomains": list(state.former),
        "phase": state.phase.value,
        "since": _time(state.began),
        "forced": state.forced,
        "signers": [_signer(it, role) for it, role in _roles(state)],
        "next": waits
        and {
            "what": _NEXT[state.phase],
            "earliest": _time(waits.earliest),
            "waiting": waits.waiting,
            "refusing": waits.refusing,
            "proxies": list(waits.named),
        },
        "replicas": [{"name": name, **_report(it)} for name, it in sorted(state.replicas.items())],
    }


def as_text(state: State, *, now: datetime) -> Iterator[str]:
    """Tables and sentences, for people."""
    rows = [("ROOT (SHA-256)", "TRUST DOMAIN", "ROLE", "SIGNED BY", "ENDS")]
    for signer, role in _roles(state):
        rows.append(
            (
                signer.fingerprint[:_SHORT],
                signer.trust_domain,
                role,
                "--ca-cert" if signer.brought else "the root itself",
                _time(signer.not_after),
            )
        )
    yield from to_table(rows)
    if state.replicas:
        yield ""
        replicas = [("REPLICA", "SERVES IT SINCE", "SAID AT", "WAITING", "REFUSING")]
        for name, it in sorted(state.replicas.items()):
            counts = str(it.waiting), str(it.refusing)
            replicas.append((name, _time(it.since), _time(it.at), *counts))
        yield from to_table(replicas)
    yield ""
    yield in_a_line(state, now=now)
    if named := sorted({it for report in state.replicas.values() for it in report.named}):
        yield f"Not yet acknowledged by: {', '.join(named)}"


def in_a_line(state: State, *, now: datetime) -> str:
    """How far it is."""
    if state.phase is Phase.STEADY:
        return f"No rotation is under way: {state.signer.fingerprint[:_SHORT]} signs."
    waits = standing(state, now=now)
    assert state.successor is not None
    phases = 3 if state.successor.trust_domain != state.signer.trust_domain else 2
    what = {
        Phase.TRUST: f"Phase 1 of {phases}: both roots are trusted, the old one signs",
        Phase.SIGN: f"Phase 2 of {phases}: the new root signs, the old one is trusted still",
        Phase.FADE: f"Phase 3 of {phases}: connections of the old trust domain are drained",
    }[state.phase]
    if not waits.replicas:
        return f"{what}. Waits for a server to report: is one running?"
    missing = [f"{waits.waiting} to acknowledge"] if waits.waiting else []
    if waits.refusing:
        missing.append(f"{waits.refusing} that refuse (--force goes on without them)")
    waiting = f"; waits for {' and '.join(missing)}" if missing and not state.forced else ""
    forced = "; forced" if state.forced else ""
    then = _NEXT[state.phase].capitalize()
    return f"{what}. {then} at {_time(waits.earliest)} at the earliest{waiting}{forced}."


def _roles(state: State) -> Iterator[tuple[Signer, str]]:
    if state.phase is not Phase.FADE:
        yield state.signer, "former" if state.phase is Phase.SIGN else "signs"
    if state.successor is not None:
        yield state.successor, "next" if state.phase is Phase.TRUST else "signs"


def _signer(signer: Signer, role: str) -> Mapping[str, Any]:
    return {
        "root": signer.fingerprint,
        "subject": signer.root.subject.rfc4514_string(),
        "trustDomain": signer.trust_domain,
        "role": role,
        "brought": signer.brought,
        "intermediates": [it.subject.rfc4514_string() for it in signer.certificates[:-1]],
        "notBefore": _time(signer.not_before),
        "notAfter": _time(signer.not_after),
    }


def _report(report: Report) -> Mapping[str, Any]:
    return {
        "since": _time(report.since),
        "at": _time(report.at),
        "waiting": report.waiting,
        "refusing": report.refusing,
        "proxies": list(report.named),
    }


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
