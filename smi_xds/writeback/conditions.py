"""What became of an object, as conditions (meta/v1 Condition), from its problems and its tally.

Types and the reasons of what is well are those of the Gateway API; the reasons of what is wrong are
the codes of problems. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from smi_xds.problems import Problem, ProblemCode, Severity
from smi_xds.values import ProxyId


class Type(StrEnum):
    """The conditions that we write."""

    ACCEPTED = "Accepted"
    """The object makes sense by itself."""
    RESOLVED_REFS = "ResolvedRefs"
    """What it names is there."""
    PROGRAMMED = "Programmed"
    """The proxies that it concerns have it."""


class Truth(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


REJECTED: Final = "Rejected"
PENDING: Final = "Pending"
NO_PROXIES: Final = "NoProxies"

_REFERENCES: Final = frozenset(
    {
        ProblemCode.MISSING_ROUTE,
        ProblemCode.MISSING_MATCH,
        ProblemCode.MISSING_SERVICE_ACCOUNT,
        ProblemCode.MISSING_IDENTITY_BINDING,
        ProblemCode.MISSING_SERVICE,
        ProblemCode.MISSING_BACKEND,
        ProblemCode.BACKEND_PORT_MISMATCH,
        ProblemCode.EXTERNAL_NAME,
    }
)
"""What is wrong with what an object names, not with the object."""

# Told in one message; people mend the first ones first.
_TOLD: Final = 5
# Far below what the API server takes (32768), and as much as anybody reads.
_LONGEST: Final = 4000
# Of what a proxy says: Envoy repeats whole resources in some errors.
_LONGEST_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many of the proxies that an object concerns have it."""

    configured: int = 0
    """Those in the mesh, connected to this server or not."""
    connected: int = 0
    applied: int = 0
    waiting: ProxyId | None = None
    """The first that has not answered."""
    refusing: ProxyId | None = None
    """The first that refuses something."""
    error: str = ""
    """What that one says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition, without the time since when it is so."""

    type: Type
    status: Truth
    reason: str
    message: str
    generation: int

    @property
    def essence(self) -> tuple[object, ...]:
        """Everything but the words."""
        return (self.type, self.status, self.reason, self.generation)


Conditions = tuple[Condition, ...]


def conditions_of(
    generation: int,
    problems: Sequence[Problem],
    tally: Tally,
    *,
    namespace: str,
    is_read: bool = True,
) -> Conditions:
    """The conditions of one object; `is_read` says whether this generation could be parsed.

    Whoever may read it reads them, too: of proxies in other namespaces than its own, neither the
    names nor the words are told.
    """
    dangling = [it for it in problems if it.code in _REFERENCES]
    others = [it for it in problems if it.code not in _REFERENCES]
    wrong = [it for it in others if it.code.severity is Severity.ERROR]
    accepted = _judged(Type.ACCEPTED, wrong, others, "It is understood.")
    resolved = _judged(Type.RESOLVED_REFS, dangling, dangling, "All that it names is there.")
    programmed = _programmed(tally, namespace) if is_read else _unread(accepted)
    return tuple(
        Condition(type=type_, status=status, reason=reason, message=text, generation=generation)
        for type_, status, reason, text in (accepted, resolved, programmed)
    )


_Said = tuple[Type, Truth, str, str]


def _judged(type_: Type, wrong: Sequence[Problem], told: Sequence[Problem], well: str) -> _Said:
    if wrong:
        # The errors first: the reason is the first of them.
        ordered = [*wrong, *(it for it in told if it not in wrong)]
        return (type_, Truth.FALSE, wrong[0].code.value, _listed(ordered))
    text = f"{well} {_listed(told)}" if told else well
    return (type_, Truth.TRUE, type_.value, text)


def _listed(problems: Sequence[Problem]) -> str:
    texts = [_text(it) for it in problems[:_TOLD]]
    if len(problems) > _TOLD:
        texts.append(f"{len(problems) - _TOLD} more: see smi-xds check.")
    if len(texts) > 1:
        texts = [f"({number}) {text}" for number, text in enumerate(texts, start=1)]
    return _cut(" ".join(texts), _LONGEST)


def _text(problem: Problem) -> str:
    where = f"{problem.field}: " if problem.field else ""
    message = problem.message if problem.message.endswith(".") else f"{problem.message}."
    return f"{where}{message} {problem.cure} [{problem.code}]"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _unread(accepted: _Said) -> _Said:
    _, _, reason, _ = accepted
    return (
        Type.PROGRAMMED,
        Truth.FALSE,
        reason,
        "It cannot be read, so proxies do not have it; if an earlier generation could, they keep "
        "that one.",
    )


def _programmed(tally: Tally, namespace: str) -> _Said:
    count = f"Applied on {tally.applied} of {tally.connected} proxies"
    if tally.refusing is not None:
        error = _cut(" ".join(tally.error.split()), _LONGEST_ERROR)
        words = f": {error}" if tally.refusing.namespace == namespace else "."
        text = f"{count}; {_named(tally.refusing, namespace)} refuses what it was sent{words}"
        said = (Truth.FALSE, REJECTED, text)
    elif not tally.connected:
        said = (Truth.UNKNOWN, NO_PROXIES, "It concerns no proxy that is connected.")
    elif tally.waiting is not None:
        text = f"{count}; {_named(tally.waiting, namespace)} has not answered yet."
        said = (Truth.FALSE, PENDING, text)
    else:
        said = (Truth.TRUE, Type.PROGRAMMED.value, f"{count}.")
    status, reason, text = said
    if away := tally.configured - tally.connected:
        more = "more " if tally.connected else ""
        text += f" {away} {more}{'is' if away == 1 else 'are'} not connected."
    return (Type.PROGRAMMED, status, reason, text)


def _named(proxy: ProxyId, namespace: str) -> str:
    return str(proxy) if proxy.namespace == namespace else f"a proxy in {proxy.namespace}"


def is_told(conditions: Conditions, told: Iterable[Mapping[str, Any]]) -> bool:
    """Whether an object says all of them already."""
    said = {_said(it) for it in told}
    return all(_said(_written(it)) in said for it in conditions)


def is_told_in_essence(conditions: Conditions, told: Iterable[Mapping[str, Any]]) -> bool:
    """Whether it says the same in other words at most."""
    said = {_said(it)[:-1] for it in told}
    return all(_said(_written(it))[:-1] in said for it in conditions)


def merged(
    conditions: Conditions, told: Sequence[Mapping[str, Any]], *, now: str
) -> list[dict[str, Any]]:
    """What the object is to say: ours in place of ours, and what others said of it as it was.

    The time of a condition is the one at which its status changed.
    """
    before = {it.get("type"): it for it in told}
    ours = []
    for condition in conditions:
        old = before.get(condition.type.value, {})
        is_same = old.get("status") == condition.status.value
        since = old.get("lastTransitionTime") if is_same else None
        ours.append({**_written(condition), "lastTransitionTime": since or now})
    types = {it["type"] for it in ours}
    return [*ours, *(dict(it) for it in told if it.get("type") not in types)]


def _written(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type.value,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.generation,
    }


def _said(told: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        told.get(key) for key in ("type", "status", "reason", "observedGeneration", "message")
    )
