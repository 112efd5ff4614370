# Figures, measured now.  Benches are no tests.

N ?= 9

.PHONY: bench
bench: all kernel demo-image ## print our figures beside their targets (N= samples)
	$(Q)/usr/bin/python3 tests/bench/bench.py -n $(N)
