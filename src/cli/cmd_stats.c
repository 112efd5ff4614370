/* SPDX-License-Identifier: Apache-2.0 */
/* `msb stats` and `msb inspect`: what sandboxes of a project use, and all that is known of one. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/kept_rows.h"
#include "cli/print_json.h"
#include "cli/project_opts.h"
#include "cli/terminal.h"
#include "codec/box_command.h"
#include "lib/keep.h"
#include "sys/file.h"

#define STATS_EVERY_MS 2000

enum stats_opt { STATS_FILE, STATS_JSON, STATS_WATCH };

const struct cli_opt stats_opts[] = {
	[STATS_FILE] = PROJECT_OPT_FILE,
	[STATS_JSON] = { "json", NULL, "", NULL, "one JSON document, for programs" },
	[STATS_WATCH] = { "watch", NULL, "w", NULL,
			  "again every two seconds, in place, until Ctrl-C" },
	{ NULL },
};

enum inspect_opt { INSPECT_FILE };

const struct cli_opt inspect_opts[] = {
	[INSPECT_FILE] = PROJECT_OPT_FILE,
	{ NULL },
};

/* ---- stats ------------------------------------------------------------------------ */

static const struct frame_metrics_reply *stats_of(const struct kept_row *r)
{
	return r->stats && r->stats->valid ? &r->stats->m : NULL;
}

/* Of all that are wanted by name; else of those that run. */
static bool stats_shown(const struct kept_rows *t, const struct kept_row *r)
{
	return t->n_names || r->running;
}

/* "12 MiB / 512 MiB" */
static void stats_pair(char to[40], uint64_t a, uint64_t b)
{
	char x[16], y[16];

	kept_row_size(x, (double)a);
	kept_row_size(y, (double)b);
	snprintf(to, 40, "%s / %s", x, y);
}

static void stats_line(const struct kept_row *r, int width, const char *end)
{
	const struct frame_metrics_reply *m = stats_of(r);
	char cpu[16] = "-", memory[40] = "-", disk[40] = "-", net[40] = "-", n[16] = "-",
	     up[16] = "-";

	if (m) {
		snprintf(cpu, sizeof(cpu), "%.1f %%", r->stats->cpu_percent);
		stats_pair(memory, (uint64_t)frame_metrics_used(m->mem_total, m->mem_available),
			   m->mem_total);
		stats_pair(disk, (uint64_t)frame_metrics_used(m->disk_total, m->disk_available),
			   m->disk_total);
		stats_pair(net, m->net_rx_bytes, m->net_tx_bytes);
		snprintf(n, sizeof(n), "%u", m->processes);
	}
	if (r->running && r->has_st)
		kept_row_age(up, r->st.started_us);
	printf("%-*s  %8s  %20s  %20s  %20s  %5s  %5s%s\n", width, r->name, cpu, memory, disk, net,
	       n, up, end);
}

/* @most: lines, 0 = any number; @end: what each ends with before its line end. */
static void stats_print(const struct kept_rows *t, size_t most, const char *end)
{
	int width = 7;
	size_t lines = 1;

	for (size_t i = 0; i < t->n; i++)
		if (stats_shown(t, &t->rows[i]) && (int)strlen(t->rows[i].name) > width)
			width = (int)strlen(t->rows[i].name);
	printf("%-*s  %8s  %20s  %20s  %20s  %5s  %5s%s\n", width, "SANDBOX", "CPU",
	       "MEMORY / LIMIT", "DISK / LIMIT", "NET IN / OUT", "PROCS", "UP", end);
	for (size_t i = 0; i < t->n && (!most || lines < most); i++)
		if (stats_shown(t, &t->rows[i])) {
			stats_line(&t->rows[i], width, end);
			lines++;
		}
}

static json_t *stats_number(const struct frame_metrics_reply *m, uint64_t v)
{
	return m ? json_integer(frame_metrics_number(v)) : json_null();
}

