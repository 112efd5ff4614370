/* SPDX-License-Identifier: Apache-2.0 */
/* `msb status` (`ps`): what the sandboxes of a project do. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/kept_stats.h"
#include "cli/project_open.h"
#include "codec/logline.h"
#include "lib/keep.h"

enum status_opt { STATUS_FILE, STATUS_SANDBOX, STATUS_BUILD, STATUS_JSON, STATUS_QUIET };

const struct cli_opt status_opts[] = {
	[STATUS_FILE] = { "file", NULL, "f", "PATH",
			  "the project: its directory, or its Sandboxfile" },
	[STATUS_SANDBOX] = { "sandbox", NULL, "s", NULL,
			     "the names are sandboxes' (accepted for compatibility)" },
	[STATUS_BUILD] = { "build", NULL, "b", NULL, "refused: builds do not run" },
	[STATUS_JSON] = { "json", NULL, "", NULL, "one JSON document, for programs" },
	[STATUS_QUIET] = { "quiet", NULL, "q", NULL, "only the names of those that run" },
	{ NULL },
};

/* A sandbox of the file, or one that only its directory tells of. */
struct status_row {
	char name[SANDBOXFILE_NAME_MAX + 1];
	const struct sandboxfile_sandbox *s; /* NULL = it is in the file no more */
	struct sandbox_config cfg; /* as it was started last */
	struct box_state st;
	struct stat disk;
	int dirfd;
	bool running, has_cfg, has_st, has_disk;
	struct kept_stats *stats; /* of those that run */
};

struct status {
	const struct cli_command *cmd;
	const char *file;
	bool json, quiet;
	struct project_view v;
	char **names;
	int n_names;
	struct status_row *rows;
	size_t n, cap;
	bool failed;
};

static bool status_wanted(const struct status *t, const char *name)
{
	for (int i = 0; i < t->n_names; i++)
		if (!strcmp(t->names[i], name))
			return true;
	return !t->n_names;
}

static struct status_row *status_find(const struct status *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->rows[i].name, name))
			return &t->rows[i];
	return NULL;
}

static struct status_row *status_add(struct status *t, const char *name)
{
	struct status_row *rows;

	if (t->n == t->cap) {
		rows = realloc(t->rows, (t->cap + 64) * sizeof(*rows));
		if (!rows) {
			t->failed = true;
			return NULL;
		}
		t->rows = rows;
		t->cap += 64;
	}
	t->rows[t->n] = (struct status_row){ .dirfd = -1 };
	snprintf(t->rows[t->n].name, sizeof(t->rows[t->n].name), "%s", name);
	return &t->rows[t->n++];
}

static void status_scan(void *ctx, const char *name, int dirfd)
{
	struct status *t = ctx;
	struct status_row *r = status_find(t, name);

	if (!sandboxfile_name_valid(name) || !status_wanted(t, name) ||
	    (!r && !(r = status_add(t, name))))
		return;
	r->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	r->running = keep_running(dirfd) == 1;
	r->has_cfg = !keep_config(dirfd, &r->cfg, NULL);
	r->has_st = !keep_state(dirfd, &r->st, NULL);
	r->has_disk = !fstatat(dirfd, SANDBOX_UPPER_FILE, &r->disk, AT_SYMLINK_NOFOLLOW);
}

static int status_gather(struct status *t, struct err *e)
{
	auto_close int parent = -1;

	for (size_t i = 0; i < t->v.p.file->n_sandboxes; i++) {
		const struct sandboxfile_sandbox *s = t->v.p.file->sandboxes[i];
		struct status_row *r = status_wanted(t, s->name) ? status_add(t, s->name) : NULL;

		if (r)
			r->s = s;
	}
	parent = open(t->v.menv, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (parent >= 0 && keep_each(parent, status_scan, t, e))
		return -e->code;
	for (int i = 0; i < t->n_names; i++)
		if (!status_find(t, t->names[i]))
			return sandboxfile_need(t->v.p.file, t->names[i], NULL, e);
	return t->failed ? err_errno(e, ENOMEM, "status") : 0;
}

static int status_measure(struct status *t, struct kept_stats **out, struct err *e)
{
	struct kept_stats *stats = calloc(t->n ? t->n : 1, sizeof(*stats));
	size_t n = 0;

	if (!stats)
		return err_errno(e, ENOMEM, "status");
	*out = stats;
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].running) {
			stats[n].dirfd = t->rows[i].dirfd;
			t->rows[i].stats = &stats[n++];
		}
	return kept_stats_read(stats, n, e);
}

static const char *status_word(const struct status_row *r)
{
	if (!r->running)
		return !r->has_st ? "created" : "stopped";
	switch (r->stats ? r->stats->state : -1) {
	case SANDBOX_READY:
		return "running";
	case SANDBOX_STOPPING:
	case SANDBOX_STOPPED:
	case -1:
		return "stopping";
	default:
		return "starting";
	}
}

/* Why it does not run. */
static const char *status_reason(const struct status_row *r)
{
	if (r->running)
		return "";
	if (!r->has_st)
		return "it was never started";
	return r->st.ended_us ? r->st.reason : "it was killed, or the machine lost power";
}

static void status_size(char to[16], double bytes)
{
	if (bytes >= 10.0 * (1u << 30))
		snprintf(to, 16, "%.0f GiB", bytes / (1u << 30));
	else if (bytes < 1u << 20)
		snprintf(to, 16, "%.0f KiB", bytes / (1u << 10));
	else
		snprintf(to, 16, "%.0f MiB", bytes / (1u << 20));
}

