# SPDX-License-Identifier: Apache-2.0
# libmicrosandbox, the installed C library: shared, static, and its pkg-config file.
# Its objects are of their own, since a shared library needs -fPIC; only what the
# header declares is visible outside.

CAPI_SONAME := libmicrosandbox.so.0
CAPI_FILE := libmicrosandbox.so.$(VERSION)
CAPI_SO := $(O)/lib/$(CAPI_FILE)
CAPI_A := $(O)/lib/libmicrosandbox.a
CAPI_MAP := src/capi/libmicrosandbox.map
# Its floor, and of those beneath it what it uses.
CAPI_SRC := $(wildcard src/capi/*.c) src/base/buf.c \
	$(addprefix src/codec/,base64.c sha1.c sse.c utf8.c websocket.c ws_answer.c)
CAPI_OBJ := $(CAPI_SRC:%.c=$(O)/pic/%.o)
CAPI_LIBS = $(JANSSON_LIBS) $(CURL_LIBS) -pthread

$(O)/pic/%.o: WARN += $(WARN_STRICT)
$(O)/pic/%.o: %.c $(FLAGS_STAMP)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(filter-out -fPIE,$(CFLAGS_ALL)) -fPIC -fvisibility=hidden -c -o $@ $<

$(CAPI_SO): $(CAPI_OBJ) $(CAPI_MAP)
	$(call pkg_check,$(CAPI_LIBS))
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -pie,$(LDFLAGS_ALL)) -shared -Wl,-soname,$(CAPI_SONAME) \
		-Wl,--version-script=$(CAPI_MAP) $(if $(SAN),,-Wl,-z,defs) -o $@ $(CAPI_OBJ) -Wl,--as-needed $(CAPI_LIBS)
	$(Q)ln -sf $(CAPI_FILE) $(O)/lib/$(CAPI_SONAME)
	$(Q)ln -sf $(CAPI_SONAME) $(O)/lib/libmicrosandbox.so

# One object, in which all but the API is local, so that no name of ours meets one of a program.
$(CAPI_A): $(CAPI_OBJ)
	$(call say,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -nostdlib -no-pie -r -o $(O)/lib/libmicrosandbox.o $^
	$(Q)objcopy --wildcard --keep-global-symbol='msb_*' $(O)/lib/libmicrosandbox.o
	$(Q)rm -f $@; ar rcs $@ $(O)/lib/libmicrosandbox.o; rm $(O)/lib/libmicrosandbox.o

# Programs against the shared library of this tree: the driver of the shared cases, and the examples.
CAPI_DRIVER := $(O)/sdk/c/conformance/driver
CAPI_EXAMPLES := $(patsubst %.c,$(O)/%,$(wildcard sdk/c/examples/*.c))
CAPI_DRIVER_SRC := $(wildcard sdk/c/conformance/*.c)
$(CAPI_DRIVER): $(CAPI_DRIVER_SRC) sdk/c/conformance/driver.h
$(CAPI_EXAMPLES): $(O)/sdk/c/%: sdk/c/%.c sdk/c/examples/example.h
$(CAPI_DRIVER) $(CAPI_EXAMPLES): include/microsandbox.h $(CAPI_SO)
	$(call pkg_check,$(JANSSON_LIBS))
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -Iinclude -D_GNU_SOURCE $(filter-out -MMD -MP,$(CFLAGS_ALL)) $(LDFLAGS_ALL) -o $@ $(filter %.c,$^) -L$(O)/lib \
		-lmicrosandbox -Wl,-rpath,$(abspath $(O)/lib) -Wl,--as-needed $(JANSSON_LIBS) -pthread

# The same with everything of ours under the sanitizers, for what a hostile server answers.
CAPI_DRIVER_SAN := $(O)/sdk/c/san/driver
$(CAPI_DRIVER_SAN): $(CAPI_DRIVER_SRC) sdk/c/conformance/driver.h $(CAPI_SRC) $(wildcard src/capi/*.h src/base/*.h src/codec/*.h) include/microsandbox.h
	$(call pkg_check,$(CAPI_LIBS))
	$(call say,SANCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -Iinclude -std=gnu17 $(WARN) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
		-fno-sanitize-recover=all -o $@ $(CAPI_DRIVER_SRC) $(CAPI_SRC) $(CAPI_LIBS)

CAPI_PC := $(O)/lib/pkgconfig/microsandbox.pc
$(CAPI_PC): src/capi/microsandbox.pc.in VERSION
	$(Q)mkdir -p $(@D)
	$(Q)sed 's/@VERSION@/$(VERSION)/' $< > $@

.PHONY: clib
clib: $(CAPI_SO) $(CAPI_A) $(CAPI_PC) $(CAPI_DRIVER) $(CAPI_EXAMPLES) ## build the C library (libmicrosandbox), its examples and its driver of the shared cases

-include $(CAPI_OBJ:.o=.d)
