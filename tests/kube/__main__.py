"""Serves a control plane with the SMI CRDs until Ctrl-C, to try things by hand."""

import contextlib
import signal
import sys

from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS

with contextlib.suppress(KeyboardInterrupt), KubeCluster() as kube:
    kube.apply_crds(CRDS)
    sys.stdout.write(f"export KUBECONFIG={kube.kubeconfig}\n")
    sys.stdout.flush()
    signal.pause()
