/* SPDX-License-Identifier: Apache-2.0 */
/* `msb status` (`ps`): what the sandboxes of a project do. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/kept_rows.h"
#include "cli/print_json.h"
#include "cli/project_opts.h"

enum status_opt { STATUS_FILE, STATUS_SANDBOX, STATUS_BUILD, STATUS_JSON, STATUS_QUIET };

const struct cli_opt status_opts[] = {
	[STATUS_FILE] = PROJECT_OPT_FILE,
	[STATUS_SANDBOX] = { "sandbox", NULL, "s", NULL,
			     "the names are sandboxes' (accepted for compatibility)" },
	[STATUS_BUILD] = { "build", NULL, "b", NULL, "refused: builds do not run" },
	[STATUS_JSON] = { "json", NULL, "", NULL, "one JSON document, for programs" },
	[STATUS_QUIET] = { "quiet", NULL, "q", NULL, "only the names of those that run" },
	{ NULL },
};

struct status {
	const struct cli_command *cmd;
	const char *file;
	bool json, quiet;
	struct kept_rows r;
};

static void status_print(const struct status *t)
{
	size_t width = 7;

	for (size_t i = 0; i < t->r.n; i++)
		if (strlen(t->r.rows[i].name) > width)
			width = strlen(t->r.rows[i].name);
	printf("%-*s  %-9s %7s %10s %10s %6s  %s\n", (int)width, "SANDBOX", "STATUS", "CPU",
	       "MEMORY", "DISK", "UP", "DETAIL");
	for (size_t i = 0; i < t->r.n; i++) {
		const struct kept_row *r = &t->r.rows[i];
		bool valid = r->stats && r->stats->valid;
		char cpu[16] = "-", memory[16] = "-", disk[16] = "-", up[16] = "-";

		if (valid) {
			snprintf(cpu, sizeof(cpu), "%.1f %%", r->stats->cpu_percent);
			kept_row_size(memory, (double)frame_metrics_used(r->stats->m.mem_total,
									 r->stats->m.mem_available));
		}
		if (r->has_disk)
			kept_row_size(disk, (double)r->disk.st_blocks * 512);
		if (r->running && r->has_st)
			kept_row_age(up, r->st.started_us);
		printf("%-*s  %-9s %7s %10s %10s %6s  %s%s\n", (int)width, r->name,
		       kept_row_word(r), cpu, memory, disk, up, kept_row_reason(r),
		       r->s ? "" : " (not in the Sandboxfile)");
	}
}

static int status_print_json(const struct status *t)
{
	json_t *all = json_array();

	for (size_t i = 0; i < t->r.n; i++)
		json_array_append_new(all, kept_row_json(&t->r.rows[i]));
	return print_json(all);
}

static int status_run(struct status *t, char **names, int n)
{
	struct err e = ERR_INIT;

	if (kept_rows_read(&t->r, t->file, names, n, &e))
		return cli_fail(&e);
	if (t->quiet) {
		for (size_t i = 0; i < t->r.n; i++)
			if (t->r.rows[i].running)
				puts(t->r.rows[i].name);
	} else if (t->json) {
		return status_print_json(t);
	} else {
		status_print(t);
	}
	return CLI_OK;
}

static int status_parse_option(struct status *t, int opt, const char *v)
{
	switch (opt) {
	case STATUS_FILE:
		t->file = v;
		return 0;
	case STATUS_BUILD:
		return cli_usage(t->cmd, "--build is not supported: builds do not run");
	case STATUS_JSON:
		t->json = true;
		return 0;
	case STATUS_QUIET:
		t->quiet = true;
		return 0;
	default: /* STATUS_SANDBOX */
		return 0;
	}
}

int cmd_status(const struct cli_command *cmd, int argc, char **argv)
{
	struct status t = { .cmd = cmd };
	struct cli_args a;
	int opt, status;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		if ((status = status_parse_option(&t, opt, a.value)))
			return status;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	status = status_run(&t, a.words, a.n_words);
	kept_rows_fini(&t.r);
	return status;
}
