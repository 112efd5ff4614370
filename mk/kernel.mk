# SPDX-License-Identifier: Apache-2.0
# The guest kernel: built once per machine into a cache that all checkouts share
# (tools/build-kernel), and copied from there.

KERNEL_FRAGMENT := guest/kernel/fragment.config
KERNEL_PATCHES := $(sort $(wildcard guest/kernel/patches/*.patch))
# A copy, not a link: it has a time of its own, and lives when the cache is emptied.
KERNEL_VMLINUX := $(O)/guest/vmlinux
# An upgraded source package means another kernel.
KERNEL_SOURCE := $(wildcard /usr/src/linux-source-6.1.tar.xz)

.PHONY: kernel kernel-config kernel-boot kernel-cost
kernel: $(KERNEL_VMLINUX) ## build or reuse the guest kernel

$(KERNEL_VMLINUX): tools/build-kernel $(KERNEL_FRAGMENT) $(KERNEL_PATCHES) $(KERNEL_SOURCE)
	$(call say,KERNEL,$@)
	$(Q)mkdir -p $(@D)
	$(Q)cached=$$(tools/build-kernel) && cp -f "$$cached" $@.tmp && mv -f $@.tmp $@

kernel-config: ## check guest/kernel/fragment.config and show the configuration it gives
	$(Q)tools/build-kernel --tree $(O)/kernel-tree --config-only

kernel-boot: $(KERNEL_VMLINUX) ## boot the guest kernel alone under QEMU (tcg), print its uptime at init
	$(Q)tools/measure-kernel boot $(KERNEL_VMLINUX)

kernel-cost: ## rebuild the kernel without each option group: its cost in boot time and size (long)
	$(Q)tools/measure-kernel cost --tree $(O)/kernel-tree
