"""
A real Kubernetes control plane for tests: etcd, API server and the controllers that tests need.

There are no nodes: a pod is what its status is patched to be, and EndpointSlices follow by
themselves. Sockets of etcd are files; the API server's port is the system's choice.
"""

import http.client
import json
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kube.api import Kube
from tests.kube.binary import kube_binary
from tests.kube.pki import make_key, make_serving_certificate
from tests.support.wait import eventually

SERVICE_CIDR = "10.96.0.0/16"
START_SECONDS = 90.0
"""A start takes 4 s; this is for a machine that does much else at the same time."""

CONTROLLERS = (
    "deployment-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
)
ADMIN_TOKEN = "test-admin"


class ControlPlaneError(Exception):
    """A program of the control plane ended by itself; the text ends with its log."""


class KubeCluster(Kube):
    """
    A control plane of one's own, as a context manager; nothing of it outlives the process.

    It listens on 127.0.0.1 only, so it also starts in a network namespace that has nothing but lo.
    """

    def __init__(self, *, service_cidr: str = SERVICE_CIDR, binary: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="smi-xds-kube-")
        folder = Path(self._folder.name)
        super().__init__(kubeconfig=folder / "kubeconfig", scratch=folder)
        self._binary = binary
        self._service_cidr = service_cidr
        self._port_holder = socket.socket()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tls = ssl.create_default_context()
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._binary = self._binary or kube_binary()
            self._reserve_port()
            self._write_files()
            self.start_etcd()
            self.start_apiserver()
            self.make_node()
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_all()

    def start_apiserver(self) -> None:
        """
        Start the API server and the controllers, again at the same port with the same data.

        Where it runs already, this only waits until it is ready.
        """
        self._start("kube-apiserver", self._apiserver_flags())
        self._wait_for("/livez/ping")
        self._start("kube-controller-manager", self._controller_flags())
        self._wait_for("/readyz")
        # Made by the controllers: so they run.
        self._wait_for("/api/v1/namespaces/default/serviceaccounts/default")

    def stop_apiserver(self) -> None:
        """
        Kill the API server, as an outage would; until it is started again, connections are refused.

        The controllers go with it, so that their back-off does not slow what comes after.
        """
        self.stop_controllers()
        self._stop("kube-apiserver")

    def stop_controllers(self) -> None:
        """Kill the controllers: from now on, what is made stays as it was made."""
        self._stop("kube-controller-manager")

    def start_etcd(self) -> None:
        """Start what keeps the data; the API server finds it by itself."""
        self._start("etcd", [])

    def stop_etcd(self) -> None:
        """Kill what keeps the data."""
        self._stop("etcd")

    def log(self, program: str) -> str:
        """Return what etcd, kube-apiserver or kube-controller-manager has written."""
        return (self.scratch / f"{program}.log").read_text(errors="replace")

    def _reserve_port(self) -> None:
        # The socket is bound and never listens: it keeps the port while the API server, which
        # shares it (--permit-port-sharing), is down.
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self.port = self._port_holder.getsockname()[1]

    def _write_files(self) -> None:
        serving = make_serving_certificate(
            addresses=["127.0.0.1"],
            names=["localhost", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"],
        )
        self._tls.load_verify_locations(cadata=serving.ca.decode())
        files = {
            "ca.crt": serving.ca,
            "apiserver.crt": serving.certificate,
            "apiserver.key": serving.key,
            "accounts.key": make_key(),
            "tokens": f"{ADMIN_TOKEN},admin,admin,system:masters\n".encode(),
            "kubeconfig": json.dumps(self._kubeconfig(serving.ca)).encode(),
        }
        for name, content in files.items():
            path = self.scratch / name
            path.write_bytes(content)
            path.chmod(0o600)

    def _kubeconfig(self, ca: bytes) -> dict[str, object]:
        (self.scratch / "ca.crt").write_bytes(ca)
        cluster = {"server": self.url, "certificate-authority": str(self.scratch / "ca.crt")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }

    def _apiserver_flags(self) -> list[str]:
        return [
            "--etcd-servers=unix://etcd:1",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--permit-port-sharing",
            "--tls-cert-file=apiserver.crt",
            "--tls-private-key-file=apiserver.key",
            "--token-auth-file=tokens",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            f"--service-cluster-ip-range={self._service_cidr}",
            # It would announce a loopback address, which an EndpointSlice may not have.
            "--endpoint-reconciler-type=none",
        ]

    def _controller_flags(self) -> list[str]:
        return [
            "--kubeconfig=kubeconfig",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--root-ca-file=ca.crt",
            "--service-account-private-key-file=accounts.key",
            "--controller-start-interval=0",
            # Tests wait for what controllers do; the defaults (20 and 30) are for fleets.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def _start(self, program: str, flags: list[str]) -> None:
        if program in self._processes:
            return
        assert self._binary is not None
        with (self.scratch / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                [self._binary, program, *flags],
                cwd=self.scratch,
                stdin=subprocess.PIPE,  # they end with it, however this process ends
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which stop these in order
            )

    def _stop(self, program: str) -> None:
        process = self._processes.pop(program, None)
        if process is not None:
            process.kill()
            with process:  # waits, and closes the pipe
                pass

    def _stop_all(self) -> None:
        for program in reversed(list(self._processes)):
            self._stop(program)
        self._port_holder.close()
        self._folder.cleanup()

    def _wait_for(self, path: str) -> None:
        def answered() -> bool:
            for program, process in self._processes.items():
                if process.poll() is not None:
                    tail = "\n".join(self.log(program).splitlines()[-20:])
                    raise ControlPlaneError(f"{program} ended with {process.returncode}:\n{tail}")
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=10, context=self._tls
            )
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
                return connection.getresponse().status == http.HTTPStatus.OK
            finally:
                connection.close()

        # Refused or reset until it listens; half-open while it starts.
        failures = (OSError, http.client.HTTPException)
        eventually(answered, deadline=START_SECONDS, retry_on=failures, what=f"{self.url}{path}")
