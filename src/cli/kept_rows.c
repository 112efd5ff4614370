/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kept_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "codec/logline.h"
#include "lib/keep.h"

static bool kept_rows_wanted(const struct kept_rows *t, const char *name)
{
	for (int i = 0; i < t->n_names; i++)
		if (!strcmp(t->names[i], name))
			return true;
	return !t->n_names;
}

static struct kept_row *kept_rows_find(const struct kept_rows *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->rows[i].name, name))
			return &t->rows[i];
	return NULL;
}

static struct kept_row *kept_rows_add(struct kept_rows *t, const char *name)
{
	struct kept_row *rows;

	if (t->n == t->cap) {
		rows = realloc(t->rows, (t->cap + 64) * sizeof(*rows));
		if (!rows) {
			t->failed = true;
			return NULL;
		}
		t->rows = rows;
		t->cap += 64;
	}
	t->rows[t->n] = (struct kept_row){ .dirfd = -1 };
	snprintf(t->rows[t->n].name, sizeof(t->rows[t->n].name), "%s", name);
	return &t->rows[t->n++];
}

static void kept_rows_scan(void *ctx, const char *name, int dirfd)
{
	struct kept_rows *t = ctx;
	struct kept_row *r = kept_rows_find(t, name);

	if (!sandboxfile_name_valid(name) || !kept_rows_wanted(t, name) ||
	    (!r && !(r = kept_rows_add(t, name))))
		return;
	r->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	r->running = keep_running(dirfd) == 1;
	r->has_cfg = !keep_config(dirfd, &r->cfg, NULL);
	r->has_st = !keep_state(dirfd, &r->st, NULL);
	r->has_disk = !fstatat(dirfd, SANDBOX_UPPER_FILE, &r->disk, AT_SYMLINK_NOFOLLOW);
}

static int kept_rows_gather(struct kept_rows *t, struct err *e)
{
	auto_close int parent = -1;

	for (size_t i = 0; i < t->v.p.file->n_sandboxes; i++) {
		const struct sandboxfile_sandbox *s = t->v.p.file->sandboxes[i];
		struct kept_row *r =
			kept_rows_wanted(t, s->name) ? kept_rows_add(t, s->name) : NULL;

		if (r)
			r->s = s;
	}
	parent = open(t->v.menv, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (parent >= 0 && keep_each(parent, kept_rows_scan, t, e))
		return -e->code;
	for (int i = 0; i < t->n_names; i++)
		if (!kept_rows_find(t, t->names[i]))
			return sandboxfile_need(t->v.p.file, t->names[i], NULL, e);
	return t->failed ? err_errno(e, ENOMEM, "status") : 0;
}

static int kept_rows_measure(struct kept_rows *t, struct err *e)
{
	size_t n = 0;

	t->stats = calloc(t->n ? t->n : 1, sizeof(*t->stats));
	if (!t->stats)
		return err_errno(e, ENOMEM, "sandboxes");
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].running) {
			t->stats[n].dirfd = t->rows[i].dirfd;
			t->rows[i].stats = &t->stats[n++];
		}
	return kept_stats_read(t->stats, n, e);
}

int kept_rows_read(struct kept_rows *t, const char *file, char **names, int n_names, struct err *e)
{
	int rc;

	*t = (struct kept_rows){ .names = names, .n_names = n_names };
	rc = project_open(file, true, &t->v, e);
	rc = rc ? rc : kept_rows_gather(t, e);
	return rc ? rc : kept_rows_measure(t, e);
}

void kept_rows_fini(struct kept_rows *t)
{
	for (size_t i = 0; i < t->n; i++) {
		sandbox_config_fini(&t->rows[i].cfg);
		close_fd(&t->rows[i].dirfd);
	}
	free(t->rows);
	free(t->stats);
	project_close(&t->v);
}

const char *kept_row_word(const struct kept_row *r)
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
const char *kept_row_reason(const struct kept_row *r)
{
	if (r->running)
		return "";
	if (!r->has_st)
		return "it was never started";
	return r->st.ended_us ? r->st.reason : "it was killed, or the machine lost power";
}

void kept_row_size(char to[16], double bytes)
{
	if (bytes >= 10.0 * (1u << 30))
		snprintf(to, 16, "%.0f GiB", bytes / (1u << 30));
	else if (bytes < 1u << 20)
		snprintf(to, 16, "%.0f KiB", bytes / (1u << 10));
	else
		snprintf(to, 16, "%.0f MiB", bytes / (1u << 20));
}

void kept_row_age(char to[16], int64_t since_us)
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

json_t *kept_row_time(int64_t us)
{
	char text[28];

	return us && !logline_format_time(us, text) ? json_string(text) : json_null();
}

json_t *kept_row_ports(const struct kept_row *r)
{
	json_t *a = json_array();
	char text[PUBLISH_TEXT_MAX];

	for (size_t i = 0; r->running && r->has_cfg && i < r->cfg.ports.n; i++) {
		publish_format(&r->cfg.ports.v[i], text);
		json_array_append_new(a, json_string(text));
	}
	return a;
}

json_t *kept_row_json(const struct kept_row *r)
{
	bool valid = r->stats && r->stats->valid;
	json_t *o = json_pack("{s:s, s:s, s:s?, s:b, s:s}", "name", r->name, "status",
			      kept_row_word(r), "image",
			      r->s         ? r->s->image
			      : r->has_cfg ? r->cfg.image
					   : NULL,
			      "in_sandboxfile", r->s != NULL, "reason", kept_row_reason(r));

	if (!o)
		return NULL;
	json_object_set_new(o, "pid",
			    r->stats && r->stats->pid ? json_integer(r->stats->pid) : json_null());
	json_object_set_new(o, "engine", r->has_st ? json_string(r->st.engine) : json_null());
	json_object_set_new(o, "isolation", r->has_st ? json_string(r->st.isolation) : json_null());
	json_object_set_new(o, "started_at",
			    r->has_st ? kept_row_time(r->st.started_us) : json_null());
	json_object_set_new(o, "ended_at",
			    r->has_st && !r->running ? kept_row_time(r->st.ended_us) : json_null());
	json_object_set_new(o, "exit_code",
			    r->has_st && !r->running && r->st.has_exit
				    ? json_integer(r->st.exit_code)
				    : json_null());
	json_object_set_new(o, "cpu_percent",
			    valid ? json_real(r->stats->cpu_percent) : json_null());
	json_object_set_new(o, "memory_bytes",
			    valid ? json_integer(frame_metrics_used(r->stats->m.mem_total,
								    r->stats->m.mem_available))
				  : json_null());
	json_object_set_new(o, "disk_bytes",
			    r->has_disk ? json_integer((json_int_t)r->disk.st_blocks * 512)
					: json_null());
	json_object_set_new(o, "net_rx_bytes",
			    valid ? json_integer(frame_metrics_number(r->stats->m.net_rx_bytes))
				  : json_null());
	json_object_set_new(o, "net_tx_bytes",
			    valid ? json_integer(frame_metrics_number(r->stats->m.net_tx_bytes))
				  : json_null());
	json_object_set_new(o, "ports", kept_row_ports(r));
	return o;
}
