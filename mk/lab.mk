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

.PHONY: lab lab-parts
lab-parts: programs kernel demo-image $(LAB_PARTS)
lab: lab-parts ## a shell in a machine with a working /dev/kvm (emulated: slow, but real)
	@$(LAB) shell
