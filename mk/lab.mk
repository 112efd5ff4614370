# The lab: an emulated machine with a working /dev/kvm (docs/lab.md).

LAB_PARTS := $(O)/lab/init $(O)/lab/tsc
LAB := tools/lab --build $(O)

$(O)/lab/init: tools/lab-init.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CPPFLAGS) $(GUEST_CFLAGS) $(GUEST_LDFLAGS) -o $@ $<
# Tells the frequency of the time-stamp counter, if it is not PID 1.
$(O)/lab/tsc: guest/kernel/boot-probe.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) -static -Os -s -o $@ $<

# Programs that run as a guest's PID 1, and what they boot from.
LAB_GUESTS := $(addprefix $(O)/tests/lab/,disk-probe freeze-load machine-probe memory-probe)
$(O)/tests/lab/%: tests/lab/%.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CPPFLAGS) $(GUEST_CFLAGS) $(GUEST_LDFLAGS) -o $@ $<
$(O)/tests/lab/%.cpio.gz: $(O)/tests/lab/% tools/make-initramfs
	$(call say,CPIO,$@)
	$(Q)tools/make-initramfs $< $@

# A program instead of a kernel, which attacks the devices.
LAB_HOSTILE := $(O)/tests/lab/hostile.elf
LAB_HOSTILE_SRC := $(sort $(wildcard tests/lab/hostile/*.[cS]))
LAB_HOSTILE_CFLAGS := -std=gnu17 -Wall -Wextra -Wshadow -O1 -ffreestanding -fno-stack-protector -fno-pie \
	-mno-red-zone -mgeneral-regs-only -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib \
	-static -no-pie -Wl,--build-id=none,--no-warn-rwx-segments
$(LAB_HOSTILE): $(LAB_HOSTILE_SRC) $(wildcard tests/lab/hostile/*.h) tests/lab/hostile/hostile.ld
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LAB_HOSTILE_CFLAGS) -Wl,-T,tests/lab/hostile/hostile.ld -o $@ $(LAB_HOSTILE_SRC)

.PHONY: lab lab-parts
lab-parts: programs kernel demo-image $(LAB_PARTS) $(LAB_GUESTS) $(LAB_GUESTS:%=%.cpio.gz) $(LAB_HOSTILE) $(E2E_GUESTS)
lab: lab-parts ## a shell in a machine with a working /dev/kvm (emulated: slow, but real)
	@$(LAB) shell
.PHONY: check-kvm bench-lab
check-kvm: lab-parts ## the kvm engine's tests, in the lab (ARGS= for pytest)
	$(Q)O=$(O) tools/run-tests --lab tests/lab/run $(if $(ARGS),-- $(ARGS))
bench-lab: lab-parts ## our VMM beside QEMU with accel=kvm, in one run of the lab (N= samples)
	@$(LAB) run -- tests/bench/bench_lab.py -n $(N)

# A program of the outer machine that uses the engine as a supervisor does.
LAB_ENGINE := $(O)/tests/lab/engine-freeze
$(LAB_ENGINE): $(O)/tests/lab/engine-freeze.o $(call floors,engine sys codec base)
	$(call link,$(SECCOMP_LIBS))
lab-parts: $(LAB_ENGINE)
-include $(LAB_ENGINE).d $(LAB_GUESTS:%=%.d)

.PHONY: check-snapshot-100
check-snapshot-100: lab-parts ## freeze and restore a machine under load 100 times, with 1 and with 4 CPUs (long)
	$(Q)$(LAB) --env SNAPSHOT_ROUNDS=50 run -- tests/lab/run tests/lab/test_snapshot.py -k survives
