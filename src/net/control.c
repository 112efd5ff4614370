/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

static int control_apply(struct control *c, const char *msg, size_t len, struct err *e)
{
	auto_free struct netpolicy *p = malloc(sizeof(*p));
	int rc;

	if (!p)
		return err_errno(e, ENOMEM, "network policy");
	rc = netpolicy_parse_message(msg, len, p, e);
	if (rc)
		return rc;
	if (c->gate->policy.closed && netpolicy_opens_outside(p))
		return err_set(e, EPERM,
			       "this sandbox was started with nothing open to the outside and has "
			       "no way there: start it with a rule, or with another scope");
	if (c->loopback_locked && netpolicy_opens_loopback(p))
		return err_set(
			e, EPERM,
			"the host's loopback cannot be opened while the sandbox runs: start it "
			"with a rule for it, or with scope any");
	gate_set_rules(c->gate, p);
	if (c->group)
		group_recheck(c->group);
	log_info("event=policy rules=%u version=%u", p->n_rules, c->gate->version);
	return 0;
}

/* Writes the answer. Return: its length. */
static size_t control_count(const struct control *c, char answer[NETCONTROL_ANSWER_MAX])
{
	const size_t head = sizeof(NETCONTROL_OK) - 1;
	struct netcounters counters;
	int n;

	netlog_counters(&c->gate->log,
			(c->frames ? c->frames->dropped : 0) + (c->group ? c->group->lost : 0),
			&counters);
	memcpy(answer, NETCONTROL_OK, head);
	n = netcounters_format(&counters, answer + head, NETCONTROL_ANSWER_MAX - head);
	return head + (n > 0 ? (size_t)n : 0);
}

static bool control_is(const char *msg, size_t len, const char *head)
{
	return len >= strlen(head) && !memcmp(msg, head, strlen(head));
}

/* A member, and the socket that leads there. */
static int control_member(struct control *c, const char *msg, size_t len, int *fd, struct err *e)
{
	struct netmember m;
	int rc = netmember_parse(NETCONTROL_MEMBER, msg, len, &m, e);

	if (rc)
		return rc;
	if (*fd < 0 || !c->group)
		return err_set(e, EINVAL, "a member comes with its socket");
	return group_add(c->group, &m, take_fd(fd), e);
}

/* Does what @msg says and writes the answer. Return: its length. */
static size_t control_message(struct control *c, const char *msg, size_t len, int *fd,
			      char answer[NETCONTROL_ANSWER_MAX])
{
	struct err e = ERR_INIT;
	int rc;

	if (control_is(msg, len, NETCONTROL_COUNTERS) && len == sizeof(NETCONTROL_COUNTERS) - 1)
		return control_count(c, answer);
	/* The old rules hold until the new ones are read to their end. */
	rc = control_is(msg, len, NETCONTROL_MEMBER) ? control_member(c, msg, len, fd, &e)
						     : control_apply(c, msg, len, &e);
	if (rc)
		return (size_t)snprintf(answer, NETCONTROL_ANSWER_MAX, NETCONTROL_ERROR "%s\n",
					err_text(&e));
	return (size_t)snprintf(answer, NETCONTROL_ANSWER_MAX, NETCONTROL_OK);
}

/* Reads a message, and the descriptor that came with it. Return: its length, as recvmsg(2). */
static ssize_t control_receive(int from, char *msg, int *fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { msg, NETPOLICY_MESSAGE_MAX + 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n;
}

void control_serve(struct control *c)
{
	auto_free char *msg = malloc(NETPOLICY_MESSAGE_MAX + 1);
	auto_close int fd = -1;
	char answer[NETCONTROL_ANSWER_MAX];
	size_t len;
	ssize_t n;

	if (!msg)
		return; /* it waits: memory may be had later */
	n = control_receive(c->fd, msg, &fd);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->fd = -1; /* the rules stay as they are */
		return;
	}
	len = control_message(c, msg, (size_t)n, &fd, answer);
	/* Whoever does not read answers gets none. */
	send(c->fd, answer, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}