static void status_age(char to[16], int64_t since_us)
{
	struct timespec now;
	long s;

	clock_gettime(CLOCK_REALTIME, &now);
	s = now.tv_sec - (long)(since_us / 1000000);
	if (s < 0)
		s = 0;
	if (s < 120)
		snprintf(to, 16, "%lds", s);
	else if (s < 7200)
		snprintf(to, 16, "%ldm", s / 60);
	else if (s < 172800)
		snprintf(to, 16, "%ldh", s / 3600);
	else
		snprintf(to, 16, "%ldd", s / 86400);
}

static void status_print(const struct status *t)
{
	size_t width = 7;

	for (size_t i = 0; i < t->n; i++)
		if (strlen(t->rows[i].name) > width)
			width = strlen(t->rows[i].name);
	printf("%-*s  %-9s %7s %10s %10s %6s  %s\n", (int)width, "SANDBOX", "STATUS", "CPU",
	       "MEMORY", "DISK", "UP", "DETAIL");
	for (size_t i = 0; i < t->n; i++) {
		const struct status_row *r = &t->rows[i];
		bool valid = r->stats && r->stats->valid;
		char cpu[16] = "-", memory[16] = "-", disk[16] = "-", up[16] = "-";

		if (valid) {
			snprintf(cpu, sizeof(cpu), "%.1f %%", r->stats->cpu_percent);
			status_size(memory,
				    (double)(r->stats->m.mem_total - r->stats->m.mem_available));
		}
		if (r->has_disk)
			status_size(disk, (double)r->disk.st_blocks * 512);
		if (r->running && r->has_st)
			status_age(up, r->st.started_us);
		printf("%-*s  %-9s %7s %10s %10s %6s  %s%s\n", (int)width, r->name, status_word(r),
		       cpu, memory, disk, up, status_reason(r),
		       r->s ? "" : " (not in the Sandboxfile)");
	}
}

static json_t *status_time(int64_t us)
{
	char text[28];

	return us && !logline_format_time(us, text) ? json_string(text) : json_null();
}

static json_t *status_ports(const struct status_row *r)
{
	json_t *a = json_array();
	char text[PUBLISH_TEXT_MAX];

	for (size_t i = 0; r->running && r->has_cfg && i < r->cfg.ports.n; i++) {
		publish_format(&r->cfg.ports.v[i], text);
		json_array_append_new(a, json_string(text));
	}
	return a;
}

static json_t *status_json(const struct status_row *r)
{
	bool valid = r->stats && r->stats->valid;
	json_t *o = json_pack("{s:s, s:s, s:s?, s:b, s:s}", "name", r->name, "status",
			      status_word(r), "image",
			      r->s         ? r->s->image
			      : r->has_cfg ? r->cfg.image
					   : NULL,
			      "in_sandboxfile", r->s != NULL, "reason", status_reason(r));

	if (!o)
		return NULL;
	json_object_set_new(o, "pid",
			    r->stats && r->stats->pid ? json_integer(r->stats->pid) : json_null());
	json_object_set_new(o, "engine", r->has_st ? json_string(r->st.engine) : json_null());
	json_object_set_new(o, "isolation", r->has_st ? json_string(r->st.isolation) : json_null());
	json_object_set_new(o, "started_at",
			    r->has_st ? status_time(r->st.started_us) : json_null());
	json_object_set_new(o, "ended_at",
			    r->has_st && !r->running ? status_time(r->st.ended_us) : json_null());
	json_object_set_new(o, "exit_code",
			    r->has_st && !r->running && r->st.has_exit
				    ? json_integer(r->st.exit_code)
				    : json_null());
	json_object_set_new(o, "cpu_percent",
			    valid ? json_real(r->stats->cpu_percent) : json_null());
	json_object_set_new(o, "memory_bytes",
			    valid ? json_integer((json_int_t)(r->stats->m.mem_total -
							      r->stats->m.mem_available))
				  : json_null());
	json_object_set_new(o, "disk_bytes",
			    r->has_disk ? json_integer((json_int_t)r->disk.st_blocks * 512)
					: json_null());
	json_object_set_new(o, "net_rx_bytes",
			    valid ? json_integer((json_int_t)r->stats->m.net_rx_bytes)
				  : json_null());
	json_object_set_new(o, "net_tx_bytes",
			    valid ? json_integer((json_int_t)r->stats->m.net_tx_bytes)
				  : json_null());
	json_object_set_new(o, "ports", status_ports(r));
	return o;
}

static void status_print_json(const struct status *t)
{
	json_t *all = json_array();

	for (size_t i = 0; i < t->n; i++)
		json_array_append_new(all, status_json(&t->rows[i]));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static int status_run(struct status *t)
{
	auto_free struct kept_stats *stats = NULL;
	struct err e = ERR_INIT;

	if (project_open(t->file, true, &t->v, &e) || status_gather(t, &e) ||
	    status_measure(t, &stats, &e))
		return cli_fail(&e);
	if (t->quiet) {
		for (size_t i = 0; i < t->n; i++)
			if (t->rows[i].running)
				puts(t->rows[i].name);
	} else if (t->json) {
		status_print_json(t);
	} else {
		status_print(t);
	}
	return CLI_OK;
}

static void status_fini(struct status *t)
{
	for (size_t i = 0; i < t->n; i++) {
		sandbox_config_fini(&t->rows[i].cfg);
		close_fd(&t->rows[i].dirfd);
	}
	free(t->rows);
	project_close(&t->v);
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
	t.names = a.words;
	t.n_names = a.n_words;
	status = status_run(&t);
	status_fini(&t);
	return status;
}
