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
from smi_xds.app.secrets import LeafSecrets
from smi_xds.identity.issuer import Issuer
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.former import FormerPorts
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.store import Event, Origin, Store
from smi_xds.problems import Problem
from smi_xds.values import SpiffeId
from smi_xds.xds.resources import ResourceSet
from smi_xds.xds.secrets import Credentials
from smi_xds.xds.translate import Translator

log = structlog.get_logger()

# So many of those who have the same trouble are told by name.
_NAMED = 5

# Ports that end within so many seconds are closed in one round: Services lead from one pod after
# the other to others.
_CLOSE_TOGETHER = 1.0


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
        self._secrets = LeafSecrets()
        self._refused: Mapping[SpiffeId, str] = {}
        self._handed_out: Credentials | None = None
        self._asked: tuple[Collection[SpiffeId], int] = ((), 0)
        self._told: tuple[Problem, ...] = ()
        self._former = FormerPorts()
        self._closing: asyncio.TimerHandle | None = None
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
    def settings(self) -> MeshSettings:
        """How objects are understood from the next round on."""
        return self._settings

    def settle(self, settings: MeshSettings) -> None:
        """Understand them otherwise; all is built anew."""
        if settings != self._settings:
            self._settings = settings
            self._forget()

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
            self._wake(pulse)
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
        if mesh is None:
            return
        self.rounds.set(Round(mesh=mesh, began=began, published=time.perf_counter()))
        self._tell(mesh.problems)
        if last is None:
            log.info("synced", services=len(mesh.services), workloads=len(mesh.workloads))
            garbage.settle()

    def _wake(self, pulse: Pulse) -> None:
        """Have a round when the next port that nobody names any longer is to be closed."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if (ends := self._former.ends) is not None:
            loop = asyncio.get_running_loop()
            # Not at once, even if its time is over: it was not closed, because a round failed.
            wait = max(ends - time.perf_counter(), _CLOSE_TOGETHER)
            self._closing = loop.call_later(wait, pulse.ring)

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        """Log which problems came and went."""
        if problems is not self._told:
            _log_problems(self._told, problems)
            self._told = problems

    def _forget(self) -> None:
        self._build_mesh = MeshBuilder(self._settings)
        self._translate = Translator()

    def _build(self, began: float) -> Mesh | None:
        start = time.perf_counter()
        mesh = self._see()
        credentials = self._credentials(mesh)
        if mesh.identities and not credentials.trust_bundle:
            # Whom to trust is the issuer's to say, and it has not yet: without roots everybody
            # would be believed, and with others nobody. Proxies go on with what they have.
            return None
        snapshot = self._translate(mesh, credentials=credentials)
        self._publish(snapshot, since=began)
        self.meters.rounds.add()
        self.meters.build.observe(time.perf_counter() - start)
        return mesh

    def _see(self) -> Mesh:
        """The mesh as it is now, with ports that nobody names any longer for as long as needed."""
        objects, former = self._store.objects(), self._former
        mesh = self._build_mesh(objects, former=former.ports)
        if former.take(self._build_mesh.serving, time.perf_counter()):
            mesh = self._build_mesh(objects, former=former.ports)
        return mesh

    def _credentials(self, mesh: Mesh) -> Credentials:
        # Most rounds change none of these: thousands of identities need not be asked for again.
        known, (identities, changes) = self._handed_out, self._asked
        if known is None or mesh.identities is not identities or self._issuer.changes != changes:
            known = self._handed_out = self._ask(mesh.identities)
            self._asked = (mesh.identities, self._issuer.changes)
        return known

    def _ask(self, identities: Collection[SpiffeId]) -> Credentials:
        standing = self._issuer.ask(identities)
        self._tell_refused(standing.refused)
        leaves = self._secrets.of(
            standing.leaves, identities=identities, aliases=self._settings.aliases
        )
        return Credentials(trust_bundle=self._issuer.trust_bundle, leaves=leaves)

    def _tell_refused(self, refused: Mapping[SpiffeId, str]) -> None:
        """One line for each reason that is new, however many have it."""
        by_reason: dict[str, list[str]] = {}
        for identity, reason in sorted(refused.items()):
            if self._refused.get(identity) != reason:
                by_reason.setdefault(reason, []).append(str(identity))
        for reason, identities in by_reason.items():
            log.error(
                "certificate_refused",
                identities=identities[:_NAMED],
                count=len(identities),
                reason=reason,
            )
        self._refused = refused


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
