/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_LAUNCH_H
#define MSB_LIB_LAUNCH_H

/*
 * Starting a supervisor, and leaving nothing behind.
 *
 * An ephemeral sandbox lives in <home>/run/<id>/, a directory that is locked (flock) by
 * its supervisor as long as that lives.  It removes the directory itself; should it be
 * killed, the msb that started it does; should both be killed, the next launch_ephemeral()
 * finds a directory that nobody holds locked.
 */

#include "base/err.h"
#include "codec/sandbox_config.h"
#include "sys/child.h"

struct launch {
	struct child supervisor;
	int fd; /* the owner's connection, not a client yet; owned until taken */
	char *dir; /* absolute */
};

#define LAUNCH_INIT \
	{ \
		.supervisor = CHILD_INIT, .fd = -1 \
	}

/*
 * Starts a supervisor for @cfg; the name is chosen if @cfg has none.  The calling process
 * becomes a reaper of orphans (PR_SET_CHILD_SUBREAPER), so that launch_end() can wait also
 * for what a killed supervisor leaves.
 *
 * Published ports are bound first, here and in the functions below: one in use is -EADDRINUSE
 * before anything was started, and cfg->ports then holds the ports that were chosen.
 */
int launch_ephemeral(const char *home, struct sandbox_config *cfg, struct launch *out,
		     struct err *e);

/*
 * cfg->secrets go down to msb-net in a file that has no name and is in memory only; the supervisor
 * passes it on unread.
 */

/*
 * Waits for the end of the supervisor (which follows from closing the owner's connection)
 * and of all its processes; after @timeout_ms it is killed.  Removes what it left.
 */
void launch_end(struct launch *l, unsigned timeout_ms);

/* Removes directories of ephemeral sandboxes whose supervisor is gone. Return: how many. */
unsigned launch_sweep(const char *home);

/*
 * Sandboxes with a name of the user's live in <parent>/<name>/, locked in the same way.
 * They are detached: they outlive whoever started them, who finds them again with
 * launch_each().
 */

/*
 * Makes and locks the directory of a sandbox; what a dead supervisor left there is removed.
 * @parent: an existing directory, absolute
 * @dirfd:  the sandbox's directory, with the lock; close it after launch_detached()
 *
 * Return: 0; -EBUSY if a supervisor holds it.
 */
int launch_claim(const char *parent, const char *name, int *dirfd, struct err *e);

/* Starts the supervisor of a claimed directory.  Files may have been put there before. */
int launch_detached(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		    struct err *e);

/* The same for a sandbox that ends with the owner's connection, as an ephemeral one does. */
int launch_owned(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		 struct err *e);

/*
 * The same for a sandbox that is kept (lib/keep.h): nothing is removed, also if it fails.
 * Unless cfg->detached it ends when nobody holds it any more; its owner does at first.
 */
int launch_kept(const char *parent, int dirfd, struct sandbox_config *cfg, struct launch *out,
		struct err *e);

/* Removes what a dead supervisor left. Return: -EBUSY if it is alive. */
int launch_remove(const char *parent, const char *name);

/*
 * Calls @fn for each sandbox below @parent that has a living supervisor, and removes what
 * dead ones left.  @dirfd is valid during the call.
 */
void launch_each(const char *parent, void (*fn)(void *ctx, const char *name, int dirfd), void *ctx);

#endif
