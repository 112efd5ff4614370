/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/netctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/netrule.h"
#include "sandbox/internal.h"
#include "sys/file.h"

enum netctl_what { NETCTL_COUNT, NETCTL_RULES, NETCTL_MEMBER };

struct netctl_job {
	struct list link;
	enum netctl_what what;
	struct relay_call *call; /* NULL = it was told that there is no answer */
	char *rules; /* NETCTL_RULES: their canonical text */
	struct netmember member; /* NETCTL_MEMBER, with its connection */
	int fd; /* -1 = none */
};

static void netctl_next(struct netctl *n);

static void netctl_job_free(struct netctl_job *j)
{
	list_remove(&j->link);
	free(j->rules);
	close_fd(&j->fd);
	free(j);
}

static struct netctl_job *netctl_first(struct netctl *n)
{
	return list_empty(&n->jobs) ? NULL : list_entry(n->jobs.next, struct netctl_job, link);
}

static void netctl_job_fail(struct netctl_job *j, int code, const char *message)
{
	if (j->call)
		relay_refuse(j->call, code, message);
	j->call = NULL;
}

static void netctl_gone(struct netctl *n)
{
	if (n->fd >= 0)
		loop_watch_remove(&n->watch);
	close_fd(&n->fd);
	loop_timer_cancel(&n->timer);
	list_for_each (pos, tmp, &n->jobs) {
		struct netctl_job *j = list_entry(pos, struct netctl_job, link);

		netctl_job_fail(j, EPIPE, "the network process is gone");
		netctl_job_free(j);
	}
}

static void netctl_timeout(struct loop_timer *t)
{
	struct netctl *n = container_of(t, struct netctl, timer);

	log_warn("event=net-silent");
	n->silent = true;
	list_for_each (pos, tmp, &n->jobs) {
		struct netctl_job *j = list_entry(pos, struct netctl_job, link);

		netctl_job_fail(j, ETIMEDOUT,
				"the network process does not answer; what was asked for may "
				"still happen");
		/* The first one has been sent: its answer must not be taken for another's. */
		if (pos != n->jobs.next && j->what != NETCTL_MEMBER)
			netctl_job_free(j);
	}
}

/* ---- answers to clients ------------------------------------------------------------- */

static int netctl_list_counters(const struct netcounters *c, struct buf *b, struct frame_list *l)
{
	char text[NETCOUNTER_NAME_MAX + 24];
	int rc = 0;

	for (unsigned i = 0; i < c->n && !rc; i++) {
		int k = snprintf(text, sizeof(text), "%s %llu", c->v[i].name,
				 (unsigned long long)c->v[i].value);

		rc = frame_list_add(b, l, text, (size_t)k);
	}
	frame_list_end(b, l);
	return rc;
}

/* The others in the group. */
static int netctl_list_members(const struct membership *g, struct buf *b, struct frame_list *l)
{
	char text[NETGROUP_NAME_SIZE + 24];
	int rc = 0;

	for (unsigned i = 1; i <= NETGROUP_MEMBERS_MAX && !rc; i++) {
		const struct membership_member *m = &g->members[i];
		int k;

		if (m->fd < 0)
			continue;
		k = snprintf(text, sizeof(text), "%s 10.0.2.%u", m->who.name, 128 + i);
		rc = frame_list_add(b, l, text, (size_t)k);
	}
	frame_list_end(b, l);
	return rc;
}

static void netctl_tell(struct netctl *n, struct relay_call *call, const struct netcounters *c)
{
	const struct sandbox_config *cfg = &n->sandbox->cfg;
	struct frame_net_state st = {
		.scope = frame_str_of(cfg->scope),
		.group = frame_str_of(cfg->group ? cfg->group : ""),
		.closed = n->sandbox->closed,
		.rules = frame_str_of(cfg->network ? cfg->network : ""),
	};
	struct buf counters = BUF_INIT, members = BUF_INIT;

	if (netctl_list_counters(c, &counters, &st.counters) ||
	    netctl_list_members(&n->sandbox->group, &members, &st.members))
		relay_refuse(call, ENOMEM, "memory is out");
	else
		relay_answer(call, FRAME_NET_STATE, &st);
	buf_fini(&counters);
	buf_fini(&members);
}

