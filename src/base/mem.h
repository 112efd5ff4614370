/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_MEM_H
#define MSB_BASE_MEM_H

/*
 * Ownership helpers: locals that clean up after themselves, and explicit moves.
 *
 *   auto_free char *p = strdup(s);    freed when the scope ends
 *   auto_close int fd = -1;           closed when the scope ends, if >= 0
 *   *out = take_ptr(&p);              ownership moves; the local becomes NULL
 *   cfg->fd = take_fd(&fd);           ownership moves; the local becomes -1
 */

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void mem_free_cleanup(void *p)
{
	free(*(void **)p);
}

static inline void mem_close_cleanup(int *fd)
{
	/* close() is never retried: on Linux the descriptor is gone also on EINTR. */
	if (*fd >= 0)
		close(*fd);
}

#define auto_free __attribute__((cleanup(mem_free_cleanup)))
#define auto_close __attribute__((cleanup(mem_close_cleanup)))

static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#define take_ptr(pp) \
	({ \
		__typeof__(pp) pp_ = (pp); \
		__typeof__(*pp_) v_ = *pp_; \
		*pp_ = NULL; \
		v_; \
	})

/* Closes *@fd if open and sets it to -1. */
static inline void close_fd(int *fd)
{
	int v = take_fd(fd);

	if (v >= 0)
		close(v);
}

#endif
