/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_NETCONTROL_H
#define MSB_CODEC_NETCONTROL_H

/*
 * What a supervisor and its msb-net say to each other on the control descriptor, a packet a
 * message, besides netpolicy_parse_message(): questions for counters, and members of the
 * sandbox's group.  The supervisor asks, and gets one answer for each message: "ok" with what
 * was asked for, or "error" and why.
 *
 *   counters 1                  answered "ok", then a line "NAME NUMBER" for each counter
 *   member 1 / NUMBER NAME      with the socket that leads to that member
 *
 * Two supervisors of a group greet each other with the same line behind "group 1", so this is
 * read here as well.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NETCONTROL_OK "ok\n"
#define NETCONTROL_ERROR "error "
#define NETCONTROL_ANSWER_MAX 2048u

/* ---- counters ------------------------------------------------------------------------ */

#define NETCONTROL_COUNTERS "counters 1\n"
#define NETCOUNTERS_MAX 48u
#define NETCOUNTER_NAME_MAX 24u

struct netcounter {
	char name[NETCOUNTER_NAME_MAX]; /* small letters and '-' */
	uint64_t value;
};

struct netcounters {
	unsigned n;
	struct netcounter v[NETCOUNTERS_MAX];
};

/* -ENOSPC: there are too many; the name is cut if it is too long. */
int netcounters_add(struct netcounters *c, const char *name, uint64_t value);

/* 0 = no such counter. */
uint64_t netcounters_get(const struct netcounters *c, const char *name);

/* The answer's text behind "ok". Return: its length; -ENOSPC. */
int netcounters_format(const struct netcounters *c, char *out, size_t size);

/*
 * Reads an answer, "ok" included, of a msb-net that a guest may have taken over.
 * Return: 0; -EPROTO: it is none.  *@out is written on success only.
 */
int netcounters_parse(const char *answer, size_t len, struct netcounters *out);

/* ---- members of a group ------------------------------------------------------------------ */

#define NETCONTROL_MEMBER "member 1\n"
#define NETCONTROL_GROUP "group 1\n"
#define NETGROUP_MEMBERS_MAX 64u /* their numbers are 1 to this */
#define NETGROUP_NAME_SIZE 64u
#define NETCONTROL_MEMBER_MAX 128u /* bytes of a message */

struct netmember {
	unsigned number;
	char name[NETGROUP_NAME_SIZE]; /* small letters, digits, '-' and '_' */
};

/* Is it a name that a group or a member can have: 1 to 63 letters, digits, '-' and '_'? */
bool netgroup_name_valid(const char *name);

/* @head: NETCONTROL_MEMBER or NETCONTROL_GROUP. Return: the length. */
size_t netmember_format(const char *head, const struct netmember *m,
			char out[NETCONTROL_MEMBER_MAX]);

/* Return: 0; -EINVAL with the reason in @e. */
int netmember_parse(const char *head, const char *msg, size_t len, struct netmember *out,
		    struct err *e);

/* The name as a member has it, in small letters. @name: valid. */
void netmember_set_name(struct netmember *m, const char *name);

#endif
