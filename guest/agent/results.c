/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/results.h"

#include <errno.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"

static void results_pump(struct results *r);

static void results_resume(struct waiter *w)
{
	results_pump(container_of(w, struct results, waiter));
}

void results_init(struct results *r, void (*done)(struct results *r))
{
	*r = (struct results){ .fd = -1, .done = done };
	list_init(&r->waiter.link);
	r->waiter.resume = results_resume;
}

void results_stop(struct results *r)
{
	list_remove(&r->waiter.link);
	r->ch = NULL;
	r->active = false;
}

void results_attach(struct results *r, struct channel *ch)
{
	results_stop(r);
	r->ch = ch;
	r->at = r->end = r->left = r->bytes = 0;
	r->count = 0;
	r->window = FRAME_WINDOW;
}

void results_mark(struct results *r, uint64_t end)
{
	if (end > r->end)
		r->end = end;
}

static ssize_t results_read(const struct results *r, void *to, uint64_t n)
{
	ssize_t got;

	n = min_u64(n, r->end - r->at);
	do
		got = pread(r->fd, to, (size_t)n, (off_t)r->at);
	while (got < 0 && errno == EINTR);
	return got;
}

/* Announces the next entry. Return: false if there is none. */
static bool results_next(struct results *r)
{
	uint8_t head[4 + FRAME_RESULT_HEAD_MAX];
	struct frame_repl_result m;
	ssize_t got;
	int n;

	if (r->at >= r->end || r->count == FRAME_RESULTS_MAX)
		return false;
	got = results_read(r, head, sizeof(head));
	n = got < 0 ? -EIO : frame_decode_result(head, (size_t)got, &m);
	if (n < 0 || m.size > r->end - r->at - (uint64_t)n ||
	    m.size > FRAME_RESULTS_BYTES - r->bytes) {
		log_info("event=bad_result count=%u", r->count);
		return false;
	}
	channel_send(r->ch, FRAME_REPL_RESULT, 0, &m);
	r->count++;
	r->bytes += m.size;
	r->at += (uint64_t)n;
	r->left = m.size;
	return true;
}

/* Return: false if somebody made the file shorter. */
static bool results_chunk(struct results *r)
{
	size_t want = min_u64(min_u64(FRAME_DATA_MAX, r->window), r->left);
	struct buf *out = &r->ch->link->out;
	ssize_t got;
	uint8_t *p;

	if (buf_reserve(out, FRAME_HEADER_SIZE + want, &p)) {
		r->ch->link->broken = true;
		return false;
	}
	got = results_read(r, p + FRAME_HEADER_SIZE, want);
	if (got <= 0)
		return false;
	frame_header_put(p, (size_t)got, r->ch->id, FRAME_DATA, STREAM_RESULT);
	buf_commit(out, FRAME_HEADER_SIZE + (size_t)got);
	r->window -= (uint32_t)got;
	r->left -= (uint64_t)got;
	r->at += (uint64_t)got;
	return true;
}

static void results_pump(struct results *r)
{
	while (r->active && r->ch && r->ch->link) {
		if (!link_has_room(r->ch->link)) {
			list_remove(&r->waiter.link);
			list_append(&r->ch->link->waiting, &r->waiter.link);
			return;
		}
		if (r->left && !r->window)
			return; /* CREDIT brings us back */
		if (!(r->left ? results_chunk(r) : results_next(r)))
			break;
	}
	if (!r->active)
		return;
	results_stop(r);
	r->done(r);
}

void results_send(struct results *r, int fd)
{
	r->fd = fd;
	r->active = true;
	results_pump(r);
}

int results_credit(struct results *r, uint32_t bytes)
{
	uint32_t window;

	if (!checked_add(r->window, bytes, &window) || window > FRAME_WINDOW_MAX)
		return -EPROTO;
	r->window = window;
	results_pump(r);
	return 0;
}
