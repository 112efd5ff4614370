/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/project_open.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cli/image_find.h"
#include "sys/parts.h"

static void project_print_notes(const struct project *p, const struct sandboxfile_notes *notes)
{
	for (size_t i = 0; i < notes->n; i++)
		if (!notes->v[i].error)
			cli_notice("%s:%u:%u: warning: %s", p->path, (unsigned)notes->v[i].at.line,
				   (unsigned)notes->v[i].at.column, notes->v[i].text);
}

int project_open(const char *arg, bool quiet, struct project_view *v, struct err *e)
{
	auto_free struct sandboxfile_notes *notes = calloc(1, sizeof(*notes));
	int rc;

	*v = (struct project_view){ .menv = NULL };
	if (!notes)
		return err_errno(e, ENOMEM, "project");
	if ((rc = parts_home(&v->home, e)) || (rc = project_locate(arg, &v->p, e)) ||
	    (rc = project_load(&v->p, notes, e)))
		return rc;
	if (!quiet)
		project_print_notes(&v->p, notes);
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
