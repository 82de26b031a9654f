"""Real Envoys against the oracle: one random mesh after the other, published and asked.

Hypothesis draws, and where they disagree shrinks, in a thread beside the loop of the fleet.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from unittest.mock import patch

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from smi_xds.mesh import former
from tests.oracle.fleet import BLOCK, TAG, Answer, Fleet
from tests.oracle.known import KNOWN_VERSIONS
from tests.oracle.smi.judging import Oracle, Verdict
from tests.oracle.smi.paths import normalise
from tests.oracle.worlds import (
    HttpQuestion,
    PlainQuestion,
    Question,
    TcpQuestion,
    Versions,
    World,
    account_of,
    worlds,
)

# Of what every run of the tests looks at.
_SEED = 2026
_QUESTIONS = 30

# A route reaches Envoy's worker a moment after its ACK. Connections to a port whose protocol or
# list of callers has changed drain (`--drain-time-s 10`), and have the old rules until then.
_GRACE = 16.0
# So often an answer that was wrong at first has to be right: it may be a matter of chance.
_SURE = 40

# Shares are judged by this many requests, to this many standard deviations.
_MANY = 120
_SIGMAS = 5.0


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    meshes: int = 0
    requests: int = 0
    late: int = 0
    """Questions whose first answer was still that of the mesh before."""
    latest: float = 0.0
    """Seconds until the last of them was right."""
    outcomes: Counter[str] = field(default_factory=Counter)
    shares: int = 0
    """Questions whose shares were measured, too."""


@dataclass(slots=True)
class Explorer:
    """Asks a fleet about worlds and compares with the oracle."""

    fleet: Fleet
    loop: asyncio.AbstractEventLoop
    versions: Versions
    note: Callable[[str], object] = print
    tally: Tally = field(default_factory=Tally)

    async def explore(self, *, seed: int, meshes: int, questions: int) -> None:
        """Compare over that many meshes; AssertionError with the smallest that disagrees."""

        @hypothesis.seed(seed)
        @settings(
            max_examples=meshes,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(world=worlds(questions=questions, versions=self.versions, block=BLOCK, tag=TAG))
        def agree(world: World) -> None:
            asyncio.run_coroutine_threadsafe(self.compare(world), self.loop).result()

        # The oracle knows one moment, and nothing of ports that were served before.
        with patch.object(former, "KEPT", 0.0):
            await asyncio.to_thread(agree)

    async def compare(self, world: World) -> None:
        """Publish one world and ask everything."""
        await self.fleet.publish(world.documents)
        self.tally.meshes += 1
        oracle = Oracle(world.documents, intercepted=self.fleet.intercepted)
        measured = False
        for question in world.questions:
            if isinstance(question, HttpQuestion) and not question.service:
                continue  # there is no service with a port for requests
            verdict = judge(oracle, question)
            await self._settled(question, verdict)
            if not measured and _is_spread(question, verdict):
                measured = True
                await self._measure(question, verdict)

    async def _settled(self, question: Question, verdict: Verdict) -> None:
        """Ask until the answer is right, and then stays so; that it was not at first is counted."""
        began, first, sure = self.loop.time(), "", 0
        while True:
            answer = await self.fleet.ask(question)
            self.tally.requests += 1
            wrong = disagreement(question, verdict, answer)
            took = self.loop.time() - began
            if not wrong and (not first or sure == _SURE):
                break
            sure = 0 if wrong else sure + 1
            first = first or f"{wrong} {answer.text}".strip()
            if wrong and took > _GRACE:
                raise AssertionError(f"{wrong}\n{question}\noracle: {verdict}\nEnvoy: {answer}")
            await asyncio.sleep(0.02 if wrong else 0)
        self.tally.outcomes[_outcome(verdict, answer)] += 1
        if first:
            self.tally.late += 1
            self.tally.latest = max(self.tally.latest, took)
            self.note(f"late by {took:.2f} s: {first}: {question}")

    async def _measure(self, question: Question, verdict: Verdict) -> None:
        counts: Counter[str] = Counter()
        for _ in range(_MANY):
            answer = await self.fleet.ask(question)
            counts[answer.pod] += 1
        self.tally.requests += _MANY
        self.tally.shares += 1
        expected = {**verdict.answers, "": verdict.denied + verdict.unavailable}
        for pod, share in expected.items():
            sigma = sqrt(_MANY * share * (1 - share))
            off = abs(counts[pod] - _MANY * share)
            assert off <= _SIGMAS * sigma, f"{question}\noracle: {verdict}\nEnvoy: {counts}"
        assert set(counts) <= set(expected), (question, verdict, counts)


async def explore_some(fleet: Fleet, *, meshes: int) -> None:
    """Compare over a few meshes, in which enough is allowed, and enough denied."""
    print(f"seed {_SEED}")  # noqa: T201 - `python -m tests.oracle --seed` repeats it
    explorer = Explorer(fleet, asyncio.get_running_loop(), KNOWN_VERSIONS)
    await explorer.explore(seed=_SEED, meshes=meshes, questions=_QUESTIONS)
    tally = explorer.tally
    print(tally)  # noqa: T201 - shown where it fails
    assert tally.meshes >= meshes
    least = meshes * _QUESTIONS / 10
    assert min(tally.outcomes["allowed"], tally.outcomes["denied"]) >= least, tally


def judge(oracle: Oracle, question: Question) -> Verdict:
    """What the oracle says of a question."""
    match question:
        case HttpQuestion(caller, request, _, _):
            return oracle.http(
                account_of(caller), request, service=question.service, number=question.port
            )
        case TcpQuestion(caller, service, number):
            return oracle.tcp(account_of(caller), service, number)
        case PlainQuestion(pod, number, request):
            return oracle.plaintext(pod.key, number, request)


def disagreement(question: Question, verdict: Verdict, answer: Answer) -> str:
    """What is wrong with an answer; empty where it is as the oracle says."""
    if answer.pod:
        if not verdict.answers.get(answer.pod):
            return f"{answer.pod} answered, and must not"
        return _misheard(question, answer)
    if verdict.answers and not verdict.denied and not verdict.unavailable:
        return "nobody answered"
    if not isinstance(question, HttpQuestion):
        return ""
    allowed = _statuses(verdict)
    return "" if answer.status in allowed else f"status {answer.status}, none of {sorted(allowed)}"


def _statuses(verdict: Verdict) -> set[int]:
    """How a request may be refused."""
    match verdict.refusal:
        case "malformed":
            return {400}
        case "redirect":
            return {307}
        case "host":
            return {404, 400}
        case "method":
            return {404, 403, 400}
        case _:
            found = {403} if verdict.denied or verdict.rightless else set()
            return found | ({503} if verdict.unavailable or verdict.blurred else set())


def _misheard(question: Question, answer: Answer) -> str:
    """Whether the application saw something else than what was judged."""
    if isinstance(question, TcpQuestion) or not answer.seen:
        return ""
    request = question.request
    if isinstance(question, PlainQuestion):
        return ""
    path = request.path.removeprefix("http://web.east:80")
    seen = answer.seen[":path"].partition("?")[0]
    if seen != normalise(path).text:
        return f"the application saw the path {seen}, judged was {normalise(path).text}"
    if answer.seen[":method"] != request.method:
        return f"the application saw the method {answer.seen[':method']}"
    if "upgrade" in answer.seen:
        return "the application was asked to upgrade the connection"
    cert = answer.seen.get("x-forwarded-client-cert", "")
    caller = f"URI=spiffe://cluster.local/ns/{question.caller.namespace}/sa/"
    if cert and f"{caller}{question.caller.account}" not in cert:
        outside = answer.pod.endswith("/out-1")  # nobody there who could drop a forged one
        return "" if outside else f"the application was told of the certificate {cert}"
    return ""


def _is_spread(question: Question, verdict: Verdict) -> bool:
    shares = [*verdict.answers.values(), verdict.denied + verdict.unavailable]
    return (
        isinstance(question, HttpQuestion)
        and len([share for share in shares if share]) > 1
        and not verdict.blurred
    )


def _outcome(verdict: Verdict, answer: Answer) -> str:
    if answer.pod:
        return "allowed"
    return verdict.refusal or ("denied" if verdict.denied else "unavailable")
