/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_KEEP_H
#define MSB_LIB_KEEP_H

/*
 * DOC: Sandboxes that are kept
 *
 * Each has a directory of its own, <parent>/<name>/: config.json, upper.ext4 (its disk), log/,
 * run/, state.json.  It is there from the first start until it is removed, and is locked
 * (flock) by its supervisor as long as that lives: nothing else tells whether it runs.
 *
 * Who starts, stops or removes one holds the parent's lock meanwhile, a start until the
 * supervisor can be connected to.  So with that lock in hand a sandbox either is not running, or
 * can be connected to, or is at its very end.
 *
 * A directory may have come with somebody's files: links are not followed.
 */

#include "base/err.h"
#include "codec/box_command.h"
#include "codec/box_state.h"
#include "codec/sandbox_config.h"
#include "lib/launch.h"

#define KEEP_LOCK_MS 60000u /* for the parent's lock */
#define KEEP_END_MS 45000u /* a shutdown of a guest, at most, and some time for the host */

/* Opens and locks @parent. @make: with all that is missing. Return: -ENOENT, -EBUSY, ... */
int keep_lock(const char *parent, bool make, int *parent_fd, struct err *e);

/**
 * keep_claim() - the lock of a sandbox that does not run
 * @parent_fd: of keep_lock()
 * @make:      its directory, if there is none
 *
 * Return: 0; -EBUSY: it runs; -ENOENT: it was never started.
 */
int keep_claim(int parent_fd, const char *name, bool make, int *dirfd, struct err *e);

/* Its directory, not locked. Return: -ENOENT. */
int keep_open(int parent_fd, const char *name, int *dirfd, struct err *e);

/* Does a supervisor have it? Return: 1, 0, or a negative errno. */
int keep_running(int dirfd);

/**
 * keep_start() - start the supervisor of a claimed directory, and wait until it listens
 * @command: what it runs by itself; NULL = nothing
 *
 * cfg->detached: it goes on without anybody.  Return: 0; a negative errno with the
 * supervisor's reason.  out->dir is to be freed.
 */
int keep_start(const char *parent, int dirfd, struct sandbox_config *cfg,
	       const struct box_command *command, struct launch *out, struct err *e);

/* Connects to its supervisor. Return: -ECONNREFUSED: it is at its end, see keep_wait(). */
int keep_connect(int dirfd, int *out, struct err *e);

/* Waits until no supervisor has it. Return: 0, -EBUSY. */
int keep_wait(int dirfd, unsigned timeout_ms, struct err *e);

/* Removes it with all it holds. Return: 0; -EBUSY: it runs; -ENOENT. */
int keep_remove(int parent_fd, const char *name, struct err *e);

/* What its supervisor had to say. Return: 0, -ENOENT. */
int keep_state(int dirfd, struct box_state *out, struct err *e);

/* How it was started last. Return: 0, -ENOENT. */
int keep_config(int dirfd, struct sandbox_config *out, struct err *e);

/* Calls @fn for each directory of a sandbox, in the order of names. */
int keep_each(int parent_fd, void (*fn)(void *ctx, const char *name, int dirfd), void *ctx,
	      struct err *e);

#endif
