"""Kinds of sidecars: those of one kind get the very same configuration.

The pods of a workload differ in their names and addresses. An intercepted sidecar reads neither:
it binds every address of its own pod. A bound one binds its address, so that each is of a kind of
its own.
"""

from dataclasses import replace
from typing import final

from smi_xds.mesh.model import Sidecar, Workload
from smi_xds.values import ProxyId

_NOBODY = ProxyId("", "")
_ANY_ADDRESS = {False: "0.0.0.0", True: "::"}  # noqa: S104 - of its own namespace


@final
class Kind:
    """A workload without what its configuration does not depend on; hashed once."""

    __slots__ = ("_hash", "workload")

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._hash = hash(workload)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kind):
            return NotImplemented
        same = self.workload is other.workload
        return same or (self._hash == other._hash and self.workload == other.workload)


def kind_of(workload: Workload) -> Kind:
    """The kind of a workload with a sidecar."""
    if workload.sidecar is not Sidecar.INTERCEPTED:
        return Kind(replace(workload, proxy=_NOBODY))
    own = (workload.address, *workload.more_addresses)
    address, *more = (_ANY_ADDRESS[family] for family in dict.fromkeys(":" in it for it in own))
    # An application at the pod's own address is found there without being told. Datagrams come
    # out of a tunnel, which does not say to which address they were sent.
    as_called = workload.app_address in own and not workload.udp_ports
    return Kind(
        replace(
            workload,
            proxy=_NOBODY,
            address=address,
            more_addresses=tuple(more),
            app_address="" if as_called else workload.app_address,
        )
    )
