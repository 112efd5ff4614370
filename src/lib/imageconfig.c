/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/imageconfig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sys/signals.h"

static int imageconfig_volumes(struct sandbox_config *cfg, char *const *v, struct err *e)
{
	unsigned n = 0;

	for (; v && *v; v++) {
		if (**v != '/')
			return err_set(e, EINVAL,
				       "the image's configuration: the volume '%.64s' is no "
				       "absolute path",
				       *v);
		if (++n > SANDBOX_IMAGE_VOLUMES_MAX)
			return err_set(e, EINVAL,
				       "the image's configuration has more than %u volumes",
				       SANDBOX_IMAGE_VOLUMES_MAX);
		if (strlist_add(&cfg->image_volumes, *v))
			return err_errno(e, ENOMEM, "the image's configuration");
	}
	return 0;
}

int imageconfig_apply(struct sandbox_config *cfg, const struct image_config *image, struct err *e)
{
	const char *sig = image->stop_signal ? image->stop_signal : "";

	cfg->image_workdir = strdup(image->workdir ? image->workdir : "");
	cfg->image_user = strdup(image->user ? image->user : "");
	if (!cfg->image_workdir || !cfg->image_user)
		return err_errno(e, ENOMEM, "the image's configuration");
	cfg->stop_signal = signals_number(sig);
	if (*sig && !cfg->stop_signal)
		return err_set(e, EINVAL, "the image's configuration: '%.32s' is no signal", sig);
	return imageconfig_volumes(cfg, image->volumes, e);
}
