/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_ERR_H
#define MSB_BASE_ERR_H

/*
 * Host failures: how a function says what went wrong.
 *
 * A function that can fail takes a `struct err *` as its last parameter and
 * returns 0 or a negative errno.  The object belongs to the caller, is of fixed
 * size (a failure path allocates nothing), may be NULL, and is untouched on
 * success.  The first error wins: a later err_set() on a set object is ignored,
 * while err_wrap() prepends context to it.
 *
 * Messages are one line for a person: what failed, where, and what to do.
 */

#include <stdarg.h>
#include <stdbool.h>

#define ERR_MSG_MAX 1024

struct err {
	int code; /* positive errno, 0 = no error */
	char msg[ERR_MSG_MAX]; /* NUL-terminated, without a newline */
};

/* Initialiser that does not clear the message bytes. */
#define ERR_INIT \
	{ \
		.code = 0 \
	}

/**
 * err_set() - record a failure
 * @e:    caller's error object or NULL
 * @code: positive errno
 * @fmt:  one line, printf style
 *
 * Return: -@code, so that `return err_set(e, EINVAL, …)` reads well.
 */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), with ": <text of the errno>" appended to the line. */
int err_errno(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Prepends "<context>: " to a set error. Return: its negative code, 0 if not set. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void err_clear(struct err *e);

/* Makes a text one line that steers no terminal: each byte of a control character becomes '?'. */
void err_sanitise(char *text);

/* The message, or the text of @code's errno if no message was given. Never NULL. */
const char *err_text(const struct err *e);

#endif
