"""The judgement: which node a caller may be that proved this."""

import pytest

from smi_xds.ads.auth import CertificateProof, Credentials, Known, PodProof, Reason, judge
from smi_xds.ads.session import Refusal
from smi_xds.values import ProxyId, ServiceAccountRef, SpiffeId

WEB = ServiceAccountRef("shop", "web")
POD = PodProof(pod=ProxyId("shop", "web-1"), uid="uid-1", account=WEB, expires=0.0)
CERTIFICATE = CertificateProof(identity=SpiffeId.of("mesh", WEB), serial="1a", expires=0.0)


class Pods(dict[str, Known]):
    """A directory that is written down."""

    edition = object()

    def find(self, proxy: ProxyId, /) -> Known | None:
        return self.get(str(proxy))


PODS = Pods(
    {
        "shop/web-1": Known(account=WEB, uid="uid-1"),
        "shop/web-2": Known(account=WEB, uid="uid-2"),
        "shop/vm": Known(account=WEB, uid=""),
        "shop/other": Known(account=ServiceAccountRef("shop", "other"), uid=""),
    }
)


def test_a_pod_is_the_node_of_its_token() -> None:
    """As long as the source knows it by the same uid and account."""
    assert judge(POD, "shop/web-1", PODS) is None


@pytest.mark.parametrize(
    "node, known, reason",
    [
        ("shop/web-2", {}, Reason.FOREIGN_NODE),
        ("web-1", {}, Reason.FOREIGN_NODE),
        ("", {}, Reason.FOREIGN_NODE),
        ("shop/web-1", {"shop/web-1": None}, Reason.UNKNOWN_NODE),
        ("shop/web-1", {"shop/web-1": Known(account=WEB, uid="uid-9")}, Reason.REPLACED_POD),
        ("shop/web-1", {"shop/web-1": Known(account=WEB, uid="")}, Reason.REPLACED_POD),
        (
            "shop/web-1",
            {"shop/web-1": Known(account=ServiceAccountRef("shop", "x"), uid="uid-1")},
            Reason.FOREIGN_NODE,
        ),
    ],
)
def test_a_token_makes_nobody_else(
    node: str, known: dict[str, Known | None], reason: Reason
) -> None:
    """Whatever the node id claims, and whoever has the pod's name now."""
    pods = Pods({name: each for name, each in {**PODS, **known}.items() if each is not None})

    refused = judge(POD, node, pods)

    assert refused is not None
    assert (refused.reason, refused.close.code) == (reason, Refusal.PERMISSION_DENIED)


def test_a_certificate_is_for_the_workloads_of_its_identity() -> None:
    """Those that are no pods of an API server."""
    assert judge(CERTIFICATE, "shop/vm", PODS) is None


@pytest.mark.parametrize(
    "node, reason",
    [
        ("shop/other", Reason.FOREIGN_NODE),
        ("shop/none", Reason.UNKNOWN_NODE),
        ("vm", Reason.UNKNOWN_NODE),
        ("shop/web-1", Reason.TOKEN_NEEDED),
    ],
)
def test_a_certificate_makes_nobody_else(node: str, reason: Reason) -> None:
    """A pod's workload certificate outlives the pod, so its token is needed."""
    refused = judge(CERTIFICATE, node, PODS)

    assert refused is not None
    assert (refused.reason, refused.close.code) == (reason, Refusal.PERMISSION_DENIED)


def test_who_may_not_be_a_node_is_not_told_whether_there_is_one() -> None:
    """The same words, but for the name that was asked for."""
    texts = {
        refused.close.text.replace(node, "NODE")
        for node in ("shop/other", "shop/none")
        if (refused := judge(CERTIFICATE, node, PODS)) is not None
    }
    assert texts == {"spiffe://mesh/ns/shop/sa/web has no workload 'NODE'"}


def test_callers_are_counted_by_what_they_proved() -> None:
    """A pod by its uid, a certificate by its serial number."""
    assert POD.subject == "pod shop/web-1 uid-1"
    assert CERTIFICATE.subject == "certificate 1a of spiffe://mesh/ns/shop/sa/web"


def test_what_a_call_brought_is_not_shown() -> None:
    """It holds a token."""
    assert "secret" not in repr(Credentials(metadata={"authorization": ("Bearer secret",)}))
