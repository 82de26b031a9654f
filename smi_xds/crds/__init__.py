"""The CustomResourceDefinitions of SMI, as data: one place for manifests, install and tests."""

from smi_xds.crds.definition import Conversion, definitions

__all__ = ["Conversion", "definitions"]
