/* SPDX-License-Identifier: Apache-2.0 */
#include "server/box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "lib/launch.h"
#include "server/api.h"
#include "sys/file.h"
#include "sys/parts.h"

#define BOX_MEMORY_MIB 512
#define BOX_DISK_BYTES (4ull << 30)
#define BOX_BOOT_TIMEOUT_S 120u
#define BOX_META_MAX (2u << 20)

struct box *box_find(struct server *s, const char *ns, const char *name)
{
	list_for_each (pos, tmp, &s->boxes) {
		struct box *b = list_entry(pos, struct box, link);

		if (!strcmp(b->name, name) && !strcmp(b->ns, ns))
			return b;
	}
	return NULL;
}

static unsigned box_calls(const struct box *b)
{
	unsigned n = 0;

	for (const struct list *l = b->calls.next; l != &b->calls; l = l->next)
		n++;
	return n;
}

struct box *box_find_running(struct server *s, const char *ns, const char *name, struct err *e)
{
	struct box *b = box_find(s, ns, name);

	if (!b || !b->connected || b->client.closed || b->state == BOX_STOPPING) {
		err_set(e, ESRCH,
			b && b->state == BOX_PREPARING
				? "Sandbox %s is not running yet: its image is being put together"
				: "Sandbox %s is not running: start it with sandbox.start",
			name);
		return NULL;
	}
	if (box_calls(b) >= FRAME_CHANNELS_MAX) {
		err_set(e, EBUSY, "Sandbox %s has as many requests as it may (%u)", name,
			FRAME_CHANNELS_MAX);
		return NULL;
	}
	return b;
}

/* ---- who waits ------------------------------------------------------------------------ */

static void box_tell(struct list *waits, const char *error)
{
	/* What is told may make others wait: only those who wait now. */
	struct list now;

	list_init(&now);
	while (!list_empty(waits)) {
		struct list *l = waits->next;

		list_remove(l);
		list_append(&now, l);
	}
	while (!list_empty(&now)) {
		struct box_wait *w = list_entry(now.next, struct box_wait, link);

		list_remove(&w->link);
		w->done(w, error);
	}
}

void box_wait_forget(struct box_wait *w)
{
	if (w->link.next)
		list_remove(&w->link);
}

static void box_free(struct corpse *c)
{
	struct box *b = container_of(c, struct box, corpse);

	buf_fini(&b->env_bytes);
	sandbox_config_fini(&b->cfg);
	json_decref(b->meta);
	free(b);
}

/* Its supervisor is gone, or never came to be. */
static void box_gone(struct box *b)
{
	struct server *s = b->server;

	list_remove(&b->link);
	s->n_boxes--;
	loop_timer_cancel(&b->stop_timer);
	loop_watch_remove(&b->gone_watch);
	images_forget(&b->image_wait);
	if (b->connected)
		client_fini(&b->client);
	b->connected = false;
	close_fd(&b->supervisor.pidfd);
	log_info("event=sandbox-gone ns=%s name=%s reason=\"%s\"", b->ns, b->name, b->end_reason);
	if (!b->end_reason[0])
		snprintf(b->end_reason, sizeof(b->end_reason), "its supervisor ended unexpectedly");
	while (!list_empty(&b->calls)) {
		struct box_call *c = list_entry(b->calls.next, struct box_call, link);

		list_remove(&c->link);
		c->gone(c, b->end_reason);
	}
	box_tell(&b->start_waits, b->end_reason);
	box_tell(&b->stop_waits, NULL);
	server_bury(s, &b->corpse, box_free);
	server_check_end(s);
}

static char *box_parent(const struct box *b)
{
	char *p;

	return asprintf(&p, "%s/%s/menv", b->server->path, b->ns) < 0 ? NULL : p;
}

static void box_supervisor_gone(struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, gone_watch);
	auto_free char *parent = box_parent(b);
	int status;

	(void)events;
	loop_watch_remove(w);
	if (b->supervisor.pid > 0)
		child_reap(&b->supervisor, &status);
	if (parent)
		launch_remove(parent, b->name); /* only if it was killed is there something */
	b->supervisor_gone = true;
	/* What it said last may still be unread: then its connection's end follows. */
	if (!b->connected || b->client.closed)
		box_gone(b);
}

/* ---- the connection --------------------------------------------------------------------- */

