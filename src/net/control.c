/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

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
	if (c->loopback_locked && netpolicy_opens_loopback(p))
		return err_set(
			e, EPERM,
			"the host's loopback cannot be opened while the sandbox runs: start it "
			"with a rule for it, or with scope any");
	gate_set_rules(c->gate, p);
	log_info("event=policy rules=%u version=%u", p->n_rules, c->gate->version);
	return 0;
}

void control_serve(struct control *c)
{
	auto_free char *msg = malloc(NETPOLICY_MESSAGE_MAX + 1);
	char answer[NETPOLICY_ANSWER_MAX];
	struct err e = ERR_INIT;
	ssize_t n;
	int len;

	if (!msg)
		return; /* it waits: memory may be had later */
	n = recv(c->fd, msg, NETPOLICY_MESSAGE_MAX + 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->fd = -1; /* the rules stay as they are */
		return;
	}
	/* The old rules hold until the new ones are read to their end. */
	if (control_apply(c, msg, (size_t)n, &e))
		len = snprintf(answer, sizeof(answer), "error %s\n", err_text(&e));
	else
		len = snprintf(answer, sizeof(answer), NETPOLICY_OK);
	/* Whoever does not read answers gets none. */
	send(c->fd, answer, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
}
