/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/server_show.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"
#include "lib/client.h"
#include "lib/launch.h"
#include "server/server.h"
#include "sys/file.h"
#include "sys/loop.h"

#define SHOW_META_MAX (4u << 20)
#define SHOW_METRICS_MS 2000u

/* Where namespaces are kept: malloc'ed. */
static char *show_path(const struct server_show *q)
{
	struct server_info info;
	char *path;

	if (q->path)
		return strdup(q->path);
	if (!server_find(q->home, &info, NULL) && info.path[0])
		return strdup(info.path);
	return asprintf(&path, "%s/projects", q->home) < 0 ? NULL : path;
}

static void show_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* ---- sandboxes ------------------------------------------------------------------------- */

struct show_scan {
	const struct server_show *q;
	const char *ns;
	json_t *all;
	bool metrics;
};

static bool show_wanted(const struct server_show *q, const char *name)
{
	for (int i = 0; i < q->n_names; i++)
		if (!strcmp(q->names[i], name))
			return true;
	return !q->n_names;
}

/* A question to one sandbox. */
struct show_metrics {
	struct client client;
	struct client_channel channel;
	struct loop_timer timer;
	struct loop *loop;
	json_t *entry;
};

static void show_metrics_state(struct client *c, const struct frame_sandbox_state *st)
{
	(void)c;
	(void)st;
}

static void show_metrics_closed(struct client *c, const char *reason)
{
	(void)reason;
	loop_stop(container_of(c, struct show_metrics, client)->loop, 0);
}

static void show_metrics_timeout(struct loop_timer *t)
{
	loop_stop(container_of(t, struct show_metrics, timer)->loop, 0);
}

static void show_metrics_frame(struct client_channel *ch, const struct frame *f)
{
	struct show_metrics *m = container_of(ch, struct show_metrics, channel);
	struct frame_metrics_reply r;

	if (!frame_type_ends_channel(f->type))
		return;
	if (f->type == FRAME_METRICS_REPLY && !frame_decode(f, &r, sizeof(r))) {
		double busy = (double)r.cpu_user_ns + (double)r.cpu_system_ns;
		double permille = r.uptime_ns ? busy * 1000 / (double)r.uptime_ns : 0;

		json_object_set_new(m->entry, "cpu_usage",
				    json_real((double)(uint64_t)permille / 10));
		json_object_set_new(m->entry, "memory_usage",
				    json_integer(frame_metrics_used(r.mem_total, r.mem_available) >>
						 20));
		json_object_set_new(m->entry, "disk_usage",
				    json_integer(
					    frame_metrics_used(r.disk_total, r.disk_available)));
	}
	loop_stop(m->loop, 0);
}

static const struct client_ops show_metrics_ops = {
	.on_state = show_metrics_state,
	.on_closed = show_metrics_closed,
};

/* Adds what a sandbox uses; one that does not answer has nulls. */
static void show_add_metrics(json_t *entry, int dirfd)
{
	struct show_metrics m = { .entry = entry, .channel.on_frame = show_metrics_frame };
	int fd;

	if (loop_create(&m.loop, NULL))
		return;
	list_init(&m.channel.link);
	loop_timer_init(&m.timer, show_metrics_timeout);
	if (!client_connect(dirfd, &fd, NULL)) {
		if (!client_init(&m.client, m.loop, fd, &show_metrics_ops, NULL) &&
		    !client_open(&m.client, &m.channel, FRAME_METRICS, NULL)) {
			loop_timer_set(m.loop, &m.timer, SHOW_METRICS_MS);
			loop_run(m.loop);
		}
		client_fini(&m.client);
	}
	loop_timer_cancel(&m.timer);
	loop_destroy(m.loop);
}

