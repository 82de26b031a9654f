"""Splits of what nobody here can split: names outside the mesh, pods called one by one, splits."""

from collections.abc import Callable, Iterator, Mapping

from smi_xds.mesh.model import Service
from smi_xds.objects.smi import TrafficSplit
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ServiceRef


def root_problems(root: Service, split: TrafficSplit) -> Iterator[Problem]:
    """What is wrong with the kind of service that a split has as its root."""
    if root.external:
        yield _external(split, "spec.service", root.service, "so there is nothing to split")
    elif root.headless:
        yield Problem(
            ref=split.ref,
            field="spec.service",
            code=ProblemCode.HEADLESS_ROOT,
            message=f"Service {root.service} is headless: an intercepted caller chooses one of its "
            "pods by address, and the split has no say; it has one where callers name the "
            "service itself (bound sidecars, gRPC without a proxy).",
            cure="Split a Service with a cluster IP.",
        )


def backend_problems(
    split: TrafficSplit, services: Mapping[ServiceRef, Service]
) -> Iterator[Problem]:
    """Backends that are names outside the mesh."""
    for index, backend in enumerate(split.backends):
        found = services.get(ServiceRef(split.namespace, backend.service))
        if found is not None and found.external:
            where = f"spec.backends[{index}].service"
            yield _external(split, where, found.service, "so it is left out")


def nested_splits(
    splits: tuple[TrafficSplit, ...], roots: Callable[[ServiceRef], bool]
) -> Iterator[Problem]:
    """Backends that are split themselves, which has no effect on what the split sends there."""
    for split in splits:
        for index, backend in enumerate(split.backends):
            name = ServiceRef(split.namespace, backend.service)
            if backend.service != split.service.partition(".")[0] and roots(name):
                yield Problem(
                    ref=split.ref,
                    field=f"spec.backends[{index}].service",
                    code=ProblemCode.NESTED_SPLIT,
                    message=f"Service {name} is split by a TrafficSplit of its own, which is not "
                    "followed: its own endpoints get the share.",
                    cure="List the backends of that split here, with their part of the weight.",
                )


def _external(split: TrafficSplit, field: str, service: ServiceRef, consequence: str) -> Problem:
    return Problem(
        ref=split.ref,
        field=field,
        code=ProblemCode.EXTERNAL_NAME,
        message=f"Service {service} is of type ExternalName, a name for something outside the "
        f"mesh, {consequence}.",
        cure="Name a Service that selects pods, or one with EndpointSlices of its own.",
    )
