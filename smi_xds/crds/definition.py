"""From schemas to CustomResourceDefinitions: versions, conversion, columns, status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from smi_xds.crds import access, specs, split
from smi_xds.crds.schema import Schema, a_list, a_text, an_object, column
from smi_xds.objects.versions import SMI_KINDS, SmiKind

WEBHOOK_NAMESPACE = "smi-xds"
WEBHOOK_SERVICE = "smi-xds-webhooks"
WEBHOOK_PORT = 15017
WEBHOOK_PATH = "/convert"


class Conversion(StrEnum):
    """What an API server does with an object that it keeps in another version."""

    NONE = "none"
    """It only writes the other version's name on it: served are those versions that have the
    shape of the stored one."""
    WEBHOOK = "webhook"
    """It asks us: every version is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    schema: Callable[[str], Schema]
    columns: Callable[[str], list[dict[str, Any]]]
    unconverted: Callable[[str], Schema] | None = None
    """The schema where nobody converts, if it is another one."""

    def schema_for(self, conversion: Conversion) -> Callable[[str], Schema]:
        """That of a version."""
        own = self.unconverted if conversion is Conversion.NONE else None
        return own or self.schema


_PARTS: Mapping[str, _Parts] = {
    "TrafficTarget": _Parts(
        schema=access.target,
        columns=access.target_columns,
        unconverted=access.unconverted_target,
    ),
    "IdentityBinding": _Parts(schema=access.binding, columns=access.binding_columns),
    "HTTPRouteGroup": _Parts(schema=specs.http, columns=specs.http_columns),
    "TCPRoute": _Parts(schema=partial(specs.ports, transport="TCP"), columns=specs.ports_columns),
    "UDPRoute": _Parts(schema=partial(specs.ports, transport="UDP"), columns=specs.ports_columns),
    "TrafficSplit": _Parts(schema=split.split, columns=split.split_columns),
}


def definitions(conversion: Conversion) -> tuple[dict[str, Any], ...]:
    """One CustomResourceDefinition per kind."""
    return tuple(_definition(it, conversion) for it in SMI_KINDS.values())


def _definition(kind: SmiKind, conversion: Conversion) -> dict[str, Any]:
    versions = _served(kind, conversion)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "labels": {"app.kubernetes.io/part-of": "smi-xds"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["smi"],
            },
            "conversion": _conversion(versions, conversion),
            # Newest first: the order is the reader's; the API server has its own.
            "versions": [_version(kind, version, conversion) for version in reversed(versions)],
        },
    }


def _served(kind: SmiKind, conversion: Conversion) -> tuple[str, ...]:
    if conversion is Conversion.WEBHOOK:
        return kind.versions
    schema = _PARTS[kind.kind].schema_for(conversion)
    return tuple(it for it in kind.versions if schema(it) == schema(kind.stored))


def _conversion(versions: tuple[str, ...], conversion: Conversion) -> dict[str, Any]:
    if conversion is Conversion.NONE or len(versions) == 1:
        return {"strategy": "None"}
    service = {
        "namespace": WEBHOOK_NAMESPACE,
        "name": WEBHOOK_SERVICE,
        "port": WEBHOOK_PORT,
        "path": WEBHOOK_PATH,
    }
    # The caBundle is put in by whoever rotates the certificate.
    webhook = {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1"]}
    return {"strategy": "Webhook", "webhook": webhook}


def _version(kind: SmiKind, version: str, conversion: Conversion) -> dict[str, Any]:
    parts = _PARTS[kind.kind]
    schema = parts.schema_for(conversion)(version)
    common = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    properties = {**common, **schema.get("properties", {}), "status": _status()}
    return {
        "name": version,
        "served": True,
        "storage": version == kind.stored,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            *parts.columns(version),
            _condition("Accepted", "Whether it can be obeyed."),
            _condition("Programmed", "Whether sidecars have it.", priority=1),
            column("Age", ".metadata.creationTimestamp", "Time since it was made.", kind="date"),
        ],
        "schema": {"openAPIV3Schema": {**schema, "properties": properties}},
    }


def _condition(name: str, description: str, *, priority: int = 0) -> dict[str, Any]:
    path = f'.status.conditions[?(@.type=="{name}")].status'
    return column(name, path, description, priority=priority)


def _status() -> Schema:
    """As meta/v1 Condition has it."""
    condition = an_object(
        "One thing that is so or not.",
        {
            "type": a_text("What is told.", maxLength=316),
            "status": a_text("Whether it is so.", enum=["True", "False", "Unknown"]),
            "observedGeneration": {
                "description": "The generation of the object that this was said of.",
                "type": "integer",
                "format": "int64",
                "minimum": 0,
            },
            "lastTransitionTime": a_text("Since when it is so.", format="date-time"),
            "reason": a_text("Why, in one word.", maxLength=1024),
            "message": a_text("Why, in words for people.", maxLength=32768),
        },
        required=["type", "status", "lastTransitionTime", "reason", "message"],
    )
    conditions = a_list(
        "What is true of the object.",
        condition,
        **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    return an_object("What became of the object; smi-xds writes it.", {"conditions": conditions})
