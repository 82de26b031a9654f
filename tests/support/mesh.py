"""The mesh of some objects, and what it says is wrong with them."""

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.parse import MeshObject
from smi_xds.problems import ProblemCode
from tests.support.objects import picture

STRICT = MeshSettings()


def build_mesh(*objects: MeshObject, settings: MeshSettings = STRICT) -> Mesh:
    """The mesh of these objects, with EndpointSlices derived."""
    return MeshBuilder(settings)(picture(*objects))


def told(mesh: Mesh) -> list[tuple[str, ProblemCode]]:
    """The fields and codes of all problems, sorted by their object."""
    return [(problem.field, problem.code) for problem in mesh.problems]
