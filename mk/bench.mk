# Figures, measured now.  Benches are no tests.

N ?= 9

.PHONY: bench
bench: all kernel demo-image ## print our figures beside their targets (N= samples)
	$(Q)/usr/bin/python3 tests/bench/bench.py -n $(N)

# Benches of one part, in C.
$(O)/tests/bench/vmm_start: $(call floors,engine) | $(MSB_VMM)
$(O)/tests/bench/%: $(O)/tests/bench/%.o $(call floors,vmm sys codec base)
	$(call link,)

.PHONY: bench-disk
bench-disk: $(O)/tests/bench/bench_disk ## print what the VMM's disk worker costs
	$(Q)$<

.PHONY: bench-vq
bench-vq: $(O)/tests/bench/bench_vq ## print what a virtqueue costs the VMM, for each chain
	$(Q)$<

.PHONY: bench-vmm
bench-vmm: $(O)/tests/bench/vmm_start $(MSB_VMM) ## print what msb-vmm needs from exec() to the first KVM_RUN
	$(Q)/usr/bin/python3 tests/bench/bench_vmm.py --build $(O) $(ARGS)
-include $(O)/tests/bench/vmm_start.d

# The network of two machines: one program is PID 1 of both and their peer on the host.
$(O)/tests/bench/net_peer: tests/bench/net_peer.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -Wall -Wextra -D_GNU_SOURCE -o $@ $<
$(O)/tests/bench/net_init: tests/bench/net_peer.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) -static -O2 -D_GNU_SOURCE -o $@ $<
$(O)/tests/bench/net_init.cpio.gz: $(O)/tests/bench/net_init tools/make-initramfs
	$(Q)tools/make-initramfs $< $@

.PHONY: bench-net
bench-net: programs kernel $(O)/tests/bench/net_peer $(O)/tests/bench/net_init.cpio.gz ## print msb-net's figures beside those of QEMU's user network (ARGS=)
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_net_vm.py $(ARGS)

# Volumes.  The second bench compares with virtiofsd, in a machine of Debian's that has virtio-fs.
$(O)/tests/bench/volume_init: tests/bench/volume_peer.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) -static -O2 -D_GNU_SOURCE -o $@ $<

.PHONY: bench-volumes bench-virtiofs
bench-volumes: all kernel demo-image $(O)/tests/bench/volume_init ## volumes beside the sandbox's own disk, then beside virtiofsd (MIB=128)
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_volumes.py $(if $(MIB),--mib $(MIB))
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_virtiofs.py $(if $(MIB),--mib $(MIB))
bench-virtiofs: all kernel demo-image $(O)/tests/bench/volume_init ## the second of them alone (MIB=128)
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_virtiofs.py $(if $(MIB),--mib $(MIB))

.PHONY: bench-images
bench-images: all demo-image ## print what pulls and root images cost, beside skopeo (ARGS="-n 5 --mb 256")
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_images.py $(ARGS)
