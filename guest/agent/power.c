/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   SHUTDOWN: SIGTERM to every process, to the sandbox's own command what the image's
 *   StopSignal is, after the grace period SIGKILL, then the file systems, then the reset that
 *   the engine takes for the end of the machine (there is
 *   no ACPI to power off with).
 *
 * States
 *   terminating  until no process is left or the grace is over; the pump of the volumes
 *                ignores the signal and is not counted, so that what ends can still write
 *   killing      the pump too, so that nobody waits for a volume any more; until no process is left or POWER_KILL_MS is over
 *   unmounting   in a child, because a volume's server may hang; at most POWER_SYNC_MS
 */
#include "agent/boot.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/wait.h>

#include "agent/proc.h"
#include "agent/volumes.h"
#include "base/log.h"
#include "base/mem.h"

#define POWER_KILL_MS 2000
#define POWER_SYNC_MS 10000

static struct power {
	struct agent *agent;
	struct loop_timer timer;
	struct proc sync;
	enum { POWER_ON, POWER_TERM, POWER_KILL, POWER_SYNC } state;
} power;

void power_reboot(void)
{
	reboot(RB_AUTOBOOT);
	/* Not reached in a virtual machine; an init that returns is a kernel panic. */
	for (;;)
		pause();
}

static void power_synced(struct proc *p, int status, const struct rusage *ru)
{
	(void)p;
	(void)status;
	(void)ru;
	power_reboot();
}

static void power_unmount(void)
{
	struct err e = ERR_INIT;
	int overlay = root_leave();
	pid_t pid;

	/* Nobody is left to use them, or those who are wait for them in vain. */
	volumes_stop(power.agent);
	close_fd(&power.agent->disk_fd);
	power.state = POWER_SYNC;
	proc_init(&power.sync, power_synced);
	pid = overlay < 0 ? -1 : proc_fork(power.agent, &power.sync, false, &e);
	if (!pid) {
		root_unmount(overlay);
		_exit(0);
	}
	if (pid < 0) {
		log_warn("event=shutdown reason=\"%s\"", err_text(&e));
		power_reboot();
	}
	close(overlay);
	loop_timer_set(power.agent->loop, &power.timer, POWER_SYNC_MS);
}

/* Every process becomes our child when its parent ends: without children, all are gone. */
static bool power_all_gone(void)
{
	siginfo_t si;

	return waitid(P_ALL, 0, &si, WEXITED | WNOWAIT | WNOHANG) < 0 && errno == ECHILD;
}

static void power_reaped(struct agent *a)
{
	(void)a;
	if (power.state < POWER_SYNC && power_all_gone())
		power_unmount();
}

static void power_timer(struct loop_timer *t)
{
	switch (power.state) {
	case POWER_TERM:
		power.state = POWER_KILL;
		kill(-1, SIGKILL);
		loop_timer_set(power.agent->loop, t, POWER_KILL_MS);
		return;
	case POWER_KILL:
		log_warn("event=shutdown reason=\"processes left after SIGKILL\"");
		power_unmount();
		return;
	default:
		log_warn("event=shutdown reason=\"file systems hang\"");
		power_reboot();
	}
}

void power_shutdown(struct agent *a, uint32_t grace_ms)
{
	power.agent = a;
	power.state = POWER_TERM;
	loop_timer_init(&power.timer, power_timer);
	a->reaped = power_reaped;
	if (a->stop_signal && a->stop_signal != SIGTERM)
		proc_terminate(a, (int)a->stop_signal);
	else
		kill(-1, SIGTERM);
	/* Also stopped processes are to take the signal. */
	kill(-1, SIGCONT);
	loop_timer_set(a->loop, &power.timer, grace_ms);
	power_reaped(a);
}
