# Installation: msb in PREFIX/bin, all its parts in PREFIX/lib/microsandbox.  An
# installed msb needs no source tree and no cache, and can be moved as a whole.  The C
# library is where programs look for one.

BINDIR := $(DESTDIR)$(PREFIX)/bin
PARTSDIR := $(DESTDIR)$(PREFIX)/lib/microsandbox
MANDIR := $(DESTDIR)$(PREFIX)/share/man
LIBDIR := $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR := $(DESTDIR)$(PREFIX)/include
INSTALL_PARTS := msb-net msb-volume msb-image msb-fetch msb-vmm

.PHONY: install uninstall
install: all kernel ## install to PREFIX (DESTDIR is put before it)
	install -d $(BINDIR) $(PARTSDIR)/recipes $(MANDIR)/man1 $(MANDIR)/man3 $(LIBDIR)/pkgconfig $(INCLUDEDIR)
	install -m 755 $(MSB) $(BINDIR)/msb
	for name in msx msr msi; do ln -sf msb $(BINDIR)/$$name; done
	install -m 755 $(INSTALL_PARTS:%=$(PARTS)/%) $(PARTSDIR)/
	install -m 644 $(KERNEL_VMLINUX) $(PARTSDIR)/vmlinux
	install -m 644 $(INITRAMFS) $(PARTSDIR)/initramfs.cpio.gz
	install -m 644 $(wildcard images/*.recipe) $(PARTSDIR)/recipes/
	install -m 644 $(filter %.1,$(MAN_PAGES)) $(MANDIR)/man1/
	install -m 644 $(filter %.3,$(MAN_PAGES)) $(MANDIR)/man3/
	install -m 644 include/microsandbox.h $(INCLUDEDIR)/
	install -m 644 $(CAPI_SO) $(CAPI_A) $(LIBDIR)/
	ln -sf $(CAPI_FILE) $(LIBDIR)/$(CAPI_SONAME)
	ln -sf $(CAPI_SONAME) $(LIBDIR)/libmicrosandbox.so
	install -m 644 $(CAPI_PC) $(LIBDIR)/pkgconfig/
	$(if $(DESTDIR),,-ldconfig 2>/dev/null || :)

uninstall: ## remove what `make install` put there
	rm -f $(BINDIR)/msb $(BINDIR)/msx $(BINDIR)/msr $(BINDIR)/msi $(patsubst $(O)/man/%,$(MANDIR)/man1/%,$(filter %.1,$(MAN_PAGES))) \
		$(patsubst $(O)/man/%,$(MANDIR)/man3/%,$(filter %.3,$(MAN_PAGES))) \
		$(INCLUDEDIR)/microsandbox.h $(LIBDIR)/pkgconfig/microsandbox.pc $(LIBDIR)/libmicrosandbox.*
	rm -rf $(PARTSDIR)