/* ---- msb-net ------------------------------------------------------------------------- */

/* What a sandbox that starts again in its directory is to have. */
static void netctl_keep_rules(struct netctl *n, struct netctl_job *j)
{
	struct supervisor *s = n->sandbox;
	auto_free char *text = NULL;
	struct err e = ERR_INIT;

	free(s->cfg.network);
	s->cfg.network = take_ptr(&j->rules);
	log_info("event=network-rules bytes=%zu", strlen(s->cfg.network));
	if (sandbox_config_format(&s->cfg, &text, &e) ||
	    file_write_at(s->dirfd, SANDBOX_CONFIG_FILE, text, strlen(text), 0600, false, &e))
		log_warn("event=network-rules-not-kept reason=\"%s\"", err_text(&e));
}

/* msb-net's reason, for a person: printable, one line. */
static void netctl_reason(const char *answer, size_t len, char *out, size_t size)
{
	const size_t head = sizeof(NETCONTROL_ERROR) - 1;
	size_t n = 0;

	if (len < head || memcmp(answer, NETCONTROL_ERROR, head)) {
		snprintf(out, size, "the network process gave an answer that is none");
		return;
	}
	for (size_t i = head; i < len && n + 1 < size && answer[i] != '\n'; i++)
		out[n++] = (unsigned char)answer[i] < 0x20 || (unsigned char)answer[i] > 0x7e
				   ? '?'
				   : answer[i];
	out[n] = '\0';
}

/* Return: is the job done? Else it goes on with another message. */
static bool netctl_answered(struct netctl *n, struct netctl_job *j, const char *answer, size_t len)
{
	const bool ok = len >= sizeof(NETCONTROL_OK) - 1 &&
			!memcmp(answer, NETCONTROL_OK, sizeof(NETCONTROL_OK) - 1);
	struct netcounters c;
	char reason[512];

	if (!ok) {
		netctl_reason(answer, len, reason, sizeof(reason));
		if (j->what == NETCTL_MEMBER)
			log_warn("event=member-refused name=%s reason=\"%s\"", j->member.name,
				 reason);
		netctl_job_fail(j, EINVAL, reason);
		return true;
	}
	if (j->what == NETCTL_RULES) {
		netctl_keep_rules(n, j);
		j->what = NETCTL_COUNT;
		return !j->call;
	}
	if (!j->call)
		return true;
	if (netcounters_parse(answer, len, &c)) {
		netctl_job_fail(j, EPROTO, "the network process gave an answer that is none");
		return true;
	}
	netctl_tell(n, j->call, &c);
	j->call = NULL;
	return true;
}

static void netctl_ready(struct loop_watch *w, uint32_t events)
{
	struct netctl *n = container_of(w, struct netctl, watch);
	struct netctl_job *j = netctl_first(n);
	char answer[NETCONTROL_ANSWER_MAX];
	ssize_t len = recv(n->fd, answer, sizeof(answer), MSG_DONTWAIT);

	(void)events;
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* An answer to nothing, too, is no msb-net of ours any more. */
	if (len <= 0 || !j) {
		netctl_gone(n);
		return;
	}
	loop_timer_cancel(&n->timer);
	n->silent = false;
	if (netctl_answered(n, j, answer, (size_t)len))
		netctl_job_free(j);
	netctl_next(n);
}

