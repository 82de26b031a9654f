"""A mesh of thousands of pods in a real API server, for the benchmarks that need one."""
