"""Where webhooks are served, and by which names."""

import pytest

from smi_xds.config import Address, WebhookConfig, parse_webhooks
from smi_xds.problems import ConfigError


def test_webhooks_are_off_unless_asked_for() -> None:
    """With an address they are there; the Service is that of our manifests, or another."""
    address = Address("0.0.0.0", 15017)

    assert parse_webhooks(None) is None
    assert parse_webhooks("0.0.0.0:15017") == WebhookConfig(
        address=address, namespace="smi-xds", service="smi-xds-webhooks"
    )
    assert parse_webhooks("0.0.0.0:15017", service="mesh/hooks") == WebhookConfig(
        address=address, namespace="mesh", service="hooks"
    )


@pytest.mark.parametrize(
    "service", ["", "hooks", "/hooks", "mesh/", "Mesh/hooks", "a/b/c", "a/b.c"]
)
def test_a_webhook_service_that_is_none(service: str) -> None:
    """It goes into a certificate: a namespace and a name, and no more."""
    for address in ("0.0.0.0:15017", None):
        with pytest.raises(ConfigError, match=r"--webhook-service .* as smi-xds/smi-xds-webhooks"):
            parse_webhooks(address, service=service)


def test_a_webhook_address_that_is_none() -> None:
    """The flag is named."""
    with pytest.raises(ConfigError, match=r"--webhook-address '15017' .* such as 0\.0\.0\.0:15017"):
        parse_webhooks("15017")
