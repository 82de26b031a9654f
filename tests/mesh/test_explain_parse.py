"""Questions as an operator writes them."""

import pytest

from smi_xds.mesh.explain import Kind, Question
from smi_xds.mesh.explain_parse import parse_question
from smi_xds.problems import AskError
from smi_xds.values import ServiceAccountRef, ServiceRef, SpiffeId

WEB = ServiceAccountRef("shop", "web")
API = ServiceRef("shop", "api")


def test_the_shortest_question_is_a_get_of_the_root() -> None:
    """Everything else has a default."""
    asked = parse_question(source="shop/web", destination="shop/api:80")

    assert asked == Question(source=WEB, service=API, port=80, method="GET", path="/")


def test_everything_may_be_said() -> None:
    """Kind, method, path, headers in two notations, address, pod."""
    asked = parse_question(
        source="spiffe://d/x",
        destination="shop/db/db-0:5432",
        kind="http",
        method="PUT",
        path="/a?b",
        headers=["a=b:c", "d: e=f", ":authority=h", "empty="],
        address="10.0.0.1",
    )

    assert asked == Question(
        source=SpiffeId("d", "/x"),
        service=ServiceRef("shop", "db"),
        pod="db-0",
        port=5432,
        kind=Kind.HTTP,
        method="PUT",
        path="/a?b",
        headers=(("a", "b:c"), ("d", "e=f"), (":authority", "h"), ("empty", "")),
        address="10.0.0.1",
    )


def test_a_caller_may_be_outside() -> None:
    """Nobody's identity."""
    assert parse_question(source="outside", destination="shop/api:80").source is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"source": "web"}, "the source 'web' is not NAMESPACE/SERVICEACCOUNT"),
        ({"source": "a/b/c"}, "the source 'a/b/c' is not"),
        ({"source": ""}, "the source '' is not"),
        ({"source": "http://x"}, "the source 'http://x' is not a SPIFFE id"),
        ({"destination": "shop/api"}, "the destination 'shop/api' is not"),
        ({"destination": "api:80"}, "the destination 'api:80' is not"),
        ({"destination": "shop/:80"}, "the destination 'shop/:80' is not"),
        ({"destination": "shop/api/pod/x:80"}, "the destination 'shop/api/pod/x:80' is not"),
        ({"destination": "shop/api:http"}, "the destination 'shop/api:http' is not"),
        ({"destination": "shop/api:0"}, "the destination 'shop/api:0' is not"),
        ({"destination": "shop/api:65536"}, "the destination 'shop/api:65536' is not"),
        ({"kind": "icmp"}, "the kind 'icmp' is not one of: auto, http, tcp, udp"),
        ({"headers": "x"}, "the header 'x' is not NAME=VALUE"),
        ({"headers": "="}, "the header '=' is not NAME=VALUE"),
        ({"headers": " =x"}, "the header ' =x' is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(wrong: dict[str, str], message: str) -> None:
    """With what it should look like."""
    right = {"source": "shop/web", "destination": "shop/api:80"} | wrong
    headers = [right.pop("headers")] if "headers" in right else []

    with pytest.raises(AskError) as error:
        parse_question(**right, headers=headers)

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
