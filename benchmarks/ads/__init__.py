"""The parts of the stream benchmark: see `benchmarks.streams`.

Clients, and the servers that ours is compared with, are the Go programs in `go/`; `ours` is our
server. All are processes that read commands as JSON lines and answer each by one line.
"""
