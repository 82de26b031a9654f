"""The garbage collector, set up for a process that holds much for long and pushes in bursts."""

import gc
from typing import Final

# A round makes some ten objects a proxy that end with it, without cycles. By default the young
# would be looked through for every 700 of them, and all streams for some of those: a sixth of what
# a push cost. Cycles (exceptions, mostly) wait longer now: 50,000 objects take about 5 MB.
_THRESHOLDS: Final = (50_000, 20, 100)


def settle() -> None:
    """Call it once everything is there: what lives now lives long, and need not be looked at.

    Not even once: 8,000 objects of the imports are garbage by then (1 MB, however large the mesh),
    and to find them takes 0.1 s of the start, and with 5,000 pods 0.3 s.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()  # `serve` switched it off
