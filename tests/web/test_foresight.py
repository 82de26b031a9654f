"""What the mesh would say of an object that is not there yet."""

from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.smi import IdentityBinding, SmiObject
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef
from smi_xds.web.foresight import Foresight, proposed
from tests.support.objects import (
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
    mk_target,
    mk_tcp_route,
    mk_udp_route,
    picture,
    with_slices,
)

SETTINGS = MeshSettings()
SHOP = with_slices(
    [
        *(mk_pod(name, f"10.0.0.{n}", app=name) for n, name in enumerate(("web", "v1", "v2"), 1)),
        *(mk_service(name, mk_port(80), app=name) for name in ("web", "v1", "v2")),
    ]
)
OLD = mk_split("it", "web", {"v1": 1, "v2": 1})
BINDING = IdentityBinding(namespace="shop", name="it", service_account="web")


def _target(destination: str = "v1") -> SmiObject:
    return mk_target("it", ["web"], destination, http("routes"))


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.code.value for problem in problems]


def test_problems_of_the_object_alone_are_told() -> None:
    """What else is wrong in the mesh is not this writer's to hear."""
    other = mk_split("other", "nowhere", {"v1": 1})
    foresee = Foresight(SETTINGS, lambda: picture(*SHOP, other))

    assert codes(foresee(mk_split("it", "web", {"v1": 1, "gone": 1}))) == ["MissingBackend"]
    assert foresee(OLD) == ()


def test_each_proposal_is_judged_by_itself() -> None:
    """One that is not made, or is refused by others, leaves nothing behind."""
    objects = picture(*SHOP, OLD)
    foresee = Foresight(SETTINGS, lambda: objects)

    assert "MissingBackend" in codes(foresee(mk_split("it", "web", {"gone": 1})))
    again = mk_split("another", "web", {"v1": 1}, created="2030-01-01T00:00:00Z")
    assert codes(foresee(again)) == ["ShadowedSplit"]
    assert foresee(OLD) == ()


def test_the_latest_objects_count() -> None:
    """A route that came since makes the warning go."""
    target = _target()
    latest = [picture(*SHOP), picture(*SHOP, mk_http_routes("routes", mk_match("all")))]
    foresee = Foresight(SETTINGS, lambda: latest[0])

    assert "MissingRoute" in codes(foresee(target))
    latest.pop(0)
    assert "MissingRoute" not in codes(foresee(target))


def test_nothing_is_said_where_nothing_is_known() -> None:
    """Neither before the first round, nor of namespaces that are not watched."""
    lonely = mk_split("it", "nowhere", {"gone": 1})

    assert Foresight(SETTINGS, lambda: None)(lonely) == ()
    assert Foresight(SETTINGS, picture, namespaces=("away",))(lonely) == ()
    assert Foresight(SETTINGS, picture, namespaces=("shop", "away"))(lonely) != ()


def test_what_is_prepared_changes_no_judgement() -> None:
    """Whether there were objects by then or not."""
    latest = [None, picture(*SHOP), picture(*SHOP, OLD)]
    foresee = Foresight(SETTINGS, lambda: latest[0])

    for _ in range(2):
        foresee.prepare()
        latest.pop(0)
        assert "MissingBackend" in codes(foresee(mk_split("it", "web", {"gone": 1})))
        assert foresee(OLD) == ()


def test_a_bug_of_ours_is_forgotten() -> None:
    """The next proposal is judged from scratch, by tables that are whole."""
    pictures = iter([None, Objects(services=3), picture(*SHOP)])  # type: ignore[arg-type]  # broken

    foresee = Foresight(SETTINGS, lambda: next(pictures))
    outcomes: list[object] = []
    for _ in range(3):
        try:
            outcomes.append(foresee(OLD))
        except Exception as error:  # noqa: BLE001 - whatever it is
            outcomes.append(type(error))

    assert outcomes[0] == outcomes[2] == ()
    assert isinstance(outcomes[1], type)


def test_a_proposal_is_the_picture_with_it() -> None:
    """Of every kind, new or in place of a former self that stood elsewhere."""
    before: list[SmiObject] = [
        OLD,
        _target(),
        mk_http_routes("it", mk_match("a")),
        mk_tcp_route("it", 1),
        mk_udp_route("it", 1),
    ]
    after: list[SmiObject] = [
        mk_split("it", "v1", {"v2": 1}),
        _target("v2"),
        mk_http_routes("it", mk_match("b")),
        mk_tcp_route("it", 2),
        mk_udp_route("it", 2),
        BINDING,
    ]
    others = [mk_split("other", "v1", {"v2": 1}), mk_split("a", "web", {"v2": 1})]
    for new in after:
        there = [it for it in before if it.ref != new.ref]

        assert proposed(picture(*SHOP, *others, *before), new) == picture(
            *SHOP, *others, *there, new
        )
        assert proposed(picture(*SHOP, *others), new) == picture(*SHOP, *others, new)


def test_groups_that_it_does_not_touch_are_the_same() -> None:
    """So that they are not built again."""
    objects = picture(*SHOP, OLD, _target())

    changed = proposed(objects, mk_http_routes("it"))

    for name in ("targets", "bound_targets", "splits", "tcp_routes", "identity_bindings"):
        assert getattr(changed, name) is getattr(objects, name)


def test_its_old_problems_are_gone() -> None:
    """What its former self was refused for is not told of what takes its place."""
    said = [
        Problem(ObjectRef("TrafficSplit", "shop", name), "spec", ProblemCode.INVALID_OBJECT, "", "")
        for name in ("it", "other")
    ]
    objects = Objects(problems=tuple(said))

    assert proposed(objects, OLD).problems == (said[1],)
