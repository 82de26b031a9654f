"""Our annotations on pods, with their namespace's as defaults.

`smi-xds.io/sidecar`, `smi-xds.io/app-address`, `smi-xds.io/access`, `smi-xds.io/mtls`,
`smi-xds.io/egress`. A value that cannot be read is a problem, and the stricter reading counts.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from smi_xds.mesh.model import Egress, MeshSettings, Sidecar
from smi_xds.objects.kube import Namespace, Pod
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import AccessMode, Mode, ObjectRef, as_ip

SIDECAR = "smi-xds.io/sidecar"
APP_ADDRESS = "smi-xds.io/app-address"
ACCESS = "smi-xds.io/access"
MTLS = "smi-xds.io/mtls"
EGRESS = "smi-xds.io/egress"

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What holds for one pod."""

    sidecar: Sidecar
    access: AccessMode
    mtls: Mode
    app_address: str
    egress: Egress = Egress.OPEN


def pod_settings(
    pod: Pod, namespace: Namespace | None, settings: MeshSettings
) -> tuple[PodSettings, tuple[Problem, ...]]:
    """Read a pod's annotations over its namespace's over the mesh's settings."""
    reader = _Reader(pod, namespace)
    sidecar = reader.choice(SIDECAR, Sidecar, default=Sidecar.NONE, strictest=Sidecar.BOUND)
    # An intercepted application listens where it would without us; a bound sidecar is there itself.
    intercepted = sidecar is Sidecar.INTERCEPTED
    result = PodSettings(
        sidecar=sidecar,
        access=reader.choice(
            ACCESS, AccessMode, default=settings.access, strictest=AccessMode.STRICT
        ),
        mtls=reader.choice(MTLS, Mode, default=settings.mtls, strictest=Mode.STRICT),
        app_address=reader.address(
            APP_ADDRESS, default=pod.ips[0] if intercepted and pod.ips else "127.0.0.1"
        ),
        egress=reader.choice(EGRESS, Egress, default=Egress.OPEN, strictest=Egress.CLOSED),
    )
    return result, tuple(reader.problems)


class _Reader:
    def __init__(self, pod: Pod, namespace: Namespace | None) -> None:
        # Each value with the object that says it: a problem of a namespace is told once.
        self._values: dict[str, tuple[str, ObjectRef]] = {}
        for it in (pod,) if namespace is None else (namespace, pod):
            self._values |= {name: (value, it.ref) for name, value in it.annotations}
        self.problems: list[Problem] = []

    def choice(self, name: str, choices: type[_E], *, default: _E, strictest: _E) -> _E:
        if name not in self._values:
            return default
        if (text := self._values[name][0]) in [choice.value for choice in choices]:
            return choices(text)
        self._bad(name, "one of " + ", ".join(choice.value for choice in choices))
        return strictest

    def address(self, name: str, *, default: str) -> str:
        if name not in self._values:
            return default
        # One with a zone Envoy would not take.
        address = as_ip(self._values[name][0])
        if address is None:
            self._bad(name, "an IP address without a zone")
            return default
        return str(address)

    def _bad(self, name: str, wanted: str) -> None:
        text, ref = self._values[name]
        self.problems.append(
            Problem(
                ref=ref,
                field=f"metadata.annotations[{name}]",
                code=ProblemCode.INVALID_ANNOTATION,
                message=f"{text!r} is not {wanted}.",
                cure=f"Write {wanted}, or remove the annotation.",
            )
        )
