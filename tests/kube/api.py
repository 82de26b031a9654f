"""A Kubernetes API server as tests use it: kubectl, and shorthands for what they do often."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.wait import eventually

KUBECTL_SECONDS = 60
NODE = "smi-xds-test"
"""The node that all pods are on: endpoints of pods without one are left out."""


class KubectlError(Exception):
    """kubectl ended with an error; the text is the command and what it said."""


class Kube:
    """
    Any API server that a kubeconfig leads to.

    Everything here blocks: in an event loop that must go on meanwhile, use `asyncio.to_thread`.
    """

    def __init__(self, *, kubeconfig: Path, scratch: Path) -> None:
        self.kubeconfig = kubeconfig
        """Of an administrator."""
        self.scratch = scratch

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        editor: str = "",
    ) -> str:
        """Return what kubectl printed; KubectlError where it failed."""
        command = [
            "kubectl",
            f"--kubeconfig={kubeconfig or self.kubeconfig}",
            # The default cache is keyed by host and port, which another server may have had.
            f"--cache-dir={self.scratch / 'kubectl-cache'}",
            *arguments,
        ]
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
            env={**os.environ, "KUBE_EDITOR": editor},
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def edit(self, kind: str, name: str, script: str, *, namespace: str = "default") -> str:
        """Return what `kubectl edit` printed; the editor is `sed` with this script."""
        arguments = ("edit", kind, name, f"--namespace={namespace}")
        return self.kubectl(*arguments, editor=f"sed -i '{script}'")

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get … -o json` gives, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *manifests: Path | str | Mapping[str, object], namespace: str = "") -> None:
        """Apply files, folders with a kustomization, YAML text, or objects."""
        target = (f"--namespace={namespace}",) if namespace else ()
        for manifest in manifests:
            match manifest:
                case Path() if (manifest / "kustomization.yaml").exists():
                    self.kubectl("apply", *target, "-k", str(manifest))
                case Path():
                    self.kubectl("apply", *target, "-f", str(manifest))
                case str():
                    self.kubectl("apply", *target, "-f", "-", stdin=manifest)
                case _:
                    self.kubectl("apply", *target, "-f", "-", stdin=json.dumps(manifest))

    def apply_crds(self, folder: Path) -> None:
        """Apply a folder of CRDs and wait until they are served."""
        self.apply(folder)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def make_namespace(self, name: str, *, labels: Mapping[str, str] | None = None) -> None:
        """Make a namespace and wait for its default service account: pods need it."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        eventually(
            lambda: self.kubectl("get", "serviceaccount", "default", f"--namespace={name}"),
            retry_on=(KubectlError,),
            what=f"the default service account of {name}",
        )

    def make_node(self) -> None:
        """Make the node that pods are on; nothing runs there."""
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})

    def make_pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        service_account: str = "default",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        ip: str | None = None,
    ) -> None:
        """
        Make a pod, and with `ip` make it ready there.

        Nothing ever runs it: it is what its status is patched to be.
        `ports` are the named TCP ports of its one container.
        """
        container = {
            "name": "app",
            "image": "example.test/app",
            "ports": [{"name": key, "containerPort": port} for key, port in (ports or {}).items()],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": dict(labels or {}),
                "annotations": dict(annotations or {}),
            },
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": service_account,
                "containers": [container],
            },
        }
        self.apply(pod)
        if ip is not None:
            self.mark_ready(name, ip, namespace=namespace)

    def mark_ready(
        self, pod: str, ip: str, *, namespace: str = "default", ready: bool = True
    ) -> None:
        """Patch a pod's status to be running at `ip`, and ready or not; on the node, if on none."""
        target = (pod, f"--namespace={namespace}")
        if not self.kubectl("get", "pod", *target, "-o", "jsonpath={.spec.nodeName}"):
            self._bind(pod, namespace)
        said = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": kind, "status": said} for kind in ("Ready", "ContainersReady")],
        }
        self.kubectl(
            "patch", "pod", *target, "--subresource=status", "--type=merge",
            f"--patch={json.dumps({'status': status})}",
        )  # fmt: skip

    def _bind(self, pod: str, namespace: str) -> None:
        """Put the pod of a Deployment or such on the node, as a scheduler would."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/binding"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))

    def remove_pod(self, name: str, *, namespace: str = "default") -> None:
        """Remove a pod at once; `kubectl delete` leaves it terminating, as no node ends it."""
        self.kubectl(
            "delete", "pod", name, f"--namespace={namespace}", "--force", "--grace-period=0"
        )

    def remove_namespace(self, name: str) -> None:
        """Let a namespace go, with all that is in it."""
        self.kubectl("delete", "namespace", name, "--wait=false")
        self.kubectl(
            "delete", "pods", "--all", f"--namespace={name}", "--force", "--grace-period=0"
        )

    def ready_addresses(self, service: str, *, namespace: str = "default") -> list[str]:
        """Return the ready addresses in the EndpointSlices of a service, sorted."""
        label = f"kubernetes.io/service-name={service}"
        slices = self.get("endpointslices", f"--namespace={namespace}", f"--selector={label}")
        return sorted(
            address
            for item in slices["items"]
            for endpoint in item.get("endpoints") or ()
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        )

    def wait_for_addresses(
        self,
        service: str,
        addresses: Sequence[str],
        *,
        namespace: str = "default",
        deadline: float = 15.0,
    ) -> None:
        """Wait until exactly these addresses of a service are ready."""

        def settled() -> bool:
            ready = self.ready_addresses(service, namespace=namespace)
            assert ready == sorted(addresses), f"ready are {ready}"
            return True

        what = f"endpoints of {namespace}/{service} are {addresses}"
        eventually(settled, deadline=deadline, what=what)

    def kubeconfig_for(self, service_account: str, *, namespace: str = "default") -> Path:
        """
        Return a kubeconfig with the rights of a service account, which is made where missing.

        A new one has no right but to ask which APIs there are.
        """
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": service_account, "namespace": namespace},
        }
        self.apply(account)
        token = self.kubectl("create", "token", service_account, f"--namespace={namespace}")
        config = json.loads(
            self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        )
        config["users"] = [{"name": "user", "user": {"token": token.strip()}}]
        config["contexts"][0]["context"]["user"] = "user"
        path = self.scratch / f"{namespace}-{service_account}.kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path
