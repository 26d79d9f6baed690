"""`make bench`: how fast the tool is, beside the published way and the machine's limits; docs/benchmark.md explains."""
