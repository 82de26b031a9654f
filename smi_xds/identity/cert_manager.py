"""Leaves that cert-manager has signed: asked for as CertificateRequests, taken when they come.

Keys are made here and stay here, in memory: after a restart all is asked for again, while proxies
go on with what they have. Requests are deleted once they are decided.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NoReturn, Protocol

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from smi_xds.identity.answers import accept, signing_request
from smi_xds.identity.ca import LEAF_LIFETIME, Leaf, create_key
from smi_xds.identity.certificate_request import (
    HOLDER,
    MANAGED_BY,
    MANAGER,
    Denied,
    IssuerRef,
    Request,
    Signed,
    Waiting,
    judge,
    read_list,
    to_document,
)
from smi_xds.identity.issuer import Clock, Standing, wall_clock
from smi_xds.identity.roots import Roots
from smi_xds.problems import IdentityError, SourceError
from smi_xds.sources.kube_api import RefusedError, UnreachableError
from smi_xds.values import SpiffeId

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often, how many, how long; each with its reason."""

    poll: timedelta = timedelta(milliseconds=500)
    """Between looks at what is open: an issuer in the cluster answers within a second."""
    window: int = 100
    """So many are open at once: a list of them is 200 kB, and a slow issuer is not buried."""
    tell: timedelta = timedelta(seconds=30)
    """After that, operators are told that nobody answers."""
    patience: timedelta = timedelta(minutes=10)
    """For people who approve by hand."""
    short_patience: timedelta = timedelta(minutes=1)
    """Where others wait for their turn."""
    retry: timedelta = timedelta(minutes=1)
    """After a refusal; twice as long after each further one."""
    longest_retry: timedelta = timedelta(hours=1)
    longest_nap: timedelta = timedelta(seconds=30)
    """The wall clock jumps: it is looked at again and again."""
    left_behind: timedelta = timedelta(hours=1)
    """A request as old as this is that of a process which is gone."""


