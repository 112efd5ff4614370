# Figures, measured now.  Benches are no tests.

N ?= 9

.PHONY: bench
bench: all kernel demo-image ## print our figures beside their targets (N= samples)
	$(Q)/usr/bin/python3 tests/bench/bench.py -n $(N)

# Benches of one part, in C.
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(call floors,vmm sys codec base)
	$(call link,)

.PHONY: bench-disk
bench-disk: $(O)/tests/bench/bench_disk ## print what the VMM's disk worker costs
	$(Q)$<
