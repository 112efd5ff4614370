/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_TESTS_UNIT_LOOP_REST_H
#define MSB_TESTS_UNIT_LOOP_REST_H

/*
 * Is an event loop at rest?  No clock is asked: the loop gets some turns to do what there
 * is to do, and then nothing may be ready in its epoll set.  A watch that cannot be
 * satisfied, which would keep the process awake for ever, is ready each time.
 */

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/loop.h"

/* The epoll descriptor of this process, which has one loop. */
static inline int loop_rest_epoll(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd = -1;

	assert_non_null(d);
	while (fd < 0 && (entry = readdir(d))) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(dirfd(d), entry->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		if (!strcmp(target, "anon_inode:[eventpoll]"))
			fd = atoi(entry->d_name);
	}
	closedir(d);
	assert_true(fd >= 0);
	return fd;
}

static inline bool loop_at_rest(struct loop *loop)
{
	struct pollfd p = { .events = POLLIN };

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(loop_run_once(loop, 0), 0);
	p.fd = loop_rest_epoll();
	return poll(&p, 1, 0) == 0;
}

#endif
