"""Benchmarks: contenders alternate in one run; medians and ratios are printed, never a single time."""
