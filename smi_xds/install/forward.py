"""Reaches the servers in a cluster, by `kubectl port-forward` to the loopback of their pods.

kubectl does it, rather than we: it takes every kubeconfig that operators have (plug-ins, proxies),
speaks the WebSocket and the SPDY dialect of port-forward as the API server wants it, and is kept in
step with Kubernetes. kubernetes_asyncio has neither dialect. The price is that kubectl has to be
there, which is where operators work, and a process for each pod while a command runs.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Final

from smi_xds.config import Address, KubernetesConfig
from smi_xds.install.names import NAMESPACE, SELECTOR, XDS_PORT
from smi_xds.problems import AskError, NoAnswerError

# kubectl would wait for minutes.
_PATIENCE: Final = ("--request-timeout=20s",)
_FORWARDING: Final = re.compile(r"Forwarding from 127\.0\.0\.1:([0-9]+) ->")


def ready_replicas(config: KubernetesConfig) -> tuple[str, ...]:
    """The pods that serve, by name; AskError says why there is none."""
    labels = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    found = json.loads(_kubectl(config, "get", "pods", f"--selector={labels}", "--output=json"))
    pods = {it["metadata"]["name"]: it for it in found["items"]}
    ready = tuple(sorted(name for name, pod in pods.items() if _is_ready(pod)))
    if ready:
        return ready
    if not pods:
        raise AskError(
            f"no smi-xds runs in the namespace {NAMESPACE} of this cluster: run `smi-xds install`, "
            "or give another --context"
        )
    standing = ", ".join(f"{name} is {_phase(pod)}" for name, pod in sorted(pods.items()))
    raise AskError(
        f"no replica of smi-xds is ready ({standing}): "
        f"see `kubectl describe pods --namespace {NAMESPACE}`"
    )


@contextmanager
def forwarded(
    config: KubernetesConfig, pods: Sequence[str], *, port: int = XDS_PORT
) -> Iterator[tuple[Address, ...]]:
    """Where that port of each pod is on this machine, while the block lasts."""
    with ExitStack() as stack:
        # All are started before the first is awaited.
        started = [stack.enter_context(_started(config, pod, port)) for pod in pods]
        addresses = tuple(_where(pod, *it) for pod, it in zip(pods, started, strict=True))
        try:
            yield addresses
        except NoAnswerError as error:
            # It would tell of the port of this machine.
            raise AskError(
                f"port {port} of {' or '.join(pods)} in the namespace {NAMESPACE} does not answer: "
                f"see `kubectl logs --namespace {NAMESPACE} {pods[0]}`; with --xds-address off "
                "nobody can ask"
            ) from error


@contextmanager
def _started(
    config: KubernetesConfig, pod: str, port: int
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    arguments = ("port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1")
    with (
        tempfile.TemporaryFile("w+") as said,
        _no_kubectl(),
        subprocess.Popen(
            _command(config, *arguments),
            env=_environment(config),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        try:
            yield process, said
        finally:
            process.kill()


def _where(pod: str, process: subprocess.Popen[str], said: IO[str]) -> Address:
    """Read it from kubectl, which says it when it listens, or ends."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := _FORWARDING.match(line):
            return Address("127.0.0.1", int(found[1]))
    process.wait()
    said.seek(0)
    raise AskError(f"kubectl port-forward to {NAMESPACE}/{pod} ended: {_one_line(said.read())}")


def _kubectl(config: KubernetesConfig, *arguments: str) -> str:
    with _no_kubectl():
        done = subprocess.run(
            _command(config, *arguments, *_PATIENCE),
            env=_environment(config),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise AskError(f"kubectl {arguments[0]}: {_one_line(done.stderr)}")
    return done.stdout


def _command(config: KubernetesConfig, *arguments: str) -> list[str]:
    context = (f"--context={config.context}",) if config.context else ()
    return ["kubectl", f"--namespace={NAMESPACE}", *context, *arguments]


def _environment(config: KubernetesConfig) -> Mapping[str, str]:
    # Not as a flag: that takes one file, and the variable a list.
    return os.environ | ({"KUBECONFIG": config.kubeconfig} if config.kubeconfig else {})


@contextmanager
def _no_kubectl() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if error.filename != "kubectl":
            raise
        raise AskError(
            "kubectl is not on PATH, by which a server in a cluster is reached: install it, or "
            "forward a port yourself and give --server"
        ) from error


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "it said nothing"


def _is_ready(pod: Mapping[str, Any]) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions") or ()
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def _phase(pod: Mapping[str, Any]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "leaving"
    return str(pod["status"].get("phase", "unknown")).lower()
