# SPDX-License-Identifier: Apache-2.0
# One non-recursive make.  Everything that is built goes to $(O); sources are
# found by folder, so that a new file needs no line here.  `make help` lists the
# targets, mk/ holds the rules by subject.

O ?= build
V ?= 0
PREFIX ?= /usr/local
DESTDIR ?=

ifeq ($(V),0)
Q := @
say = @printf '  %-7s %s\n' '$(1)' '$(2)'
else
Q :=
say = @:
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

include mk/flags.mk
include mk/deps.mk
include mk/guest.mk
include mk/kernel.mk
include mk/server.mk
include mk/host.mk
include mk/capi.mk
include mk/image.mk
include mk/demo.mk
include mk/test.mk
include mk/lint.mk
include mk/bench.mk
include mk/lab.mk
include mk/man.mk
include mk/install.mk
include mk/container.mk
include mk/sdk.mk

.PHONY: all clean help
all: programs guest man clib ## build the host programs, the C library and the guest's initramfs

clean: ## remove everything that was built ($(O)); the kernel cache stays
	rm -rf $(O)

help: ## this list
	@awk -F ':.*## ' '/^[a-zA-Z0-9_.-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST) | sort
	@printf '\n  %s\n' 'variables: O=build  V=1 (show commands)  SAN=address,undefined  PREFIX=/usr/local  DESTDIR='
