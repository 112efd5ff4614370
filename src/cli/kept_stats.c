/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/kept_stats.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/client.h"
#include "lib/keep.h"

#define STATS_GAP_MS 250u /* between the two looks that make a percentage */
#define STATS_ALL_MS 2000u

struct stats_all {
	struct loop *loop;
	size_t waiting;
	struct loop_timer timer;
};

struct stats_box {
	struct stats_all *all;
	struct kept_stats *out;
	struct client client;
	struct client_channel channel;
	struct loop_timer gap;
	bool connected, asked, done;
};

static void stats_done(struct stats_box *b)
{
	if (b->done)
		return;
	b->done = true;
	loop_timer_cancel(&b->gap);
	if (!--b->all->waiting)
		loop_stop(b->all->loop, 0);
}

static void stats_ask(struct stats_box *b)
{
	list_init(&b->channel.link);
	if (client_open(&b->client, &b->channel, FRAME_METRICS, NULL))
		stats_done(b);
}

static void stats_gap(struct loop_timer *t)
{
	stats_ask(container_of(t, struct stats_box, gap));
}

static void stats_frame(struct client_channel *ch, const struct frame *f)
{
	struct stats_box *b = container_of(ch, struct stats_box, channel);
	struct frame_metrics_reply m;
	uint64_t busy, before;

	if (f->type != FRAME_METRICS_REPLY || frame_decode(f, &m, sizeof(m))) {
		stats_done(b);
		return;
	}
	busy = m.cpu_user_ns + m.cpu_system_ns;
	before = b->out->m.cpu_user_ns + b->out->m.cpu_system_ns;
	if (!b->out->valid) {
		b->out->valid = true;
		b->out->m = m;
		loop_timer_set(b->all->loop, &b->gap, STATS_GAP_MS);
		return;
	}
	if (m.uptime_ns > b->out->m.uptime_ns && busy >= before)
		b->out->cpu_percent = 100.0 * (double)(busy - before) /
				      (double)(m.uptime_ns - b->out->m.uptime_ns);
	b->out->m = m;
	stats_done(b);
}

static void stats_on_state(struct client *c, const struct frame_sandbox_state *st)
{
	struct stats_box *b = container_of(c, struct stats_box, client);

	b->out->state = st->state;
	if (st->state == SANDBOX_READY && !b->asked) {
		b->asked = true;
		stats_ask(b);
	} else if (st->state != SANDBOX_READY) {
		stats_done(b);
	}
}

static void stats_on_closed(struct client *c, const char *reason)
{
	(void)reason;
	stats_done(container_of(c, struct stats_box, client));
}

static void stats_timeout(struct loop_timer *t)
{
	loop_stop(container_of(t, struct stats_all, timer)->loop, 0);
}

static const struct client_ops stats_client_ops = {
	.on_state = stats_on_state,
	.on_closed = stats_on_closed,
};

static void stats_connect(struct stats_box *b)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int conn = -1;

	loop_timer_init(&b->gap, stats_gap);
	b->channel.on_frame = stats_frame;
	b->out->state = -1;
	if (keep_connect(b->out->dirfd, &conn, NULL))
		return;
	if (!getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		b->out->pid = cred.pid;
	if (client_init(&b->client, b->all->loop, conn, &stats_client_ops, NULL))
		return;
	b->connected = true;
	b->all->waiting++;
}

int kept_stats_read(struct kept_stats *s, size_t n, struct err *e)
{
	auto_free struct stats_box *boxes = calloc(n ? n : 1, sizeof(*boxes));
	struct stats_all all = { .waiting = 0 };
	int rc;

	if (!boxes)
		return err_errno(e, ENOMEM, "metrics");
	/* A supervisor may end while we write to it. */
	signal(SIGPIPE, SIG_IGN);
	rc = loop_create(&all.loop, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		boxes[i].all = &all;
		boxes[i].out = &s[i];
		stats_connect(&boxes[i]);
	}
	loop_timer_init(&all.timer, stats_timeout);
	if (all.waiting) {
		loop_timer_set(all.loop, &all.timer, STATS_ALL_MS);
		rc = loop_run(all.loop);
	}
	for (size_t i = 0; i < n; i++)
		if (boxes[i].connected)
			client_fini(&boxes[i].client);
	loop_destroy(all.loop);
	return rc < 0 ? err_errno(e, -rc, "metrics") : 0;
}
