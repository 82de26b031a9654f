"""The same lists in the models of kubernetes-asyncio, held in memory: what a client of it takes.

`python -m benchmarks.cluster.models KUBECONFIG` prints one JSON object.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from kubernetes_asyncio import client
from kubernetes_asyncio.config import load_kube_config

# As we ask for them.
_PAGE: Final = 500


async def main(kubeconfig: str) -> None:
    """List namespaces, accounts, services, pods and slices, and keep them."""
    began = time.perf_counter()
    configuration = client.Configuration()
    await load_kube_config(kubeconfig, client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        core, discovery = client.CoreV1Api(api), client.DiscoveryV1Api(api)
        lists = (
            core.list_namespace,
            core.list_service_account_for_all_namespaces,
            core.list_service_for_all_namespaces,
            core.list_pod_for_all_namespaces,
            discovery.list_endpoint_slice_for_all_namespaces,
        )
        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(_all(one)) for one in lists]
    kept = [task.result() for task in found]
    seconds = time.perf_counter() - began
    counts = [len(objects) for objects in kept]
    print(json.dumps({"seconds": seconds, "memory": _memory(), "objects": counts}))


def _memory() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


async def _all(one: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = await one(limit=_PAGE, _continue=token)
        found += page.items
        token = page.metadata._continue  # noqa: SLF001 - how they spell `continue`
        if not token:
            return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
