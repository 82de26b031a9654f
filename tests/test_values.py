"""Names that every room shares are read strictly and printed as operators write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.values import (
    AccessMode,
    Mode,
    ObjectRef,
    ProxyId,
    Secret,
    ServiceAccountRef,
    ServiceRef,
    SpiffeId,
    as_ip,
    is_trust_domain,
)

BUYER = ServiceAccountRef("bookstore", "bookbuyer")

_segments = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)
_domains = st.from_regex(r"[a-z0-9._-]{1,40}", fullmatch=True)


@pytest.mark.parametrize("text", ["192.0.2.7", "::1", "2001:db8::7"])
def test_an_ip_address_is_read(text: str) -> None:
    """Of either family."""
    assert str(as_ip(text)) == text


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2", "[::1]", "fe80::1%eth0"])
def test_what_is_no_ip_address_is_none(text: str) -> None:
    """Nor is one with a zone: it names an interface of one machine."""
    assert as_ip(text) is None


def test_an_object_is_printed_with_its_namespace() -> None:
    """The kind comes first, as in messages for users."""
    assert str(ObjectRef("TrafficSplit", "bookstore", "canary")) == "TrafficSplit bookstore/canary"


def test_an_object_without_namespace_is_printed_by_name() -> None:
    """Namespaces and CRDs have none."""
    assert str(ObjectRef("Namespace", "", "bookstore")) == "Namespace bookstore"


def test_services_accounts_and_proxies_are_printed_as_namespace_and_name() -> None:
    """The form that flags and node ids have."""
    assert str(ServiceRef("bookstore", "v1")) == "bookstore/v1"
    assert str(BUYER) == "bookstore/bookbuyer"
    assert str(ProxyId("bookstore", "v1-0")) == "bookstore/v1-0"


def test_a_proxy_id_is_read_from_its_printed_form() -> None:
    """What is printed as node id is what a flag takes."""
    assert ProxyId.parse("bookstore/v1-0") == ProxyId("bookstore", "v1-0")


@pytest.mark.parametrize("text", ["", "/", "v1-0", "/v1-0", "bookstore/", "a/b/c"])
def test_a_proxy_id_needs_exactly_namespace_and_name(text: str) -> None:
    """Anything else is refused, quoted."""
    with pytest.raises(ValueError, match="is not NAMESPACE/NAME") as caught:
        ProxyId.parse(text)

    assert repr(text) in str(caught.value)


def test_an_identity_is_made_of_trust_domain_namespace_and_account() -> None:
    """The form is that of the other meshes, so that certificates can be compared."""
    identity = SpiffeId.of("cluster.local", BUYER)

    assert str(identity) == "spiffe://cluster.local/ns/bookstore/sa/bookbuyer"
    assert identity.service_account == BUYER


@pytest.mark.parametrize("path", ["/workload", "/ns/a", "/ns/a/sa/b/c", "/sa/a/ns/b"])
def test_an_identity_of_another_form_is_no_service_account(path: str) -> None:
    """Foreign SPIFFE ids are valid, and nobody's account."""
    assert SpiffeId.parse(f"spiffe://example.org{path}").service_account is None


@given(domain=_domains, segments=st.lists(_segments, min_size=1, max_size=5))
def test_reading_a_printed_identity_gives_it_back(domain: str, segments: list[str]) -> None:
    """Parsing and printing are each other's inverse on everything valid."""
    identity = SpiffeId(domain, "".join(f"/{segment}" for segment in segments))

    assert SpiffeId.parse(str(identity)) == identity


@given(text=st.one_of(st.text(max_size=40), st.text(max_size=40).map("spiffe://".__add__)))
def test_what_is_read_as_identity_is_printed_unchanged(text: str) -> None:
    """No two texts are one identity: nothing is trimmed, unescaped or lowered."""
    try:
        identity = SpiffeId.parse(text)
    except ValueError:
        return

    assert str(identity) == text


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "does not start with spiffe://"),
        ("cluster.local/ns/a/sa/b", "does not start with spiffe://"),
        ("https://cluster.local/ns/a/sa/b", "does not start with spiffe://"),
        ("SPIFFE://cluster.local/ns/a/sa/b", "does not start with spiffe://"),
        ("spiffe", "does not start with spiffe://"),
        ("spiffe:///ns/a/sa/b", "bad trust domain ''"),
        ("spiffe://Cluster.local/ns/a/sa/b", "bad trust domain 'Cluster.local'"),
        ("spiffe://cluster.local:80/a", "bad trust domain 'cluster.local:80'"),
        ("spiffe://user@cluster.local/a", "bad trust domain 'user@cluster.local'"),
        (f"spiffe://{'a' * 256}/b", "bad trust domain"),
        ("spiffe://cluster.local", "bad path ''"),
        ("spiffe://cluster.local/", "bad path '/'"),
        ("spiffe://cluster.local/a/", "bad path '/a/'"),
        ("spiffe://cluster.local//a", "bad path '//a'"),
        ("spiffe://cluster.local/a/../b", "bad path '/a/../b'"),
        ("spiffe://cluster.local/./b", "bad path '/./b'"),
        ("spiffe://cluster.local/a/..", "bad path '/a/..'"),
        ("spiffe://cluster.local/a%2fb", "bad path '/a%2fb'"),
        ("spiffe://cluster.local/a?b", "bad path"),
        ("spiffe://cluster.local/a#b", "bad path"),
        ("spiffe://cluster.local/a b", "bad path"),
        ("spiffe://cluster.local/a\n", "bad path"),
    ],
)
def test_what_is_no_spiffe_id_is_refused(text: str, reason: str) -> None:
    """Each part that the standard forbids is named in the error."""
    with pytest.raises(ValueError, match="is not a SPIFFE id") as caught:
        SpiffeId.parse(text)

    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["cluster.local", "a", "my_mesh-1.example.org", "a" * 255])
def test_a_trust_domain_is_lower_case_and_short(text: str) -> None:
    """Letters, digits, dots, dashes and underscores."""
    assert is_trust_domain(text)


@pytest.mark.parametrize("text", ["", "A", "a/b", "spiffe://a", "a b", "a\n", "ä", "a" * 256])
def test_other_texts_are_no_trust_domains(text: str) -> None:
    """No upper case, no path, no scheme, no white space."""
    assert not is_trust_domain(text)


def test_a_secret_is_never_printed() -> None:
    """Neither str nor repr nor a format shows what is in it, also inside other values."""
    secret = Secret(b"hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}"
    assert str(secret) == "<redacted>"
    assert secret.value == b"hunter2"


def test_secrets_compare_by_value() -> None:
    """Equal keys are equal, so that a memo may hold them."""
    assert Secret(b"a") == Secret(b"a") != Secret(b"b")


def test_modes_are_what_users_write() -> None:
    """Flags and annotations carry the value itself."""
    assert [Mode("strict"), Mode("permissive")] == list(Mode)
    assert [AccessMode(it) for it in ("strict", "shadow", "permissive")] == list(AccessMode)
    assert f"{Mode.STRICT}" == "strict"
