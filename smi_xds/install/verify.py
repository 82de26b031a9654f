"""`smi-xds verify`: does an installation work? What it depends on comes first."""

import asyncio

from smi_xds.config import KubernetesConfig
from smi_xds.install.cluster import Cluster
from smi_xds.install.findings import Findings
from smi_xds.install.verify_answers import conversion_answers, validation_answers
from smi_xds.install.verify_objects import (
    definitions_there,
    leader_alive,
    replicas_ready,
    tolerant,
    trust_bundle,
    validation_there,
)
from smi_xds.install.verify_rights import rights_granted
from smi_xds.install.verify_servers import servers


async def verify(cluster: Cluster, config: KubernetesConfig) -> Findings:
    """Everything in turn; AskError where the API server does not answer."""
    bundle, root = await trust_bundle(cluster)
    async for finding in definitions_there(cluster, bundle):
        yield finding
    yield await tolerant("rights", rights_granted(cluster))
    yield await tolerant("deployment", replicas_ready(cluster))
    yield await tolerant("leader", leader_alive(cluster))
    yield root
    yield await tolerant("validating webhook", validation_there(cluster, bundle))
    yield await tolerant("conversion", conversion_answers(cluster))
    yield await tolerant("validation", validation_answers(cluster))
    for finding in await asyncio.to_thread(servers, config, bundle):
        yield finding
