"""access.smi-spec.io: the wire shape of each version, and from these to the types of the hub.

Whether what is said makes sense is judged by the mesh, which sees all objects.
"""

from collections.abc import Sequence
from typing import TypeAlias

from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.metadata import (
    annotations_of,
    check_name,
    check_namespace,
    name_of,
    namespace_of,
)
from smi_xds.objects.smi import IdentityBinding, Rule, Subject, TrafficTarget
from smi_xds.objects.wire import Envelope, Strict, frozen
from smi_xds.values import SpiffeId


class _SubjectWire(Strict):
    kind: str
    name: str
    namespace: str | None = None


class _DestinationWire(_SubjectWire):
    # Gone since v1alpha3, yet still written: as it restricts, it is kept and obeyed. The Go type
    # once was a string.
    port: int | str | None = None


class _GroupSubjectWire(_SubjectWire):
    group: str | None = None


class _GroupDestinationWire(_DestinationWire):
    group: str | None = None


class _RuleWire(Strict):
    kind: str
    name: str
    matches: list[str] | None = None


class RootTargetWire(Envelope, kw_only=True):
    """TrafficTarget of v1alpha1: no spec, and the rules are called specs."""

    destination: _DestinationWire | None = None
    specs: list[_RuleWire] | None = None
    sources: list[_SubjectWire] | None = None


class _TargetSpec(Strict):
    destination: _DestinationWire | None = None
    rules: list[_RuleWire] | None = None
    sources: list[_SubjectWire] | None = None


class TargetWire(Envelope, kw_only=True):
    """TrafficTarget of v1alpha2 and v1alpha3."""

    spec: _TargetSpec | None = None


class _GroupTargetSpec(Strict):
    destination: _GroupDestinationWire | None = None
    rules: list[_RuleWire] | None = None
    sources: list[_GroupSubjectWire] | None = None


class GroupTargetWire(Envelope, kw_only=True):
    """TrafficTarget of v1alpha4: subjects may be of a kind outside the core, with its group."""

    spec: _GroupTargetSpec | None = None


AnyTargetWire: TypeAlias = RootTargetWire | TargetWire | GroupTargetWire


class _PodLabelSelectorWire(Strict):
    match_labels: dict[str, str]


class _SchemesWire(Strict):
    pod_label_selector: _PodLabelSelectorWire | None = None
    spiffe_identities: list[str] | None = None
    service_account: str | None = None


class _IdentitySpec(Strict):
    schemes: _SchemesWire


class IdentityBindingWire(Envelope, kw_only=True):
    """IdentityBinding of v1alpha4."""

    spec: _IdentitySpec


def target_from(wire: AnyTargetWire) -> TrafficTarget:
    """TrafficTarget, of any version."""
    sources: Sequence[_SubjectWire] | None
    if isinstance(wire, RootTargetWire):
        at, rules = "", wire.specs
        destination, sources = wire.destination, wire.sources
    else:
        spec = wire.spec or _TargetSpec()
        at, rules = "spec.", spec.rules
        destination, sources = spec.destination, spec.sources
    return TrafficTarget(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=wire.version,
        uid=wire.uid,
        generation=wire.generation,
        created=wire.created,
        annotations=annotations_of(wire.metadata),
        destination=_subject(destination, field=f"{at}destination") if destination else None,
        destination_port=_port(destination, field=f"{at}destination.port") if destination else None,
        rules=None
        if rules is None
        else tuple(Rule(kind=r.kind, name=r.name, matches=frozen(r.matches)) for r in rules),
        sources=None
        if sources is None
        else tuple(_subject(it, field=f"{at}sources[{i}]") for i, it in enumerate(sources)),
    )


def _subject(wire: _SubjectWire, *, field: str) -> Subject:
    # Both become part of a SPIFFE id; there are no wildcards in SMI.
    if wire.kind in {"ServiceAccount", "IdentityBinding"}:
        check_name(wire.name, field=f"{field}.name")
    if wire.namespace:
        check_namespace(wire.namespace, field=f"{field}.namespace")
    group = wire.group if isinstance(wire, _GroupSubjectWire | _GroupDestinationWire) else None
    return Subject(
        kind=wire.kind, name=wire.name, namespace=wire.namespace or None, group=group or None
    )


def _port(wire: _DestinationWire, *, field: str) -> int | None:
    port = wire.port
    if isinstance(port, str):
        if not (port.isascii() and port.isdecimal() and len(port) <= 5):
            raise ParseError(
                field,
                f"'{printable(port)}' is not a port number",
                "Write a number from 1 to 65535.",
            )
        return int(port)
    return port


def identity_binding_from(wire: IdentityBindingWire) -> IdentityBinding:
    """IdentityBinding: what its own webhook refuses (smi-spec PR #248) is refused here, too."""
    schemes, at = wire.spec.schemes, "spec.schemes"
    selector, account = schemes.pod_label_selector, schemes.service_account
    if selector is None and schemes.spiffe_identities is None and account is None:
        raise ParseError(
            at,
            "names nobody",
            "Write podLabelSelector, spiffeIdentities or serviceAccount.",
        )
    if selector is not None and account is not None:
        raise ParseError(
            at,
            "podLabelSelector and serviceAccount exclude each other",
            "Keep one, and write another IdentityBinding for the other.",
        )
    if selector is not None and not selector.match_labels:
        raise ParseError(
            f"{at}.podLabelSelector.matchLabels",
            "an empty selector would mean every pod",
            "Name at least one label.",
        )
    if account is not None:
        check_name(account, field=f"{at}.serviceAccount")
    return IdentityBinding(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=wire.version,
        uid=wire.uid,
        generation=wire.generation,
        created=wire.created,
        annotations=annotations_of(wire.metadata),
        match_labels=None if selector is None else tuple(sorted(selector.match_labels.items())),
        spiffe_identities=_identities(schemes.spiffe_identities, field=f"{at}.spiffeIdentities"),
        service_account=account,
    )


def _identities(texts: list[str] | None, *, field: str) -> tuple[str, ...] | None:
    if texts is None:
        return None
    if not texts:
        raise ParseError(field, "the list is empty", "Name at least one SPIFFE id, or remove it.")
    for index, text in enumerate(texts):
        try:
            SpiffeId.parse(text)
        except ValueError:
            raise ParseError(
                f"{field}[{index}]",
                f"'{printable(text)}' is not a SPIFFE id",
                "Write it in full, such as spiffe://cluster.local/ns/shop/sa/web.",
            ) from None
    return tuple(texts)
