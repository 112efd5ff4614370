/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/checked.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

static void err_first_wins_and_wraps(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&e, EINVAL, "bad %d", 7), -EINVAL);
	assert_int_equal(err_set(&e, ENOENT, "later"), -ENOENT);
	assert_int_equal(e.code, EINVAL);
	assert_string_equal(err_text(&e), "bad 7");
	assert_int_equal(err_wrap(&e, "file %s", "x"), -EINVAL);
	assert_string_equal(err_text(&e), "file x: bad 7");
	err_clear(&e);
	assert_int_equal(err_wrap(&e, "nothing"), 0);
	assert_string_equal(err_text(&e), "no error");
	assert_int_equal(err_set(NULL, EIO, "ignored"), -EIO);
}

static void err_messages_are_one_bounded_line(void **state)
{
	struct err e = ERR_INIT;
	char big[3 * ERR_MSG_MAX];

	(void)state;
	err_set(&e, EIO, "a\nb\x1b[31mc");
	assert_string_equal(err_text(&e), "a?b?[31mc");
	err_clear(&e);
	err_set(&e, EIO,
		"a\xc2\x9b"
		"31m\xc2\xa0\xc3\x9b\xc2");
	assert_string_equal(err_text(&e), "a??31m\xc2\xa0\xc3\x9b\xc2");
	err_clear(&e);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_errno(&e, ENOENT, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	err_wrap(&e, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
}

static size_t wiped;

/* In the place of libc's, checked or not: what is overwritten is counted. */
void explicit_bzero(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
	wiped += n;
}

void __explicit_bzero_chk(void *p, size_t n, size_t size);
void __explicit_bzero_chk(void *p, size_t n, size_t size)
{
	(void)size;
	explicit_bzero(p, n);
}

static void buf_of_secrets_leaves_nothing_in_memory(void **state)
{
	static const uint8_t bytes[5000];
	struct buf b;

	(void)state;
	wiped = 0;
	buf_init_secret(&b, 6000);
	assert_int_equal(buf_append(&b, bytes, 10), 0);
	assert_int_equal(wiped, 0);
	/* It grows into other memory. */
	assert_int_equal(buf_append(&b, bytes, sizeof(bytes)), 0);
	assert_true(wiped >= 10 && wiped < sizeof(bytes));
	wiped = 0;
	buf_reset(&b);
	assert_true(wiped >= 10 + sizeof(bytes));
	assert_int_equal(buf_append(&b, bytes, 10), 0);
	assert_int_equal(buf_reserve(&b, 6000, &(uint8_t *){ NULL }), -ENOBUFS);
	wiped = 0;
	buf_fini(&b);
	assert_true(wiped >= 10);
	wiped = 0;
	buf_init(&b, 0);
	assert_int_equal(buf_append(&b, bytes, 10), 0);
	buf_fini(&b);
	assert_int_equal(wiped, 0);
}

static void buf_queues_bytes_in_order(void **state)
{
	struct buf b = BUF_INIT;
	uint32_t next_in = 0, next_out = 0;

	(void)state;
	srand(1);
	while (next_out < 200000) {
		unsigned n = (unsigned)rand() % 700;

		for (unsigned i = 0; i < n && next_in < 200000; i++) {
			uint8_t byte = (uint8_t)(next_in++ * 2654435761u >> 24);

			assert_int_equal(buf_append(&b, &byte, 1), 0);
		}
		n = (unsigned)rand() % 700;
		if (n > buf_len(&b))
			n = (unsigned)buf_len(&b);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(buf_data(&b)[i], (uint8_t)(next_out++ * 2654435761u >> 24));
		buf_consume(&b, n);
	}
	assert_int_equal(buf_len(&b), 0);
	buf_fini(&b);
}

static void buf_refuses_more_than_its_limit(void **state)
{
	struct buf b;
	uint8_t *to;

	(void)state;
	buf_init(&b, 10);
	assert_int_equal(buf_append(&b, "0123456789", 10), 0);
	assert_int_equal(buf_append(&b, "x", 1), -ENOBUFS);
	assert_int_equal(buf_reserve(&b, SIZE_MAX, &to), -ENOBUFS);
	buf_consume(&b, 4);
	assert_int_equal(buf_append(&b, "abcd", 4), 0);
	assert_memory_equal(buf_data(&b), "456789abcd", 10);
	buf_consume(&b, 1000);
	assert_int_equal(buf_len(&b), 0);
	buf_fini(&b);
}

static void checked_range_knows_overflow(void **state)
{
	(void)state;
	assert_true(checked_range(0, 0, 0));
	assert_true(checked_range(5, 5, 10));
	assert_false(checked_range(5, 6, 10));
	assert_false(checked_range(11, 0, 10));
	assert_false(checked_range(UINT64_MAX, 2, 10));
	assert_false(checked_range(2, UINT64_MAX, 10));
}

struct item {
	int value;
	struct list link;
};

static void list_survives_removal_while_walking(void **state)
{
	struct list head = LIST_INIT(head);
	struct item items[5];
	int sum = 0;

	(void)state;
	for (int i = 0; i < 5; i++) {
		items[i].value = i;
		list_append(&head, &items[i].link);
	}
	list_for_each (pos, tmp, &head)
		if (list_entry(pos, struct item, link)->value % 2)
			list_remove(pos);
	list_for_each (pos, tmp, &head)
		sum = sum * 10 + list_entry(pos, struct item, link)->value;
	assert_int_equal(sum, 24);
	list_remove(&items[1].link); /* a second time */
	assert_false(list_empty(&head));
}

static void mem_moves_ownership(void **state)
{
	auto_free char *p = strdup("x");
	auto_close int fd = dup(0);
	char *moved = take_ptr(&p);
	int moved_fd = take_fd(&fd);

	(void)state;
	assert_null(p);
	assert_int_equal(fd, -1);
	free(moved);
	close_fd(&moved_fd);
	assert_int_equal(moved_fd, -1);
	close_fd(&moved_fd);
}

static void log_lines_cannot_be_forged(void **state)
{
	int fds[2];
	char line[4096];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	log_init(fds[1], LOG_INFO, "test/1");
	log_info("name=%s", "a\n2026-01-01T00:00:00.000Z error x: forged");
	log_debug("not shown");
	n = read(fds[0], line, sizeof(line) - 1);
	assert_true(n > 0);
	line[n] = '\0';
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	assert_non_null(strstr(line, "Z info test/1: name=a?2026"));
	log_init(2, LOG_WARN, "test");
	close(fds[0]);
	close(fds[1]);
}

static void log_limit_holds_back_and_counts(void **state)
{
	struct log_limit l = LOG_LIMIT(3, 3600 * 1000);
	unsigned passed = 0, dropped = 99;

	(void)state;
	for (int i = 0; i < 100; i++)
		passed += log_limit_pass(&l, &dropped);
	assert_int_equal(passed, 3);
	assert_int_equal(dropped, 0);
	assert_int_equal(l.held, 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(err_first_wins_and_wraps),
		TEST(err_messages_are_one_bounded_line),
		TEST(buf_queues_bytes_in_order),
		TEST(buf_of_secrets_leaves_nothing_in_memory),
		TEST(buf_refuses_more_than_its_limit),
		TEST(checked_range_knows_overflow),
		TEST(list_survives_removal_while_walking),
		TEST(mem_moves_ownership),
		TEST(log_lines_cannot_be_forged),
		TEST(log_limit_holds_back_and_counts),
	};

	return test_run(tests);
}
