"""The command line.

Each command imports what it needs when it runs: `--help`, `version` and `check` start without
gRPC and the Envoy classes, which take seconds to import.
"""
