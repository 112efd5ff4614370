/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SDK_C_DRIVER_H
#define MSB_SDK_C_DRIVER_H

/* What the parts of the driver share: driver.c has requests and calls, driver_files.c files,
 * driver_streams.c output as it comes, driver_process.c programs that are talked to. */

#include <jansson.h>
#include <math.h>
#include <microsandbox.h>
#include <pthread.h>
#include <stdbool.h>

struct request {
	struct request *next;
	json_t *q;
	json_int_t id;
	struct msb_cancel *cancel;
	pthread_t thread;
};

/* What carries out a request gives "ok" and returns 0, or sets *e and returns its kind; or one of these. */
enum {
	DRIVER_OTHER = -1, /* the request is not for it */
	DRIVER_SAID =
		-2, /* "ok" is the error: the library was not asked, or does not know the reason */
};

int driver_on_file(const struct request *r, const char *op, json_t **ok, struct msb_error **e);
int driver_on_stream(const struct request *r, const char *op, json_t **ok, struct msb_error **e);
/* A program that is talked to; of any other that is opened it forgets one of the same name. */
int driver_on_process(const struct request *r, const char *op, json_t **ok, struct msb_error **e);
/* Code or a program whose output is told as it was heard. */
int driver_listen(const struct request *r, const char *op, json_t **ok, struct msb_error **e);
/* Ends it, if there is one. */
void driver_drop_stream(const char *name);
/* End all that are open. */
void driver_end_streams(void);
void driver_end_processes(void);

struct msb_sandbox *driver_box(const json_t *q);
const char *driver_get(const json_t *o, const char *key);
/* A list that ends with NULL, for the caller to free; its texts belong to @o. An object's members
 * become "KEY=VALUE" texts, which are in @keep. */
const char **driver_list(const json_t *o, const char *key, json_t *keep);
double driver_timeout(const json_t *q);
json_t *driver_text(const char *text);
json_t *driver_integer(int64_t v); /* null if it is below 0 */
json_t *driver_execution(const struct msb_execution *x);

/* Bytes that grow. */
struct bytes {
	char *p; /* a NUL follows the last */
	size_t n, room;
};

void driver_add(struct bytes *b, const void *p, size_t n);
json_t *driver_base64(const struct bytes *b);
/* The member @binary in base64, or @plain as text; "" if there is neither. Freed by the caller. */
struct bytes driver_data(const json_t *q, const char *plain, const char *binary);
/*
 * Takes text off the start of @b: what is no UTF-8 becomes U+FFFD, a character that is not
 * complete stays, unless this is the @end.
 */
void driver_decode(struct bytes *text, struct bytes *b, bool end);

/* What came of a stream since it was last said; starts as zeroes. */
struct output {
	struct bytes open[2], text[2]; /* of stdout and stderr */
	size_t size[2];
};

void driver_output_add(struct output *o, enum msb_stream stream, const void *p, size_t n);
/* Is @text in what standard output said? NULL never is. */
bool driver_output_has(const struct output *o, const char *text, size_t len);
/* As "until" and "finish" answer. */
json_t *driver_output_take(struct output *o, bool end);
void driver_output_free(struct output *o);
/* Adds how it ended to that. */
void driver_add_end(json_t *o, const struct msb_execution *x, bool code);

#endif
