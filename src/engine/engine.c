/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <errno.h>
#include <string.h>

#include "engine/tcg.h"

static const struct engine_ops *const engines[] = { &engine_tcg, NULL };

const struct engine_ops *const *engine_list(void)
{
	return engines;
}

int engine_choose(const char *name, const struct engine_ops **out, const char **notice,
		  struct err *e)
{
	bool automatic = !strcmp(name, "auto");
	int rc;

	*notice = NULL;
	for (size_t i = 0; engines[i]; i++) {
		if (!automatic && strcmp(name, engines[i]->name))
			continue;
		rc = engines[i]->probe(e);
		if (rc)
			return rc;
		*out = engines[i];
		if (automatic && strcmp(engines[i]->isolation, "hardware"))
			*notice = "software emulation (engine tcg): this build has no kvm engine";
		return 0;
	}
	if (!strcmp(name, "kvm"))
		return err_set(e, ENOTSUP,
			       "engine kvm: this build has no kvm engine; "
			       "use --engine tcg (software emulation)");
	return err_set(e, EINVAL, "engine '%s': use auto, kvm or tcg", name);
}
