"""Our annotations on pods, with their namespace's as defaults.

`smi-xds.io/sidecar`, `smi-xds.io/app-address`, `smi-xds.io/access`, `smi-xds.io/mtls`. A value
that cannot be read is a problem, and the stricter reading counts.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TypeVar

from smi_xds.mesh.model import MeshSettings, Sidecar
from smi_xds.objects.kube import Annotations, Namespace, Pod
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import Mode, ObjectRef

SIDECAR = "smi-xds.io/sidecar"
APP_ADDRESS = "smi-xds.io/app-address"
ACCESS = "smi-xds.io/access"
MTLS = "smi-xds.io/mtls"

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What holds for one pod."""

    sidecar: Sidecar
    access: Mode
    mtls: Mode
    app_address: str


def pod_settings(
    pod: Pod, namespace: Namespace | None, settings: MeshSettings
) -> tuple[PodSettings, tuple[Problem, ...]]:
    """Read a pod's annotations over its namespace's over the mesh's settings."""
    reader = _Reader(pod.ref, pod.annotations, namespace.annotations if namespace else ())
    result = PodSettings(
        sidecar=reader.choice(SIDECAR, Sidecar, default=Sidecar.NONE, strictest=Sidecar.BOUND),
        access=reader.choice(ACCESS, Mode, default=settings.access, strictest=Mode.STRICT),
        mtls=reader.choice(MTLS, Mode, default=settings.mtls, strictest=Mode.STRICT),
        app_address=reader.address(APP_ADDRESS, default="127.0.0.1"),
    )
    return result, tuple(reader.problems)


class _Reader:
    def __init__(self, ref: ObjectRef, own: Annotations, inherited: Annotations) -> None:
        self._ref = ref
        self._values = dict(inherited) | dict(own)
        self.problems: list[Problem] = []

    def choice(self, name: str, choices: type[_E], *, default: _E, strictest: _E) -> _E:
        text = self._values.get(name)
        if text is None:
            return default
        if text in [choice.value for choice in choices]:
            return choices(text)
        self._bad(name, text, "one of " + ", ".join(choice.value for choice in choices))
        return strictest

    def address(self, name: str, *, default: str) -> str:
        text = self._values.get(name, default)
        try:
            return str(ip_address(text))
        except ValueError:
            self._bad(name, text, "an IP address")
            return default

    def _bad(self, name: str, text: str, wanted: str) -> None:
        self.problems.append(
            Problem(
                ref=self._ref,
                field=f"metadata.annotations[{name}]",
                code=ProblemCode.INVALID_ANNOTATION,
                message=f"{text!r} is not {wanted}.",
                cure=f"Write {wanted}, on the pod or on its namespace, or remove the annotation.",
            )
        )
