/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CAPI_CURL_H
#define MSB_CAPI_CURL_H

/* What http.c and link.c share of libcurl; the rest of the library does not know it. */

#include <curl/curl.h>
#include <stdbool.h>

struct capi_client;

/* Sets where a handle connects to, and how. @text: CURL_ERROR_SIZE bytes, which the handle keeps. */
bool capi_curl_prepare(CURL *h, const struct capi_client *c, const char *url, char *text);

#endif
