"""Ratios against named peers, each pair measured in one run on one machine: `python -m benchmarks`."""
