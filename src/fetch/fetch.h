/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_FETCH_FETCH_H
#define MSB_FETCH_FETCH_H

/* Inside msb-fetch; see main.c for its theory of operation. */

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/err.h"
#include "codec/fetch_wire.h"
#include "codec/registry_doc.h"
#include "codec/registry_head.h"

/* What the workers share.  Only what the lock guards changes after the start. */
struct fetcher {
	struct fetch_setup setup;
	struct curl_blob ca; /* len 0 = none */
	int sock;
	pthread_mutex_t lock;
	struct {
		char token[REGISTRY_TOKEN_MAX]; /* "" = none yet */
		unsigned generation; /* counts tokens, so that one is not asked for twice */
		bool basic; /* it wants the password itself */
		bool http; /* it was found not to speak TLS */
		bool reached; /* it has answered before */
	} state[FETCH_ENDPOINTS_MAX];
};

/* One exchange. */
struct fetch_answer {
	long status; /* 0 = no answer came */
	CURLcode result;
	char challenge[2048], location[16], media_type[128], digest[DIGEST_SIZE];
	bool challenge_bad; /* longer than fits */
	uint64_t range_first;
	bool has_range, range_bad;
	int64_t length; /* Content-Length; -1 = not given */
	int64_t retry_after; /* seconds; -1 = not given */
	char error[CURL_ERROR_SIZE];
	char text[128]; /* what the registry says of an error */
};

/*
 * Sets what every exchange with an endpoint has in common: protocols, certificates, time
 * limits, redirections.
 */
void fetch_common(const struct fetcher *f, CURL *easy, const struct fetch_endpoint *ep, bool http);

/* Is it an address that not everybody can reach? */
bool fetch_is_private(const struct sockaddr *a);

/* Reads a header line into @a. */
size_t fetch_on_header(char *line, size_t size, size_t n, void *answer);

/* A callback that appends to a struct buf, up to its limit. */
size_t fetch_on_buffer(char *p, size_t size, size_t n, void *buf);

/*
 * fetch_authorize() - do what a 401 asks for
 * @seen: the token's generation that was refused
 *
 * Gets a token (or takes one that another worker just got) or turns to Basic.
 * Return: 0 (try again), -EACCES (there is nothing to try), or why no token came.
 */
int fetch_authorize(struct fetcher *f, CURL *easy, unsigned i, const struct fetch_answer *a,
		    unsigned seen, struct err *e);

/* The header that authorizes a request now. *@seen: its generation. NULL list = none. */
int fetch_authorization(struct fetcher *f, unsigned i, struct curl_slist **headers, unsigned *seen);

/* Carries a request out, to its DONE or FAILED. @pipe: for the body. */
void fetch_run(struct fetcher *f, CURL *easy, const struct fetch_request *r, int pipe);

/* Sends an event; text is printf style. */
void fetch_tell(struct fetcher *f, const struct fetch_request *r, enum fetch_event_kind kind,
		int code, const struct fetch_answer *a, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* The seccomp list, installed before anything comes from the network. */
int fetch_confine(struct err *e);

#endif
