"""split.smi-spec.io in conversion.

Weights are quantities in v1alpha1 and numbers after it; matches exist since v1alpha3. Nothing is
reordered or added: Flagger compares what it wrote with what it reads.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

from smi_xds.objects.fields import Fields, changed, each, entries, in_spec, mapping, without
from smi_xds.objects.quantity import format_quantity, parse_quantity, whole_numbers
from smi_xds.objects.shapes import Restriction, Shape

_WITHOUT_MATCHES = ("v1alpha1", "v1alpha2")
_WITH_QUANTITIES = ("v1alpha1",)


def _from_hub(fields: Fields, version: str) -> Fields:
    if version in _WITHOUT_MATCHES:
        fields = in_spec(lambda it: without(it, "matches"))(fields)
    weigh = each(_with_quantity) if version in _WITH_QUANTITIES else _with_numbers
    return in_spec(lambda it: changed(it, "backends", weigh))(fields)


def _with_quantity(backend: Mapping[str, Any]) -> Mapping[str, Any]:
    # As text, like all known writers of v1alpha1; whole numbers without a suffix, as Flagger
    # reads only these.
    if not _is_number(backend.get("weight")):
        return backend
    return {**backend, "weight": format_quantity(_value(backend["weight"]))}


def _with_numbers(backends: Any) -> Any:
    weights = [mapping(it).get("weight") for it in entries(backends)]
    if all(map(_is_number, weights)):
        return backends
    numbers = iter(whole_numbers([_value(weight) for weight in weights]))
    # A weight that is absent counts as 0.
    return [
        {**it, "weight": number} if isinstance(it, Mapping) else it
        for it, number in zip(backends, numbers, strict=True)
    ]


def _is_number(weight: object) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and isfinite(weight)


def _value(weight: object) -> Decimal:
    """Its value; 0 for what has none, such as a quantity that cannot be read."""
    if isinstance(weight, str):
        return parse_quantity(weight.strip()) or Decimal(0)
    return Decimal(repr(weight)) if _is_number(weight) else Decimal(0)


def _rescue(visible: Fields, original: Fields, version: str, _namespace: str) -> Fields:
    was = mapping(original.get("spec"))

    def with_matches(spec: Mapping[str, Any]) -> Mapping[str, Any]:
        is_same = spec.get("service") == was.get("service")
        if version not in _WITHOUT_MATCHES or "matches" not in was or not is_same:
            return spec
        return {**spec, "matches": was["matches"]}

    return in_spec(with_matches)(visible)


def _restrictions(fields: Fields, _namespace: str) -> Iterator[Restriction]:
    matches = mapping(fields.get("spec")).get("matches")
    if matches:
        yield Restriction(key=("matches",), value=matches, field="spec.matches", said_in="v1alpha4")


TRAFFIC_SPLIT = Shape(from_hub=_from_hub, rescue=_rescue, restrictions=_restrictions)
