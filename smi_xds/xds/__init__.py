"""The mesh in Envoy's words."""