/* What the guest tells; null where it does not. */
static json_t *stats_json(const struct kept_row *r)
{
	static const struct frame_metrics_reply none;
	const struct frame_metrics_reply *m = stats_of(r), *v = m ? m : &none;
	const struct {
		const char *key;
		uint64_t value;
	} all[] = {
		{ "cpus", v->cpus },
		{ "memory_bytes", (uint64_t)frame_metrics_used(v->mem_total, v->mem_available) },
		{ "memory_limit_bytes", v->mem_total },
		{ "disk_bytes", (uint64_t)frame_metrics_used(v->disk_total, v->disk_available) },
		{ "disk_limit_bytes", v->disk_total },
		{ "net_rx_bytes", v->net_rx_bytes },
		{ "net_tx_bytes", v->net_tx_bytes },
		{ "processes", v->processes },
		{ "uptime_ms", v->uptime_ns / 1000000 },
	};
	json_t *o = json_pack("{s:s, s:s, s:o, s:o}", "name", r->name, "status", kept_row_word(r),
			      "cpu_percent", m ? json_real(r->stats->cpu_percent) : json_null(),
			      "load1", m ? json_real((double)m->load1_milli / 1000) : json_null());

	for (size_t i = 0; o && i < ARRAY_SIZE(all); i++)
		json_object_set_new(o, all[i].key, stats_number(m, all[i].value));
	return o;
}

static int stats_print_json(const struct kept_rows *t)
{
	json_t *all = json_array();

	for (size_t i = 0; i < t->n; i++)
		if (stats_shown(t, &t->rows[i]))
			json_array_append_new(all, stats_json(&t->rows[i]));
	return print_json(all);
}

/* One look after the other, each over the one before it; lines are cut where the terminal ends. */
static int stats_watch(const char *file, const struct cli_args *a)
{
	struct err e = ERR_INIT;
	uint16_t height, width;

	for (;;) {
		struct kept_rows t;
		int rc = kept_rows_read(&t, file, a->words, a->n_words, &e);

		if (!rc) {
			terminal_size(&height, &width);
			fputs("\033[?7l\033[H", stdout);
			stats_print(&t, height > 2 ? height - 1u : 1, "\033[K");
			fputs("\033[J\033[?7h", stdout);
		}
		kept_rows_fini(&t);
		if (rc)
			return cli_fail(&e);
		if (fflush(stdout) == EOF)
			return CLI_FAILED;
		poll(NULL, 0, STATS_EVERY_MS);
	}
}

static int stats_once(const char *file, const struct cli_args *a, bool json)
{
	struct err e = ERR_INIT;
	struct kept_rows t;
	int status = CLI_OK;

	if (kept_rows_read(&t, file, a->words, a->n_words, &e))
		status = cli_fail(&e);
	else if (json)
		status = stats_print_json(&t);
	else
		stats_print(&t, 0, "");
	kept_rows_fini(&t);
	return status;
}

int cmd_stats(const struct cli_command *cmd, int argc, char **argv)
{
	bool json = false, watch = false;
	const char *file = NULL;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		if (opt == STATS_FILE)
			file = a.value;
		json |= opt == STATS_JSON;
		watch |= opt == STATS_WATCH;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!watch)
		return stats_once(file, &a, json);
	if (json)
		return cli_usage(cmd, "give either --json or --watch, not both");
	if (!isatty(STDOUT_FILENO))
		return cli_usage(cmd, "--watch needs a terminal; without it there is one look");
	fputs("\033[2J", stdout);
	return stats_watch(file, &a);
}

/* ---- inspect ---------------------------------------------------------------------- */

/* A text of ours as JSON; null where there is none. */
static json_t *inspect_text(char *text, const char *without)
{
	json_t *j = text ? json_loads(text, 0, NULL) : NULL;

	free(text);
	if (j)
		json_object_del(j, without);
	return j ? j : json_null();
}

/* As it was started last. */
static json_t *inspect_config(const struct kept_row *r)
{
	char *text = NULL;

	if (r->has_cfg)
		sandbox_config_format(&r->cfg, &text, NULL);
	return inspect_text(text, "group_dir");
}

/* The command that its supervisor runs; null if it was started for others alone. */
static json_t *inspect_command(const struct kept_row *r)
{
	struct box_command c = { .argv = NULL };
	char *text = NULL, *again = NULL;
	size_t len;

	if (r->dirfd >= 0 &&
	    !file_read_at(r->dirfd, BOX_COMMAND_FILE, BOX_COMMAND_MAX, &text, &len, NULL) &&
	    !box_command_parse(text, len, &c, NULL))
		box_command_format(&c, &again, NULL);
	box_command_fini(&c);
	free(text);
	return inspect_text(again, "");
}

