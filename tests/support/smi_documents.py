"""Random SMI objects as JSON documents, in every version and in all forms that a version allows.

The words are few, so that two documents often speak of the same things.
"""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from smi_xds.objects.versions import SMI_KINDS

Document = dict[str, Any]

KINDS_AND_VERSIONS = [(it.kind, v) for it in SMI_KINDS.values() for v in it.versions]

_NAMES = st.sampled_from(["web", "db"])
_PORTS = st.sampled_from([80, 8080])
_PATHS = st.sampled_from(["/a", "/b"])
_GROUPS = st.sampled_from(["access.smi-spec.io", "example.com"])
_QUANTITIES = st.sampled_from(
    ["0", "1", "100", "50m", "500m", "1k", "1e3", "1.5", "2Ki", "3n", "9E", "0.1", " 7 ", "-1"]
)


def _fields(
    required: Mapping[str, st.SearchStrategy[Any]] | None = None,
    **optional: st.SearchStrategy[Any],
) -> st.SearchStrategy[Document]:
    return _often(dict(required or {}), optional)


@st.composite
def _often(
    draw: st.DrawFn,
    required: Mapping[str, st.SearchStrategy[Any]],
    optional: Mapping[str, st.SearchStrategy[Any]],
) -> Document:
    """With most of what is optional: objects of which little is said have little to lose."""
    chosen = {key: it for key, it in optional.items() if draw(st.sampled_from([1, 1, 1, 0]))}
    return {key: draw(it) for key, it in {**required, **chosen}.items()}


def _lists(of: st.SearchStrategy[Any], **how: Any) -> st.SearchStrategy[list[Any]]:
    some = st.lists(of, min_size=1, max_size=3, **how)
    return st.one_of(some, some, some, st.just([]))


def _subjects(version: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    if version == "v1alpha4":
        more["group"] = _GROUPS
    kinds = st.sampled_from(["ServiceAccount", "IdentityBinding", "Group"])
    namespaces = st.sampled_from(["shop", "away"])
    return _fields({"kind": kinds, "name": _NAMES}, namespace=namespaces, **more)


def _target(version: str) -> st.SearchStrategy[Document]:
    rule = _fields(
        {
            "kind": st.sampled_from(["HTTPRouteGroup", "TCPRoute", "UDPRoute"]),
            "name": _NAMES,
        },
        matches=_lists(_NAMES),
    )
    ports = _PORTS | _PORTS.map(str)
    parts = {
        "destination": _subjects(version, port=ports),
        "sources": _lists(_subjects(version)),
        "specs" if version == "v1alpha1" else "rules": _lists(rule),
    }
    spec = _often({}, parts)
    return spec if version == "v1alpha1" else _fields(spec=spec)


def _http(version: str) -> st.SearchStrategy[Document]:
    header_map = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]))
    match = _fields(
        {"name": _NAMES},
        pathRegex=_PATHS,
        methods=_lists(st.sampled_from(["*", "GET", "PUT"])),
        headers=header_map | _lists(header_map),
    )
    spec = _fields(matches=_lists(match, unique_by=lambda it: it["name"]))
    return spec if version in {"v1alpha1", "v1alpha2"} else _fields(spec=spec)


def _ports(version: str) -> st.SearchStrategy[Document]:
    if version in {"v1alpha1", "v1alpha2"}:
        return st.just({})
    if version == "v1alpha3":
        return _fields(spec=st.just({}))
    return _fields(spec=_fields(matches=_fields(name=_NAMES, ports=_lists(_PORTS))))


def _binding(_version: str) -> st.SearchStrategy[Document]:
    return st.just({"spec": {"schemes": {"serviceAccount": "web"}}})


def _split(version: str) -> st.SearchStrategy[Document]:
    numbers = st.sampled_from([0, 1, 50, 100, 1000, -1, 10**12])
    if version == "v1alpha1":
        backend = _fields({"service": _NAMES}, weight=_QUANTITIES | numbers)
    else:
        backend = _fields({"service": _NAMES, "weight": numbers | st.sampled_from([0.5, 0.25])})
    more = {}
    if version in {"v1alpha3", "v1alpha4"}:
        match = _fields(
            {"kind": st.just("HTTPRouteGroup"), "name": _NAMES},
            apiGroup=st.just("specs.smi-spec.io"),
        )
        more = {"matches": _lists(match)}
    return _fields({"spec": _fields({"service": _NAMES}, backends=_lists(backend), **more)})


_BODIES = {
    "TrafficTarget": _target,
    "IdentityBinding": _binding,
    "HTTPRouteGroup": _http,
    "TCPRoute": _ports,
    "UDPRoute": lambda _version: _ports("v1alpha4"),
    "TrafficSplit": _split,
}


def documents(kind: str, version: str) -> st.SearchStrategy[Document]:
    """Objects of one version of one kind."""
    metadata = _fields(
        {"name": st.just("it")},
        namespace=st.just("shop"),
        uid=st.just("1-2-3"),
        unheardOf=st.just({"a": [1]}),
        annotations=st.just({"example.com/a": "b"}),
    )
    head = {
        "apiVersion": st.just(f"{SMI_KINDS[kind].group}/{version}"),
        "kind": st.just(kind),
        "metadata": metadata,
    }
    status = _fields(status=st.just({"conditions": []}))
    return st.builds(
        lambda head, status, body: {**head, **status, **body},
        st.fixed_dictionaries(head),
        status,
        _BODIES[kind](version),
    )


def of_any_version(kind: str) -> st.SearchStrategy[Document]:
    """Objects of one kind."""
    return st.sampled_from(SMI_KINDS[kind].versions).flatmap(lambda v: documents(kind, v))
