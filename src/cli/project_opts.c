/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/project_opts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void project_opts_print(const char *path, const struct sandboxfile_notes *notes, bool errors)
{
	for (size_t i = 0; i < notes->n; i++) {
		const struct sandboxfile_note *n = &notes->v[i];

		if (errors && !n->error)
			continue;
		if (n->at.line)
			fprintf(stderr, "%s:%u:%u: %s: %s\n", path, n->at.line, n->at.column,
				n->error ? "error" : "warning", n->text);
		else
			fprintf(stderr, "%s: %s: %s\n", path, n->error ? "error" : "warning",
				n->text);
	}
	if (notes->more)
		fprintf(stderr, "%s: and %zu more\n", path, notes->more);
}

int project_opts_load(const char *arg, bool quiet, struct project *p, struct err *e)
{
	auto_free struct sandboxfile_notes *notes = calloc(1, sizeof(*notes));
	struct err why = ERR_INIT;
	int rc;

	if (!notes)
		return err_errno(e, ENOMEM, "read the project");
	rc = project_locate(arg, p, e);
	if (rc)
		return rc;
	rc = project_load(p, notes, &why);
	if (!rc || notes->errors)
		project_opts_print(p->path, notes, rc || quiet);
	return rc ? err_set(e, notes->errors ? CLI_TOLD : why.code, "%s", err_text(&why)) : 0;
}
