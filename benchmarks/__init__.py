"""What we promise about speed, measured: `python -m benchmarks` runs all of it.

Each module is one benchmark, run alone by `python -m benchmarks.NAME [--json]`.
"""