static json_t *inspect_words(const struct sandboxfile_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

/* What the file says, and what takes effect with the next start. */
static json_t *inspect_entry(const struct kept_row *r)
{
	const struct sandboxfile_sandbox *s = r->s;

	if (!s)
		return json_null();
	return json_pack("{s:i, s:s, s:s?, s:s, s:s?, s:o, s:o}", "line", (int)s->at.line, "image",
			 s->image, "version", s->version, "scope", s->scope ? s->scope : "public",
			 "group", s->group, "depends_on", inspect_words(&s->depends_on), "secrets",
			 inspect_words(&s->secrets));
}

static json_t *inspect_state(const struct kept_row *r)
{
	if (!r->has_st)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:b, s:s, s:s}", "started_at",
			 kept_row_time(r->st.started_us), "ready_at", kept_row_time(r->st.ready_us),
			 "ended_at", r->running ? json_null() : kept_row_time(r->st.ended_us),
			 "exit_code",
			 !r->running && r->st.has_exit ? json_integer(r->st.exit_code) : json_null(),
			 "clean", !r->running && r->st.clean, "engine", r->st.engine, "isolation",
			 r->st.isolation);
}

static json_t *inspect_disk(const struct kept_row *r)
{
	if (!r->has_disk)
		return json_null();
	return json_pack("{s:I, s:I}", "size_bytes", (json_int_t)r->disk.st_size, "allocated_bytes",
			 (json_int_t)r->disk.st_blocks * 512);
}

/* Where its files are, whether they are there or not. */
static json_t *inspect_paths(const struct kept_rows *t, const struct kept_row *r)
{
	static const char *const files[][2] = {
		{ "disk", SANDBOX_UPPER_FILE },
		{ "socket", SANDBOX_CTL_SOCK },
		{ "output_log", SANDBOX_LOG_DIR "/output.log" },
		{ "console_log", SANDBOX_LOG_DIR "/console.log" },
		{ "vm_log", SANDBOX_LOG_DIR "/vm.log" },
		{ "network_log", SANDBOX_LOG_DIR "/net.log" },
		{ "supervisor_log", SANDBOX_LOG_DIR "/supervisor.log" },
	};
	json_t *o = json_pack("{s:s, s:o}", "project", t->v.p.dir, "directory",
			      json_sprintf("%s/%s", t->v.menv, r->name));

	for (size_t i = 0; o && i < ARRAY_SIZE(files); i++)
		json_object_set_new(o, files[i][0],
				    json_sprintf("%s/%s/%s", t->v.menv, r->name, files[i][1]));
	return o;
}

static json_t *inspect_json(const struct kept_rows *t, const struct kept_row *r)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:s?, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "name", r->name, "status", kept_row_word(r), "reason", kept_row_reason(r),
			 "pid",
			 r->stats && r->stats->pid ? json_integer(r->stats->pid) : json_null(),
			 "image",
			 r->has_cfg ? r->cfg.image
			 : r->s     ? r->s->image
				    : NULL,
			 "image_path", r->has_cfg ? r->cfg.image_path : NULL, "state",
			 inspect_state(r), "ports", kept_row_ports(r), "disk", inspect_disk(r),
			 "paths", inspect_paths(t, r), "configuration", inspect_config(r),
			 "command", inspect_command(r), "sandboxfile", inspect_entry(r));
}

int cmd_inspect(const struct cli_command *cmd, int argc, char **argv)
{
	const char *file = NULL;
	struct err e = ERR_INIT;
	struct kept_rows t;
	struct cli_args a;
	int opt, status;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		if (opt == INSPECT_FILE)
			file = a.value;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words != 1)
		return cli_usage(cmd,
				 a.n_words ? "give one sandbox" : "which sandbox? See msb list");
	status = kept_rows_read(&t, file, a.words, 1, &e) ? cli_fail(&e)
							  : print_json(inspect_json(&t, t.rows));
	kept_rows_fini(&t);
	return status;
}
