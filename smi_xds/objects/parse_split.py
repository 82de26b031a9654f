"""split.smi-spec.io: the wire shape of each version, and from these to the types of the hub."""

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import TypeAlias

from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.metadata import annotations_of, name_of, namespace_of
from smi_xds.objects.quantity import parse_quantity
from smi_xds.objects.smi import Backend, SplitMatch, TrafficSplit
from smi_xds.objects.wire import Envelope, Strict


class _QuantityBackendWire(Strict):
    service: str
    weight: str | int | float | None = None


class _QuantitySplitSpec(Strict):
    service: str
    backends: list[_QuantityBackendWire] | None = None


class QuantitySplitWire(Envelope, kw_only=True):
    """TrafficSplit of v1alpha1."""

    spec: _QuantitySplitSpec


class _BackendWire(Strict):
    service: str
    weight: int | float


class _SplitSpec(Strict):
    service: str
    backends: list[_BackendWire] | None = None


class SplitWire(Envelope, kw_only=True):
    """TrafficSplit of v1alpha2."""

    spec: _SplitSpec


class _SplitMatchWire(Strict):
    kind: str
    name: str
    api_group: str | None = None


class _MatchingSplitSpec(_SplitSpec):
    matches: list[_SplitMatchWire] | None = None


class MatchingSplitWire(Envelope, kw_only=True):
    """TrafficSplit of v1alpha3 and v1alpha4."""

    spec: _MatchingSplitSpec


class _HubSplitSpec(_QuantitySplitSpec):
    matches: list[_SplitMatchWire] | None = None


class HubSplitWire(Envelope, kw_only=True):
    """All that any version can say: what conversion restores."""

    spec: _HubSplitSpec


AnySplitWire: TypeAlias = QuantitySplitWire | SplitWire | MatchingSplitWire | HubSplitWire


def split_from(wire: AnySplitWire) -> TrafficSplit:
    """TrafficSplit, of any version."""
    matches = wire.spec.matches if isinstance(wire, MatchingSplitWire | HubSplitWire) else None
    backends: Sequence[_QuantityBackendWire | _BackendWire] = wire.spec.backends or ()
    return TrafficSplit(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=wire.version,
        uid=wire.uid,
        generation=wire.generation,
        created=wire.created,
        annotations=annotations_of(wire.metadata),
        service=wire.spec.service,
        backends=tuple(
            _backend(backend, field=f"spec.backends[{index}].weight")
            for index, backend in enumerate(backends)
        ),
        matches=None
        if matches is None
        else tuple(SplitMatch(kind=m.kind, name=m.name, api_group=m.api_group) for m in matches),
    )


def _backend(wire: _QuantityBackendWire | _BackendWire, *, field: str) -> Backend:
    weight = wire.weight
    if weight is None:
        return Backend(service=wire.service)
    if isinstance(weight, str):
        value = parse_quantity(weight.strip())
        if value is None:
            raise ParseError(
                field,
                f"'{printable(weight)}' is not a quantity",
                "Write a number, or one with a unit such as 500m or 1k.",
            )
        return Backend(service=wire.service, weight=value, written=weight)
    if not isfinite(weight):
        raise ParseError(
            field, "the number is too large", "Write a smaller one: weights are relative."
        )
    # By way of its text: 0.1 is a tenth, as written, not the nearest binary fraction.
    return Backend(service=wire.service, weight=Decimal(repr(weight)))
