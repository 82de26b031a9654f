"""access.smi-spec.io in conversion.

`destination.port` has a field until v1alpha2, the group of a subject only in v1alpha4. Kinds of
subjects and rules are written as they are in every version: who does not know one grants nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from smi_xds.objects.fields import (
    Fields,
    changed,
    each,
    entries,
    flattened,
    in_spec,
    mapping,
    nested,
    without,
)
from smi_xds.objects.shapes import Restriction, Shape
from smi_xds.objects.smi import ACCESS_GROUP

_WITH_PORT = ("v1alpha1", "v1alpha2")
_WITH_GROUP = ("v1alpha4",)


def _to_hub(fields: Fields, version: str) -> Fields:
    return nested(fields, {"specs": "rules"}) if version == "v1alpha1" else fields


def _from_hub(fields: Fields, version: str) -> Fields:
    # A port that stands in a newer version is read (it restricts), but not written there: clients
    # that do not know the field would drop it, and keep annotations.
    unknown = () if version in _WITH_PORT else ("port",)
    groups = () if version in _WITH_GROUP else ("group",)

    def shown(spec: Mapping[str, Any]) -> dict[str, Any]:
        spec = changed(spec, "destination", lambda it: _plain(it, *unknown, *groups))
        spec = changed(spec, "sources", each(lambda it: without(it, *groups)))
        # Required since v1alpha3: without them, the object could not even be given a status.
        return spec if version in _WITH_PORT else {"rules": [], "sources": [], **spec}

    fields = in_spec(shown)(fields)
    return flattened(fields, {"rules": "specs"}) if version == "v1alpha1" else fields


def _plain(value: Any, *names: str) -> Any:
    return without(value, *names) if isinstance(value, Mapping) else value


def _subject(value: object, namespace: str) -> tuple[str, ...]:
    it = mapping(value)
    return str(it.get("kind")), str(it.get("name")), str(it.get("namespace") or namespace)


def _rescue(visible: Fields, original: Fields, version: str, namespace: str) -> Fields:
    was = mapping(original.get("spec"))
    port, to = (
        mapping(was.get("destination")).get("port"),
        _subject(was.get("destination"), namespace),
    )
    groups = {
        _subject(it, namespace): mapping(it)["group"]
        for it in (was.get("destination"), *entries(was.get("sources")))
        if "group" in mapping(it)
    }

    def with_port(subject: Any) -> Any:
        is_same = isinstance(subject, Mapping) and _subject(subject, namespace) == to
        if version in _WITH_PORT or not is_same or port is None or subject.get("port") is not None:
            return subject
        return {**subject, "port": port}

    def with_group(subject: Any) -> Any:
        group = groups.get(_subject(subject, namespace))
        if version in _WITH_GROUP or group is None or not isinstance(subject, Mapping):
            return subject
        return {**subject, "group": group}

    def rescued(spec: Mapping[str, Any]) -> dict[str, Any]:
        spec = changed(spec, "destination", lambda it: with_group(with_port(it)))
        return changed(spec, "sources", each(with_group))

    return in_spec(rescued)(visible)


def _restrictions(fields: Fields, namespace: str) -> Iterator[Restriction]:
    spec = mapping(fields.get("spec"))
    port = mapping(spec.get("destination")).get("port")
    if port is not None:
        yield Restriction(
            key=("port",), value=port, field="spec.destination.port", said_in=_WITH_PORT[-1]
        )
    for place in ("destination", "sources"):
        for subject in _subjects(spec, place):
            # Without a group, a kind is one of ours: a foreign one would turn into it.
            group = mapping(subject).get("group") or ACCESS_GROUP
            if group != ACCESS_GROUP:
                yield Restriction(
                    key=("group", place, *_subject(subject, namespace)),
                    value=group,
                    field=f"spec.{place}.group",
                    said_in=_WITH_GROUP[-1],
                )


def _subjects(spec: Mapping[str, Any], place: str) -> list[Any]:
    return entries(spec.get(place)) if place == "sources" else [spec.get(place)]


def _is_there(restriction: Restriction, _old: Fields, new: Fields, namespace: str) -> bool:
    if restriction.key == ("port",):
        return True  # another destination would be open on all of its ports
    _, place, *subject = restriction.key
    there = _subjects(mapping(new.get("spec")), place)
    return tuple(subject) in {_subject(it, namespace) for it in there}


TRAFFIC_TARGET = Shape(
    to_hub=_to_hub,
    from_hub=_from_hub,
    rescue=_rescue,
    restrictions=_restrictions,
    is_there=_is_there,
)
