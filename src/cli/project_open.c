/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/project_open.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cli/image_find.h"
#include "cli/project_opts.h"
#include "sys/parts.h"

int project_open(const char *arg, bool quiet, struct project_view *v, struct err *e)
{
	int rc;

	*v = (struct project_view){ .menv = NULL };
	if ((rc = parts_home(&v->home, e)) || (rc = project_opts_load(arg, quiet, &v->p, e)))
		return rc;
	v->menv = plan_menv(&v->p);
	return v->menv ? 0 : err_errno(e, ENOMEM, "project");
}

void project_close(struct project_view *v)
{
	project_fini(&v->p);
	free(take_ptr(&v->menv));
	free(take_ptr(&v->home));
}

int project_box_init(const struct project_view *v, const struct sandboxfile_sandbox *s,
		     const struct plan_start *start, const struct plan_run *run, bool quiet,
		     struct project_box *b, struct err *e)
{
	const struct image_find find = { .home = v->home,
					 .jail = start->jail ? start->jail : "full",
					 .quiet = quiet };
	struct err why = ERR_INIT;
	struct image *image = NULL;
	int rc;

	*b = (struct project_box){ .s = s };
	rc = image_find(&find, s->image, &image, &why);
	if (rc == -ENOENT && s->build)
		return err_set(e, ENOENT,
			       "sandbox %s starts from what build %s makes, which is not there, or "
			       "is older than the file: msb build %s",
			       s->name, s->build, s->build);
	if (rc)
		return err_set(e, why.code, "%s", err_text(&why));
	if (!rc)
		rc = plan_config(&v->p, s, image, v->home, start, &b->cfg, e);
	if (!rc)
		rc = plan_command(&v->p, s, image, run, &b->command, e);
	image_free(image);
	return rc;
}

void project_box_fini(struct project_box *b)
{
	sandbox_config_fini(&b->cfg);
	box_command_fini(&b->command);
}
