"""`explain` says what the oracle says, of hundreds of random meshes."""

from collections.abc import Iterator
from fractions import Fraction
from typing import assert_never

from hypothesis import given, settings

from smi_xds.mesh.explain import Explanation, Kind, Question, Verdict, explain
from smi_xds.values import ServiceAccountRef, ServiceRef
from tests.oracle.known import KNOWN_VERSIONS
from tests.oracle.meshes import mesh_of
from tests.oracle.smi import judging
from tests.oracle.smi.judging import Oracle
from tests.oracle.worlds import (
    HttpQuestion,
    Member,
    PlainQuestion,
    TcpQuestion,
    World,
    account_of,
    worlds,
)

# Shares are rounded to hundredths of a percent, once for each destination.
_NEARLY = Fraction(1, 1000)


@settings(max_examples=100)
@given(world=worlds(questions=12, versions=KNOWN_VERSIONS))
def test_explanations_say_what_the_oracle_says(world: World) -> None:
    """Allowed, denied and unavailable shares; redirects, and what no sidecar takes."""
    oracle, mesh = Oracle(world.documents), mesh_of(world.documents)
    for question in world.questions:
        match question:
            case HttpQuestion(caller, request, name, number):
                expected = oracle.http(account_of(caller), request, service=name, number=number)
                found = oracle.find(account_of(caller), request.host)
                if found is None or request.method not in judging.METHODS:
                    continue  # decided before anything is asked: no such host, no such method
                if "://" in request.path:
                    continue  # its host is in the path, which is no path of a question
                service, port = found
                asked = _question(caller, (service.namespace, service.name), port.number, request)
            case TcpQuestion(caller, name, number):
                expected = oracle.tcp(account_of(caller), name, number)
                namespace, _, short = name.partition("/")
                asked = _question(caller, (namespace, short), number, None)
            case PlainQuestion():
                continue  # to a pod's own port: no service is called
            case never:
                assert_never(never)
        said = explain(mesh, asked)
        assert _agree(said, expected), f"{asked}\nexplain: {said}\noracle: {expected}"


def _question(
    caller: Member, service: tuple[str, str], number: int, request: judging.Request | None
) -> Question:
    asked = Question(
        source=ServiceAccountRef(caller.namespace, caller.account),
        service=ServiceRef(*service),
        port=number,
        kind=Kind.TCP if request is None else Kind.HTTP,
    )
    if request is None:
        return asked
    return Question(
        source=asked.source,
        service=asked.service,
        port=number,
        kind=asked.kind,
        method=request.method,
        path=request.path,
        headers=(("host", request.host), *request.headers),
    )


def _agree(said: Explanation, expected: judging.Verdict) -> bool:
    if expected.refusal == "redirect":
        return said.request is not None and bool(said.request.redirect)
    if expected.refusal:
        return said.verdict is Verdict.DENIED and not said.branches
    allowed = sum(expected.answers.values(), Fraction(0))
    if said.verdict is Verdict.DENIED:
        # Whoever may call nothing there is not told whether anybody is there.
        rightless = expected.rightless or expected.blurred
        return not allowed and (expected.denied == 1 or rightless or _unready(said))
    if said.verdict is Verdict.NOWHERE:
        return expected.unavailable == 1
    shares = {verdict: Fraction(0) for verdict in Verdict}
    for branch in said.branches:
        for it in branch.destinations:
            shares[it.verdict] += Fraction(it.share) / 100
    if _unready(said):
        # The verdict is about what may be, a note about what is.
        return expected.unavailable == 1 or expected.denied == 1
    if expected.blurred:
        # Somebody there serves nothing: who tries again moves shares.
        return any(_answering(said)) == bool(allowed)
    return all(
        abs(one - other) <= _NEARLY
        for one, other in (
            (shares[Verdict.ALLOWED], allowed),
            (shares[Verdict.DENIED], expected.denied),
        )
    )


def _answering(said: Explanation) -> Iterator[bool]:
    for branch in said.branches:
        for it in branch.destinations:
            yield bool(branch.weight and it.ready) and it.verdict is Verdict.ALLOWED


def _unready(said: Explanation) -> bool:
    used = (branch for branch in said.branches if branch.weight)
    return not any(it.ready for branch in used for it in branch.destinations)
