# Tests.  `make test` prepares what they need (packages, kernel, image) and runs
# them all; `make check` is the part that needs no VM.

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(O)/tests/unit/%)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_REPLAY := $(FUZZ_SRC:tests/fuzz/%.c=$(O)/tests/replay/%)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(O)/tests/fuzz/%)
T ?= 60

# A test links every floor; the archives bring in only what it calls.
TEST_FLOORS = $(call floors,agent capi cli server project lib sandbox engine vmm net volume image fetch sys codec base) $(LLHTTP_A)
TEST_LIBS = $(CMOCKA_LIBS) $(LLHTTP_LIBS) -lm $(JANSSON_LIBS) $(YAML_LIBS) $(EXT2FS_LIBS) $(ARCHIVE_LIBS) $(SLIRP_LIBS) $(CURL_LIBS)

$(O)/tests/%.o: tests/%.c $(FLAGS_STAMP)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -iquote tests -iquote guest $(CFLAGS_ALL) -c -o $@ $<

$(O)/tests/unit/%: $(O)/tests/unit/%.o $(TEST_FLOORS)
	$(call link,$(TEST_LIBS))

# It makes the real program try what its jail forbids.
$(O)/tests/unit/test_vmm_jail: | $(MSB_VMM)

# A fuzz target's corpus, replayed by an ordinary build: every input must pass.
$(O)/tests/replay/%: $(O)/tests/fuzz/%.o $(O)/tests/fuzz/replay_main.o $(TEST_FLOORS)
	$(call link,$(TEST_LIBS))

# The fuzzers themselves: clang, ASan + UBSan, all of our sources instrumented.
FUZZ_LIB_SRC = $(foreach f,base codec sys net volume image fetch vmm engine sandbox lib project,$($(f)_SRC))
$(O)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_LIB_SRC)
	$(call say,FUZZCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS_ALL) -iquote tests -iquote guest $(SLIRP_CFLAGS) -DMSB_VERSION='"fuzz"' -DMSB_LIBDIR='""' \
		-std=gnu17 -O1 -g -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined -ffunction-sections -Wl,--gc-sections -o $@ $< $(FUZZ_LIB_SRC) \
		-Wl,--as-needed $(JANSSON_LIBS) $(YAML_LIBS) $(EXT2FS_LIBS) $(ARCHIVE_LIBS) $(SLIRP_LIBS) $(CURL_LIBS)

# What the end-to-end tests boot in place of our kernel and our agent.
E2E_GUESTS := $(addprefix $(O)/tests/e2e/,silent-kernel flood-init garbage-init)
$(O)/tests/e2e/silent-kernel: tests/e2e/guests/silent-kernel.S mk/test.mk
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -nostdlib -static -no-pie -Wl,-Ttext=0x200000,--build-id=none -o $@ $<
$(O)/tests/e2e/flood-init: MODE := 1
$(O)/tests/e2e/garbage-init: MODE := 2
$(O)/tests/e2e/%-init: tests/e2e/guests/hostile-init.c
	$(call say,MUSLCC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(GUEST_CC) -static -O1 -Wall -DMODE=$(MODE) -o $@ $<

.PHONY: test check check-unit check-fuzz check-e2e fuzz fuzz-bin
check: programs guest lint $(UNIT_BIN) $(FUZZ_REPLAY) ## unit tests, corpus replay and lint; no VM
	$(Q)tools/run-tests --unit $(O)/tests/unit --replay $(O)/tests/replay
test: deps ## install what is needed, build all, run every test
	$(Q)$(MAKE) --no-print-directory test-prepared
.PHONY: test-prepared
test-prepared: all lint $(UNIT_BIN) $(FUZZ_REPLAY) kernel demo-image $(E2E_GUESTS) lab-parts container-parts $(HTTP_LOAD)
	$(Q)O=$(O) tools/run-tests --unit $(O)/tests/unit --replay $(O)/tests/replay --lab tests/lab/run --e2e tests/e2e
check-e2e: all kernel demo-image $(E2E_GUESTS) container-parts $(HTTP_LOAD) ## only the end-to-end tests (ARGS= for pytest)
	$(Q)O=$(O) tools/run-tests --e2e tests/e2e -- $(ARGS)

.PHONY: check-volumes
check-volumes: all kernel demo-image $(addprefix $(O)/tests/unit/test_volume_,codec share serve) $(O)/tests/replay/fuzz_volume_spec $(O)/tests/replay/fuzz_volume_request ## only the tests of volumes (T=600: random operations for so many seconds)
	$(Q)for t in codec share serve; do $(O)/tests/unit/test_volume_$$t || exit 1; done
	$(Q)for f in spec request; do $(O)/tests/replay/fuzz_volume_$$f tests/fuzz/corpus/volume_$$f/* || exit 1; done
	$(Q)O=$(O) T=$(if $(filter command line,$(origin T)),$(T),20) tools/run-tests --e2e tests/e2e -- -k test_volumes $(ARGS)
.PHONY: fsx
fsx: all kernel demo-image ## random operations on a file of a volume, against a model (T=600 seconds; SEED=)
	$(Q)O=$(O) T=$(if $(filter command line,$(origin T)),$(T),600) SEED=$(SEED) tools/run-tests --e2e tests/e2e -- -s -k test_random_operations $(ARGS)
.PHONY: check-net
check-net: all kernel demo-image ## only the network's end-to-end tests: policy, DNS, IPv6, published ports
	$(Q)O=$(O) tools/run-tests --e2e tests/e2e -- $(wildcard tests/e2e/test_net_*.py) tests/e2e/test_ports.py tests/e2e/test_server_network.py

PROJECT_UNIT := $(addprefix $(O)/tests/unit/test_,keep linelog relay sandboxfile project)
.PHONY: check-projects check-projects-100
check-projects: all kernel demo-image $(PROJECT_UNIT) ## only the tests of projects and installed sandboxes
	$(Q)for t in $(PROJECT_UNIT); do $$t || exit 1; done
	$(Q)O=$(O) tools/run-tests --e2e tests/e2e -- $(wildcard tests/e2e/test_kept.py tests/e2e/test_installed.py tests/e2e/test_project*.py) $(ARGS)
check-projects-100: all kernel demo-image ## each process of a kept sandbox killed, 100 rounds: nothing synced is lost
	$(Q)O=$(O) MSB_KILL_ROUNDS=100 tools/run-tests --e2e tests/e2e -- tests/e2e/test_kept.py -k kill_of_each

IMAGE_REPLAYS := docker_archive manifest reference layer tree registry_head registry_doc authfile
.PHONY: check-images
check-images: all kernel demo-image $(addprefix $(O)/tests/unit/,test_registry test_image_store test_image_tree) $(IMAGE_REPLAYS:%=$(O)/tests/replay/fuzz_%) ## only the tests of images: store, archives, registries
	$(Q)for t in registry image_store image_tree; do $(O)/tests/unit/test_$$t || exit 1; done
	$(Q)for f in $(IMAGE_REPLAYS); do $(O)/tests/replay/fuzz_$$f tests/fuzz/corpus/$$f/* || exit 1; done
	$(Q)O=$(O) tools/run-tests --e2e tests/e2e -- $(wildcard tests/e2e/test_image*.py tests/e2e/test_pull*.py) $(ARGS)

fuzz: $(FUZZ_BIN) ## run each fuzzer for T seconds (default 60)
	$(Q)for f in $(FUZZ_BIN); do tools/run-fuzzer $$f $(T) || exit 1; done

-include $(UNIT_SRC:%.c=$(O)/%.d) $(FUZZ_SRC:%.c=$(O)/%.d)
