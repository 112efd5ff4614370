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

/* Tells those who wait for its start what is being done. */
static void box_tell_progress(struct box *b, const char *what)
{
	list_for_each (pos, tmp, &b->start_waits) {
		struct box_wait *w = list_entry(pos, struct box_wait, link);

		if (w->progress)
			w->progress(w, what);
	}
}

static void box_image_progress(struct image_wait *w, const char *what)
{
	box_tell_progress(container_of(w, struct box, image_wait), what);
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
	box_wipe_secrets(b->config);
	json_decref(b->config);
	sandbox_config_fini(&b->cfg);
	json_decref(b->meta);
	free(b);
}

static void box_again(struct box *b);

/* Its supervisor is gone, or never came to be. */
static void box_gone(struct box *b)
{
	struct server *s = b->server;

	list_remove(&b->link);
	s->n_boxes--;
	loop_timer_cancel(&b->stop_timer);
	loop_timer_cancel(&b->idle_timer);
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
	if (b->restart)
		box_again(b);
	box_tell(&b->start_waits, b->end_reason);
	box_tell(&b->stop_waits, NULL);
	server_bury(s, &b->corpse, box_free);
	server_check_end(s);
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

/* ---- activity --------------------------------------------------------------------------- */

void box_touch(struct box *b)
{
	if (list_empty(&b->link))
		return; /* it is gone */
	b->active_ns = loop_now_ns();
	/* Moving it later costs nothing: the timer looks again when it fires. */
	if (b->idle_ms && !b->idle_timer.at_ns)
		loop_timer_set(b->server->loop, &b->idle_timer, b->idle_ms);
}

void box_call_begin(struct box *b, struct box_call *c)
{
	c->box = b;
	list_append(&b->calls, &c->link);
	box_touch(b);
}

void box_call_end(struct box_call *c)
{
	list_remove(&c->link);
	if (c->box)
		box_touch(c->box);
	c->box = NULL;
}

static void box_stop_idle(struct box *b)
{
	snprintf(b->end_reason, sizeof(b->end_reason), "nobody used it for %g seconds",
		 (double)b->idle_ms / 1000);
	audit_write(&b->server->audit, &(struct audit_entry){
					       .ns = b->ns,
					       .method = "sandbox.stop",
					       .sandbox = b->name,
					       .outcome = AUDIT_OK,
					       .reason = b->end_reason,
				       });
	box_stop(b, NULL);
}

static void box_idle(struct loop_timer *t)
{
	struct box *b = container_of(t, struct box, idle_timer);
	uint64_t now = loop_now_ns(), idle_for;

	if (!b->idle_ms || b->state == BOX_STOPPING)
		return;
	if (!list_empty(&b->calls) || b->state != BOX_READY)
		b->active_ns = now;
	idle_for = (now - b->active_ns) / 1000000;
	if (idle_for < b->idle_ms) {
		loop_timer_set(b->server->loop, t, b->idle_ms - idle_for);
		return;
	}
	box_stop_idle(b);
}

int box_set_idle(struct box *b, uint64_t ms, struct err *e)
{
	b->idle_ms = ms;
	loop_timer_cancel(&b->idle_timer);
	box_touch(b);
	return b->state == BOX_PREPARING || b->state == BOX_STOPPING ? 0 : box_save_meta(b, e);
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
		box_touch(b);
		log_info("event=sandbox-ready ns=%s name=%s engine=%s boot_ms=%llu", b->ns, b->name,
			 b->engine, (unsigned long long)(st->boot_ns / 1000000));
		box_tell(&b->start_waits, NULL);
		return;
	case SANDBOX_STOPPING:
		b->state = BOX_STOPPING;
		return;
	case SANDBOX_STOPPED:
		b->state = BOX_STOPPING;
		if (b->end_reason[0])
			return; /* known already: it is what we asked for */
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
	loop_timer_init(&b->idle_timer, box_idle);
	list_init(&b->start_waits);
	list_init(&b->stop_waits);
	list_init(&b->calls);
	list_init(&b->image_wait.link);
	list_append(&s->boxes, &b->link);
	s->n_boxes++;
	return b;
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

static int box_launch(struct box *b, const struct image *image, struct err *e)
{
	auto_free char *parent = box_parent(b);
	struct launch l = LAUNCH_INIT;
	auto_close int dirfd = -1;
	int rc;

	if (!parent)
		return err_errno(e, ENOMEM, "sandbox directory");
	if ((rc = box_make_meta(b, image, e)) || (rc = box_make_dirs(b, parent, e)) ||
	    (rc = launch_claim(parent, b->name, &dirfd, e)))
		return rc;
	rc = box_write_meta(b, dirfd, e);
	if (!rc)
		rc = b->server->opt->stdio && !b->server->opt->keep
			     ? launch_owned(parent, dirfd, &b->cfg, &l, e)
			     : launch_detached(parent, dirfd, &b->cfg, &l, e);
	if (rc) {
		close_fd(&dirfd);
		launch_remove(parent, b->name);
		return rc;
	}
	b->state = BOX_BOOTING;
	box_tell_progress(b, "booting");
	free(l.dir);
	return box_connect(b, l.fd, l.supervisor, e);
}

/* The image was put together, or not. */
static void box_image_done(struct image_wait *w, const struct err *failed)
{
	struct box *b = container_of(w, struct box, image_wait);
	struct image *image = NULL;
	struct err e = ERR_INIT;
	int rc;

	if (failed)
		rc = err_set(&e, failed->code, "%s", err_text(failed));
	else
		rc = images_find(&b->server->images, b->cfg.image, &b->image_wait, &image, &e);
	if (rc == -EINPROGRESS) /* removed again at once, by somebody else */
		return;
	if (!rc)
		rc = box_launch(b, image, &e);
	image_free(image);
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
	return e->code == ENOENT || e->code == EINVAL || e->code == E2BIG ? JSONRPC_BAD_PARAMS
									  : RPC_SANDBOX_FAILED;
}

/* Starts it; on failure it is gone. Return: as box_start(). */
static int box_run(struct box *b, struct err *e)
{
	struct server *s = b->server;
	struct image *image = NULL;
	int rc;

	b->image_wait.done = box_image_done;
	b->image_wait.progress = box_image_progress;
	rc = box_make_config(b, e);
	if (!rc)
		rc = images_find(&s->images, b->cfg.image, &b->image_wait, &image, e);
	if (!rc)
		rc = box_launch(b, image, e);
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
	log_info("event=sandbox-start ns=%s name=%s image=%s", b->ns, b->name, b->cfg.image);
	return 0;
}

static struct box *box_prepare(struct server *s, const char *key, const char *ns, const char *name,
			       json_t *config)
{
	json_t *copy = json_deep_copy(config);
	struct box *b = copy ? box_create(s, ns, name) : NULL;

	if (!b) {
		json_decref(copy);
		return NULL;
	}
	snprintf(b->key, sizeof(b->key), "%s", key);
	b->config = copy;
	b->memory_mib = box_config_memory(config);
	b->idle_ms = box_config_idle(config);
	return b;
}

int box_start(struct server *s, const struct principal *who, const char *ns, const char *name,
	      json_t *config, struct box **out, struct err *e)
{
	struct box *b;
	int rc;

	if (!rpc_string(config, "image")) {
		err_set(e, EINVAL,
			"Sandbox %s is not running, and config.image is missing: name an image, "
			"such as microsandbox/python",
			name);
		return JSONRPC_BAD_PARAMS;
	}
	if (s->n_boxes >= s->opt->max_sandboxes) {
		err_set(e, EBUSY,
			"too many sandboxes (limit %u): stop some, or see --max-sandboxes",
			s->opt->max_sandboxes);
		return RPC_LIMIT;
	}
	b = box_prepare(s, who->key, ns, name, config);
	box_wipe_secrets(config); /* we have them now, and nobody else needs them */
	if (!b) {
		err_errno(e, ENOMEM, "sandbox %s", name);
		return JSONRPC_INTERNAL;
	}
	rc = box_run(b, e);
	if (!rc)
		*out = b;
	return rc;
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

static void box_end(struct box *b)
{
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

void box_stop(struct box *b, struct box_wait *w)
{
	if (w) {
		list_init(&w->link);
		list_append(&b->stop_waits, &w->link);
	}
	if (b->restart)
		snprintf(b->end_reason, sizeof(b->end_reason), "it was stopped");
	b->restart = false;
	box_end(b);
}

/* ---- starting again --------------------------------------------------------------------------- */

/* What was one box is another now: whoever waits for the old one to start waits for it. */
static void box_again(struct box *b)
{
	struct err e = ERR_INIT;
	struct list waits;
	struct box *n;

	b->restart = false;
	list_init(&waits);
	while (!list_empty(&b->start_waits)) {
		struct list *l = b->start_waits.next;

		list_remove(l);
		list_append(&waits, l);
	}
	n = box_prepare(b->server, b->key, b->ns, b->name, b->config);
	if (n) {
		n->idle_ms = b->idle_ms; /* it may have been changed since */
		/* Whoever knows its ports finds it there again. */
		if (b->cfg.ports.n)
			json_object_set_new(n->config, "ports", box_port_texts(b));
	} else {
		err_errno(&e, ENOMEM, "sandbox %s", b->name);
	}
	if (!n || box_run(n, &e)) {
		log_warn("event=sandbox-not-restarted ns=%s name=%s reason=\"%s\"", b->ns, b->name,
			 err_text(&e));
		box_tell(&waits, err_text(&e));
		return;
	}
	while (!list_empty(&waits)) {
		struct box_wait *w = list_entry(waits.next, struct box_wait, link);

		list_remove(&w->link);
		box_wait_ready(n, w);
	}
}

int box_restart(struct box *b, struct box_wait *w, struct err *e)
{
	if (!b->config)
		return err_set(e, ENOTSUP,
			       "Sandbox %s was started by a server that did not note how: stop it "
			       "and start it",
			       b->name);
	if (b->state == BOX_STOPPING && !b->restart)
		return err_set(e, ESRCH, "Sandbox %s is not running: start it with sandbox.start",
			       b->name);
	list_init(&w->link);
	list_append(&b->start_waits, &w->link);
	if (b->restart)
		return 0;
	b->restart = true;
	if (b->state != BOX_PREPARING)
		box_keep_network(b, b->config);
	snprintf(b->end_reason, sizeof(b->end_reason), "it was restarted");
	box_end(b);
	return 0;
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
	loop_timer_cancel(&b->idle_timer);
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
	int fd, rc;

	if ((rc = box_read_meta(b, dirfd, e)) || (rc = box_read_running(b, dirfd, e)) ||
	    (rc = client_connect(dirfd, &fd, e)))
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
	b->adopted = true;
	if (!box_adopt(b, dirfd, &e)) {
		log_info("event=sandbox-adopted ns=%s name=%s", b->ns, b->name);
		return;
	}
	log_warn("event=sandbox-not-adopted ns=%s name=%s reason=\"%s\"", b->ns, b->name,
		 err_text(&e));
	box_leave(b);
}

void box_adopt_all(struct server *s, const char *only)
{
	struct box_adopter a = { .server = s };
	DIR *dir = opendir(s->path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_free char *parent = NULL;

		if (d->d_name[0] == '.' || strlen(d->d_name) >= RPC_NAME_SIZE ||
		    (only && strcmp(only, d->d_name)) ||
		    asprintf(&parent, "%s/%s/menv", s->path, d->d_name) < 0)
			continue;
		a.ns = d->d_name;
		launch_each(parent, box_found, &a);
	}
	if (dir)
		closedir(dir);
}
