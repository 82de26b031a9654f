"""Lists and watches one kind, for ever: what it says becomes events, what fails becomes reports.

list ──► watch ──► watch … from the last version seen; 410 Gone ──► list again.
An object is dropped only because the API server says so, never because it does not answer.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import NoReturn

import structlog

from smi_xds.objects.parse import JsonParser
from smi_xds.objects.store import Origin, Replaced, Reported, Sink
from smi_xds.problems import Problem, ProblemCode, SourceError
from smi_xds.sources.kube_api import Api, RefusedError, SilentError, UnreachableError
from smi_xds.sources.kube_availability import KUBERNETES, SOURCE_REF, Availability
from smi_xds.sources.kube_kinds import Kind
from smi_xds.sources.kube_wire import (
    AnswerError,
    GoneError,
    LineSplitter,
    batch_from,
    check_groups,
    is_older,
    page_from,
    replaced_from,
)
from smi_xds.values import ObjectRef

__all__ = ["KUBERNETES", "Api", "Availability", "KindWatch", "RefusedError", "UnreachableError"]

log = structlog.get_logger()

# Objects in one part of a list: some megabytes of pods, parsed in some tens of milliseconds.
PAGE = 500
# Seconds after which the server ends a watch, drawn anew each time: not all kinds at once.
WATCH_SECONDS = (240, 420)
# Bookmarks come about every minute. A watch that is silent for longer is a dead connection.
SILENCE = 150.0
# Seconds that a list may be silent: the server reads all from etcd first.
LIST_SILENCE = 60.0

# Seconds between tries, growing, with jitter: an API server that just started is not run down.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
# Where watches are cut again and again, each of them may have been of use.
CUT_PAUSE = 1.0
# A CRD, or a right, is given by somebody who is waiting for the effect.
MISSING_PAUSE = 2.0
FORBIDDEN_PAUSE = 5.0
# Seconds for which "not now" (429) is no problem: the storage of a CRD is made when it is first
# asked for, and an API server under load sends some of those who ask away.
PATIENCE = 10.0
# Seconds. A watch that ends sooner and said nothing is no watch.
SHORT = 1.0
# Seconds. After a watch that went so well, another list is no sign of a list that does not help.
STEADY = 10.0
# Seconds that no watch could be had for, after which all is listed: time enough to put back a
# backup of etcd, in which a version that we have seen means something else.
OUTAGE = 10.0


class KindWatch:
    """One kind in one namespace, or in all."""

    def __init__(
        self,
        kind: Kind,
        *,
        namespace: str,
        api: Api,
        sink: Sink,
        availability: Availability,
        on_answer: Callable[[Origin], None],
    ) -> None:
        self.origin = Origin(KUBERNETES, f"{kind.full_name} {namespace}".rstrip())
        self._preferred = self._kind = kind
        self._namespace = namespace
        self._api = api
        self._sink = sink
        self._availability = availability
        self._on_answer = on_answer
        self._parser = JsonParser(kind.form)
        self._seen: str | None = None
        """The resource version to go on from; None to list."""
        self._newest = ""
        """The last version seen, whatever became of it."""
        self._looks_again = False
        """Whether the last list was older than what was seen before."""
        self._page = PAGE
        """Objects to ask for at once; 0 for all."""
        self._failures = 0
        self._lists_in_vain = 0
        self._missing = 0
        self._heard = False
        """Whether it was the API server itself that answered just now."""
        self._put_off_since: float | None = None
        """Since when it says "not now"."""
        self._blind_since: float | None = None
        """Since when no watch could be had."""
        self._was_listed = False

    async def run(self) -> NoReturn:
        """Go on for ever. Made as simple as possible: the steps are what is tested."""
        while True:
            pause = await self.step()
            if pause:
                await self._availability.pause(pause)

    async def step(self) -> float:
        """List, or watch until the watch ends; how long to wait before the next step."""
        if self._seen is not None and self._was_blind_for_long():
            self._list_anew("no watch could be had for long")
        try:
            if self._seen is None:
                return await self._list_what_is_served()
            return await self._watch(self._seen)
        except GoneError:
            return self._list_anew("the version seen last is gone")
        except RefusedError as error:
            return await self._refused(error)
        except AnswerError as error:
            if self._seen is None:
                return self._away(str(error))
            # If it goes on, the list will tell.
            return self._list_anew(str(error))
        except UnreachableError as error:
            return self._away(str(error))

    async def _list_what_is_served(self) -> float:
        refusal = None
        for kind in self._preferred.in_all_versions():
            self._kind, self._parser = kind, JsonParser(kind.form)
            try:
                return await self._list()
            except RefusedError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                refusal = refusal or error
        self._kind = self._preferred
        assert refusal is not None, "there is at least one version"
        raise refusal

    async def _list(self) -> float:
        replaced, version, token = Replaced(()), "", ""
        while True:
            page = page_from(await self._read_page(token), after=token)
            # Watched from the first part on: should others be newer, some is told twice.
            version = version or page.metadata.resource_version
            part = replaced_from(page.items or (), self._parser)
            replaced = Replaced(replaced.objects + part.objects, replaced.problems + part.problems)
            token = page.metadata.token
            if not token:
                break
        if self._is_doubtful(version):
            return self._backed_off()
        log.debug("listed", kind=self.origin.part, version=version, objects=len(replaced.objects))
        self._availability.succeed(self.origin)
        self._sink.apply(self.origin, [replaced, Reported()])
        self._on_answer(self.origin)
        self._seen = self._newest = version
        self._failures = self._missing = 0
        self._heard = False
        self._put_off_since = self._blind_since = None
        self._page = PAGE
        self._was_listed = True
        return 0.0

    def _is_doubtful(self, version: str) -> bool:
        """Whether to look again: of several API servers one may be behind, a backup stays old."""
        went_back = is_older(version, than=self._newest)
        doubtful, self._looks_again = went_back and not self._looks_again, went_back
        if went_back and not doubtful:
            log.warning("history_went_back", kind=self.origin.part, was=self._newest, now=version)
            self._looks_again = False
        return doubtful

    async def _read_page(self, token: str) -> bytes:
        params = {"limit": str(self._page)} if self._page else {}
        if token:
            params["continue"] = token
        async with self._get(params, silence=LIST_SILENCE) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def _watch(self, seen: str) -> float:
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": seen,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - jitter
        }
        splitter, loop = LineSplitter(), asyncio.get_running_loop()
        async with self._get(params, silence=SILENCE) as chunks:
            log.debug("watching", kind=self.origin.part, version=seen)
            self._availability.succeed(self.origin)
            self._put_off_since = self._blind_since = None
            began = loop.time()
            try:
                async for chunk in chunks:
                    self._take(splitter.feed(chunk))
            except SilentError:
                # It may stand and never say a word: of a version that is yet to come, say.
                return self._list_anew("a watch was silent")
            except UnreachableError as error:
                # Cut off: the next step tells whether the API server is away.
                log.debug("watch_cut", kind=self._kind.full_name, reason=str(error))
            finally:
                if loop.time() - began >= STEADY:
                    self._lists_in_vain = 0
        return self._ended(seen, lasted=loop.time() - began)

    def _take(self, lines: list[bytes]) -> None:
        if not lines:
            return
        batch = batch_from(lines, self._parser)
        if batch.events:
            self._sink.apply(self.origin, batch.events)
        # What is deleted may come in the version that it had.
        if batch.resource_version and not is_older(batch.resource_version, than=self._newest):
            self._seen = self._newest = batch.resource_version
        self._failures = 0

    def _ended(self, seen: str, *, lasted: float) -> float:
        is_short = self._seen == seen and lasted < SHORT
        if self._kind != self._preferred:
            # Where CRDs of another mesh are replaced by ours their versions are still served.
            self._seen = None
        if is_short:
            return min(self._backed_off(), CUT_PAUSE)
        self._failures = 0
        return 0.0

    def _get(
        self, params: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        path = self._kind.path(namespace=self._namespace)
        chosen = {**params, **self._kind.selector(namespace=self._namespace)}
        return self._api.get(path, chosen, silence=silence)

    async def _refused(self, error: RefusedError) -> float:
        is_watch = self._seen is not None
        match error.status:
            case HTTPStatus.GONE:
                # Of a list: its parts take longer than the API server keeps a version.
                self._page = self._page if is_watch else 0
                return self._list_anew("the version seen last is gone")
            case HTTPStatus.UNAUTHORIZED:
                return await self._unauthorized(error)
            case HTTPStatus.FORBIDDEN:
                return self._forbidden(error)
            case HTTPStatus.NOT_FOUND if self._kind.is_custom and not is_watch:
                return await self._not_found(error)
            case HTTPStatus.TOO_MANY_REQUESTS if self._is_patient():
                return max(self._backed_off(), min(error.retry_after, LONGEST_PAUSE))
            case HTTPStatus.NOT_FOUND | HTTPStatus.BAD_REQUEST if is_watch:
                return self._list_anew(f"a watch was refused: {error.status} {error}")
            case status:
                return self._away(f"{self._kind.full_name}: {status} {error}".rstrip())

    def _list_anew(self, reason: str) -> float:
        """Forget where to go on from; each list that did not help makes the next one later."""
        log.info("listing_anew", kind=self.origin.part, reason=reason)
        self._seen = None
        self._lists_in_vain += 1
        return _pause_after(self._lists_in_vain)

    def _is_patient(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._put_off_since = self._put_off_since or now
        return now - self._put_off_since < PATIENCE

    def _was_blind_for_long(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._blind_since is not None and now - self._blind_since > OUTAGE

    async def _unauthorized(self, error: RefusedError) -> float:
        pause = self._away(
            f"it does not accept the credentials: {error}",
            cure="Renew them where the kubeconfig has them",
        )
        try:
            await self._api.renew()
        except SourceError as renewal:
            log.warning("credentials_not_renewed", reason=str(renewal))
        return pause

    def _forbidden(self, error: RefusedError) -> float:
        self._seen = None
        where = f"namespace {self._namespace}" if self._namespace else "all namespaces"
        # A control plane that is started without rights must not empty the sidecars that run.
        must_wait = self._kind.is_vital and not self._was_listed
        self._report(
            Problem(
                ref=SOURCE_REF,
                field="",
                code=ProblemCode.SOURCE_FORBIDDEN,
                message=f"may not list and watch {self._kind.full_name} in {where}: {error}",
                cure="Bind a role with the verbs list and watch on them to this account"
                + ("; until then nothing is served." if must_wait else "."),
            ),
            is_answer=not must_wait,
        )
        return FORBIDDEN_PAUSE

    async def _not_found(self, error: RefusedError) -> float:
        heard, self._heard = self._heard, False
        if not heard:
            # Asked again, it will be its own answer.
            self._heard = await self._speaks()
            if self._heard:
                return FIRST_PAUSE
            return self._away(f"{self._kind.full_name}: {error.status} {error}".rstrip())
        self._missing += 1
        self._report(
            Problem(
                ref=ObjectRef("CustomResourceDefinition", "", self._kind.full_name),
                field="",
                code=ProblemCode.MISSING_CRD,
                message=f"is not installed in version {self._kind.version}",
                cure="Run smi-xds install; without our webhooks, kubectl apply -k deploy/crds.",
            )
        )
        if self._missing == 2:
            # Twice, with a pause: no API server that is just starting. Without the CRD there can
            # be no objects either.
            self._sink.apply(self.origin, [Replaced(())])
        return MISSING_PAUSE

    async def _speaks(self) -> bool:
        """Whether the API server itself answers: what stands before it says "not found" as well."""
        try:
            async with self._api.get("/apis", {}, silence=LIST_SILENCE) as chunks:
                check_groups(b"".join([chunk async for chunk in chunks]))
        except (AnswerError, RefusedError, UnreachableError):
            return False
        return True

    def _report(self, problem: Problem, *, is_answer: bool = True) -> None:
        """The API server answers, only not with objects: the others go on without these."""
        self._availability.succeed(self.origin)
        self._sink.apply(self.origin, [Reported((problem,))])
        if is_answer:
            self._on_answer(self.origin)

    def _away(self, reason: str, *, cure: str = "Make it reachable") -> float:
        self._availability.fail(self.origin, reason, cure=cure)
        self._blind_since = self._blind_since or asyncio.get_running_loop().time()
        return self._backed_off()

    def _backed_off(self) -> float:
        self._failures += 1
        return _pause_after(self._failures)


def _pause_after(failures: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
