# Manual pages, written in scdoc.

MAN_PAGES := $(patsubst man/%.scd,$(O)/man/%,$(wildcard man/*.scd))

$(O)/man/%: man/%.scd
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)command -v scdoc >/dev/null || { echo "error: scdoc is missing: install the Debian package scdoc" >&2; exit 1; }
	$(Q)scdoc < $< > $@

.PHONY: man
man: $(MAN_PAGES) ## format the manual pages
