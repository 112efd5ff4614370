/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe of /dev/kvm: guests that do what KVM must not do, and the file of results.
 * What needs a /dev/kvm is left out where there is none.
 */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "engine/probe.h"
#include "engine/probe_cache.h"
#include "engine/probe_guest.h"
#include "sys/file.h"
#include "sys/tree.h"

static int kvm_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		skip();
	return fd;
}

static struct probe_report guest_run(const uint8_t *code, size_t len)
{
	const struct probe_guest g = { .start = code, .end = code + len };
	struct probe_report r = { .passed = false };
	struct err e = ERR_INIT;
	int fd = kvm_open();

	if (probe_vm_run(fd, &g, &r, &e))
		fail_msg("%s", err_text(&e));
	close(fd);
	/* Nothing is left of the trial. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	if (r.step != PROBE_STEP_RUN)
		skip(); /* this KVM makes no VM */
	return r;
}

static void test_guest_that_hangs(void **state)
{
	static const uint8_t code[] = { 0xeb, 0xfe }; /* jmp . */
	struct probe_report r;

	(void)state;
	r = guest_run(code, sizeof(code));
	assert_true(r.timed_out);
	assert_false(r.passed);
	assert_false(probe_cache_lasting(&r));
}

static void test_guest_that_crashes(void **state)
{
	static const uint8_t code[] = { 0x0f, 0x0b }; /* ud2: no handler, so a triple fault */
	struct probe_report r;

	(void)state;
	r = guest_run(code, sizeof(code));
	assert_true(r.ended);
	assert_false(r.passed || r.timed_out);
	assert_int_equal(r.exit_reason, KVM_EXIT_SHUTDOWN);
	assert_true(probe_cache_lasting(&r));
}

#define OUT_MARK(mark) 0xb0, (mark), 0xe6, PROBE_GUEST_PORT_MARK /* mov $mark, %al; out */

static void test_guest_that_fails(void **state)
{
	static const uint8_t wrong[] = { OUT_MARK(PROBE_MARK_PAGING), OUT_MARK(PROBE_MARK_WRONG) };
	static const uint8_t port[] = { OUT_MARK(PROBE_MARK_DEVICE), 0xe4, 0x80 }; /* in $0x80 */
	struct probe_report r;

	(void)state;
	r = guest_run(wrong, sizeof(wrong));
	assert_true(r.wrong);
	assert_false(r.passed);
	assert_int_equal(r.mark, PROBE_MARK_PAGING);
	r = guest_run(port, sizeof(port));
	assert_true(r.wrong);
	assert_int_equal(r.mark, PROBE_MARK_DEVICE);
}

static void test_guest_that_passes(void **state)
{
	static const uint8_t code[] = { OUT_MARK(PROBE_MARK_DONE) };
	struct probe_report r;

	(void)state;
	r = guest_run(code, sizeof(code));
	assert_true(r.passed);
	assert_true(r.host_loop_ns > 0);
	assert_false(r.timed_out || r.ended || r.wrong || r.err);
}

static void test_not_kvm(void **state)
{
	struct probe_report r = { .passed = false };
	struct err e = ERR_INIT;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(probe_vm_run(fd, &probe_vm_guest, &r, &e), 0);
	close(fd);
	assert_int_equal(r.step, PROBE_STEP_CREATE_VM);
	assert_int_equal(r.err, ENOTTY);
	assert_false(r.passed || probe_cache_lasting(&r));
}

/* The loop does the same for everybody, and counts what it says it counts. */
static void test_loop(void **state)
{
	uint64_t a[64] = { 0 }, b[64] = { 0 };

	(void)state;
	assert_int_equal(probe_guest_loop(a, 1000), probe_guest_loop(b, 1000));
	assert_memory_equal(a, b, sizeof(a));
	assert_true(probe_guest_loop(a, 999) != probe_guest_loop(b, 1000));
	assert_true(probe_guest_end - probe_guest_start <= PROBE_GUEST_CODE_MAX);
}

static void test_judgement(void **state)
{
	struct probe_report r = { .host_loop_ns = 900, .guest_loop_ns = 1400000 };

	(void)state;
	assert_true(probe_vm_interpreted(&r)); /* measured: a nested paravirtual KVM */
	assert_false(probe_vm_doubtful(&r));
	assert_true(probe_vm_mips(&r) > 1.0 && probe_vm_mips(&r) < 2.0);
	r = (struct probe_report){ .host_loop_ns = 3800, .guest_loop_ns = 210000 };
	assert_true(probe_vm_doubtful(&r)); /* measured: the emulator on a busy machine */
	r = (struct probe_report){ .timed_out = true };
	assert_true(probe_vm_doubtful(&r));
	r = (struct probe_report){ .host_loop_ns = 2100, .guest_loop_ns = 1500 };
	assert_false(probe_vm_interpreted(&r)); /* measured: nested SVM in an emulator */
	r = (struct probe_report){ .host_loop_ns = 2100, .guest_loop_ns = 21000 };
	assert_false(probe_vm_interpreted(&r) || probe_vm_doubtful(&r));
	r = (struct probe_report){ .passed = false };
	assert_false(probe_vm_interpreted(&r));
	assert_true(probe_vm_mips(&r) == 0);
}