static void box_on_state(struct client *c, const struct frame_sandbox_state *st)
{
	struct box *b = container_of(c, struct box, client);

	switch (st->state) {
	case SANDBOX_READY:
		frame_str_copy(&st->engine, b->engine, sizeof(b->engine));
		frame_str_copy(&st->isolation, b->isolation, sizeof(b->isolation));
		if (b->state != BOX_BOOTING)
			return;
		b->state = BOX_READY;
		log_info("event=sandbox-ready ns=%s name=%s engine=%s boot_ms=%llu", b->ns, b->name,
			 b->engine, (unsigned long long)(st->boot_ns / 1000000));
		box_tell(&b->start_waits, NULL);
		return;
	case SANDBOX_STOPPING:
		b->state = BOX_STOPPING;
		return;
	case SANDBOX_STOPPED:
		b->state = BOX_STOPPING;
		if (b->end_asked)
			snprintf(b->end_reason, sizeof(b->end_reason), "it was stopped");
		else if (frame_str_copy(&st->detail, b->end_reason, sizeof(b->end_reason)))
			snprintf(b->end_reason, sizeof(b->end_reason), "it ended");
		return;
	default:
		return;
	}
}

/* The end of the process follows, and says more. */
static void box_on_closed(struct client *c, const char *reason)
{
	struct box *b = container_of(c, struct box, client);

	b->state = BOX_STOPPING;
	if (!b->end_reason[0])
		snprintf(b->end_reason, sizeof(b->end_reason), "%s", reason);
	if (b->supervisor_gone)
		box_gone(b);
	else /* one that lives on without a connection is of no use */
		loop_timer_set(b->server->loop, &b->stop_timer, BOX_STOP_TIMEOUT_MS);
}

static const struct client_ops box_client_ops = {
	.on_state = box_on_state,
	.on_closed = box_on_closed,
};

static void box_stop_timeout(struct loop_timer *t)
{
	struct box *b = container_of(t, struct box, stop_timer);

	log_warn("event=sandbox-kill ns=%s name=%s", b->ns, b->name);
	if (b->supervisor.pidfd >= 0)
		pidfd_send_signal(b->supervisor.pidfd, SIGKILL, NULL, 0);
}

/* Takes over @fd and the supervisor. */
static int box_connect(struct box *b, int fd, struct child supervisor, struct err *e)
{
	int rc;

	b->supervisor = supervisor;
	rc = client_init(&b->client, b->server->loop, fd, &box_client_ops, e);
	if (rc)
		return rc;
	b->connected = true;
	rc = loop_watch_add(b->server->loop, &b->gone_watch, supervisor.pidfd, EPOLLIN);
	return rc ? err_errno(e, -rc, "watch the sandbox's supervisor") : 0;
}

/* ---- starting ----------------------------------------------------------------------------- */

static struct box *box_create(struct server *s, const char *ns, const char *name)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->server = s;
	snprintf(b->ns, sizeof(b->ns), "%s", ns);
	snprintf(b->name, sizeof(b->name), "%s", name);
	b->supervisor = (struct child)CHILD_INIT;
	loop_watch_init(&b->gone_watch, box_supervisor_gone);
	loop_timer_init(&b->stop_timer, box_stop_timeout);
	list_init(&b->start_waits);
	list_init(&b->stop_waits);
	list_init(&b->calls);
	list_init(&b->image_wait.link);
	list_append(&s->boxes, &b->link);
	s->n_boxes++;
	return b;
}

/* Builds b->env out of the meta data. */
static int box_set_env(struct box *b, struct err *e)
{
	json_t *env = json_object_get(b->meta, "env"), *v;
	size_t i;

	json_array_foreach(
		env, i, v) if (frame_list_add(&b->env_bytes, &b->env, json_string_value(v),
					      json_string_length(
						      v))) return err_set(e, E2BIG,
									  "the environment is too "
									  "long (limit %u bytes)",
									  FRAME_BODY_MAX);
	if (b->env.len > FRAME_BODY_MAX / 2)
		return err_set(e, E2BIG, "the environment is too long (limit %u bytes)",
			       FRAME_BODY_MAX / 2);
	frame_list_end(&b->env_bytes, &b->env);
	return 0;
}

static int box_set_meta(struct box *b, const struct image *image, json_t *config, struct err *e)
{
	const char *workdir = rpc_string(config, "workdir");
	json_t *env = json_array(), *envs = json_object_get(config, "envs"), *v;
	char now[32];
	time_t t = time(NULL);
	struct tm tm;
	size_t i;

	for (char *const *p = image->config.env; p && *p; p++)
		json_array_append_new(env, json_string(*p));
	json_array_foreach(envs, i, v) json_array_append(env, v);
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	if (!workdir)
		workdir = image->config.workdir;
	b->meta = json_pack("{s:s, s:o, s:s, s:s, s:s}", "image", rpc_string(config, "image"),
			    "env", env, "workdir", workdir ? workdir : "", "user",
			    image->config.user ? image->config.user : "", "started_at", now);
	if (!b->meta)
		return err_set(e, EINVAL, "the image's configuration is not valid UTF-8");
	return box_set_env(b, e);
}

static int box_strdup(char **to, const char *s, struct err *e)
{
	*to = strdup(s);
	return *to ? 0 : err_errno(e, ENOMEM, "sandbox configuration");
}

