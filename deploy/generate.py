"""Rewrites the manifests in deploy/: `make crds`."""

from collections.abc import Mapping
from pathlib import Path

from smi_xds.crds import Conversion
from smi_xds.crds.manifests import manifests
from smi_xds.crds.webhooks import webhook_manifests
from smi_xds.install.manifests import manifest_files

DEPLOY = Path(__file__).parent
FOLDERS = {
    DEPLOY / "crds": (
        Conversion.NONE,
        "# kubectl apply -k deploy/crds\n"
        "# Needs nothing else in the cluster, and serves the newest versions only.\n",
    ),
    DEPLOY / "kubernetes" / "crds": (
        Conversion.WEBHOOK,
        "# Every version of every kind; the API server asks smi-xds to convert between them.\n",
    ),
}
KUBERNETES = DEPLOY / "kubernetes"
WEBHOOKS = KUBERNETES / "webhooks"


def main() -> None:
    """Write every folder anew; what is no longer generated goes."""
    for folder, (conversion, comment) in FOLDERS.items():
        _write(folder, manifests(conversion, comment=comment))
    _write(WEBHOOKS, webhook_manifests())
    _write(KUBERNETES, manifest_files())


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
