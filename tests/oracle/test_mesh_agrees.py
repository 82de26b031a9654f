"""The mesh says what the oracle says, of hundreds of random meshes."""

from collections.abc import Mapping
from fractions import Fraction

from hypothesis import given, settings

from smi_xds.mesh.model import Mesh
from smi_xds.objects.parse import FORMS
from tests.oracle.known import KNOWN_VERSIONS
from tests.oracle.meshes import judge, mesh_of
from tests.oracle.smi.judging import Account, Oracle, Request, Verdict
from tests.oracle.worlds import (
    ALL_VERSIONS,
    CAST,
    HttpQuestion,
    PlainQuestion,
    TcpQuestion,
    World,
    account_of,
    worlds,
)

BLOCK = "127.1.0"

# Of weights in the thousands of millions the mesh keeps nine digits.
_NEARLY = Fraction(1, 10**8)

Shares = Mapping[str, Fraction]


def test_worlds_are_written_in_every_version_that_is_read() -> None:
    """No version of a kind that we read is left out by the random meshes."""
    read = {
        (kind, version.rpartition("/")[2])
        for version, kind in FORMS
        if version.partition("/")[0].endswith("smi-spec.io")
    }
    written = {(kind, version) for kind, all_ in ALL_VERSIONS.items() for version in all_}

    assert read <= written


@settings(max_examples=300)
@given(world=worlds(questions=12, versions=KNOWN_VERSIONS, block=BLOCK))
def test_the_mesh_says_what_the_oracle_says(world: World) -> None:
    """Allowed or denied, and every share, for requests and for connections."""
    oracle, mesh = Oracle(world.documents), mesh_of(world.documents)
    for question in world.questions:
        match question:
            case HttpQuestion(caller, request, name, number):
                expected = oracle.http(account_of(caller), request, service=name, number=number)
                found = oracle.find(account_of(caller), request.host)
                # What no policy judges is for real Envoys to show.
                if not expected.refusal and found and request.path.startswith("/"):
                    service, port = found
                    key = (service.namespace, service.name)
                    _compare(mesh, account_of(caller), key, port.number, request, expected)
            case TcpQuestion(caller, name, number):
                expected = oracle.tcp(account_of(caller), name, number)
                namespace, _, short = name.partition("/")
                _compare(mesh, account_of(caller), (namespace, short), number, None, expected)
            case PlainQuestion():
                pass


def _compare(
    mesh: Mesh,
    source: Account,
    service: tuple[str, str],
    number: int,
    request: Request | None,
    expected: Verdict,
) -> None:
    asked = f"{source} to {service}:{number}: {request}\noracle: {expected}"
    said = judge(mesh, source, service, number, request)
    alike = _differ(_named(said), _named(expected)) <= _NEARLY
    # Whoever may call nothing there is not told whether anybody is there.
    nobody = said.rightless and (expected.rightless or expected.blurred)
    assert alike or (nobody and not expected.answers), f"{asked}\nmesh: {said}"


def _differ(one: Shares, other: Shares) -> Fraction:
    """The greatest difference; all of it where one has a share and the other has none."""
    pairs = [(one.get(key, Fraction(0)), other.get(key, Fraction(0))) for key in {*one, *other}]
    return max(abs(a - b) if bool(a) == bool(b) else Fraction(1) for a, b in pairs)


def _named(verdict: Verdict) -> Shares:
    address = {f"{BLOCK}.{member.number}": member.key for member in CAST}
    answers = {address.get(name, name): share for name, share in verdict.answers.items()}
    return {**answers, "denied": verdict.denied, "unavailable": verdict.unavailable}
