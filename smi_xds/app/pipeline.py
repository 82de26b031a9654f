"""From objects to published resources, round after round.

`Intake` is where the sources' events go; `Pipeline` builds the mesh, has identities signed,
translates, publishes, and tells the log which problems came and went.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from smi_xds.app import garbage
from smi_xds.app.meters import Meters
from smi_xds.app.pulse import Latest, Pulse
from smi_xds.identity.ca import Leaf
from smi_xds.identity.issuer import Issuer
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.store import Event, Origin, Store
from smi_xds.problems import IdentityError, Problem
from smi_xds.values import SpiffeId
from smi_xds.xds.resources import Resource, ResourceSet
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator

log = structlog.get_logger()


class Publish(Protocol):
    """Takes what every proxy is to have, and when the first of the changes was seen."""

    def __call__(self, snapshot: Mapping[str, ResourceSet], /, *, since: float) -> object: ...


class Intake:
    """The sink of all sources: the only writer of the store."""

    def __init__(self, store: Store, pulse: Pulse) -> None:
        self._store = store
        self._pulse = pulse

    def apply(self, origin: Origin, events: Sequence[Event], /) -> None:
        """Take events that belong together."""
        synced = self._store.synced
        # No short cut: every event is to be taken.
        changed = [self._store.apply(origin, event) for event in events]
        if any(changed) or self._store.synced != synced:
            self._pulse.ring()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was published last, and the times of its first change and of its publication."""

    mesh: Mesh
    began: float
    published: float


class Pipeline:
    """Builds and publishes; the state is memos, keys and the last good round."""

    def __init__(
        self, store: Store, *, settings: MeshSettings, issuer: Issuer, publish: Publish
    ) -> None:
        self.rounds: Latest[Round] = Latest()
        self.meters = Meters()
        self._store = store
        self._settings = settings
        self._issuer = issuer
        self._publish = publish
        self._secrets: dict[SpiffeId, tuple[Leaf, Resource]] = {}
        self._refused: set[SpiffeId] = set()
        self._handed_out: Credentials | None = None
        self._asked: tuple[Collection[SpiffeId], bytes, int] = ((), b"", 0)
        self._told: tuple[Problem, ...] = ()
        self._forget()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the objects of the last round."""
        return () if self.rounds.value is None else self.rounds.value.mesh.problems

    @property
    def mesh(self) -> Mesh | None:
        """The mesh of the last round; None before the first."""
        return None if self.rounds.value is None else self.rounds.value.mesh

    @property
    def failures(self) -> int:
        """Rounds that failed by a bug of ours; what was published before stays."""
        return int(self.meters.failed.values[""])

    async def run(self, pulse: Pulse) -> NoReturn:
        """Build whenever something changed, once all sources have said what they have."""
        while True:
            began = await pulse.next()
            if self._store.synced:
                self.step(began)
            else:
                # What a first round waits for must not wait for it.
                self._tell(self._store.objects().problems)
            pulse.served()
            await asyncio.sleep(0)

    def step(self, began: float) -> None:
        """One round."""
        last = self.rounds.value
        try:
            mesh = self._build(began)
        except Exception:
            # A bug of ours. One that is there from the start must be seen; later, what was
            # published is worth more than a process that ends.
            if last is None:
                raise
            log.exception("rebuild_failed")
            self.meters.failed.add()
            self._forget()
            return
        self.rounds.set(Round(mesh=mesh, began=began, published=time.perf_counter()))
        self._tell(mesh.problems)
        if last is None:
            log.info("synced", services=len(mesh.services), workloads=len(mesh.workloads))
            garbage.settle()

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        """Log which problems came and went."""
        if problems is not self._told:
            _log_problems(self._told, problems)
            self._told = problems

    def _forget(self) -> None:
        self._build_mesh = MeshBuilder(self._settings)
        self._translate = Translator()

    def _build(self, began: float) -> Mesh:
        start = time.perf_counter()
        mesh = self._build_mesh(self._store.objects())
        snapshot = self._translate(mesh, credentials=self._credentials(mesh))
        self._publish(snapshot, since=began)
        self.meters.rounds.add()
        self.meters.build.observe(time.perf_counter() - start)
        return mesh

    def _credentials(self, mesh: Mesh) -> Credentials:
        # Most rounds change none of these: thousands of identities need not be asked for again.
        # Those that were refused are, at every round.
        known, (identities, bundle, issued) = self._handed_out, self._asked
        if (
            known is None
            or self._refused
            or mesh.identities is not identities
            or self._issuer.authority.trust_bundle != bundle
            or self._issuer.issued != issued
        ):
            known = self._handed_out = self._ask(frozenset(mesh.identities))
            self._asked = (mesh.identities, known.trust_bundle, self._issuer.issued)
        return known

    def _ask(self, identities: frozenset[SpiffeId]) -> Credentials:
        self._issuer.retain(identities)
        leaves = {
            identity: secret
            for identity in sorted(identities)
            if (secret := self._secret(identity)) is not None
        }
        self._secrets = {identity: self._secrets[identity] for identity in leaves}
        return Credentials(trust_bundle=self._issuer.authority.trust_bundle, leaves=leaves)

    def _secret(self, identity: SpiffeId) -> Resource | None:
        try:
            leaf = self._issuer.leaf(identity)
        except IdentityError as error:
            # It gets no certificate, and so no traffic; all others are served.
            if identity not in self._refused:
                log.error("certificate_refused", identity=str(identity), reason=str(error))  # noqa: TRY400 - not ours
            self._refused.add(identity)
            return None
        self._refused.discard(identity)
        known = self._secrets.get(identity)
        if known is None or known[0] is not leaf:
            known = (leaf, leaf_secret(leaf.certificate_chain, leaf.private_key))
            self._secrets[identity] = known
        return known[1]


def _log_problems(before: tuple[Problem, ...], after: tuple[Problem, ...]) -> None:
    old, new = frozenset(before), frozenset(after)
    for problem in sorted(new - old):
        log.warning(
            "problem_found",
            severity=problem.code.severity.value,
            code=problem.code.value,
            object=str(problem.ref),
            field=problem.field,
            message=problem.message,
            cure=problem.cure,
        )
    for problem in sorted(old - new):
        log.info(
            "problem_solved",
            code=problem.code.value,
            object=str(problem.ref),
            field=problem.field,
            message=problem.message,
        )
