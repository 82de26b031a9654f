"""What the random meshes begin with."""

from smi_xds.objects.parse import FORMS
from tests.oracle.worlds import ALL_VERSIONS, CAST, GROUPS, Document, Versions

KNOWN_VERSIONS: Versions = {
    kind: tuple(v for v in versions if (f"{GROUPS[kind]}/{v}", kind) in FORMS)
    for kind, versions in ALL_VERSIONS.items()
}
"""The versions that the program reads."""


def first_documents(block: str = "127.1.0") -> tuple[Document, ...]:
    """The cast alone: pods with a sidecar or without, and nothing that allows anything."""
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": member.namespace,
                "name": member.name,
                "annotations": {
                    "smi-xds.io/sidecar": "bound" if member.meshed else "none",
                    "smi-xds.io/address": f"{block}.{member.number}",
                    "smi-xds.io/app-address": f"{block}.{100 + member.number}",
                },
            },
            "spec": {"serviceAccountName": member.account},
        }
        for member in CAST
    )
