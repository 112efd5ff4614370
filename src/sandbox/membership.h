/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_MEMBERSHIP_H
#define MSB_SANDBOX_MEMBERSHIP_H

/*
 * DOC: Joining a group
 *
 * Purpose: finds the other members of the sandbox's group, and gives msb-net a socket to each.
 *
 * The group is a directory, with a listening socket of each member in it, named
 * "<number>-<name>".  Whoever joins holds the directory's lock meanwhile: it removes the sockets
 * of members that are dead (nobody listens), refuses a name that is taken, takes the lowest free
 * number, connects to all the others, and listens itself.  So each pair has one connection, which
 * the later of the two made.  It says "group 1" with number and name on it, and both give their
 * end to their msb-net.  Nobody has to wait for anybody: a connection that is not accepted yet
 * takes the greeting and the first frames.
 *
 * Trust boundary: the directory is the user's own (0700), who is all that can connect; a
 * greeting is checked all the same, and a connection that greets nobody is one of
 * MEMBERSHIP_PENDING_MAX.  What a guest could say comes only after the greeting, and to msb-net.
 *
 * Ends: a member that goes takes its socket's name along; of one that was killed the next who
 * joins removes it.  The last one removes the directory.
 */

#include "codec/netcontrol.h"
#include "sys/loop.h"

#define MEMBERSHIP_PENDING_MAX NETGROUP_MEMBERS_MAX

struct membership;

/* A connection that somebody made and has not greeted on. */
struct membership_pending {
	struct membership *group;
	int fd; /* -1 = none */
	struct loop_watch watch;
};

/* A member, as long as it is there. */
struct membership_member {
	struct membership *group;
	int fd; /* of the connection that msb-net has; -1 = nobody */
	struct netmember who;
	struct loop_watch watch; /* for its end */
};

struct membership {
	struct loop *loop;
	/* A member is there. @fd: the connection; not owned by the callee. */
	void (*on_member)(struct membership *g, const struct netmember *m, int fd);

	struct netmember own; /* number 0 = in no group */
	char *path;
	int dirfd, listen_fd;
	struct loop_watch watch;
	struct membership_pending pending[MEMBERSHIP_PENDING_MAX];
	struct membership_member members[NETGROUP_MEMBERS_MAX + 1]; /* by number */
};

void membership_init(struct membership *g);

/**
 * membership_join() - become a member
 * @path: the group's directory, whose parent exists
 * @name: the sandbox's
 *
 * g->on_member comes for each one that is there already, before this returns.
 *
 * Return: 0; -EEXIST: there is one of that name; -ENOSPC: no number is left; others.
 */
int membership_join(struct membership *g, struct loop *l, const char *path, const char *name,
		    struct err *e);

/* Leaves it; may be called if it was never joined. */
void membership_leave(struct membership *g);

#endif
