/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image rm. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/cmd.h"

int cmd_rm(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct store_writer *w;
	struct image *img;
	int rc;

	(void)o;
	if (!argc)
		return cmd_usage(e, "rm IMAGE...");
	rc = cmd_writer(&w, e);
	if (rc)
		return rc;
	for (int i = 0; !rc && i < argc; i++) {
		rc = store_resolve(store_writer_store(w), argv[i], &img, e);
		if (rc == -EINVAL || rc == -ENOENT) {
			/* A damaged image can be removed by its full name. */
			struct err again = ERR_INIT;

			if (store_remove(w, argv[i], o->force, &again) == 0) {
				err_clear(e);
				rc = 0;
			}
			continue;
		}
		if (!rc) {
			rc = store_remove(w, img->reference[0] ? img->reference : img->digest,
					  o->force, e);
			image_free(img);
		}
	}
	store_writer_close(w);
	return rc;
}
