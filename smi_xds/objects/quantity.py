"""Kubernetes quantities: `500m`, `1Ki`, `0.5`, `12e3`, read exactly as the API server reads them.

The grammar is that of apimachinery's resource.Quantity; only weights of split.smi-spec.io/v1alpha1
are written so.
"""

import re
from decimal import ROUND_UP, Context, Decimal

_GRAMMAR = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,9})|(?P<decimal>[numkMGTPE]))?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

# "No quantity may represent a number greater than 2^63-1 in magnitude": what is larger is capped,
# what is finer than a nano-unit is rounded away from zero, so that something stays something.
_MOST = Decimal(2**63 - 1)
_FINEST = Decimal("1e-9")
# Longer texts than any sensible quantity only cost time.
_LONGEST = 100
# Digits before and behind the point of the longest text, times 2^60: nothing is rounded too early.
_EXACT = Context(prec=_LONGEST + 40)


def parse_quantity(text: str) -> Decimal | None:
    """The exact value of a quantity, or None where it is none."""
    if len(text) > _LONGEST or not (match := _GRAMMAR.fullmatch(text)):
        return None
    if binary := match["binary"]:
        factor = Decimal(1 << _BINARY[binary])
        return _bounded(_EXACT.multiply(Decimal(match["number"]), factor))
    exponent = match["exponent"] or _DECIMAL.get(match["decimal"] or "", 0)
    return _bounded(Decimal(f"{match['number']}e{exponent}"))


def _bounded(value: Decimal) -> Decimal:
    if not value:
        return Decimal(0)
    # Judged by the order of magnitude first: 1e999999999 must never be written out.
    if value.adjusted() > _MOST.adjusted() or abs(value) > _MOST:
        return _MOST.copy_sign(value)
    if value.adjusted() < _FINEST.adjusted():
        return _FINEST.copy_sign(value)
    rounded = value.quantize(_FINEST, rounding=ROUND_UP, context=_EXACT)
    return value if rounded == value else rounded