class Api(Protocol):
    """As much of an API server as is needed; RefusedError or UnreachableError where it fails."""

    async def read(self, path: str, /) -> bytes:
        """One answer."""

    async def send(self, method: str, path: str, body: bytes = b"", /) -> bytes:
        """Change something."""

    async def renew(self) -> None:
        """Read the credentials again."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(slots=True, kw_only=True)
class _Asked:
    identity: SpiffeId
    key: ec.EllipticCurvePrivateKey
    since: datetime


@dataclass(slots=True, kw_only=True)
class _Refusal:
    reason: str
    until: datetime
    times: int


class CertManagerIssuer:
    """The leaves in use, signed by an issuer of cert-manager."""

    def __init__(
        self,
        api: Api,
        issuer: IssuerRef,
        *,
        roots: Callable[[], bytes] | None = None,
        clock: Clock = wall_clock,
        lifetime: timedelta = LEAF_LIFETIME,
        pace: Pace | None = None,
    ) -> None:
        self._api = api
        self._issuer = issuer
        self._clock = clock
        self._lifetime = lifetime
        self._pace = pace or Pace()
        self._roots = Roots(roots)
        self._holder = secrets.token_hex(6)
        self._number = 0
        self._wanted: frozenset[SpiffeId] = frozenset()
        self._leaves: dict[SpiffeId, Leaf] = {}
        # Signed by a root that not everybody trusts yet, and from when on they are used.
        self._settling: dict[SpiffeId, tuple[datetime, Leaf]] = {}
        self._asked: dict[str, _Asked] = {}
        self._refused: dict[SpiffeId, _Refusal] = {}
        self._changes = 0
        self._swept = False
        self._trouble = ""
        self._wake = asyncio.Event()

    @property
    def trust_bundle(self) -> bytes:
        """The roots by which peers are judged, PEM; empty before the first answer."""
        return self._roots.bundle

    @property
    def changes(self) -> int:
        """How many answers were taken, and roots seen."""
        return self._changes

    def ask(self, identities: Collection[SpiffeId], /) -> Standing:
        """What there is; what is not is asked for by `run`."""
        wanted = self._wanted = frozenset(identities)
        self._leaves = {it: leaf for it, leaf in self._leaves.items() if it in wanted}
        self._settling = {it: held for it, held in self._settling.items() if it in wanted}
        self._refused = {it: refusal for it, refusal in self._refused.items() if it in wanted}
        if self.needed():
            self._wake.set()
        now = self._clock()
        return Standing(
            leaves={
                it: leaf
                for it, leaf in self._leaves.items()
                if leaf.not_before <= now < leaf.not_after
            },
            refused={it: refusal.reason for it, refusal in self._refused.items()},
        )

    def needed(self) -> Sequence[SpiffeId]:
        """For whom something is to be asked now; first those who have nothing."""
        now = self._clock()
        busy = {it.identity for it in self._asked.values()} | self._settling.keys()
        busy |= {it for it, refusal in self._refused.items() if now < refusal.until}
        kept = {it for it, leaf in self._leaves.items() if leaf.not_before <= now < leaf.renew_at}
        needed = self._wanted - busy - kept
        return sorted(needed, key=lambda it: (it in self._leaves, it))

    async def run(self, changed: Callable[[], object], /) -> NoReturn:
        """Ask, and take the answers, for ever."""
        try:
            await self._run(changed)
        finally:
            await self._api.close()

    async def _run(self, changed: Callable[[], object]) -> NoReturn:
        told = self._changes
        while True:
            self._wake.clear()
            await self._try()
            if self._changes != told:
                changed()
                told = self._changes
            if self._asked or self._trouble:
                await asyncio.sleep(self._pace.poll.total_seconds())
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._nap().total_seconds()):
                    await self._wake.wait()

    async def step(self) -> None:
        """Take what was answered, then ask for what is needed."""
        now = self._clock()
        if self._roots.look(now):
            self._changes += 1
        for identity, (usable, leaf) in tuple(self._settling.items()):
            if usable <= now:
                del self._settling[identity]
                self._keep(leaf)
        if not self._swept:
            await self._sweep()
        if self._asked:
            await self._collect()
        for identity in self.needed()[: self._pace.window - len(self._asked)]:
            await self._request(identity)

    async def _try(self) -> None:
        try:
            await self.step()
        except IdentityError as error:
            self._tell(str(error), "")
        except UnreachableError as error:
            self._tell(str(error), "It is tried again and again; leaves in use go on.")
        except RefusedError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                with suppress(SourceError):  # the old credentials are refused: that is told
                    await self._api.renew()
            self._tell(str(error), self._cure(error.status))
        else:
            if self._trouble:
                log.info("issuer_available", issuer=str(self._issuer))
            self._trouble = ""

    async def _sweep(self) -> None:
        """Delete what a process that is gone left behind."""
        oldest = self._clock() - self._pace.left_behind
        for request in await self._list(MANAGED_BY, MANAGER):
            created = request.metadata.creation_timestamp
            if created is not None and created < oldest:
                await self._delete(request.metadata.name)
        self._swept = True

    async def _collect(self) -> None:
        found = {it.metadata.name: it for it in await self._list(HOLDER, self._holder)}
        for name, asked in tuple(self._asked.items()):
            if name not in found:
                self._refuse(asked.identity, f"CertificateRequest {name} was deleted undecided")
                del self._asked[name]
            elif self._is_decided(found[name], asked):
                del self._asked[name]
                await self._delete(name)
        for name in found.keys() - self._asked.keys():
            # Its answer was lost on the way, or deleting it failed.
            await self._delete(name)

    def _is_decided(self, request: Request, asked: _Asked) -> bool:
        """Take the answer, if there is one; whether the request is of no more use."""
        try:
            answer = judge(request)
            match answer:
                case Waiting():
                    return self._is_given_up(asked, approved=answer.approved)
                case Denied():
                    self._refuse(
                        asked.identity,
                        f"{self._issuer} refused: {answer.reason}; let its policy admit URI SANs "
                        f"such as spiffe://{asked.identity.trust_domain}/ns/NAMESPACE/sa/NAME",
                    )
                case Signed():
                    self._take(answer, asked)
        except IdentityError as error:
            self._refuse(asked.identity, f"{self._issuer}: {error}")
        return True

    def _take(self, answer: Signed, asked: _Asked) -> None:
        if asked.identity not in self._wanted:
            return
        now = self._clock()
        roots = self._roots.judging(answer.ca, answer.certificate)
        leaf = accept(
            answer.certificate, identity=asked.identity, key=asked.key, roots=roots, now=now
        )
        usable = self._roots.learn(roots, now=now, until=leaf.not_after)
        self._changes += 1
        if usable <= now:
            self._keep(leaf)
        else:
            self._settling[asked.identity] = (usable, leaf)

    def _keep(self, leaf: Leaf) -> None:
        self._leaves[leaf.identity] = leaf
        self._refused.pop(leaf.identity, None)
        self._changes += 1

    def _is_given_up(self, asked: _Asked, *, approved: bool) -> bool:
        """Tell once that nobody answers; at last, let go of it."""
        if asked.identity not in self._wanted:
            return True
        pace, waited = self._pace, self._clock() - asked.since
        is_full = len(self._asked) >= pace.window
        given_up = waited >= (pace.short_patience if is_full else pace.patience)
        if waited >= pace.tell:
            cure = (
                f"see `kubectl describe -n {self._issuer.namespace} certificaterequests` and the "
                "log of the issuer"
                if approved
                else "approve it, or let an approver run"
            )
            state = "approved, and not signed" if approved else "not approved"
            reason = f"{self._issuer} has not answered: the CertificateRequest is {state}; {cure}"
            self._refuse(asked.identity, reason, again=given_up)
        return given_up

    async def _request(self, identity: SpiffeId) -> None:
        key = create_key()
        try:
            csr = signing_request(identity, key)
        except IdentityError as error:
            self._refuse(identity, str(error))
            return
        self._number += 1
        name = f"{MANAGER}-{self._holder}-{self._number}"
        document = to_document(
            csr,
            identity=identity,
            issuer=self._issuer,
            name=name,
            holder=self._holder,
            lifetime=self._lifetime,
        )
        try:
            await self._api.send("POST", self._issuer.path, msgspec.json.encode(document))
        except RefusedError as error:
            if not _is_about_it_alone(error):
                raise
            self._refuse(identity, f"{self._issuer} refused: {error}")
            return
        self._asked[name] = _Asked(identity=identity, key=key, since=self._clock())

    def _refuse(self, identity: SpiffeId, reason: str, *, again: bool = True) -> None:
        """Note why there is nothing; `again` where another request is made, after a while."""
        if identity not in self._wanted:
            return
        before = self._refused.get(identity)
        if before is None or before.reason != reason:
            self._changes += 1
        times = (before.times if before else 0) + again
        pause = min(self._pace.retry * 2 ** min(times - 1, 10), self._pace.longest_retry)
        until = self._clock() + (pause if again else timedelta(0))
        self._refused[identity] = _Refusal(reason=reason, until=until, times=times)

    async def _list(self, label: str, value: str) -> Sequence[Request]:
        return read_list(
            await self._api.read(f"{self._issuer.path}?labelSelector={label}%3D{value}")
        )

    async def _delete(self, name: str) -> None:
        try:
            await self._api.send("DELETE", f"{self._issuer.path}/{name}")
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def _nap(self) -> timedelta:
        """Until something is due next, and never for long."""
        now, pace = self._clock(), self._pace
        times = [leaf.renew_at for leaf in self._leaves.values()]
        times += [usable for usable, _ in self._settling.values()]
        times += [refusal.until for refusal in self._refused.values()]
        wait = min(times, default=now + pace.longest_nap) - now
        return max(min(wait, pace.longest_nap), pace.poll)

    def _tell(self, reason: str, cure: str) -> None:
        if reason != self._trouble:
            log.warning("issuer_unavailable", issuer=str(self._issuer), reason=reason, cure=cure)
        self._trouble = reason

    def _cure(self, status: int) -> str:
        match status:
            case HTTPStatus.NOT_FOUND:
                return f"Install cert-manager, and make namespace {self._issuer.namespace}."
            case HTTPStatus.FORBIDDEN:
                return (
                    "Let smi-xds create, list and delete certificaterequests in namespace "
                    f"{self._issuer.namespace}: docs/cert-manager.md has the Role."
                )
            case _:
                return "It is tried again and again; leaves in use go on."


def _is_about_it_alone(error: RefusedError) -> bool:
    """Whether this request was refused and others may be taken: invalid, or against a policy.

    Webhooks and policies choose the status; the API server says "denied" for them, and for nobody
    else: whoever has no right to create any is "forbidden".
    """
    is_ours = HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return error.status == HTTPStatus.UNPROCESSABLE_ENTITY or (is_ours and "denied" in str(error))
