"""The subjects of a TrafficTarget: who may call (sources), and whom (the destination).

A subject is a ServiceAccount or an IdentityBinding. One that does not exist, or is of another
kind, is nobody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from smi_xds.mesh.bindings import Binding, united
from smi_xds.mesh.model import Grant, Source
from smi_xds.objects.smi import ACCESS_GROUP, Subject, TrafficTarget
from smi_xds.objects.versions import as_written
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ServiceAccountRef, SpiffeId

ACCOUNT = "ServiceAccount"
BINDING = "IdentityBinding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What subjects refer to: the accounts and bindings among them that exist."""

    accounts: frozenset[ServiceAccountRef] = frozenset()
    bindings: Mapping[ObjectRef, Binding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Whether the sidecars of a destination see the addresses of those who call."""

    some_see: bool = False
    some_do_not: bool = False


def subjects_of(target: TrafficTarget) -> Iterator[ObjectRef]:
    """The accounts and bindings that a TrafficTarget names, as written."""
    destination = (target.destination,) if target.destination is not None else ()
    for subject in (*destination, *(target.sources or ())):
        if subject.kind in (ACCOUNT, BINDING):
            yield _ref(subject, target)


def bound_destination(target: TrafficTarget) -> ObjectRef | None:
    """The IdentityBinding that a TrafficTarget protects, if that is what it names."""
    subject = target.destination
    if subject is None or subject.kind != BINDING or _is_foreign(subject, target):
        return None
    return _ref(subject, target) if _has_group(subject) else None


def from_anywhere(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """What is left where nobody sees from which address a caller comes."""
    if all(source.addresses is None for grant in grants for source in grant.sources):
        return grants
    left = (
        replace(grant, sources=tuple(it for it in grant.sources if it.addresses is None))
        for grant in grants
    )
    return tuple(grant for grant in left if grant.sources)


class SubjectReader:
    """Reads the subjects of one TrafficTarget and collects its problems."""

    def __init__(self, target: TrafficTarget, named: Named, trust_domain: str) -> None:
        self._target = target
        self._named = named
        self._trust_domain = trust_domain
        self.problems: list[Problem] = []

    def has_destination(self) -> bool:
        """Whether the destination is one that this TrafficTarget may speak for."""
        subject, where = self._target.destination, "spec.destination"
        if subject is None:
            self._add(
                where,
                ProblemCode.INVALID_OBJECT,
                "There is no destination.",
                "Name the ServiceAccount of the pods to protect.",
            )
            return False
        if not self._is_known_kind(subject, where):
            return False
        if _is_foreign(subject, self._target):
            self._add(
                f"{where}.namespace",
                ProblemCode.FOREIGN_NAMESPACE,
                f"The destination is in {subject.namespace}, this object is not; only a "
                "TrafficTarget beside its destination counts.",
                f"Move this object to the namespace {subject.namespace}.",
            )
            return False
        if subject.kind == BINDING:
            return self._binding(subject, where) is not None
        self._account(subject, where)
        return True

    def sources(self, sight: Sight) -> tuple[Source, ...]:
        """Who may call; those told by their address only where a sidecar sees it."""
        if not self._target.sources:
            self._add(
                "spec.sources",
                ProblemCode.NO_SOURCES,
                "No source is listed, so nobody is allowed.",
                "List the ServiceAccounts of the callers.",
            )
        found = [
            self._source(subject, f"spec.sources[{index}]", sight)
            for index, subject in enumerate(self._target.sources or ())
        ]
        return found[0] if len(found) == 1 else united(chain.from_iterable(found))

    def _source(self, subject: Subject, where: str, sight: Sight) -> tuple[Source, ...]:
        if not self._is_known_kind(subject, where):
            return ()
        if subject.kind == ACCOUNT:
            account = self._account(subject, where)
            # Certificates of an account that was deleted are valid for a day, and prove nothing.
            there = account in self._named.accounts
            return (Source(SpiffeId.of(self._trust_domain, account)),) if there else ()
        binding = self._binding(subject, where)
        if binding is None:
            return ()
        anywhere = tuple(source for source in binding.sources if source.addresses is None)
        if binding.sources == anywhere or not sight.some_do_not:
            return binding.sources
        self._add(
            where,
            ProblemCode.UNTRUSTED_ADDRESS,
            f"{_ref(subject, self._target)} selects callers by their pods' labels, which tells "
            "them by their addresses; bound sidecars of the destination do not see those, and do "
            "not let them in.",
            "Name the callers' ServiceAccount instead, or intercept the destination's traffic.",
        )
        return binding.sources if sight.some_see else anywhere

    def _is_known_kind(self, subject: Subject, where: str) -> bool:
        if subject.kind not in (ACCOUNT, BINDING):
            field, text = "kind", subject.kind
            cure = f"Write {ACCOUNT} or {BINDING}."
        elif not _has_group(subject):
            field, text = "group", f"{subject.kind}.{subject.group}"
            cure = f"Write {ACCESS_GROUP}, or leave it out."
        else:
            return True
        message = f"The kind {text!r} is not known here."
        self._add(f"{where}.{field}", ProblemCode.UNKNOWN_KIND, message, cure)
        return False

    def _account(self, subject: Subject, where: str) -> ServiceAccountRef:
        ref = _ref(subject, self._target)
        account = ServiceAccountRef(ref.namespace, ref.name)
        if account not in self._named.accounts:
            self._add(
                f"{where}.name",
                ProblemCode.MISSING_SERVICE_ACCOUNT,
                f"There is no ServiceAccount {account}, and no pod runs as it; nobody is meant.",
                "Create it, or correct the name.",
            )
        return account

    def _binding(self, subject: Subject, where: str) -> Binding | None:
        ref = _ref(subject, self._target)
        binding = self._named.bindings.get(ref)
        if binding is None:
            self._add(
                f"{where}.name",
                ProblemCode.MISSING_IDENTITY_BINDING,
                f"There is no usable {ref}, so it is nobody.",
                "Create or mend it, or correct the name.",
            )
        return binding

    def _add(self, field: str, code: ProblemCode, message: str, cure: str) -> None:
        where = as_written(field, self._target)
        self.problems.append(
            Problem(ref=self._target.ref, field=where, code=code, message=message, cure=cure)
        )


def _ref(subject: Subject, target: TrafficTarget) -> ObjectRef:
    return ObjectRef(subject.kind, subject.namespace or target.namespace, subject.name)


def _is_foreign(subject: Subject, target: TrafficTarget) -> bool:
    return (subject.namespace or target.namespace) != target.namespace


def _has_group(subject: Subject) -> bool:
    # A ServiceAccount is of the core group, whose name is empty; only an IdentityBinding has one.
    return subject.group in (None, "", ACCESS_GROUP)
