"""The objects of the tests of interception."""


def pod(
    name: str,
    addresses: str,
    *,
    account: str = "",
    app: str = "",
    sidecar: str = "intercepted",
    extra: str = "",
    spec: str = "",
    **ours: str,
) -> str:
    """A Pod as a user without Kubernetes would write it."""
    said = "".join(f'\n    smi-xds.io/{key}: "{value}"' for key, value in ours.items())
    mode = f"\n    smi-xds.io/sidecar: {sidecar}" if sidecar else ""
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: test
  labels: {{app: {app or name}{extra}}}
  annotations:
    smi-xds.io/address: "{addresses}"{mode}{said}
spec: {{serviceAccountName: {account or name}{spec}}}
---"""


def service(name: str, ips: str, ports: str, *, select: str) -> str:
    """A Service; `ips` are its cluster IPs, `ports` flow style YAML."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: test}}
spec:
  clusterIPs: [{ips}]
  selector: {{{select}}}
  ports: [{ports}]
---"""


def allow(name: str, source: str, destination: str, *rules: str) -> str:
    """A TrafficTarget with these rules (`Kind/name`)."""
    kinds = ", ".join(
        f"{{kind: {kind}, name: {rule}}}" for kind, _, rule in (it.partition("/") for it in rules)
    )
    return f"""
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name}, namespace: test}}
spec:
  destination: {{kind: ServiceAccount, name: {destination}, namespace: test}}
  sources: [{{kind: ServiceAccount, name: {source}, namespace: test}}]
  rules: [{kinds}]
---"""


ROUTES = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: api, namespace: test}
spec:
  matches: [{name: api, pathRegex: /api, methods: ["*"]}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: test}
spec: {}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: connections, namespace: test}
spec: {matches: {ports: [7000, 7001]}}
---"""


def split(name: str, root: str, **weights: int) -> str:
    """A TrafficSplit; underscores in the names of backends are hyphens."""
    backends = ", ".join(
        f"{{service: {service.replace('_', '-')}, weight: {weight}}}"
        for service, weight in weights.items()
    )
    return f"""
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: {name}, namespace: test}}
spec: {{service: {root}, backends: [{backends}]}}
---"""