static int show_supervisor(int dirfd)
{
	auto_free char *text = NULL;
	auto_close int fd = openat(dirfd, SANDBOX_RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t len;

	if (fd < 0 || file_read_at(fd, "pid", 64, &text, &len, NULL))
		return 0;
	return atoi(text);
}

/* What the server wrote down about a sandbox; one that does not say is listed all the same. */
static void show_one(void *ctx, const char *name, int dirfd)
{
	struct show_scan *s = ctx;
	auto_free char *text = NULL;
	json_t *meta = NULL, *entry;
	size_t len;

	if (!show_wanted(s->q, name))
		return;
	if (!file_read_at(dirfd, "server.json", SHOW_META_MAX, &text, &len, NULL))
		meta = json_loadb(text, len, 0, NULL);
	entry = json_pack("{s:s, s:s, s:s?, s:s?}", "namespace", s->ns, "name", name, "image",
			  json_string_value(json_object_get(meta, "image")), "started_at",
			  json_string_value(json_object_get(meta, "started_at")));
	json_decref(meta);
	if (entry && s->metrics) {
		json_object_set_new(entry, "running", json_true());
		json_object_set_new(entry, "pid", json_integer(show_supervisor(dirfd)));
		json_object_set_new(entry, "cpu_usage", json_null());
		json_object_set_new(entry, "memory_usage", json_null());
		json_object_set_new(entry, "disk_usage", json_null());
		show_add_metrics(entry, dirfd);
	}
	json_array_append_new(s->all, entry);
}

static const char *show_text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static int show_compare(const void *a, const void *b)
{
	json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int c = strcmp(show_text(x, "namespace"), show_text(y, "namespace"));

	return c ? c : strcmp(show_text(x, "name"), show_text(y, "name"));
}

/* The same array by namespace and name; takes @all over. */
static json_t *show_sorted(json_t *all)
{
	size_t n = json_array_size(all);
	auto_free json_t **items = calloc(n ? n : 1, sizeof(json_t *));
	json_t *sorted = json_array();

	if (!items || !sorted) {
		json_decref(sorted);
		return all;
	}
	for (size_t i = 0; i < n; i++)
		items[i] = json_array_get(all, i);
	qsort(items, n, sizeof(*items), show_compare);
	for (size_t i = 0; i < n; i++)
		json_array_append(sorted, items[i]);
	json_decref(all);
	return sorted;
}

/* All sandboxes that are asked for: works without a server, as sandboxes do. */
static json_t *show_scan(const struct server_show *q, bool metrics)
{
	struct show_scan s = { .q = q, .all = json_array(), .metrics = metrics };
	auto_free char *path = show_path(q);
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_free char *parent = NULL;

		if (!cli_is_name(d->d_name) ||
		    (q->ns && strcmp(q->ns, "*") && strcmp(q->ns, d->d_name)) ||
		    asprintf(&parent, "%s/%s/menv", path, d->d_name) < 0)
			continue;
		s.ns = d->d_name;
		launch_each(parent, show_one, &s);
	}
	if (dir)
		closedir(dir);
	return show_sorted(s.all);
}

int server_show_list(const struct server_show *q)
{
	json_t *all = show_scan(q, false), *one;
	size_t i;

	if (q->json)
		show_json(all);
	else if (json_array_size(all))
		printf("%-20s %-24s %-28s %s\n", "NAMESPACE", "NAME", "IMAGE", "SINCE");
	json_array_foreach(all, i, one)
	{
		if (!q->json)
			printf("%-20s %-24s %-28s %s\n", show_text(one, "namespace"),
			       show_text(one, "name"), show_text(one, "image"),
			       show_text(one, "started_at"));
	}
	json_decref(all);
	return CLI_OK;
}

/* ---- status ------------------------------------------------------------------------------ */

static int show_server(const struct server_show *q)
{
	struct server_info info = { .pid = 0 };
	struct err e = ERR_INIT;
	int rc = server_find(q->home, &info, &e);

	if (rc && rc != -ESRCH)
		return cli_fail(&e);
	if (q->json) {
		json_t *j = rc ? json_pack("{s:b}", "running", 0)
			       : json_pack("{s:b, s:i, s:s, s:s}", "running", 1, "pid", info.pid,
					   "address", info.address, "path", info.path);

		show_json(j);
		json_decref(j);
	} else if (rc) {
		printf("not running\n");
	} else {
		printf("running: %s (pid %d)\n", info.address, info.pid);
	}
	return rc ? 1 : CLI_OK;
}

/* Those that were asked for and do not run. */
static int show_add_missing(const struct server_show *q, json_t *all)
{
	int missing = 0;

	for (int i = 0; i < q->n_names; i++) {
		json_t *one;
		bool found = false;
		size_t k;

		json_array_foreach(all, k, one)
		{
			found |= !strcmp(show_text(one, "name"), q->names[i]);
		}
		if (found)
			continue;
		missing++;
		json_array_append_new(all, json_pack("{s:s, s:s?, s:b}", "name", q->names[i],
						     "namespace", q->ns, "running", 0));
	}
	return missing;
}

static void show_status_row(json_t *one)
{
	bool running = json_is_true(json_object_get(one, "running"));
	json_t *cpu = json_object_get(one, "cpu_usage"), *mem, *disk;
	char pid[16] = "-", c[16] = "-", m[24] = "-", d[32] = "-";

	mem = json_object_get(one, "memory_usage");
	disk = json_object_get(one, "disk_usage");
	if (running)
		snprintf(pid, sizeof(pid), "%d",
			 (int)json_integer_value(json_object_get(one, "pid")));
	if (json_is_real(cpu))
		snprintf(c, sizeof(c), "%.1f%%", json_real_value(cpu));
	if (json_is_integer(mem))
		snprintf(m, sizeof(m), "%lld MiB", (long long)json_integer_value(mem));
	if (json_is_integer(disk))
		snprintf(d, sizeof(d), "%.1f MiB", (double)json_integer_value(disk) / (1 << 20));
	printf("%-20s %-24s %-8s %-8s %-8s %-10s %s\n", show_text(one, "namespace"),
	       show_text(one, "name"), running ? "RUNNING" : "STOPPED", pid, c, m, d);
}