static void test_cache_text(void **state)
{
	static const char key[] = "boot 6.1 kvm:";
	struct probe_report r = { .ended = true,
				  .mark = PROBE_MARK_VECTOR,
				  .exit_reason = 17,
				  .exit_detail = 1,
				  .host_loop_ns = 900,
				  .guest_loop_ns = 1000 };
	struct probe_report back;
	char text[PROBE_CACHE_MAX], copy[PROBE_CACHE_MAX];
	size_t n = probe_cache_format(key, &r, text, sizeof(text));

	(void)state;
	assert_true(n > 0);
	assert_int_equal(probe_cache_parse(text, n, key, &back), 0);
	assert_true(back.ended && !back.passed && !back.wrong);
	assert_int_equal(back.mark, r.mark);
	assert_int_equal(back.exit_reason, 17);
	assert_int_equal(back.guest_loop_ns, 1000);
	assert_int_equal(probe_cache_parse(text, n, "boot 6.2 kvm:", &back), -EINVAL);
	for (size_t len = 0; len < n; len++)
		assert_int_equal(probe_cache_parse(text, len, key, &back), -EINVAL);
	/* A digit, a sign or a blank too many anywhere in the numbers. */
	for (size_t at = n - 30; at < n; at++) {
		static const char bad[] = { '-', '+', ' ', '\n', '\0', 'x' };

		for (size_t i = 0; i < sizeof(bad); i++) {
			memcpy(copy, text, n);
			if (copy[at] == bad[i])
				continue;
			copy[at] = bad[i];
			if (probe_cache_parse(copy, n, key, &back) == 0)
				fail_msg("accepted: %.*s", (int)n, copy);
		}
	}
	/* Nothing to format into, and what is not worth keeping. */
	assert_int_equal(probe_cache_format(key, &r, text, 10), 0);
	r = (struct probe_report){ .timed_out = true };
	n = probe_cache_format(key, &r, text, sizeof(text));
	assert_int_equal(probe_cache_parse(text, n, key, &back), -EINVAL);
}

/* ---- the file of results --------------------------------------------- */

static char home[] = "/tmp/msb-test-probe-XXXXXX";

static int home_setup(void **state)
{
	(void)state;
	strcpy(home + strlen(home) - 6, "XXXXXX");
	assert_non_null(mkdtemp(home));
	return setenv("MICROSANDBOX_HOME", home, 1) || test_setup(state);
}

static int home_teardown(void **state)
{
	int fd = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);

	tree_remove(fd, home + strlen("/tmp/"));
	close(fd);
	return test_teardown(state);
}

#define HOME_TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)

/* The numbers of the file. Return: false if there is no file. */
static bool home_numbers(char *to, size_t size)
{
	int dir = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *text = NULL;
	size_t len;
	int rc = file_read_at(dir, "kvm-probe", PROBE_CACHE_MAX, &text, &len, NULL);

	close(dir);
	if (rc)
		return false;
	snprintf(to, size, "%s", strchr(strchr(text, '\n') + 1, '\n') + 1);
	return true;
}

/* Replaces the numbers, keeping the key. */
static void home_set_numbers(const char *numbers)
{
	int dir = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *text = NULL;
	char changed[PROBE_CACHE_MAX];
	size_t len;

	assert_int_equal(file_read_at(dir, "kvm-probe", PROBE_CACHE_MAX, &text, &len, NULL), 0);
	*(strchr(strchr(text, '\n') + 1, '\n') + 1) = '\0';
	snprintf(changed, sizeof(changed), "%s%s", text, numbers);
	assert_int_equal(file_write_at(dir, "kvm-probe", changed, strlen(changed), 0600, false,
				       NULL),
			 0);
	close(dir);
}

static void expect_reason(const char *text)
{
	struct err e = ERR_INIT;

	assert_true(engine_probe_kvm(&e) < 0);
	if (!strstr(err_text(&e), text))
		fail_msg("'%s' does not say '%s'", err_text(&e), text);
}

