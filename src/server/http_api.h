/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_HTTP_API_H
#define MSB_SERVER_HTTP_API_H

/* Paths that are not JSON-RPC, and what answers them have in common. */

#include <jansson.h>

#include "server/conn.h"
#include "server/rpc.h"

/*
 * Who asks.  Return: false if nobody who may: it was answered.  A key is looked at again
 * when a body has come, which may have taken longer than the key is valid.
 */
bool http_api_who(struct conn *c, struct principal *who);

/* Headers that a page of another origin needs to read the answer. Return: @to. */
const char *http_api_headers(struct conn *c, char *to, size_t size);

/*
 * Answers {"error": @text, "code": @code or null} and the members of @more, which is taken
 * over and may be NULL.  @text may have a guest's bytes in it.
 */
void http_api_fail(struct conn *c, int status, int code, json_t *more, const char *text);

/* http_files.c: content of files, of any size. */
void http_files_get(struct conn *c, const char *unused);
void http_files_put(struct conn *c, const char *unused);

/* http_events.c: programs and code as server-sent events. */
void http_events_exec(struct conn *c, const char *unused);
void http_events_repl(struct conn *c, const char *unused);

/* http_socket.c: programs on a WebSocket. */
void http_socket_exec(struct conn *c, const char *unused);

#endif
