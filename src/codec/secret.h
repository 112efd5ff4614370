/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SECRET_H
#define MSB_CODEC_SECRET_H

/*
 * Secrets of a sandbox: plain data.  The guest has SECRET_PLACEHOLDER and the name instead of
 * the value; msb-net puts the value in, towards the named hosts and nobody else.
 *
 *   NAME[=env:VARIABLE | =file:PATH]@HOST[:PORT]{,HOST[:PORT]}
 *   HOST = name | *.name, as in the rules of the network; PORT = number or range, else 80
 *
 * The text that is handed down to msb-net over a descriptor has a line for each thing:
 *
 *   secrets 1
 *   secret NAME
 *   host HOST:PORT
 *   value VALUE
 */

#include "base/buf.h"
#include "base/err.h"
#include "codec/netrule.h"

#define SECRETS_MAX 32u /* of a sandbox; a bit each */
#define SECRET_NAME_MAX 64u
#define SECRET_VALUE_MAX 4096u
#define SECRET_HOSTS_MAX 16u
#define SECRET_TEXT_MAX (512u * 1024u) /* of them all, handed down */
#define SECRET_PORT 80

#define SECRET_PLACEHOLDER "MSB_SECRET_"
#define SECRET_PLACEHOLDER_MAX (sizeof(SECRET_PLACEHOLDER) + SECRET_NAME_MAX) /* with its NUL */

struct secret {
	char name[SECRET_NAME_MAX + 1]; /* of the environment variable */
	char *value; /* NULL = not known yet; no control characters in it */
	size_t value_len;
	struct netrule hosts[SECRET_HOSTS_MAX]; /* their names and ports */
	unsigned n_hosts;
};

struct secret_list {
	struct secret *v;
	unsigned n;
};

enum secret_from { SECRET_FROM_ENV, SECRET_FROM_FILE };

/* Where the value of a secret is to be had. */
struct secret_source {
	enum secret_from from;
	const char *what; /* a variable, or a path: within the text that was parsed, or the name */
	size_t len;
};

/**
 * secret_parse() - what follows --secret
 * @out: zeroed; on success secret_fini() frees it, and its value is still missing
 */
int secret_parse(const char *text, struct secret *out, struct secret_source *source, struct err *e);

/* Sets the name of a zeroed secret, and adds a host to it: "example.org", "*.example.org:8080". */
int secret_set_name(struct secret *s, const char *name, size_t len, struct err *e);
int secret_add_host(struct secret *s, const char *host, size_t len, struct err *e);

/* Checks and copies the value.  No message holds any of it. */
int secret_set_value(struct secret *s, const char *value, size_t len, struct err *e);

/* Wipes and frees. */
void secret_fini(struct secret *s);

/* Takes @s over, also where it fails (then @s is freed). */
int secret_list_add(struct secret_list *l, struct secret *s, struct err *e);
void secret_list_fini(struct secret_list *l);

/* "NAME=placeholder", as the guest's environment has it. Return: @text. */
#define SECRET_ENV_MAX (SECRET_NAME_MAX + 1 + SECRET_PLACEHOLDER_MAX)
char *secret_env(const struct secret *s, char text[SECRET_ENV_MAX]);

/* Is @name (lower case, without the last dot) with @port one of its hosts? */
bool secret_is_for(const struct secret *s, const char *name, uint16_t port);

/* The text for msb-net; @out: of buf_init_secret(). And back: *@out is written on success only. */
int secret_list_format(const struct secret_list *l, struct buf *out);
int secret_list_parse(const char *text, size_t len, struct secret_list *out, struct err *e);

#endif
