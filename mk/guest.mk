# The guest agent: static, linked with musl, alone in its initramfs.

GUEST_CC ?= musl-gcc
GUEST_WARN := $(WARN)
GUEST_CFLAGS = -std=gnu17 $(GUEST_WARN) -Os -g0 -fno-asynchronous-unwind-tables -fstack-protector-strong \
	-ftrivial-auto-var-init=zero -ffunction-sections -fdata-sections -MMD -MP
GUEST_LDFLAGS = -static -Wl,--gc-sections -Wl,-z,relro,-z,now -s
# musl ships no kernel headers: these three folders are the kernel's own, and
# come after musl's so that nothing of glibc's is picked up.
GUEST_UAPI := $(O)/guest/uapi
GUEST_CPPFLAGS = -iquote src -iquote guest -iquote $(O)/guest -D_GNU_SOURCE -DMSB_VERSION='"$(VERSION)"' -idirafter $(GUEST_UAPI)

AGENT := $(O)/guest/msb-agent
INITRAMFS := $(O)/guest/initramfs.cpio.gz

# The agent shares the wire codec and the event loop with the host.
AGENT_SRC := $(wildcard guest/agent/*.c) src/base/buf.c src/base/err.c src/base/log.c \
	$(wildcard src/codec/frame*.c) src/sys/loop.c
AGENT_OBJ := $(AGENT_SRC:%.c=$(O)/guest/obj/%.o)

$(GUEST_UAPI)/.done:
	$(Q)mkdir -p $(GUEST_UAPI)
	$(Q)ln -sfn /usr/include/linux $(GUEST_UAPI)/linux
	$(Q)ln -sfn /usr/include/asm-generic $(GUEST_UAPI)/asm-generic
	$(Q)ln -sfn /usr/include/x86_64-linux-gnu/asm $(GUEST_UAPI)/asm
	$(Q)touch $@

# The REPL drivers are compiled in: nothing has to be installed in an image.
REPL_DRIVERS := $(sort $(wildcard guest/repl/*.py guest/repl/*.js guest/repl/*.sh))
REPL_HEADER := $(O)/guest/repl_drivers.h
$(REPL_HEADER): $(REPL_DRIVERS) tools/embed-text
	$(call say,EMBED,$@)
	$(Q)mkdir -p $(@D)
	$(Q)tools/embed-text $(REPL_DRIVERS) > $@

$(O)/guest/obj/%.o: %.c $(FLAGS_STAMP) $(GUEST_UAPI)/.done $(REPL_HEADER) mk/guest.mk
	$(call say,MUSLCC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CPPFLAGS) $(GUEST_CFLAGS) -c -o $@ $<

$(AGENT): $(AGENT_OBJ)
	$(call say,MUSLLD,$@)
	$(Q)$(GUEST_CC) $(GUEST_LDFLAGS) -o $@ $^

$(INITRAMFS): $(AGENT) tools/make-initramfs
	$(call say,CPIO,$@)
	$(Q)tools/make-initramfs $(AGENT) $@

# The same sources for the unit tests, as part of an ordinary process.
AGENT_HOST_OBJ := $(patsubst guest/%.c,$(O)/host/%.o,$(filter-out %/main.c,$(wildcard guest/agent/*.c)))
$(O)/host/%.o: guest/%.c $(FLAGS_STAMP) $(REPL_HEADER)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -iquote guest -iquote $(O)/guest $(CFLAGS_ALL) -c -o $@ $<
$(O)/lib/agent.a: $(AGENT_HOST_OBJ)
	$(call say,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@; ar rcs $@ $^

# Fuzzers of the agent's own parsers: its sources instead of the host's floors.
FUZZ_AGENT_SRC = $(filter-out %/main.c,$(wildcard guest/agent/*.c)) $(filter src/%,$(AGENT_SRC))
$(O)/tests/fuzz/fuzz_agent_%: tests/fuzz/fuzz_agent_%.c $(FUZZ_AGENT_SRC) $(REPL_HEADER)
	$(call say,FUZZCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS_ALL) -iquote tests -iquote guest -iquote $(O)/guest -std=gnu17 -O1 -g \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $< $(FUZZ_AGENT_SRC)

.PHONY: guest
guest: $(INITRAMFS) ## build the guest agent and its initramfs

-include $(AGENT_OBJ:.o=.d) $(AGENT_HOST_OBJ:.o=.d)
