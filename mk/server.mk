# SPDX-License-Identifier: Apache-2.0
# The server.  llhttp parses HTTP/1.1: a library where the distribution has one,
# else compiled from the C source that Debian's node-llhttp ships.

ifeq ($(shell pkg-config --exists libllhttp && echo yes),yes)
LLHTTP_CFLAGS := $(shell pkg-config --cflags libllhttp)
LLHTTP_LIBS := $(shell pkg-config --libs libllhttp)
LLHTTP_A :=
LLHTTP_SRC :=
else
LLHTTP_DIR := /usr/share/llhttp
LLHTTP_CFLAGS := -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
LLHTTP_LIBS = $(if $(wildcard $(LLHTTP_DIR)/llhttp.c),,MISSING-PACKAGE:node-llhttp)
LLHTTP_A := $(O)/lib/llhttp.a
LLHTTP_SRC := $(addprefix $(LLHTTP_DIR)/,llhttp.c api.c http.c)
LLHTTP_OBJ := $(patsubst $(LLHTTP_DIR)/%.c,$(O)/llhttp/%.o,$(LLHTTP_SRC))
$(O)/llhttp/%.o: $(LLHTTP_DIR)/%.c $(FLAGS_STAMP)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LLHTTP_CFLAGS) -std=gnu17 $(OPT) $(HARDEN) -w -c -o $@ $<
$(O)/lib/llhttp.a: $(LLHTTP_OBJ)
	$(call say,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@; ar rcs $@ $^
$(LLHTTP_DIR)/%.c:
	$(error missing library: install the Debian package node-llhttp or run 'make deps')
$(patsubst src/server/%.c,$(O)/src/server/%.o,$(wildcard src/server/*.c)): | $(LLHTTP_SRC)
endif

# The schema makes the dispatch table and the checks of parameters.
API_SCHEMA := api/openrpc.json
API_TABLE := $(O)/server/api_table.c
$(API_TABLE): $(API_SCHEMA) tools/gen-api
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)tools/gen-api $(API_SCHEMA) > $@.tmp && mv $@.tmp $@
$(O)/server/api_table.o: $(API_TABLE) $(FLAGS_STAMP)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<
$(O)/lib/server.a: $(O)/server/api_table.o

$(O)/src/server/%.o $(O)/tests/unit/test_server_%.o $(O)/tests/fuzz/fuzz_http_request.o: CPPFLAGS_ALL += $(LLHTTP_CFLAGS)

# Fuzzers of the server's parsers need the parser's source as well.
$(O)/tests/fuzz/fuzz_http%: tests/fuzz/fuzz_http%.c src/server/http.c src/base/buf.c $(LLHTTP_SRC)
	$(call say,FUZZCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS_ALL) -iquote tests $(LLHTTP_CFLAGS) -std=gnu17 -O1 -g -w \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $< \
		src/server/http.c src/base/buf.c $(LLHTTP_SRC) $(filter-out MISSING%,$(LLHTTP_LIBS))
$(O)/tests/fuzz/fuzz_log_lines: tests/fuzz/fuzz_log_lines.c src/server/logs.c src/codec/utf8.c src/base/buf.c
	$(call say,FUZZCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS_ALL) -iquote tests -std=gnu17 -O1 -g -w \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$< src/server/logs.c src/codec/utf8.c src/base/buf.c $(JANSSON_LIBS)

-include $(O)/server/api_table.d

.PHONY: bench-server check-server load soak
# Cheap requests in numbers, for tests and benches.
HTTP_LOAD := $(O)/tests/bench/http_load
-include $(HTTP_LOAD).d

bench-server: all kernel demo-image $(HTTP_LOAD) ## what calls through the server cost, beside the targets (50 sandboxes; ARGS= for fewer)
	$(Q)O=$(O) /usr/bin/python3 tests/bench/bench_server.py $(ARGS)
load: all kernel demo-image $(HTTP_LOAD) ## the server under full load: 200 sandboxes by 20 clients, minutes of cheap requests
	$(Q)O=$(O) MSB_LOAD=full /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/e2e/test_server_load.py $(ARGS)
soak: T := 3600
soak: all kernel demo-image $(HTTP_LOAD) ## the server for T seconds (3600): fails if memory or descriptors grow
	$(Q)O=$(O) /usr/bin/python3 tests/e2e/soak.py --seconds $(T)
check-server: all kernel demo-image container-parts $(HTTP_LOAD) ## only the server's tests
	$(Q)tools/run-tests --e2e tests/e2e -- -k test_server
