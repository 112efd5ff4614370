# Installation: msb in PREFIX/bin, all its parts in PREFIX/lib/microsandbox.  An
# installed msb needs no source tree and no cache, and can be moved as a whole.

BINDIR := $(DESTDIR)$(PREFIX)/bin
PARTSDIR := $(DESTDIR)$(PREFIX)/lib/microsandbox
MANDIR := $(DESTDIR)$(PREFIX)/share/man
INSTALL_PARTS := msb-net msb-image msb-vmm

.PHONY: install uninstall
install: all kernel ## install to PREFIX (DESTDIR is put before it)
	install -d $(BINDIR) $(PARTSDIR)/recipes $(MANDIR)/man1
	install -m 755 $(MSB) $(BINDIR)/msb
	ln -sf msb $(BINDIR)/msx
	install -m 755 $(INSTALL_PARTS:%=$(PARTS)/%) $(PARTSDIR)/
	install -m 644 $(KERNEL_VMLINUX) $(PARTSDIR)/vmlinux
	install -m 644 $(INITRAMFS) $(PARTSDIR)/initramfs.cpio.gz
	install -m 644 $(wildcard images/*.recipe) $(PARTSDIR)/recipes/
	install -m 644 $(MAN_PAGES) $(MANDIR)/man1/

uninstall: ## remove what `make install` put there
	rm -f $(BINDIR)/msb $(BINDIR)/msx $(patsubst $(O)/man/%,$(MANDIR)/man1/%,$(MAN_PAGES))
	rm -rf $(PARTSDIR)
