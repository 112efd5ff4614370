/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ending a call from outside: a descriptor that becomes readable, and stays so.  A descriptor
 * and not a flag, because the call sleeps in poll(); and because write() may be called in a
 * signal handler, which a condition variable may not.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "capi/internal.h"

struct msb_cancel {
	int fd;
	bool own;
};

int msb_cancel_new(struct msb_cancel **out, struct msb_error **err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0)
		return capi_fail(err, MSB_ERR_ARGUMENT, "no descriptor for struct msb_cancel: %s",
				 strerror(errno));
	rc = msb_cancel_from_fd(out, fd, err);
	if (rc)
		close(fd);
	else
		(*out)->own = true;
	return rc;
}

int msb_cancel_from_fd(struct msb_cancel **out, int fd, struct msb_error **err)
{
	struct msb_cancel *c;

	if (fd < 0)
		return capi_fail(err, MSB_ERR_ARGUMENT, "%d is no descriptor", fd);
	c = calloc(1, sizeof(*c));
	if (!c)
		return capi_no_memory(err);
	c->fd = fd;
	*out = c;
	return 0;
}

void msb_cancel_trigger(struct msb_cancel *c)
{
	uint64_t one = 1;
	int keep = errno;

	/* Full is triggered as well. */
	if (c && c->own && write(c->fd, &one, sizeof(one)) < 0)
		errno = keep;
	errno = keep;
}

void msb_cancel_free(struct msb_cancel *c)
{
	if (c && c->own)
		close(c->fd);
	free(c);
}

bool capi_cancelled(const struct msb_cancel *c)
{
	struct pollfd p = { .events = POLLIN };

	if (!c)
		return false;
	p.fd = c->fd;
	return poll(&p, 1, 0) > 0;
}

int capi_cancel_fd(const struct msb_cancel *c)
{
	return c ? c->fd : -1;
}