static int box_set_config(struct box *b, json_t *config, struct err *e)
{
	const char *scope = rpc_string(config, "scope");
	double memory = BOX_MEMORY_MIB, cpus = 1;
	struct sandbox_config *cfg = &b->cfg;
	int rc;

	rpc_number(config, "memory", &memory);
	rpc_number(config, "cpus", &cpus);
	cfg->cpus = (unsigned)cpus;
	cfg->memory_bytes = (uint64_t)memory << 20;
	cfg->disk_bytes = BOX_DISK_BYTES;
	cfg->boot_timeout_s = BOX_BOOT_TIMEOUT_S;
	if ((rc = box_strdup(&cfg->name, b->name, e)) ||
	    (rc = box_strdup(&cfg->image, rpc_string(config, "image"), e)) ||
	    (rc = box_strdup(&cfg->engine, "auto", e)) ||
	    (rc = box_strdup(&cfg->scope, scope ? scope : "public", e)) ||
	    (rc = box_strdup(&cfg->jail, "full", e)) ||
	    (rc = parts_path("initramfs.cpio.gz", &cfg->initramfs, e)) ||
	    (rc = parts_path("vmlinux", &cfg->kernel, e)))
		return rc;
	return 0;
}

static int box_make_dirs(struct box *b, const char *parent, struct err *e)
{
	auto_free char *ns = NULL;

	if (asprintf(&ns, "%s/%s", b->server->path, b->ns) < 0)
		return err_errno(e, ENOMEM, "sandbox directory");
	if ((mkdir(b->server->path, 0700) < 0 && errno != EEXIST) ||
	    (mkdir(ns, 0700) < 0 && errno != EEXIST) ||
	    (mkdir(parent, 0700) < 0 && errno != EEXIST))
		return err_errno(e, errno, "cannot make %s", parent);
	return 0;
}

static int box_launch(struct box *b, const struct image *image, json_t *config, struct err *e)
{
	auto_free char *parent = box_parent(b);
	auto_free char *meta = NULL;
	struct launch l = LAUNCH_INIT;
	auto_close int dirfd = -1;
	int rc;

	if (!parent)
		return err_errno(e, ENOMEM, "sandbox directory");
	if ((rc = box_set_meta(b, image, config, e)) ||
	    (rc = box_strdup(&b->cfg.image_path, image->rootfs, e)) ||
	    (rc = box_make_dirs(b, parent, e)) || (rc = launch_claim(parent, b->name, &dirfd, e)))
		return rc;
	meta = json_dumps(b->meta, JSON_INDENT(1));
	rc = meta ? file_write_at(dirfd, BOX_META_FILE, meta, strlen(meta), 0600, false, e)
		  : err_errno(e, ENOMEM, BOX_META_FILE);
	if (!rc)
		rc = launch_detached(parent, dirfd, &b->cfg, &l, e);
	if (rc) {
		close_fd(&dirfd);
		launch_remove(parent, b->name);
		return rc;
	}
	b->state = BOX_BOOTING;
	free(l.dir);
	return box_connect(b, l.fd, l.supervisor, e);
}

/* The image was put together, or not. */
static void box_image_done(struct image_wait *w, const struct err *failed)
{
	struct box *b = container_of(w, struct box, image_wait);
	struct image *image = NULL;
	struct err e = ERR_INIT;
	json_t *config = b->meta; /* kept there meanwhile */
	int rc;

	b->meta = NULL;
	if (failed)
		rc = err_set(&e, failed->code, "%s", err_text(failed));
	else
		rc = images_find(&b->server->images, b->cfg.image, &b->image_wait, &image, &e);
	if (rc == -EINPROGRESS) { /* removed again at once, by somebody else */
		b->meta = config;
		return;
	}
	if (!rc)
		rc = box_launch(b, image, config, &e);
	image_free(image);
	json_decref(config);
	if (!rc)
		return;
	snprintf(b->end_reason, sizeof(b->end_reason), "%s", err_text(&e));
	if (b->connected || b->supervisor.pidfd >= 0)
		box_stop(b, NULL);
	else
		box_gone(b);
}

static int box_start_code(const struct err *e)
{
	return e->code == ENOENT || e->code == EINVAL ? JSONRPC_BAD_PARAMS : RPC_SANDBOX_FAILED;
}

int box_start(struct server *s, const char *ns, const char *name, json_t *config, struct box **out,
	      struct err *e)
{
	const char *image_name = rpc_string(config, "image");
	struct image *image = NULL;
	struct box *b;
	int rc;

