"""Answers about the mesh, as messages: the same JSON as on the command line, read by the proto."""

from typing import Any

from google.protobuf.json_format import ParseDict

from smi_xds._proto.smi_xds.debug.v1 import ExplainRequest
from smi_xds.debug.descriptors import fast_class
from smi_xds.mesh import graph as graphs
from smi_xds.mesh.explain import explain
from smi_xds.mesh.explain_parse import parse_question
from smi_xds.mesh.model import Mesh
from smi_xds.mesh.plain import complete


def explanation(mesh: Mesh, request: ExplainRequest) -> bytes:
    """An Explanation, encoded; AskError says what is wrong with the question."""
    question = parse_question(
        source=request.source,
        destination=request.destination,
        kind=request.kind,
        method=request.method,
        path=request.path,
        headers=request.headers,
        address=request.address,
    )
    return _encoded("Explanation", explain(mesh, question))


def graph(mesh: Mesh, namespace: str) -> bytes:
    """A MeshGraph, encoded."""
    return _encoded("MeshGraph", graphs.graph(mesh, namespace=namespace))


def _encoded(message: str, value: object) -> bytes:
    fields = complete(value)
    assert isinstance(fields, dict), message
    # The fields of the proto have the names of the value's.
    found: Any = ParseDict(fields, fast_class(message)())
    encoded: bytes = found.SerializeToString()
    return encoded
