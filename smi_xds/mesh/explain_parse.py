"""Questions as an operator writes them; AskError says what is wrong with one."""

import re
from collections.abc import Iterable

from smi_xds.mesh.explain_values import Kind, Question, Source
from smi_xds.problems import AskError
from smi_xds.values import ServiceAccountRef, ServiceRef, SpiffeId

OUTSIDE = "outside"
"""A caller without a sidecar."""


def parse_question(
    *,
    source: str,
    destination: str,
    kind: str = "",
    method: str = "",
    path: str = "",
    headers: Iterable[str] = (),
    address: str = "",
) -> Question:
    """Read `NAMESPACE/ACCOUNT`, `NAMESPACE/SERVICE:PORT` and headers like `name=value`."""
    service, pod, port = _destination(destination)
    return Question(
        source=_source(source),
        service=service,
        pod=pod,
        port=port,
        kind=_kind(kind),
        method=method or "GET",
        path=path or "/",
        headers=tuple(_header(text) for text in headers),
        address=address,
    )


def _source(text: str) -> Source:
    if text == OUTSIDE:
        return None
    if "://" in text:
        try:
            return SpiffeId.parse(text)
        except ValueError as error:
            raise AskError(f"the source {error}") from None
    namespace, _, name = text.partition("/")
    if not (namespace and name) or "/" in name:
        raise AskError(
            f"the source {text!r} is not NAMESPACE/SERVICEACCOUNT, a SPIFFE id, or {OUTSIDE}"
        )
    return ServiceAccountRef(namespace, name)


def _destination(text: str) -> tuple[ServiceRef, str, int]:
    where, _, port = text.rpartition(":")
    match where.split("/"):
        case [namespace, name, *pod] if namespace and name and len(pod) < 2:
            # Python refuses to read thousands of digits.
            if re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536:
                return ServiceRef(namespace, name), "".join(pod), int(port)
    raise AskError(
        f"the destination {text!r} is not NAMESPACE/SERVICE:PORT, with the Service's port, nor "
        "NAMESPACE/SERVICE/POD:PORT for one pod of a headless Service"
    )


def _kind(text: str) -> Kind:
    try:
        return Kind(text or Kind.AUTO)
    except ValueError:
        raise AskError(f"the kind {text!r} is not one of: {', '.join(Kind)}") from None


def _header(text: str) -> tuple[str, str]:
    """`name=value`, or `name: value` as curl has it: whichever sign comes first."""
    at = min((i for i in (text.find("=", 1), text.find(":", 1)) if i > 0), default=0)
    if not at or not text[:at].strip():
        raise AskError(f"the header {text!r} is not NAME=VALUE")
    return text[:at].strip(), text[at + 1 :].strip()
