"""What the monitoring pages say, without a socket."""

import math
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from smi_xds.metrics import Counter, Gauge, Histogram, Metric
from smi_xds.web.monitoring import Page, Reply, monitoring_pages


def page(path: str, *metrics: Metric, is_ready: bool = True) -> Page:
    return monitoring_pages(metrics, is_ready=lambda: is_ready)[path]


def samples(*metrics: Metric) -> dict[tuple[str, tuple[str, ...]], float]:
    """What Prometheus would read: values by name and label values."""
    text = page("/metrics", *metrics)("").body.decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith("t_")
    }


def test_counters() -> None:
    """One without a label is there from the start, one with a label for each value it met."""
    plain, by_type = Counter("t_plain", "Plain."), Counter("t_typed", "Typed.", "type")
    by_type.add("Cluster")
    by_type.add("Cluster", 2)
    by_type.add('odd "name"\n')

    assert samples(plain, by_type) == {
        ("t_plain_total", ()): 0,
        ("t_typed_total", ("Cluster",)): 3,
        ("t_typed_total", ('odd "name"\n',)): 1,
    }


def test_gauges_are_asked_when_they_are_shown() -> None:
    """The value is that of the moment."""
    values = {"stale": 1.0}
    gauge = Gauge("t_gauge", "Gauge.", lambda: values, "state")
    before = samples(gauge)
    values["synced"] = 7.0

    assert before == {("t_gauge", ("stale",)): 1}
    assert samples(gauge) == {("t_gauge", ("stale",)): 1, ("t_gauge", ("synced",)): 7}


def test_histograms_are_cumulative() -> None:
    """A number that equals a bound is within it; the last bucket has all."""
    histogram = Histogram("t_seconds", "Seconds.", (0.1, 1.0))
    for number in (0.1, 0.5, 5.0):
        histogram.observe(number)

    found = samples(histogram)

    assert found == {
        ("t_seconds_bucket", ("0.1",)): 1,
        ("t_seconds_bucket", ("1.0",)): 2,
        ("t_seconds_bucket", ("+Inf",)): 3,
        ("t_seconds_count", ()): 3,
        ("t_seconds_sum", ()): pytest.approx(5.6),
    }
    assert math.isfinite(found["t_seconds_sum", ()])


def test_histograms_by_label() -> None:
    """Each value has buckets of its own."""
    histogram = Histogram("t_bytes", "Bytes.", (10.0,), "type")
    histogram.observe(3, "Cluster")
    histogram.observe(30, "Listener")

    found = samples(histogram)

    assert found["t_bytes_bucket", ("10.0", "Cluster")] == 1
    assert found["t_bytes_bucket", ("10.0", "Listener")] == 0
    assert found["t_bytes_count", ("Listener",)] == 1


def test_the_process_is_shown_too() -> None:
    """Memory, CPU and open files, under the names that dashboards know."""
    text = page("/metrics")("").body.decode()

    assert "process_resident_memory_bytes" in text
    assert "process_open_fds" in text


def test_the_format_is_what_the_asker_takes() -> None:
    """Prometheus asks for OpenMetrics, curl for nothing in particular."""
    plain = page("/metrics")("*/*")
    openmetrics = page("/metrics")("application/openmetrics-text; version=1.0.0")

    assert plain.content_type.startswith("text/plain")
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


def test_health() -> None:
    """Alive at once, ready after the first sync."""
    assert page("/healthz", is_ready=False)("") == Reply(200, b"ok\n")
    assert page("/readyz", is_ready=False)("").status == 503
    assert page("/readyz", is_ready=True)("").status == 200


def test_pages_take_a_share_of_the_time() -> None:
    """Whoever asks without end gets the last one, in the format that it asked for."""
    now, reads = 0.0, 0

    def read() -> Mapping[str, float]:
        nonlocal now, reads
        now += 0.1  # what it takes
        reads += 1
        return {"": reads}

    gauge = Gauge("smi_xds_reads", "How often it was read.", read)
    metrics = monitoring_pages([gauge], is_ready=lambda: True, clock=lambda: now)["/metrics"]
    openmetrics = "application/openmetrics-text; version=1.0.0"

    pages = [metrics("") for _ in range(100)]
    assert 10 <= reads <= 14
    assert f"smi_xds_reads {reads}.0" in pages[-1].body.decode()
    # The other format was never asked for.
    assert metrics(openmetrics).content_type.startswith("application/openmetrics-text")
    before = reads
    assert metrics(openmetrics).content_type.startswith("application/openmetrics-text")
    assert reads == before
    # Time makes up for it.
    now += 10.0
    metrics("")
    assert reads == before + 1
