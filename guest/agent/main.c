/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   msb-agent, the init of every sandbox: the only file of an initramfs that is ours.
 *
 * Failure
 *   Init must not end.  What fails before there is a link goes to the kernel's log, which
 *   is the machine's console, and resets the machine: the host sees it end.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/boot.h"
#include "agent/layer.h"
#include "base/log.h"

#define MAIN_BUILD "msb-agent " MSB_VERSION

static const struct agent_platform main_platform = {
	.seed = boot_seed,
	.set_clock = boot_set_clock,
	.configure = boot_configure,
	.shutdown = power_shutdown,
};

int main(int argc, char **argv)
{
	static struct agent agent;
	struct err e = ERR_INIT;
	int rc;

	/* A link in /proc leads any process of the guest to this program. */
	if (getpid() != 1 && argc == 2 && !strcmp(argv[1], "layer"))
		return layer_main();
	if (getpid() != 1) {
		fprintf(stderr, "%s: the init of a sandbox; it is of no use as a program\n",
			MAIN_BUILD);
		return 1;
	}
	rc = boot_early(&e);
	if (!rc)
		rc = agent_init(&agent, &main_platform, MAIN_BUILD, &e);
	if (!rc)
		rc = boot_open(&agent, &e);
	if (!rc)
		rc = ports_start(&agent, &e);
	if (!rc)
		rc = agent_run(&agent);
	log_err("event=init_failed rc=%d reason=\"%s\"", rc, err_text(&e));
	power_reboot();
}
