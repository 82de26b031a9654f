"""Messages and resources as JSON, for tests that look into them."""

from typing import Any

from smi_xds.xds.dump import resource_json, to_json
from smi_xds.xds.fields import Message
from smi_xds.xds.resources import Resource


def shown(it: Message | Resource) -> Any:
    """JSON of many shapes: what is not as expected fails the test by itself."""
    return resource_json(it) if isinstance(it, Resource) else to_json(it)
