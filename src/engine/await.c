/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <poll.h>

#include "base/checked.h"
#include "engine/engine.h"
#include "sys/loop.h"

/* Waits until @fd is readable. Return: 0, or a negative errno. */
static int await_readable(int fd, uint64_t deadline_ns, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = loop_now_ns(), ms;
	int n;

	if (now >= deadline_ns)
		return err_set(e, ETIMEDOUT, "the VM process did not answer in time");
	ms = min_u64((deadline_ns - now + 999999) / 1000000, INT_MAX);
	n = poll(&p, 1, (int)ms);
	return n < 0 && errno != EINTR ? err_errno(e, errno, "poll") : 0;
}

int engine_await(const struct engine_ops *ops, int control, uint32_t id, unsigned timeout_ms,
		 struct err *e)
{
	uint64_t deadline = loop_now_ns() + (uint64_t)timeout_ms * 1000000;
	struct engine_event ev;
	int rc;

	for (;;) {
		rc = ops->event(control, &ev, e);
		if (rc < 0)
			return rc;
		if (!rc) {
			rc = await_readable(control, deadline, e);
			if (rc)
				return rc;
			continue;
		}
		if (ev.kind == ENGINE_EVENT_ENDED)
			return err_set(e, EPIPE, "the VM ended%s%s", ev.text[0] ? ": " : "",
				       ev.text);
		if (ev.id == id)
			return ev.code ? err_set(e, ev.code, "%s", ev.text) : 0;
	}
}
