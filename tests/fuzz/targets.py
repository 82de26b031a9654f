"""What reads the words of strangers, each as a function of bytes, and what it may say to them."""

import warnings
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress

from cryptography.utils import CryptographyDeprecationWarning

from smi_xds.ads.tokens import _bearer, _read
from smi_xds.ads.wire import MalformedError, read_delta, read_sotw
from smi_xds.config import parse_address
from smi_xds.identity.answers import accept, read_certificates
from smi_xds.identity.ca import create_key, parse_key
from smi_xds.identity.certificate_request import judge, read_list
from smi_xds.identity.clients import prove
from smi_xds.identity.signer import parse_certificates
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.explain import explain
from smi_xds.mesh.explain_parse import parse_question
from smi_xds.mesh.explain_path import normalise
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.forms import FORMS
from smi_xds.objects.parse import JsonParser
from smi_xds.objects.quantity import format_quantity, parse_quantity
from smi_xds.objects.store import Applied, Origin, Store
from smi_xds.problems import AskError, ConfigError, IdentityError, Problem
from smi_xds.sources.kube_wire import AnswerError, GoneError, batch_from, page_from, status_from
from smi_xds.sources.reading import parse_file
from smi_xds.values import ProxyId, Secret, SpiffeId
from smi_xds.web.conversion import convert_review
from smi_xds.web.validation import validate_review
from tests.support.certificates import der_to_pem
from tests.support.identity import NOW, mk_authority
from tests.support.mesh import build_mesh
from tests.support.objects import mk_pod, mk_service

Target = Callable[[bytes], None]
MESH = build_mesh(mk_pod("web"), mk_service("web"))
ORIGIN = Origin("fuzz")
AUTHORITY = mk_authority()
ROOTS = AUTHORITY.trust_bundle
WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")
KEY = create_key()
LEAF = AUTHORITY.issue(WEB, now=NOW).certificate_chain
PARSERS = [JsonParser(form) for form in FORMS.values()]


def file(label: str) -> Target:
    """A file of objects, and the mesh that comes of it."""

    def read(raw: bytes) -> None:
        found = parse_file(raw, label=label)
        if isinstance(found, Problem):
            return
        store = Store(["fuzz"])
        for one in found.objects:
            store.apply(ORIGIN, Applied(one))
        mesh = MeshBuilder(MeshSettings())(store.objects())
        str(found.problems + mesh.problems)

    return read


def api_server(raw: bytes) -> None:
    """A list, a watch, an object, a refusal."""
    for parser in PARSERS:
        parser.parse(raw)
    with suppress(AnswerError, GoneError):
        batch_from([raw], PARSERS[0])
    with suppress(AnswerError, GoneError):
        page_from(raw)
    status_from(raw)


def webhooks(raw: bytes) -> None:
    """Whoever reaches the port may post; only API servers are meant to."""
    convert_review(raw)
    validate_review(raw, foresee=lambda _: ())


def envelopes(raw: bytes) -> None:
    """Requests of xDS."""
    for read in (read_delta, read_sotw):
        with suppress(MalformedError):
            read(raw, with_node=True)


def token(raw: bytes) -> None:
    """A bearer token, as gRPC hands it over, and what a well-formed one says."""
    text = raw.decode("latin-1")
    _bearer({"authorization": (f"Bearer {text}",)})
    _read(Secret(raw))
    _read(Secret(b"e30." + urlsafe_b64encode(raw).rstrip(b"=") + b".c2ln"))


def certificates(raw: bytes) -> None:
    """What a client, another authority, an operator or a folder presents."""
    with suppress(ValueError):
        parse_key(raw)
    with warnings.catch_warnings():
        # That a later version of the library takes less.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for pem in (raw, der_to_pem(raw)):
            for chain in (pem, LEAF + pem):
                with suppress(ValueError):
                    prove(chain, roots=ROOTS, now=NOW)
                with suppress(IdentityError):
                    accept(chain, identity=WEB, key=KEY, roots=(AUTHORITY.certificate,), now=NOW)
            with suppress(IdentityError):
                read_certificates(pem, what="it")
            with suppress(ValueError):
                parse_certificates(pem)


def requests(raw: bytes) -> None:
    """What cert-manager answers."""
    with suppress(IdentityError):
        for request in read_list(raw):
            judge(request)


def question(raw: bytes) -> None:
    """What somebody asks `explain`."""
    text = raw.decode(errors="surrogateescape")
    first, *more = text.split("\n")
    normalise(first)
    for source, destination in ((first, "shop/web:80"), ("shop/web", first)):
        with suppress(AskError):
            asked = parse_question(
                source=source, destination=destination, path=first, method=first, headers=more
            )
            explain(MESH, asked)
    with suppress(AskError):
        explain(MESH, parse_question(source="shop/web", destination="shop/web:80", path=first))


def words(raw: bytes) -> None:
    """Names, addresses and numbers."""
    text = raw.decode(errors="surrogateescape")
    for parse in (SpiffeId.parse, ProxyId.parse):
        with suppress(ValueError):
            parse(text)
    with suppress(ConfigError):
        parse_address(text, flag="--it")
    if (value := parse_quantity(text)) is not None:
        format_quantity(value)


TARGETS: Mapping[str, Target] = {
    "yaml": file("a.yaml"),
    "json": file("a.json"),
    "api server": api_server,
    "webhooks": webhooks,
    "envelopes": envelopes,
    "token": token,
    "certificates": certificates,
    "certificate requests": requests,
    "question": question,
    "words": words,
}
