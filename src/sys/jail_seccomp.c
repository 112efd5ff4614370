/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/jail.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/prctl.h>

static void jail_seccomp_release(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}

int jail_seccomp(const struct jail_syscall *allowed, bool log_only, struct err *e)
{
	__attribute__((cleanup(jail_seccomp_release))) scmp_filter_ctx ctx = NULL;
	int rc;

	/* A dump or a tracer would show what the guest entrusted to us. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, errno, "seccomp: PR_SET_DUMPABLE");
	ctx = seccomp_init(log_only ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_errno(e, ENOMEM, "seccomp: new filter");
	/* A call of another ABI (x32, i386) matches no rule: it must not pass either. */
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 1);
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	/* 2 = binary tree: the cost of a call does not grow with the list. */
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc)
		return err_errno(e, -rc, "seccomp: set up filter");

	for (; allowed->name; allowed++) {
		int nr = seccomp_syscall_resolve_name(allowed->name);

		if (nr == __NR_SCMP_ERROR)
			return err_set(e, EINVAL, "seccomp: unknown system call %s", allowed->name);
		if (nr < 0) /* a pseudo number: this architecture has another call for it */
			continue;
		rc = seccomp_rule_add(
			ctx, allowed->fail ? SCMP_ACT_ERRNO(allowed->fail) : SCMP_ACT_ALLOW, nr,
			allowed->mask ? 1 : 0,
			SCMP_CMP(allowed->arg, SCMP_CMP_MASKED_EQ, allowed->mask, allowed->value));
		if (rc)
			return err_errno(e, -rc, "seccomp: allow %s", allowed->name);
	}
	rc = seccomp_load(ctx);
	if (rc)
		return err_errno(e, -rc, "seccomp: load filter");
	return 0;
}
