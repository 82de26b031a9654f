"""Where API servers have objects converted and validated."""

from dataclasses import dataclass

from smi_xds.config.notation import Address, parse_address, parse_name

DEFAULT_WEBHOOK_SERVICE = "smi-xds/smi-xds-webhooks"  # as in deploy/kubernetes


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Where API servers have objects converted and validated."""

    address: Address
    namespace: str
    """Of the Service by whose names they call; the certificate has these."""
    service: str


def parse_webhooks(
    address: str | None, *, service: str = DEFAULT_WEBHOOK_SERVICE
) -> WebhookConfig | None:
    """Read where webhooks are served, and by which Service; None where they are not wanted."""
    namespace, name = parse_name(
        service, kind="Service", flag="--webhook-service", example=DEFAULT_WEBHOOK_SERVICE
    )
    if address is None:
        return None
    return WebhookConfig(
        address=parse_address(address, flag="--webhook-address", example="0.0.0.0:15017"),
        namespace=namespace,
        service=name,
    )
