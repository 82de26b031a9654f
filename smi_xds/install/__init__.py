"""How the control plane comes into a cluster: its manifests as data, applying them, looking after.

The manifests are made here and nowhere else: `make crds` writes them into deploy/, and
`smi-xds install` applies the same objects, so that a wheel needs no files for it.
"""
