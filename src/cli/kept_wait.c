/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kept_wait.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/client.h"
#include "lib/keep.h"

/* More than any boot time-out: the supervisor itself gives up earlier, with a reason. */
#define KEPT_WAIT_MS 3600000u
#define KEPT_ASK_MS 20000u

struct kept_wait {
	struct loop *loop;
	struct client client;
	struct loop_timer timer;
	struct err *e;
	bool stop; /* it is to be stopped, else it is to become ready */
	unsigned grace_ms;
};

static void kept_on_state(struct client *c, const struct frame_sandbox_state *st)
{
	struct kept_wait *w = container_of(c, struct kept_wait, client);
	char text[1024];

	if (w->stop) {
		/* It is asked when it can hear us, and has heard us when it says so. */
		if (st->state >= SANDBOX_STOPPING)
			loop_stop(w->loop, 0);
		return;
	}
	if (st->state == SANDBOX_READY) {
		loop_stop(w->loop, 0);
		return;
	}
	if (st->state != SANDBOX_STOPPED)
		return;
	if (frame_str_copy(&st->detail, text, sizeof(text)) || !text[0])
		snprintf(text, sizeof(text), "it ended");
	if (st->code)
		err_set(w->e, (int)st->code, "%s", text);
	loop_stop(w->loop, st->code ? -(int)st->code : 0);
}

static void kept_on_closed(struct client *c, const char *reason)
{
	struct kept_wait *w = container_of(c, struct kept_wait, client);

	if (!w->stop)
		err_set(w->e, EIO, "%s", reason);
	loop_stop(w->loop, w->stop ? 0 : -EIO);
}

static void kept_on_timeout(struct loop_timer *t)
{
	struct kept_wait *w = container_of(t, struct kept_wait, timer);

	err_set(w->e, ETIMEDOUT, "the sandbox's supervisor does not answer");
	loop_stop(w->loop, -ETIMEDOUT);
}

static const struct client_ops kept_client_ops = {
	.on_state = kept_on_state,
	.on_closed = kept_on_closed,
};

static int kept_wait_run(struct kept_wait *w, int conn, unsigned timeout_ms)
{
	int rc = loop_create(&w->loop, w->e);

	/* A supervisor may end while we write to it. */
	signal(SIGPIPE, SIG_IGN);
	if (rc) {
		close(conn);
		return rc;
	}
	loop_timer_init(&w->timer, kept_on_timeout);
	rc = client_init(&w->client, w->loop, conn, &kept_client_ops, w->e);
	if (!rc) {
		if (w->stop)
			client_stop(&w->client, w->grace_ms);
		loop_timer_set(w->loop, &w->timer, timeout_ms);
		rc = loop_run(w->loop);
		client_fini(&w->client);
	}
	loop_destroy(w->loop);
	return rc;
}

int kept_wait_ready(int conn, struct err *e)
{
	struct kept_wait w = { .e = e };

	return kept_wait_run(&w, conn, KEPT_WAIT_MS);
}

int kept_ask_stop(int conn, unsigned grace_ms, struct err *e)
{
	struct kept_wait w = { .e = e, .stop = true, .grace_ms = grace_ms };

	return kept_wait_run(&w, conn, KEPT_ASK_MS);
}

int kept_kill(int dirfd, struct err *e)
{
	auto_close int conn = -1;
	auto_close int pidfd = -1;
	int rc = keep_connect(dirfd, &conn, e);

	if (!rc)
		rc = client_supervisor(conn, &pidfd, e);
	if (rc)
		return rc;
	return pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 ? err_errno(e, errno, "kill") : 0;
}
