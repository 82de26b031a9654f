"""What the mesh would say of an object, if it were as somebody proposes. Pure.

It builds a mesh of its own, from the objects of the latest round with that one put in its place;
as the tables of a builder keep what did not change, a proposal costs what a change would.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Lock
from typing import TypeVar

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.groups import Groups
from smi_xds.objects.smi import SmiObject, TrafficSplit, TrafficTarget
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem
from smi_xds.values import ObjectRef

_K = TypeVar("_K")
_Member = TypeVar("_Member", bound=TrafficTarget | TrafficSplit)


class Foresight:
    """Safe in any thread: reviews come in several, and the builder takes one at a time."""

    def __init__(
        self,
        settings: MeshSettings,
        objects: Callable[[], Objects | None],
        *,
        namespaces: tuple[str, ...] = (),
    ) -> None:
        """`objects` are the latest, None before there are any; no `namespaces` stands for all."""
        self._settings = settings
        self._objects = objects
        self._namespaces = frozenset(namespaces)
        self._lock = Lock()
        self._build = MeshBuilder(settings)
        self._built = settings

    def settle(self, settings: MeshSettings) -> None:
        """Understand objects otherwise from the next review on."""
        self._settings = settings

    def __call__(self, it: SmiObject) -> tuple[Problem, ...]:
        """The problems of this object; none where nothing is known of its surroundings."""
        objects = self._objects()
        if objects is None or (self._namespaces and it.namespace not in self._namespaces):
            return ()
        mesh = self._mesh(proposed(objects, it))
        return tuple(problem for problem in mesh.problems if problem.ref == it.ref)

    def prepare(self) -> None:
        """Build what proposals are compared with, before somebody waits for the first one.

        With 5,000 pods it takes 1.5 s of the 5 s that an API server is patient for.
        """
        if (objects := self._objects()) is not None:
            self._mesh(objects)

    def _mesh(self, objects: Objects) -> Mesh:
        with self._lock:
            if self._built != self._settings:
                self._built = self._settings
                self._build = MeshBuilder(self._built)
            try:
                return self._build(objects)
            except BaseException:
                # What its tables hold is half of one proposal and half of another.
                self._build = MeshBuilder(self._built)
                raise


def proposed(objects: Objects, it: SmiObject) -> Objects:
    """The picture with this object in place of its former self, and without its old problems."""
    alone = Groups()  # which knows where an object stands
    alone.replace(None, it)
    new = alone.picture(())
    return replace(
        objects,
        targets=_with(objects.targets, new.targets, it.ref),
        bound_targets=_with(objects.bound_targets, new.bound_targets, it.ref),
        splits=_with(objects.splits, new.splits, it.ref),
        identity_bindings=_put(objects.identity_bindings, new.identity_bindings),
        http_routes=_put(objects.http_routes, new.http_routes),
        tcp_routes=_put(objects.tcp_routes, new.tcp_routes),
        udp_routes=_put(objects.udp_routes, new.udp_routes),
        problems=tuple(problem for problem in objects.problems if problem.ref != it.ref),
    )


_V = TypeVar("_V")


def _put(before: Mapping[_K, _V], new: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return {**before, **new} if new else before


def _with(
    before: Mapping[_K, tuple[_Member, ...]], new: Mapping[_K, tuple[_Member, ...]], ref: ObjectRef
) -> Mapping[_K, tuple[_Member, ...]]:
    """Families in which it stands once; all others are the very same objects."""
    # Its key may have changed (another root), so it is looked for.
    held = {
        key: rest
        for key, family in before.items()
        if (rest := tuple(it for it in family if it.ref != ref)) != family
    }
    if not held and not new:
        return before
    families: dict[_K, tuple[_Member, ...]] = {**before, **held}
    for key, added in new.items():
        together = (*families.get(key, ()), *added)
        families[key] = tuple(sorted(together, key=lambda it: (it.name, it.namespace)))
    return {key: family for key, family in families.items() if family}