int server_show_status(const struct server_show *q)
{
	json_t *all, *one;
	int missing;
	size_t i;

	for (int k = 0; k < q->n_names; k++)
		if (!cli_is_name(q->names[k]))
			return cli_usage(q->cmd, "'%s' is no name of a sandbox", q->names[k]);
	if (!q->n_names && !q->ns)
		return show_server(q);
	all = show_scan(q, true);
	missing = show_add_missing(q, all);
	if (q->json)
		show_json(all);
	else
		printf("%-20s %-24s %-8s %-8s %-8s %-10s %s\n", "NAMESPACE", "NAME", "STATUS",
		       "PID", "CPU", "MEMORY", "DISK");
	json_array_foreach(all, i, one)
	{
		if (!q->json)
			show_status_row(one);
	}
	json_decref(all);
	return missing ? 1 : CLI_OK;
}

/* ---- log ---------------------------------------------------------------------------------- */

/* Where the last @lines lines of a file begin. */
static off_t show_log_tail(int fd, uint64_t lines)
{
	off_t at = lseek(fd, 0, SEEK_END);
	uint64_t seen = 0;
	char block[4096];
	bool last = true;

	if (lines == UINT64_MAX)
		return 0;
	while (at > 0) {
		off_t from = at > (off_t)sizeof(block) ? at - (off_t)sizeof(block) : 0;
		ssize_t n = pread(fd, block, (size_t)(at - from), from);

		for (ssize_t i = n - 1; i >= 0; i--) {
			/* The newline at the very end begins no line. */
			if (block[i] == '\n' && !last && ++seen == lines)
				return from + i + 1;
			last = false;
		}
		at = from;
	}
	return lines ? 0 : lseek(fd, 0, SEEK_END);
}

static int show_log_copy(int fd)
{
	char block[16384];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		if (write(STDOUT_FILENO, block, (size_t)n) != n)
			return -1;
	return n < 0 ? -1 : 0;
}

/* A log that has become too long is renamed, and a new one begins. */
static int show_log_open(const char *path, int *fd, int watch, int *wd)
{
	if (watch >= 0 && *wd >= 0)
		inotify_rm_watch(watch, *wd);
	close_fd(fd);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (watch >= 0 && *fd >= 0)
		*wd = inotify_add_watch(watch, path,
					IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB);
	return *fd < 0 ? -errno : 0;
}

static void show_log_follow(const char *path, int *fd, int watch, int *wd)
{
	char events[4096];
	struct stat old, now;

	while (!show_log_copy(*fd)) {
		if (fstat(*fd, &old) < 0 || !old.st_nlink)
			return; /* the sandbox is gone */
		if (!stat(path, &now) && now.st_ino != old.st_ino) {
			/* What came between the last look and the renaming. */
			if (show_log_copy(*fd) || show_log_open(path, fd, watch, wd))
				return;
			continue;
		}
		if (read(watch, events, sizeof(events)) <= 0)
			return;
	}
}

/* Return: malloc'ed; NULL: memory is out. */
static char *show_log_path(const struct server_show *q)
{
	auto_free char *dir = NULL;
	char *path = NULL;
	int rc;

	if (!q->n_names)
		return asprintf(&path, "%s/" SERVER_LOG_FILE, q->home) < 0 ? NULL : path;
	dir = show_path(q);
	rc = dir ? asprintf(&path, "%s/%s/menv/%s/" SANDBOX_LOG_DIR "/%s.log", dir,
			    q->ns ? q->ns : "default", q->names[0],
			    q->source ? q->source : "supervisor")
		 : -1;
	return rc < 0 ? NULL : path;
}

int server_show_log(const struct server_show *q)
{
	auto_free char *path = NULL, *dir = NULL;
	auto_close int fd = -1, watch = -1;
	int wd = -1;

	if (q->n_names && !cli_is_name(q->names[0]))
		return cli_usage(q->cmd, "'%s' is no name of a sandbox", q->names[0]);
	if (q->ns && !strcmp(q->ns, "*"))
		return cli_usage(q->cmd, "log: --namespace must be a name");
	if (q->source && !q->n_names)
		return cli_usage(q->cmd, "log: --source is for a sandbox's log: give its name");
	path = show_log_path(q);
	if (q->follow) {
		dir = path ? strndup(path, (size_t)(strrchr(path, '/') - path)) : NULL;
		watch = inotify_init1(IN_CLOEXEC);
		if (dir) /* where the new one appears when the old one is renamed */
			inotify_add_watch(watch, dir, IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF);
	}
	if (!path || show_log_open(path, &fd, watch, &wd)) {
		if (!q->n_names)
			cli_error("there is no log yet (%s): a server writes it with --detach",
				  path);
		else
			cli_error("no sandbox %s runs in namespace %s (no %s)", q->names[0],
				  q->ns ? q->ns : "default", path);
		return CLI_FAILED;
	}
	lseek(fd, show_log_tail(fd, q->tail), SEEK_SET);
	if (watch >= 0)
		show_log_follow(path, &fd, watch, &wd);
	else
		show_log_copy(fd);
	return CLI_OK;
}
