"""Connection managers, TCP proxies and what they log."""

from typing import Any

from envoy_data_plane.envoy.config.listener.v3 import Filter

from smi_xds.xds.filters import inbound_http, inbound_tcp, outbound_http, outbound_tcp
from tests.support.objects import spiffe
from tests.support.shown import shown

WEB = spiffe("web")


def config(it: Filter) -> Any:
    return shown(it)["typed_config"]


def logged(it: Filter) -> Any:
    (log,) = config(it)["access_log"]
    return log["typed_config"]["log_format"]["json_format"]


def test_paths_are_normalised_before_they_are_judged() -> None:
    """Without that `/api/../secret` passes a rule for `/api`."""
    for manager in (inbound_http(WEB, "inbound|80"), outbound_http(WEB, "outbound")):
        found = config(manager)
        assert found["normalize_path"] is True
        assert found["merge_slashes"] is True
        assert found["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"


def test_streams_may_be_silent_and_hosts_may_end_in_a_dot() -> None:
    """gRPC and WebSocket are not cut after five minutes; `web.shop.svc.` is `web.shop.svc`."""
    found = config(outbound_http(WEB, "outbound"))
    assert found["stream_idle_timeout"] == "0s"
    assert found["strip_trailing_host_dot"] is True
    assert found["upgrade_configs"] == [{"upgrade_type": "websocket"}]


def test_the_rules_stand_before_the_router_and_come_with_the_routes() -> None:
    """The filter itself is empty: its chain never changes with policy."""
    filters = config(inbound_http(WEB, "inbound|80"))["http_filters"]
    assert [it["name"].rpartition(".")[2] for it in filters] == ["rbac", "router"]
    assert set(filters[0]["typed_config"]) == {"@type"}
    (router,) = config(outbound_http(WEB, "outbound"))["http_filters"]
    assert router["name"] == "envoy.filters.http.router"


def test_the_application_is_told_who_was_proved_and_nothing_that_was_claimed() -> None:
    """A client's own words about its certificate are dropped."""
    found = config(inbound_http(WEB, "inbound|80"))
    assert found["forward_client_cert_details"] == "SANITIZE_SET"
    assert found["set_current_client_cert_details"] == {"uri": True}


def test_connections_live_as_long_as_both_ends_want() -> None:
    """No idle time-out cuts a database connection."""
    found = config(outbound_tcp(WEB, "outbound|shop/db:5432", "shop/db:5432"))
    assert (found["cluster"], found["idle_timeout"]) == ("shop/db:5432", "0s")


def test_each_log_line_names_both_ends_where_it_went_and_who_decided() -> None:
    """The one who logs knows itself; the other end is read from its certificate."""
    inbound, outbound = logged(inbound_http(WEB, "x")), logged(outbound_http(WEB, "x"))
    assert inbound["destination"] == outbound["source"] == str(WEB)
    assert inbound["source"] == "%DOWNSTREAM_PEER_URI_SAN%"
    assert outbound["destination"] == "%UPSTREAM_PEER_URI_SAN%"
    assert "enforced_effective_policy_id" in inbound["policy"]
    for line in (inbound, outbound):
        assert {"route", "backend", "flags", "status", "path"} <= line.keys()


def test_connections_are_logged_like_requests() -> None:
    """With what a connection has: no path, but why its handshake failed."""
    inbound = logged(inbound_tcp(WEB, "x", "x"))
    outbound = logged(outbound_tcp(WEB, "x", "x"))
    assert (inbound["direction"], outbound["direction"]) == ("inbound", "outbound")
    assert inbound["protocol"] == outbound["protocol"] == "TCP"
    assert "path" not in inbound
    assert "tls_failure" in inbound