static void test_result_is_kept(void **state)
{
	char before[256], after[256];
	struct err e = ERR_INIT;

	(void)state;
	close(kvm_open());
	engine_probe_kvm(&e);
	if (!home_numbers(before, sizeof(before)))
		skip(); /* a KVM that is busy or hangs */
	/* The file decides, as long as it is of this boot, and says no more than numbers. */
	home_set_numbers("1 0 0 9 0 0 1000 1000\n");
	assert_int_equal(engine_probe_kvm(&e), 0);
	home_set_numbers("0 0 0 4 0 0 1000 2000000\n");
	expect_reason("ring 0 of its guests is interpreted (0.9 MIPS)");
	home_set_numbers("0 0 1 5 17 1 1000 1000\n");
	expect_reason("die at SSE and XSAVE (KVM_EXIT_INTERNAL_ERROR, 1)");
	home_set_numbers("0 1 0 6 0 0 1000 1000\n");
	expect_reason("wrong results at page tables");
	/* Malformed: the trial is made again and the file replaced. */
	home_set_numbers("1 0 0 9 0 0 1000\n");
	engine_probe_kvm(NULL);
	assert_true(home_numbers(after, sizeof(after)));
	assert_string_equal(strtok(before, " "), strtok(after, " "));
}

static void test_file_in_the_way(void **state)
{
	char path[64], target[64];
	struct stat st;
	int rc;

	(void)state;
	close(kvm_open());
	rc = engine_probe_kvm(NULL);
	snprintf(path, sizeof(path), "%s/kvm-probe", home);
	snprintf(target, sizeof(target), "%s/other", home);
	unlink(path);
	/* A link is neither followed for reading nor for writing. */
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(engine_probe_kvm(NULL), rc);
	assert_int_equal(stat(target, &st), -1);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(engine_probe_kvm(NULL), rc);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(engine_probe_kvm(NULL), rc);
	/* No home at all. */
	setenv("MICROSANDBOX_HOME", "/proc/nothing", 1);
	assert_int_equal(engine_probe_kvm(NULL), rc);
}

/* Runs @fn in a process of its own, as nobody. Return: its exit status. */
static int as_nobody(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(100);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

static int refused(void)
{
	struct err e = ERR_INIT;

	if (engine_probe_kvm(&e) == -EACCES && strstr(err_text(&e), "/dev/kvm is there, but") &&
	    (strstr(err_text(&e), "usermod -aG") || strstr(err_text(&e), "udev rule")))
		return 0;
	print_error("%s\n", err_text(&e));
	return 1;
}

static void test_no_permission(void **state)
{
	struct stat st;

	(void)state;
	if (geteuid() || stat("/dev/kvm", &st) || (st.st_mode & 6) == 6)
		skip();
	assert_int_equal(as_nobody(refused), 0);
}

/* ---- the choice ------------------------------------------------------ */

static void test_choice(void **state)
{
	const struct engine_ops *engine = NULL;
	char notice[ENGINE_NOTICE_MAX] = "x";
	struct err e = ERR_INIT, why = ERR_INIT;
	bool kvm = engine_probe_kvm(&why) == 0;

	(void)state;
	assert_int_equal(engine_choose("xen", &engine, NULL, 0, &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "auto, kvm or tcg"));
	assert_null(engine);
	err_clear(&e);
	if (!kvm) {
		assert_true(engine_choose("kvm", &engine, notice, sizeof(notice), &e) < 0);
		assert_null(engine);
		assert_non_null(strstr(err_text(&e), err_text(&why)));
		assert_non_null(strstr(err_text(&e), "--engine tcg"));
		assert_string_equal(notice, "");
	}
	if (engine_choose("tcg", &engine, notice, sizeof(notice), NULL))
		skip(); /* no QEMU */
	assert_string_equal(engine->name, "tcg");
	assert_string_equal(notice, ""); /* asked for, so there is nothing to tell */
	assert_int_equal(engine_choose("auto", &engine, notice, sizeof(notice), NULL), 0);
	if (strcmp(engine->isolation, "hardware")) {
		assert_non_null(strstr(notice, "software emulation (engine tcg)"));
		assert_true(kvm || strstr(notice, err_text(&why)));
	} else {
		assert_string_equal(notice, "");
	}
}

static const struct CMUnitTest tests[] = {
	TEST(test_guest_that_hangs),
	TEST(test_guest_that_crashes),
	TEST(test_guest_that_fails),
	TEST(test_guest_that_passes),
	TEST(test_not_kvm),
	TEST(test_loop),
	TEST(test_judgement),
	TEST(test_cache_text),
	HOME_TEST(test_result_is_kept),
	HOME_TEST(test_file_in_the_way),
	HOME_TEST(test_no_permission),
	HOME_TEST(test_choice),
};

int main(void)
{
	return test_run(tests);
}
