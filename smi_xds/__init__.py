"""smi-xds: a control plane that makes the Service Mesh Interface work on Envoy."""

__version__ = "0.1.0"
