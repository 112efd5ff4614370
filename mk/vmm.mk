# msb-vmm: static, linked with musl.  Its jail holds no library; and glibc's start-up asks
# the processor some seventy questions (CPUID) that each leave a virtual machine for
# microseconds: 0.25 ms of a start in 1.5 (docs/vmm-start.md).  The sanitizers need glibc
# and a dynamic program, so there it is one.

MSB_VMM := $(PARTS)/msb-vmm

# Its floors, and of codec and sys what they use.
VMM_SRC := $(wildcard src/vmm/*.c src/vmm/virtio/*.c src/base/*.c) \
	$(addprefix src/codec/,snapshot.c vmm_control.c sha256.c) \
	$(addprefix src/sys/,loop.c jail_seccomp.c)
VMM_OBJ := $(VMM_SRC:%.c=$(O)/musl/%.o)
VMM_UAPI := $(O)/musl/uapi
VMM_CPPFLAGS = -iquote src -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DMSB_VERSION='"$(VERSION)"' -idirafter $(VMM_UAPI)
VMM_CFLAGS = -std=gnu17 $(WARN) -O2 -g -fstack-protector-strong -fstack-clash-protection \
	-ftrivial-auto-var-init=zero -fPIE -ffunction-sections -fdata-sections -MMD -MP
# musl-gcc links no static PIE by itself: the start files are named here.
VMM_LIBDIR = $(dir $(shell $(GUEST_CC) -print-file-name=rcrt1.o))
VMM_MUSL = $(firstword $(wildcard /usr/lib/x86_64-linux-musl $(VMM_LIBDIR)))

ifeq ($(SAN),)
$(VMM_UAPI)/.done:
	$(Q)mkdir -p $(VMM_UAPI)
	$(Q)ln -sfn /usr/include/linux $(VMM_UAPI)/linux
	$(Q)ln -sfn /usr/include/asm-generic $(VMM_UAPI)/asm-generic
	$(Q)ln -sfn /usr/include/x86_64-linux-gnu/asm $(VMM_UAPI)/asm
	$(Q)ln -sfn /usr/include/video $(VMM_UAPI)/video
	$(Q)touch $@

$(O)/musl/%.o: %.c $(FLAGS_STAMP) $(VMM_UAPI)/.done mk/vmm.mk
	$(call say,MUSLCC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(VMM_CPPFLAGS) $(VMM_CFLAGS) -c -o $@ $<

$(MSB_VMM): $(VMM_OBJ)
	$(call say,MUSLLD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -nostdlib -static-pie -o $@ $(VMM_MUSL)/rcrt1.o $(VMM_MUSL)/crti.o $^ -L$(VMM_MUSL) \
		-Wl,--start-group -lc -lgcc -Wl,--end-group $(VMM_MUSL)/crtn.o \
		-Wl,--gc-sections -Wl,-z,relro,-z,now -Wl,-z,noexecstack
else
$(MSB_VMM): $(O)/src/vmm/main.o $(call floors,vmm sys codec base)
	$(call link,)
endif

-include $(VMM_OBJ:.o=.d)
