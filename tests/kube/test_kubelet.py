"""The kubelet of the tests, as kubectl and the API server use it."""

import re
import socket
import subprocess
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

from tests.kube.cluster import KubeCluster
from tests.kube.kubelet import running_kubelet


class _Shout(StreamRequestHandler):
    """Answers a line in capitals when the caller has said all."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


def test_a_port_of_a_pod_leads_to_this_machine(
    own_kube: KubeCluster, namespace: str, kube_binary: Path, tmp_path: Path
) -> None:
    """`kubectl port-forward` carries bytes both ways, also after ours have ended."""
    own_kube.make_pod("web", namespace=namespace, ip="10.244.0.9")
    with (
        ThreadingTCPServer(("127.0.0.1", 0), _Shout) as server,
        running_kubelet(own_kube, kube_binary, tmp_path) as kubelet,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        kubelet.lead(f"{namespace}/web", 8080, to=f"127.0.0.1:{server.server_address[1]}")
        command = (
            *("kubectl", f"--kubeconfig={own_kube.kubeconfig}", f"--namespace={namespace}"),
            *("port-forward", "pod/web", ":8080", "--address=127.0.0.1"),
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
            try:
                assert forwarding.stdout is not None
                found = re.match(
                    r"Forwarding from 127\.0\.0\.1:(\d+)", forwarding.stdout.readline()
                )
                assert found is not None
                with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as caller:
                    caller.sendall(b"hello")
                    caller.shutdown(socket.SHUT_WR)
                    assert caller.recv(100) == b"HELLO"
            finally:
                forwarding.kill()
                server.shutdown()
