/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of msb-vmm. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/options.h"

#define ARGS_MAX 80

static struct options o;
static struct err e;

/* Parses @line, split at blanks.  0, 1 and 2 are descriptors that are open. */
static int parse(const char *line)
{
	static char copy[4096];
	char *argv[ARGS_MAX + 1] = { (char *)"msb-vmm" };
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) {
		assert_true(argc < ARGS_MAX);
		argv[argc++] = p;
	}
	err_clear(&e);
	memset(&o, 0xee, sizeof(o));
	return options_parse(argc, argv, &o, &e);
}

#define BASE "--kvm-fd 0 --cpus 2 --memory 268435456 "

static void assert_refused(const char *line, const char *why)
{
	assert_int_equal(parse(line), -EINVAL);
	if (!strstr(e.msg, why))
		fail_msg("%s: '%s' is not in: %s", line, why, e.msg);
	assert_int_equal(o.cpus, 0xeeeeeeee); /* written on success only */
}

static void everything_can_be_said(void **state)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 0xf };

	(void)state;
	assert_int_equal(parse(BASE "--name box --cmdline quiet --kernel-fd 1 --initramfs-fd 2 "
				    "--disk fd=0,serial=image,readonly --disk serial=upper,fd=1 "
				    "--console-fd 1 --port fd=2,name=agent.ctl "
				    "--port fd=0,name=agent.bulk --net fd=1,mac=02:00:00:00:00:0f "
				    "--control-fd 2 --seccomp-log --log-level debug"),
			 0);
	assert_string_equal(o.name, "box");
	assert_string_equal(o.cmdline, "quiet");
	assert_int_equal(o.cpus, 2);
	assert_int_equal(o.memory_bytes, 268435456);
	assert_int_equal(o.kvm_fd, 0);
	assert_int_equal(o.kernel_fd, 1);
	assert_int_equal(o.initramfs_fd, 2);
	assert_int_equal(o.n_disks, 2);
	assert_string_equal(o.disks[0].serial, "image");
	assert_true(o.disks[0].readonly && !o.disks[1].readonly);
	assert_int_equal(o.disks[1].fd, 1);
	assert_int_equal(o.n_ports, 2);
	assert_string_equal(o.ports[1].name, "agent.bulk");
	assert_int_equal(o.ports[0].fd, 2);
	assert_int_equal(o.net_fd, 1);
	assert_memory_equal(o.net_mac, mac, 6);
	assert_int_equal(o.control_fd, 2);
	assert_true(o.seccomp_log);
	assert_int_equal(o.level, LOG_DEBUG);
}

static void what_is_not_said_is_absent(void **state)
{
	(void)state;
	assert_int_equal(parse(BASE "--restore-state-fd 1 --restore-memory-fd 2"), 0);
	assert_int_equal(o.restore_state_fd, 1);
	assert_int_equal(o.restore_memory_fd, 2);
	assert_int_equal(o.kernel_fd, -1);
	assert_int_equal(o.initramfs_fd, -1);
	assert_int_equal(o.console_fd, -1);
	assert_int_equal(o.net_fd, -1);
	assert_int_equal(o.control_fd, -1);
	assert_int_equal(o.n_disks + o.n_ports, 0);
	assert_string_equal(o.cmdline, "");
}

static void what_is_needed_has_to_be_said(void **state)
{
	(void)state;
	assert_refused("", "--kvm-fd");
	assert_refused("--kvm-fd 0 --memory 1 --kernel-fd 0", "--cpus");
	assert_refused("--kvm-fd 0 --cpus 1 --kernel-fd 0", "--memory");
	assert_refused(BASE, "--kernel-fd is missing");
	assert_refused(BASE "--restore-state-fd 1", "belong together");
	assert_refused(BASE "--kernel-fd 0 --restore-memory-fd 1", "belong together");
	assert_refused(BASE "--kernel-fd 0 --restore-state-fd 1 --restore-memory-fd 1", "not both");
}

static void nonsense_is_refused(void **state)
{
	static const char *const lines[] = {
		"--nonsense",
		"--cpus",
		"stray",
		"--cpus -1",
		"--cpus 1x",
		"--cpus 99999999999999999999",
		"--memory 0x10",
		"--memory 4503599627370497",
		"--kernel-fd 999", /* not open */
		"--kernel-fd -1",
		"--kernel-fd 4294967296",
		"--console-fd x",
		"--disk",
		"--disk fd=0",
		"--disk serial=a",
		"--disk fd=0,serial=",
		"--disk fd=0,serial=123456789012345678901",
		"--disk fd=999,serial=a",
		"--disk fd=0,serial=a,readonli",
		"--port fd=0,name=",
		"--port fd=0,serial=a",
		"--port fd=0,name=12345678901234567890123456789012",
		"--net fd=0",
		"--net fd=0,mac=02:00:00:00:00",
		"--net fd=0,mac=02:00:00:00:00:0g",
		"--net fd=0,mac=02:00:00:00:00:0f0",
		"--net mac=02:00:00:00:00:0f",
		"--log-level loud",
		"--disk fd=0,serial=1 --disk fd=0,serial=2 --disk fd=0,serial=3 --disk "
		"fd=0,serial=4 "
		"--disk fd=0,serial=5",
		"--port fd=0,name=1 --port fd=0,name=2 --port fd=0,name=3 --port fd=0,name=4 "
		"--port fd=0,name=5 --port fd=0,name=6 --port fd=0,name=7",
	};
	char line[1024];

	(void)state;
	assert_int_equal(parse(BASE "--kernel-fd 0 --disk fd=0,serial=12345678901234567890"), 0);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), BASE "--kernel-fd 0 %s", lines[i]);
		assert_refused(line, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_can_be_said),
		TEST(what_is_not_said_is_absent),
		TEST(what_is_needed_has_to_be_said),
		TEST(nonsense_is_refused),
	};

	return test_run(tests);
}
