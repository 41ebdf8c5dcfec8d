"""The cases, one file an operator; `fusionkit.bench.suites` finds them by name."""
