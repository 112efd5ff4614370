# The host programs.  Each floor is one archive: a program links the floors that
# it may know and nothing else.

FLOORS := base codec sys net volume image fetch vmm engine sandbox lib project server cli capi

$(O)/src/%.o: CPPFLAGS_ALL += -DMSB_VERSION='"$(VERSION)"'

VERSION := $(shell cat VERSION)

define floor_rule
$(1)_SRC := $$(filter-out %/main.c,$$(wildcard src/$(1)/*.c src/$(1)/*/*.c))
$(1)_OBJ := $$($(1)_SRC:%.c=$(O)/%.o)
$(O)/lib/$(1).a: $$($(1)_OBJ)
	$$(call say,AR,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)rm -f $$@; ar rcs $$@ $$^
endef
$(foreach f,$(FLOORS),$(eval $(call floor_rule,$(f))))

$(O)/src/codec/%.o $(O)/src/net/%.o $(O)/src/volume/%.o $(O)/src/fetch/%.o $(O)/src/vmm/%.o $(O)/src/capi/%.o: WARN += $(WARN_STRICT)
$(O)/src/net/%.o: CPPFLAGS_ALL += $(SLIRP_CFLAGS)

$(O)/src/%.o: src/%.c $(FLAGS_STAMP)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<

floors = $(patsubst %,$(O)/lib/%.a,$(1))

# $(call link,libraries)
define link
	$(call pkg_check,$(1))
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -Wl,--as-needed $(1)
endef

MSB := $(O)/bin/msb
# The build tree has the shape of an installation: programs find their parts in
# ../lib/microsandbox (src/sys/parts.h).
PARTS := $(O)/lib/microsandbox
MSB_NET := $(PARTS)/msb-net
MSB_VOLUME := $(PARTS)/msb-volume
MSB_IMAGE := $(PARTS)/msb-image
MSB_FETCH := $(PARTS)/msb-fetch
include mk/vmm.mk

$(MSB): $(O)/src/cli/main.o $(call floors,cli server project lib sandbox engine image sys codec base) $(LLHTTP_A)
	$(call link,$(JANSSON_LIBS) $(YAML_LIBS) $(EXT2FS_LIBS) $(LLHTTP_LIBS) -lm)

$(MSB_NET): $(O)/src/net/main.o $(call floors,net sys codec base)
	$(call link,$(SLIRP_LIBS))

$(MSB_VOLUME): $(O)/src/volume/main.o $(call floors,volume sys codec base)
	$(call link,)

$(MSB_IMAGE): $(O)/src/image/main.o $(call floors,image sys codec base)
	$(call link,$(JANSSON_LIBS) $(EXT2FS_LIBS) $(ARCHIVE_LIBS))

$(MSB_FETCH): $(O)/src/fetch/main.o $(call floors,fetch sys codec base)
	$(call link,$(JANSSON_LIBS) $(CURL_LIBS))

MSB_LINKS := $(addprefix $(O)/bin/,msx msr msi)
$(MSB_LINKS): $(MSB)
	$(Q)ln -sf msb $@

PROGRAMS := $(MSB) $(MSB_NET) $(MSB_VOLUME) $(MSB_IMAGE) $(MSB_FETCH) $(MSB_VMM)
.PHONY: programs
programs: $(PROGRAMS) $(MSB_LINKS) $(PARTS)/recipes $(PARTS)/initramfs.cpio.gz $(PARTS)/vmlinux

$(PARTS)/recipes: | $(MSB_IMAGE)
	$(Q)ln -sfn $(abspath images) $@
$(PARTS)/initramfs.cpio.gz: $(INITRAMFS)
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@
# A link, since the kernel takes minutes and may be built later.
$(PARTS)/vmlinux: | $(MSB_IMAGE)
	$(Q)mkdir -p $(@D); ln -sfn $(abspath $(KERNEL_VMLINUX)) $@

-include $(foreach f,$(FLOORS),$($(f)_OBJ:.o=.d) $(O)/src/$(f)/main.d)
