/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/kvm.h"
#include "engine/tcg.h"

#define ENGINE_ELSE_TCG "; use --engine tcg (software emulation)"

/* The best first. */
static const struct engine_ops *const engines[] = { &engine_kvm, &engine_tcg, NULL };

const struct engine_ops *const *engine_list(void)
{
	return engines;
}

/* Appends "NAME: REASON" to the list @to. */
static void engine_add_reason(char *to, size_t size, const char *name, const struct err *why)
{
	size_t n = strlen(to);

	snprintf(to + n, size - n, "%s%s: %s", n ? "; " : "", name, err_text(why));
}

static int engine_choose_best(const struct engine_ops **out, char *notice, size_t size,
			      struct err *e)
{
	char reasons[ERR_MSG_MAX] = "";
	struct err why = ERR_INIT;

	for (size_t i = 0; engines[i]; i++) {
		err_clear(&why);
		if (engines[i]->probe(&why)) {
			engine_add_reason(reasons, sizeof(reasons), engines[i]->name, &why);
			continue;
		}
		*out = engines[i];
		if (strcmp(engines[i]->isolation, "hardware"))
			snprintf(notice, size, "software emulation (engine %s); %s",
				 engines[i]->name, reasons);
		return 0;
	}
	return err_set(e, ENOTSUP, "no engine works here: %s", reasons);
}

int engine_choose(const char *name, const struct engine_ops **out, char *notice, size_t size,
		  struct err *e)
{
	struct err why = ERR_INIT;

	if (size)
		notice[0] = '\0';
	if (!strcmp(name, "auto"))
		return engine_choose_best(out, notice, size, e);
	for (size_t i = 0; engines[i]; i++) {
		if (strcmp(name, engines[i]->name))
			continue;
		if (engines[i]->probe(&why))
			return err_set(e, why.code, "engine %s: %s%s", name, err_text(&why),
				       strcmp(name, "kvm") ? "" : ENGINE_ELSE_TCG);
		*out = engines[i];
		return 0;
	}
	return err_set(e, EINVAL, "engine '%s': use auto, kvm or tcg", name);
}

int engine_prepare(const struct engine_ops *ops, const struct engine_vm_desc *desc,
		   uint64_t disk_bytes, struct engine_cell **out, struct err *e)
{
	*out = NULL;
	return ops->prepare ? ops->prepare(desc, disk_bytes, out, e) : 0;
}

void engine_abandon(const struct engine_ops *ops, struct engine_cell *cell)
{
	if (cell)
		ops->abandon(cell);
}