	if (!image_name) {
		err_set(e, EINVAL,
			"Sandbox %s is not running, and config.image is missing: name an image, "
			"such "
			"as microsandbox/python",
			name);
		return JSONRPC_BAD_PARAMS;
	}
	if (s->n_boxes >= s->opt->max_sandboxes) {
		err_set(e, EBUSY,
			"too many sandboxes (limit %u): stop some, or see --max-sandboxes",
			s->opt->max_sandboxes);
		return RPC_LIMIT;
	}
	b = box_create(s, ns, name);
	if (!b) {
		err_errno(e, ENOMEM, "sandbox %s", name);
		return JSONRPC_INTERNAL;
	}
	b->image_wait.done = box_image_done;
	rc = box_set_config(b, config, e);
	if (!rc)
		rc = images_find(&s->images, image_name, &b->image_wait, &image, e);
	if (rc == -EINPROGRESS)
		b->meta = json_deep_copy(config);
	else if (!rc)
		rc = box_launch(b, image, config, e);
	image_free(image);
	if (rc && rc != -EINPROGRESS) {
		snprintf(b->end_reason, sizeof(b->end_reason), "%s", err_text(e));
		s->count.start_failures++;
		if (b->supervisor.pidfd >= 0)
			box_stop(b, NULL);
		else
			box_gone(b);
		return box_start_code(e);
	}
	s->count.started++;
	log_info("event=sandbox-start ns=%s name=%s image=%s", ns, name, image_name);
	*out = b;
	return 0;
}

void box_wait_ready(struct box *b, struct box_wait *w)
{
	list_init(&w->link);
	if (b->state == BOX_READY)
		w->done(w, NULL);
	else
		list_append(&b->start_waits, &w->link);
}

/* ---- stopping ------------------------------------------------------------------------------- */

void box_stop(struct box *b, struct box_wait *w)
{
	if (w) {
		list_init(&w->link);
		list_append(&b->stop_waits, &w->link);
	}
	b->end_asked = true;
	if (b->state == BOX_PREPARING) {
		snprintf(b->end_reason, sizeof(b->end_reason), "it was stopped");
		box_gone(b);
		return;
	}
	b->state = BOX_STOPPING;
	if (b->connected)
		client_stop(&b->client, 0);
	if (!b->stop_timer.at_ns)
		loop_timer_set(b->server->loop, &b->stop_timer,
			       b->connected ? BOX_STOP_TIMEOUT_MS : 0);
}

void box_leave(struct box *b)
{
	struct server *s = b->server;

	if (b->state == BOX_PREPARING || list_empty(&b->link)) {
		box_stop(b, NULL);
		return;
	}
	list_remove(&b->link);
	s->n_boxes--;
	loop_timer_cancel(&b->stop_timer);
	loop_watch_remove(&b->gone_watch);
	if (b->connected)
		client_fini(&b->client);
	close_fd(&b->supervisor.pidfd);
	server_bury(s, &b->corpse, box_free);
}

/* ---- finding those of an earlier server -------------------------------------------------------- */

struct box_adopter {
	struct server *server;
	const char *ns;
};

static int box_adopt(struct box *b, int dirfd, struct err *e)
{
	struct child supervisor = CHILD_INIT;
	auto_free char *text = NULL;
	json_error_t je;
	size_t len;
	int fd, rc;

	rc = file_read_at(dirfd, BOX_META_FILE, BOX_META_MAX, &text, &len, e);
	if (rc)
		return rc;
	b->meta = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!b->meta)
		return err_set(e, EINVAL, BOX_META_FILE ":%d: %s", je.line, je.text);
	if ((rc = box_set_env(b, e)) || (rc = client_connect(dirfd, &fd, e)))
		return rc;
	rc = client_supervisor(fd, &supervisor.pidfd, e);
	if (rc) {
		close(fd);
		return rc;
	}
	b->state = BOX_BOOTING; /* its first message says more */
	return box_connect(b, fd, supervisor, e);
}

static void box_found(void *ctx, const char *name, int dirfd)
{
	struct box_adopter *a = ctx;
	struct err e = ERR_INIT;
	struct box *b;

	if (strlen(name) >= RPC_NAME_SIZE || !(b = box_create(a->server, a->ns, name)))
		return;
	if (!box_adopt(b, dirfd, &e)) {
		log_info("event=sandbox-adopted ns=%s name=%s", b->ns, b->name);
		return;
	}
	log_warn("event=sandbox-not-adopted ns=%s name=%s reason=\"%s\"", b->ns, b->name,
		 err_text(&e));
	box_leave(b);
}

void box_adopt_all(struct server *s)
{
	struct box_adopter a = { .server = s };
	DIR *dir = opendir(s->path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_free char *parent = NULL;

		if (d->d_name[0] == '.' || strlen(d->d_name) >= RPC_NAME_SIZE ||
		    asprintf(&parent, "%s/%s/menv", s->path, d->d_name) < 0)
			continue;
		a.ns = d->d_name;
		launch_each(parent, box_found, &a);
	}
	if (dir)
		closedir(dir);
}
