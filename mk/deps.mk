# What the build needs from the system.  A missing library is an error that
# names the Debian package; `make deps` installs all of them.

DEB_BUILD := gcc make pkg-config scdoc libc6-dev linux-libc-dev musl-tools cpio \
	libjansson-dev libyaml-dev libext2fs-dev libarchive-dev libssl-dev libslirp-dev \
	libcurl4-openssl-dev node-llhttp python3
DEB_RUN := qemu-system-x86 e2fsprogs ca-certificates
DEB_KERNEL := linux-source-6.1 flex bison bc xz-utils patch
DEB_TEST := libcmocka-dev nodejs clang-14 libclang-rt-14-dev clang-format-14 python3-pytest python3-venv \
	tmux e2fsprogs attr mandoc iproute2 util-linux nginx-light dnsmasq-base iperf3 skopeo umoci podman crun \
	docker-registry openssl

# $(call pkg,MODULE,DEBIAN-PACKAGE,--cflags|--libs), evaluated only where it is used.
pkg = $(shell pkg-config $(3) $(1) 2>/dev/null || echo MISSING-PACKAGE:$(2))
pkg_check = $(if $(findstring MISSING-PACKAGE,$(1)),$(error missing library: install the Debian \
	package $(patsubst MISSING-PACKAGE:%,%,$(filter MISSING-PACKAGE:%,$(1))) or run 'make deps'))

JANSSON_LIBS = $(call pkg,jansson,libjansson-dev,--libs)
YAML_LIBS = $(call pkg,yaml-0.1,libyaml-dev,--libs)
CURL_LIBS = $(call pkg,libcurl,libcurl4-openssl-dev,--libs)
EXT2FS_LIBS = $(call pkg,ext2fs,libext2fs-dev,--libs) $(call pkg,com_err,libext2fs-dev,--libs)
ARCHIVE_LIBS = $(call pkg,libarchive,libarchive-dev,--libs) $(call pkg,libcrypto,libssl-dev,--libs)
# Not by pkg-config: Debian's slirp.pc requires glib-2.0.pc, whose package
# libslirp-dev does not pull in and nobody here needs.
SLIRP_CFLAGS =
SLIRP_LIBS = $(if $(wildcard /usr/include/slirp/libslirp.h),-lslirp,MISSING-PACKAGE:libslirp-dev)
CMOCKA_LIBS = $(call pkg,cmocka,libcmocka-dev,--libs)

.PHONY: deps deps-build deps-run
deps: ## install the Debian packages that building, running and testing need
	@tools/install-packages $(DEB_BUILD) $(DEB_RUN) $(DEB_KERNEL) $(DEB_TEST)
deps-run: ## install the Debian packages that building and running need (no test tools)
	@tools/install-packages $(DEB_BUILD) $(DEB_RUN) $(DEB_KERNEL)
