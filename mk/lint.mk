# Checks of the text itself.

FORMAT_SRC = $(wildcard src/*/*.[ch] src/*/*/*.[ch] guest/agent/*.[ch] tests/unit/*.[ch] tests/fuzz/*.c include/*.h sdk/c/*/*.[ch])

.PHONY: lint check-layers format check-format check-protocol-doc
lint: check-layers check-format check-protocol-doc ## layers, formatting, and the protocol's description
check-layers: ## does every file include only from the floors beneath it?
	$(Q)tools/check-layers
check-protocol-doc: ## does docs/agent-protocol.md have every frame type?
	$(Q)tools/check-protocol-doc
format: ## rewrite the sources in the project's format
	$(Q)clang-format-14 -i $(FORMAT_SRC)
check-format: ## is everything formatted?
	$(Q)clang-format-14 --dry-run -Werror $(FORMAT_SRC)
