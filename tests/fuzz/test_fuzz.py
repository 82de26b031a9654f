"""Random words of strangers: no parser crashes, or takes a second, whatever it is given.

What is random is made of what each parser knows, and then broken. `make fuzz` goes on for longer.
"""

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import LEAF, TARGETS
from tests.support.certificates import to_der
from tests.support.identity import mk_authority
from tests.support.smi_documents import KINDS_AND_VERSIONS
from tests.support.smi_documents import documents as smi_documents

EXAMPLES = int(os.environ.get("SMI_XDS_FUZZ_EXAMPLES", "120"))
SECONDS = 1.0

_TEXT = st.text(max_size=12)
_HARD = st.sampled_from(
    [
        "\ud800", "\x00", "\u2028", "\ufeff", "1e999999999", "-0", ".nan", "NaN", "spiffe://",
        "spiffe://a/../b", "%2e%2e", "/..;/", "[::1]:80", "shop/web:80", "v1", "(", "a{1000}",
        "(?i)", "\\Q", "*", "&a", "*a", "<<", "!!python/object:os.system", "---", "٣",
    ]
)  # fmt: skip
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXT
    | _HARD,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["apiVersion", "kind", "metadata", "spec", "status", "items", "name", "namespace",
             "request", "objects", "uid", "object", "conditions", "certificate", "backends"]
        )
        | _TEXT,
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _objects() -> st.SearchStrategy[bytes]:
    kinds = [smi_documents(kind, version).map(_encoded) for kind, version in KINDS_AND_VERSIONS]
    return st.one_of(*kinds)


_PEM = mk_authority().trust_bundle
_SOUND = st.one_of(
    _JSON.map(_encoded),
    _objects(),
    _TEXT.map(lambda text: text.encode(errors="surrogatepass")),
    _HARD.map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from([_PEM, LEAF, to_der(_PEM), to_der(LEAF)]),
)


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """Something sound with bytes put in, taken out and doubled."""
    raw = bytearray(draw(_SOUND))
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(raw))] * 2)))
        match draw(st.sampled_from(["put", "drop", "double"])):
            case "put":
                raw[start:start] = draw(st.binary(max_size=6) | _HARD.map(_quietly))
            case "drop":
                del raw[start:end]
            case _:
                raw[end:end] = raw[start:end]
    return bytes(raw)


def _quietly(text: str) -> bytes:
    return text.encode(errors="replace")


@pytest.mark.parametrize("target", list(TARGETS))
def test_no_words_hurt(target: str) -> None:
    """An answer or a refusal of our own, within a second of the processor's time."""

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.one_of(_broken(), st.binary(max_size=200)))
    def read(raw: bytes) -> None:
        began = time.thread_time()
        TARGETS[target](raw)
        assert time.thread_time() - began < SECONDS

    read()
