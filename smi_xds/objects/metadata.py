"""What all objects have in common: names, labels, annotations, addresses."""

import re
from ipaddress import IPv6Address

import msgspec

from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.kube import ANNOTATION_PREFIX, Annotations, Labels

# RFC 1123 label and subdomain, as Kubernetes has them: with these, every name is safe in a
# resource name, in a path of a SPIFFE id and on a terminal. In the names of objects (and of hosts)
# Kubernetes limits the whole, and not what stands between the dots; DNS does.
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_IS_LABEL = re.compile(_LABEL).fullmatch
_IS_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*").fullmatch
_IS_NAME = re.compile(rf"(?=.{{1,253}}$){_PART}(?:\.{_PART})*").fullmatch
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
is_ipv4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}").fullmatch

DEFAULT_NAMESPACE = "default"

CONVERTED_ANNOTATION = f"{ANNOTATION_PREFIX}converted"
"""What the version of an object cannot say (`objects.convert`); no setting of the user's."""


class OwnerReference(msgspec.Struct, rename="camel"):
    """meta/v1 OwnerReference."""

    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Metadata(msgspec.Struct, rename="camel"):
    """meta/v1 ObjectMeta, as far as it is read."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


def name_of(meta: Metadata) -> str:
    """The object's name, which may hold no surprises."""
    check_name(meta.name, field="metadata.name")
    return meta.name


def namespace_of(meta: Metadata) -> str:
    """The object's namespace; files may leave it out, as kubectl lets them."""
    namespace = meta.namespace or DEFAULT_NAMESPACE
    check_namespace(namespace, field="metadata.namespace")
    return namespace


def labels_of(labels: dict[str, str] | None) -> Labels:
    """Labels or a selector, frozen."""
    return frozenset(labels.items()) if labels else frozenset()


def annotations_of(meta: Metadata) -> Annotations:
    """Our own annotations, sorted; a change of any other is no change to us."""
    if not meta.annotations:
        return ()
    return tuple(
        sorted(
            (name, value)
            for name, value in meta.annotations.items()
            if name.startswith(ANNOTATION_PREFIX) and name != CONVERTED_ANNOTATION
        )
    )


def check_name(name: str, *, field: str) -> None:
    """Raise a ParseError where it cannot be the name of an object."""
    if not is_name(name):
        raise ParseError(
            field,
            f"'{printable(name)}' cannot be the name of an object",
            "Use lower case letters, digits, '-' and '.', at most 253.",
        )


def is_name(text: str) -> bool:
    """Whether an object may be called so."""
    return _IS_NAME(text) is not None


def check_host(name: str, *, field: str) -> None:
    """Raise a ParseError where it cannot be the name of a host."""
    if not _IS_HOST(name):
        raise ParseError(
            field,
            f"'{printable(name)}' cannot be the name of a host",
            "Use lower case letters, digits, '-' and '.', at most 253, and 63 between two dots.",
        )


def check_namespace(name: str, *, field: str) -> None:
    """Raise a ParseError where it cannot name a namespace (or a Service, or a host)."""
    if not _IS_LABEL(name):
        raise ParseError(
            field,
            f"'{printable(name)}' cannot be used here",
            "Use lower case letters, digits and '-', at most 63.",
        )


def address_from(text: str, *, field: str) -> str:
    """An IP address in its canonical form, so that equal addresses are equal strings."""
    if is_ipv4(text):
        return text
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise ParseError(
            field,
            f"'{printable(text)}' is not an IP address",
            "Write an address such as 10.1.2.3 or fd00::1, without port and zone.",
        )
    return str(address)
