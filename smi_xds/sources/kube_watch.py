"""Lists and watches one kind, for ever: what it says becomes events, what fails becomes reports.

list ──► watch ──► watch … from the last version seen; 410 Gone ──► list again.
An object is dropped only because the API server says so, never because it does not answer.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import NoReturn, Protocol

import structlog

from smi_xds.objects.parse import JsonParser
from smi_xds.objects.store import Origin, Replaced, Reported, Sink
from smi_xds.problems import Problem, ProblemCode, SourceError
from smi_xds.sources.kube_kinds import Kind
from smi_xds.sources.kube_wire import (
    AnswerError,
    GoneError,
    LineSplitter,
    batch_from,
    page_from,
    replaced_from,
)
from smi_xds.values import ObjectRef

log = structlog.get_logger()

KUBERNETES = "kubernetes"
"""The name of this source."""

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
# A CRD, or a right, is given by somebody who is waiting for the effect.
MISSING_PAUSE = 2.0
FORBIDDEN_PAUSE = 5.0
# Seconds for which "not now" (429) is no problem: the storage of a CRD is made when it is first
# asked for, and an API server under load sends some of those who ask away.
PATIENCE = 10.0
# Seconds. A watch that ends sooner and said nothing is no watch.
SHORT = 1.0


class RefusedError(Exception):
    """The API server answered with an error; the text is what it said."""

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds after which it wants to be asked again; 0 where it did not say."""


class UnreachableError(Exception):
    """There is no connection, or it broke."""


class Api(Protocol):
    """Requests to one API server."""

    def get(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The chunks of an answer; RefusedError or UnreachableError, also amid the chunks."""

    async def renew(self) -> None:
        """Read the credentials again, as the API server refuses them; SourceError where bad."""


class Availability:
    """Whether the API server answers: one problem for all kinds."""

    def __init__(self, *, server: str, sink: Sink) -> None:
        self._server = server
        self._sink = sink
        self._failing: set[Origin] = set()
        self._back = asyncio.Event()

    def fail(self, origin: Origin, reason: str, *, cure: str) -> None:
        """A request failed; only the first of an outage is told."""
        is_first = not self._failing
        self._failing.add(origin)
        if is_first:
            self._back.clear()
            problem = Problem(
                ref=SOURCE_REF,
                field="",
                code=ProblemCode.SOURCE_UNAVAILABLE,
                message=f"the API server at {self._server} cannot be read: {reason}",
                cure=f"{cure}; until then the last configuration stays.",
            )
            self._sink.apply(Origin(KUBERNETES), [Reported((problem,))])

    def succeed(self, origin: Origin) -> None:
        """A request was answered; those who wait for their next try need wait no longer."""
        if origin not in self._failing:
            return
        self._failing.discard(origin)
        self._back.set()
        if not self._failing:
            self._sink.apply(Origin(KUBERNETES), [Reported()])

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the API server answers again."""
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                await self._back.wait()
        except TimeoutError:
            return
        # All who waited now try at once, and whoever fails then waits for real.
        self._back.clear()


SOURCE_REF = ObjectRef("Source", "", KUBERNETES)


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
        self._failures = 0
        self._missing = 0
        self._put_off_since: float | None = None
        """Since when it says "not now"."""
        self._was_listed = False

    async def run(self) -> NoReturn:
        """Go on for ever. Made as simple as possible: the steps are what is tested."""
        while True:
            pause = await self.step()
            if pause:
                await self._availability.pause(pause)

    async def step(self) -> float:
        """List, or watch until the watch ends; how long to wait before the next step."""
        try:
            if self._seen is None:
                return await self._list_what_is_served()
            return await self._watch(self._seen)
        except GoneError:
            self._seen = None
            return self._backed_off()
        except RefusedError as error:
            return await self._refused(error)
        except AnswerError as error:
            self._seen = None
            return self._away(str(error))
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
        replaced, token = Replaced(()), ""
        while True:
            page = page_from(await self._read_page(token))
            part = replaced_from(page.items or (), self._parser)
            replaced = Replaced(replaced.objects + part.objects, replaced.problems + part.problems)
            token = page.metadata.token
            if not token:
                break
        self._availability.succeed(self.origin)
        self._sink.apply(self.origin, [replaced, Reported()])
        self._on_answer(self.origin)
        self._seen = page.metadata.resource_version
        self._failures = self._missing = 0
        self._put_off_since = None
        self._was_listed = True
        return 0.0

    async def _read_page(self, token: str) -> bytes:
        params = {"limit": str(PAGE), **({"continue": token} if token else {})}
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
            self._availability.succeed(self.origin)
            self._put_off_since = None
            began = loop.time()
            try:
                async for chunk in chunks:
                    self._take(splitter.feed(chunk))
            except UnreachableError as error:
                # Cut off: the next step tells whether the API server is away.
                log.debug("watch_cut", kind=self._kind.full_name, reason=str(error))
        if self._seen == seen and loop.time() - began < SHORT:
            return self._backed_off()
        return 0.0

    def _take(self, lines: list[bytes]) -> None:
        if not lines:
            return
        batch = batch_from(lines, self._parser)
        if batch.events:
            self._sink.apply(self.origin, batch.events)
        self._seen = batch.resource_version or self._seen
        self._failures = 0

    def _get(
        self, params: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        path = self._kind.path(namespace=self._namespace)
        chosen = {**params, **self._kind.selector(namespace=self._namespace)}
        return self._api.get(path, chosen, silence=silence)

    async def _refused(self, error: RefusedError) -> float:
        match error.status:
            case HTTPStatus.GONE:
                self._seen = None
                return self._backed_off()
            case HTTPStatus.UNAUTHORIZED:
                return await self._unauthorized(error)
            case HTTPStatus.FORBIDDEN:
                return self._forbidden(error)
            case HTTPStatus.NOT_FOUND if self._kind.is_custom:
                return self._not_found()
            case HTTPStatus.TOO_MANY_REQUESTS if self._is_patient():
                return max(self._backed_off(), min(error.retry_after, LONGEST_PAUSE))
            case status:
                return self._away(f"{self._kind.full_name}: {status} {error}".rstrip())

    def _is_patient(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._put_off_since = self._put_off_since or now
        return now - self._put_off_since < PATIENCE

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

    def _not_found(self) -> float:
        self._seen = None
        self._missing += 1
        self._report(
            Problem(
                ref=ObjectRef("CustomResourceDefinition", "", self._kind.full_name),
                field="",
                code=ProblemCode.MISSING_CRD,
                message=f"is not installed in version {self._kind.version}",
                cure="Run kubectl apply -k deploy/crds.",
            )
        )
        if self._missing == 2:
            # Twice, with a pause: no API server that is just starting. Without the CRD there can
            # be no objects either.
            self._sink.apply(self.origin, [Replaced(())])
        return MISSING_PAUSE

    def _report(self, problem: Problem, *, is_answer: bool = True) -> None:
        """The API server answers, only not with objects: the others go on without these."""
        self._availability.succeed(self.origin)
        self._sink.apply(self.origin, [Reported((problem,))])
        if is_answer:
            self._on_answer(self.origin)

    def _away(self, reason: str, *, cure: str = "Make it reachable") -> float:
        self._availability.fail(self.origin, reason, cure=cure)
        return self._backed_off()

    def _backed_off(self) -> float:
        self._failures += 1
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
