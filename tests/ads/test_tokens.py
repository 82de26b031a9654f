"""Tokens: what is asked about, whom, how often, and what is remembered."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from smi_xds.ads import tokens as module
from smi_xds.ads.auth import Credentials, PodProof, Reason, Refused
from smi_xds.ads.session import Refusal
from smi_xds.ads.tokens import Review, ReviewError, Tokens, judging_tokens
from smi_xds.values import ProxyId, Secret, ServiceAccountRef
from tests.support.wait import eventually_async

GOOD = Review(
    authenticated=True, account=ServiceAccountRef("shop", "web"), pod="web-1", uid="uid-1"
)
HOUR = 3600.0


@dataclass(eq=False)
class Issuer:
    """Who is asked, with a clock of its own; each token is good unless it says otherwise."""

    answers: dict[str, Review | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    busy: int = 0
    busiest: int = 0
    now: float = 1_000_000.0

    def clock(self) -> float:
        return self.now

    async def review(self, token: Secret, *, audience: str) -> Review:
        assert audience == "smi-xds"
        text = token.value.decode()
        self.asked.append(text)
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await self.gate.wait()
        finally:
            self.busy -= 1
        answer = self.answers.get(text, GOOD)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def issuer() -> Issuer:
    issuer = Issuer()
    issuer.gate.set()
    return issuer


@pytest.fixture
async def tokens(issuer: Issuer) -> AsyncIterator[Tokens]:
    async with judging_tokens(issuer, clock=issuer.clock) as judging:
        yield judging


def token(name: str = "a", *, exp: float = 1_000_000.0 + HOUR, aud: object = ("smi-xds",)) -> str:
    """In the form of a JWT; the signature is its name."""
    claims = json.dumps({"exp": exp, "aud": aud, "kubernetes.io": {}}).encode()
    return f"e30.{urlsafe_b64encode(claims).decode().rstrip('=')}.{name}"


def bearing(text: str, host: str = "10.0.0.1") -> Credentials:
    return Credentials(metadata={"authorization": (f"Bearer {text}",)}, host=host)


def reason(verdict: object) -> Reason:
    assert isinstance(verdict, Refused), verdict
    return verdict.reason


async def test_a_good_token_is_that_of_its_pod(tokens: Tokens) -> None:
    """With the uid that the API server knows, and until the token ends (and clocks agree)."""
    assert await tokens(bearing(token())) == PodProof(
        pod=ProxyId("shop", "web-1"),
        uid="uid-1",
        account=ServiceAccountRef("shop", "web"),
        expires=1_000_000.0 + HOUR + 60,
    )


async def test_a9_an_answer_is_kept_for_a_while_and_then_asked_for_again(
    tokens: Tokens, issuer: Issuer
) -> None:
    """Five minutes, or until the token ends."""
    for passed in (0.0, 299.0, 301.0):
        issuer.now = 1_000_000.0 + passed
        await tokens(bearing(token()))
    assert len(issuer.asked) == 2

    issuer.now = 1_000_000.0 + HOUR + 1
    issuer.answers[token()] = Review(authenticated=False)
    assert reason(await tokens(bearing(token()))) == Reason.INVALID_TOKEN


async def test_a9_a_token_is_not_kept_as_it_is(tokens: Tokens) -> None:
    """Nothing that lives as long as the server holds it."""
    await tokens(bearing(token("verysecret")))

    kept = repr((tokens._good, tokens._bad, tokens._asking))
    assert "shop" in kept
    assert "verysecret" not in kept


async def test_a9_those_who_come_with_one_token_at_once_ask_once(
    tokens: Tokens, issuer: Issuer
) -> None:
    """And who leaves takes the answer from nobody."""
    issuer.gate.clear()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(tokens(bearing(token()))) for _ in range(5)]
        await eventually_async(lambda: issuer.asked)
        calls[0].cancel()
        issuer.gate.set()

    assert all(isinstance(call.result(), PodProof) for call in calls[1:])
    assert len(issuer.asked) == 1


@pytest.mark.parametrize(
    "review, expected",
    [
        (Review(authenticated=False, error="bad signature"), Reason.INVALID_TOKEN),
        (Review(authenticated=True, account=ServiceAccountRef("a", "b")), Reason.NOT_BOUND),
        (
            Review(authenticated=True, account=ServiceAccountRef("a", "b"), pod="p"),
            Reason.NOT_BOUND,
        ),
        (Review(authenticated=True, pod="p", uid="u"), Reason.NOT_BOUND),
    ],
)
async def test_a9_a_no_is_kept_shortly(
    review: Review, expected: Reason, tokens: Tokens, issuer: Issuer
) -> None:
    """So that who tries again and again costs the API server nothing."""
    issuer.answers[token()] = review
    for _ in range(3):
        verdict = await tokens(bearing(token()))
        assert reason(verdict) == expected
        assert isinstance(verdict, Refused)
        assert verdict.close.code == Refusal.UNAUTHENTICATED
    assert len(issuer.asked) == 1

    issuer.now += 11
    await tokens(bearing(token()))
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        (token(exp=1_000_000.0 - 61), Reason.EXPIRED_TOKEN),
        (token(aud="smi-xds "), Reason.WRONG_AUDIENCE),
        (token(aud=["https://kubernetes.default.svc"]), Reason.WRONG_AUDIENCE),
        (token(aud=[]), Reason.WRONG_AUDIENCE),
        (token(aud={"smi-xds": 1}), Reason.INVALID_TOKEN),
        (token(exp="soon"), Reason.INVALID_TOKEN),  # type: ignore[arg-type]  # as a forger would
        ("admin", Reason.INVALID_TOKEN),
        ("a.b", Reason.INVALID_TOKEN),
        ("a.b.c", Reason.INVALID_TOKEN),
        ("..", Reason.INVALID_TOKEN),
        ("a.!!!!.c", Reason.INVALID_TOKEN),
        ("a.ä.c", Reason.INVALID_TOKEN),
        (f"a.{urlsafe_b64encode(b'[' * 4000).decode()}.c", Reason.INVALID_TOKEN),
        ("e30.e30.c", Reason.EXPIRED_TOKEN),
        ("x" * 9000, Reason.INVALID_TOKEN),
        ("", Reason.INVALID_TOKEN),
        (" ", Reason.INVALID_TOKEN),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_what_speaks_against_itself_is_asked_nobody(
    text: str, expected: Reason, tokens: Tokens, issuer: Issuer
) -> None:
    """The API server is not asked about what it would refuse, nor about what is no token."""
    assert reason(await tokens(bearing(text))) == expected
    assert issuer.asked == []


@pytest.mark.parametrize(
    "values, expected",
    [
        ((), Reason.NO_CREDENTIAL),
        ((f"Bearer {token()}", f"Bearer {token()}"), Reason.INVALID_TOKEN),
        ((f"Basic {token()}",), Reason.INVALID_TOKEN),
        ((token(),), Reason.INVALID_TOKEN),
    ],
)
async def test_one_bearer_token_it_has_to_be(
    values: tuple[str, ...], expected: Reason, tokens: Tokens
) -> None:
    """Two would leave open who it is."""
    verdict = await tokens(Credentials(metadata={"authorization": values} if values else {}))

    assert reason(verdict) == expected
    assert isinstance(verdict, Refused)
    assert verdict.close.code == Refusal.UNAUTHENTICATED


async def test_the_scheme_is_written_in_any_case(tokens: Tokens) -> None:
    """RFC 9110, section 11.1."""
    shouted = Credentials(metadata={"authorization": (f"BEARER {token()}",)})
    assert isinstance(await tokens(shouted), PodProof)


async def test_a10_while_the_api_server_is_away_those_who_were_good_are(
    tokens: Tokens, issuer: Issuer
) -> None:
    """Until their token ends; others are told to come back, and are asked about when they do."""
    await tokens(bearing(token("old")))
    issuer.answers = {token(name): ReviewError("refused") for name in ("old", "new")}
    issuer.now += 600

    assert isinstance(await tokens(bearing(token("old"))), PodProof)
    verdict = await tokens(bearing(token("new")))
    assert reason(verdict) == Reason.UNREVIEWED
    assert isinstance(verdict, Refused)
    assert verdict.close.code == Refusal.UNAVAILABLE

    issuer.now += HOUR - 599
    assert reason(await tokens(bearing(token("old")))) == Reason.UNREVIEWED

    issuer.now -= HOUR - 599
    issuer.answers = {}
    assert isinstance(await tokens(bearing(token("new"))), PodProof)


async def test_an_answer_is_not_awaited_for_ever(
    tokens: Tokens, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that waits longer than it waits itself is of no use to anybody."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    issuer.gate.clear()

    assert reason(await tokens(bearing(token()))) == Reason.UNREVIEWED


async def test_one_address_keeps_only_its_share_of_reviews_busy(
    tokens: Tokens, issuer: Issuer
) -> None:
    """Forged tokens from one place do not keep those of others waiting."""
    issuer.gate.clear()
    async with asyncio.TaskGroup() as group:
        forged = [
            group.create_task(tokens(bearing(token(f"f{number}"), host="10.6.6.6")))
            for number in range(50)
        ]
        await eventually_async(lambda: issuer.busy == 4)
        honest = group.create_task(tokens(bearing(token("honest"))))
        await eventually_async(lambda: token("honest") in issuer.asked)
        assert issuer.busiest == 5
        issuer.gate.set()

    assert isinstance(honest.result(), PodProof)
    assert all(task.done() for task in forged)
    assert tokens._turns._lanes == {}


async def test_what_is_remembered_is_bounded(
    tokens: Tokens, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of good and bad ones by themselves: who forges pushes nobody out."""
    monkeypatch.setattr(module, "_KEPT", 2)
    monkeypatch.setattr(module, "_KEPT_REFUSED", 2)
    for number in range(4):
        issuer.answers[token(f"bad{number}")] = Review(authenticated=False)
    await tokens(bearing(token("good")))
    for number in range(4):
        await tokens(bearing(token(f"bad{number}")))
    before = len(issuer.asked)

    await tokens(bearing(token("good")))
    assert len(issuer.asked) == before
    await tokens(bearing(token("bad3")))
    assert len(issuer.asked) == before
    await tokens(bearing(token("bad0")))
    assert len(issuer.asked) == before + 1


async def test_who_waits_when_it_stops_is_told_to_come_back(issuer: Issuer) -> None:
    """To another replica."""
    issuer.gate.clear()
    async with asyncio.TaskGroup() as group, judging_tokens(issuer) as tokens:
        call = group.create_task(tokens(bearing(token(exp=4e9))))
        await eventually_async(lambda: issuer.asked)

    assert reason(call.result()) == Reason.UNREVIEWED
