"""Kubernetes and SMI objects, parsed and frozen."""