/* A member's number and name, and its connection. */
static int netctl_send_member(struct netctl *n, const struct netctl_job *j)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = "" };
	char text[NETCONTROL_MEMBER_MAX];
	struct iovec iov = { text, netmember_format(NETCONTROL_MEMBER, &j->member, text) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &j->fd, sizeof(int));
	return sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int netctl_send(struct netctl *n, const struct netctl_job *j)
{
	static const char policy[] = NETPOLICY_MESSAGE, counters[] = NETCONTROL_COUNTERS;
	struct iovec iov[2] = { { (void *)counters, sizeof(counters) - 1 }, { NULL, 0 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (j->what == NETCTL_MEMBER)
		return netctl_send_member(n, j);
	if (j->what == NETCTL_RULES) {
		iov[0] = (struct iovec){ (void *)policy, sizeof(policy) - 1 };
		iov[1] = (struct iovec){ j->rules, strlen(j->rules) };
	}
	return sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Sends the first job's message. */
static void netctl_next(struct netctl *n)
{
	struct netctl_job *j = netctl_first(n);

	if (!j || n->fd < 0)
		return;
	/* One message at a time fits into the socket, or it never will. */
	if (netctl_send(n, j)) {
		netctl_gone(n);
		return;
	}
	loop_timer_set(n->sandbox->loop, &n->timer, NETCTL_TIMEOUT_MS);
}

static struct netctl_job *netctl_job(enum netctl_what what)
{
	struct netctl_job *j = calloc(1, sizeof(*j));

	if (j) {
		j->what = what;
		j->fd = -1;
		list_init(&j->link);
	}
	return j;
}

static void netctl_add(struct netctl *n, struct netctl_job *j)
{
	const bool idle = list_empty(&n->jobs);

	list_append(&n->jobs, &j->link);
	if (idle)
		netctl_next(n);
	else if (n->silent)
		loop_timer_set(n->sandbox->loop, &n->timer, NETCTL_TIMEOUT_MS);
}

void netctl_member(struct netctl *n, const struct netmember *m, int fd)
{
	struct netctl_job *j = netctl_job(NETCTL_MEMBER);

	if (j)
		j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (!j || j->fd < 0) {
		log_warn("event=member-refused name=%s reason=\"%s\"", m->name, strerror(errno));
		free(j);
		return;
	}
	j->member = *m;
	netctl_add(n, j);
}

/* ---- clients -------------------------------------------------------------------------- */

/* The rules of a NET_SET, read and written anew. */
static int netctl_rules(const struct frame *f, char **out, struct err *e)
{
	auto_free struct netpolicy *p = malloc(sizeof(*p));
	struct frame_net_set set;
	struct buf b = BUF_INIT;
	int rc;

	if (!p)
		return err_errno(e, ENOMEM, "network rules");
	if (frame_decode(f, &set, sizeof(set)))
		return err_set(e, EPROTO, "the message is malformed");
	rc = netpolicy_parse((const char *)set.rules.p, set.rules.len, p, e);
	if (!rc && netpolicy_format(p, &b))
		rc = err_errno(e, ENOMEM, "network rules");
	if (!rc) {
		*out = strndup(buf_len(&b) ? (const char *)buf_data(&b) : "", buf_len(&b));
		rc = *out ? 0 : err_errno(e, ENOMEM, "network rules");
	}
	buf_fini(&b);
	return rc;
}

void netctl_call(struct netctl *n, struct relay_call *call, const struct frame *f)
{
	struct netctl_job *j;
	struct err e = ERR_INIT;
	char *rules = NULL;

	if (n->fd < 0) {
		relay_refuse(call, ENETDOWN, "this sandbox has no network");
		return;
	}
	if (f->type == FRAME_NET_SET && netctl_rules(f, &rules, &e)) {
		relay_refuse(call, e.code, err_text(&e));
		return;
	}
	j = netctl_job(rules ? NETCTL_RULES : NETCTL_COUNT);
	if (!j) {
		free(rules);
		relay_refuse(call, ENOMEM, "memory is out");
		return;
	}
	j->rules = rules;
	j->call = call;
	netctl_add(n, j);
}

/* ---- life ------------------------------------------------------------------------------ */

int netctl_open(struct netctl *n, int *theirs, struct err *e)
{
	int sv[2], rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, errno, "socketpair");
	*theirs = sv[1];
	n->fd = sv[0];
	rc = loop_watch_add(n->sandbox->loop, &n->watch, n->fd, EPOLLIN);
	if (rc < 0) {
		close_fd(&n->fd);
		return err_errno(e, -rc, "network control");
	}
	/* Members that are there already. */
	netctl_next(n);
	return 0;
}

void netctl_init(struct netctl *n, struct supervisor *s)
{
	*n = (struct netctl){ .sandbox = s, .fd = -1 };
	list_init(&n->jobs);
	loop_watch_init(&n->watch, netctl_ready);
	loop_timer_init(&n->timer, netctl_timeout);
}

void netctl_fini(struct netctl *n)
{
	if (n->sandbox)
		netctl_gone(n);
}
