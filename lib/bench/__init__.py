"""Benchmarks: what an editing case is, and the sources that yield cases."""
