"""What all SMI objects have in common on the wire."""

from typing import Any

import msgspec

from smi_xds.objects.metadata import Metadata


class Strict(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A field that a version does not know is refused: it could have been meant to restrict."""


class Envelope(Strict):
    """What every SMI object has at its root; `status` is the controller's, not the user's."""

    api_version: str
    kind: str
    metadata: Metadata
    status: Any = None

    @property
    def version(self) -> str:
        """`v1alpha4`, without the group."""
        return self.api_version.rpartition("/")[2]

    @property
    def uid(self) -> str:
        """Which object of an API server it is; empty in files."""
        return self.metadata.uid or ""

    @property
    def generation(self) -> int:
        """Which state of its spec it is, as the API server counts; 0 in files."""
        return self.metadata.generation or 0

    @property
    def created(self) -> str:
        """When, as the API server wrote it; empty in files."""
        return self.metadata.creation_timestamp or ""


def frozen(texts: list[str] | None) -> tuple[str, ...] | None:
    """A list that may be absent, which is not the same as empty."""
    return None if texts is None else tuple(texts)
