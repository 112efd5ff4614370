# The README's first command.

.PHONY: demo
demo: deps-run ## install what is needed, build all, run a Python program in a sandbox
	$(Q)$(MAKE) --no-print-directory demo-prepared
.PHONY: demo-prepared
demo-prepared: all kernel demo-image
	@tools/demo $(O)/bin/msx
