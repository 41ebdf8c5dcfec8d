"""Measured speed: the cases behind `fusionkit bench` and `benches/`, and how they are timed.

Every result is checked against float64 before it is timed, contenders take turns in one process,
and a speed is printed beside what the machine could do at best. See docs/benchmarks.md.
"""
