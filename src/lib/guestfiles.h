/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_GUESTFILES_H
#define MSB_LIB_GUESTFILES_H

/*
 * Files of a running sandbox, one request after the other; each call waits for its answer.
 *
 * Trust boundary.  The guest is hostile: what it says of a file is not believed further than
 * stated here, and names in a directory are checked by guestfiles_next().
 */

#include <sys/types.h>

#include "lib/client.h"

#define GUESTFILES_PATH_MAX 4096u /* with its NUL */
#define GUESTFILES_LIST_MAX (4u << 20) /* bytes of a directory's entries */

struct guestfiles {
	struct loop *loop;
	struct client client;
	const char *user; /* as whom; "" = root */
	/* internal: of the request under way */
	struct client_channel channel;
	struct err *e;
	const char *path;
	int rc, fd;
	uint64_t left; /* READ: bytes that may come */
	uint32_t window; /* WRITE: bytes that the guest takes */
	bool writing, eof, closed, connected;
	struct buf *list;
	struct guestfiles_info *info;
};

struct guestfiles_info {
	mode_t mode; /* type and permission bits */
	uint64_t size;
};

/* An entry of a directory. */
struct guestfiles_entry {
	char name[256]; /* one segment, neither . nor .. */
	struct guestfiles_info info;
};

/* @dirfd: the sandbox's directory; @user has to stay. For guestfiles_close(), also on failure. */
int guestfiles_open(struct guestfiles *g, int dirfd, const char *user, struct err *e);
void guestfiles_close(struct guestfiles *g);

/* All paths are absolute.  A link at the end is followed.  Return: 0; the guest's errno; others. */
int guestfiles_stat(struct guestfiles *g, const char *path, struct guestfiles_info *out,
		    struct err *e);
int guestfiles_mkdir(struct guestfiles *g, const char *path, mode_t mode, struct err *e);

/* Writes a file's content to @fd; more than @max bytes are -EFBIG. */
int guestfiles_read(struct guestfiles *g, const char *path, uint64_t max, int fd, struct err *e);

/* Replaces a file by what @fd, a regular file, has; @mode 0 leaves it to the guest. */
int guestfiles_write(struct guestfiles *g, const char *path, mode_t mode, int fd, struct err *e);

/* The entries of a directory, for guestfiles_next() and buf_fini(). -EFBIG: too many. */
int guestfiles_list(struct guestfiles *g, const char *path, struct buf *out, struct err *e);

/* Takes one from @list. Return: 1; 0: there is none left; -EPROTO: what stands there is none. */
int guestfiles_next(struct buf *list, struct guestfiles_entry *out, struct err *e);

#endif
