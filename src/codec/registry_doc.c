/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/registry_doc.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

int registry_token_parse(const void *p, size_t len, char to[REGISTRY_TOKEN_MAX], struct err *e)
{
	json_t *doc = len <= REGISTRY_DOC_MAX ? json_loadb(p, len, 0, NULL) : NULL;
	const char *token = json_string_value(json_object_get(doc, "token"));
	size_t n;
	int rc = 0;

	if (!token || !*token)
		token = json_string_value(json_object_get(doc, "access_token"));
	n = token ? strlen(token) : 0;
	if (!n || n >= REGISTRY_TOKEN_MAX)
		rc = err_set(e, EINVAL, "the token service's answer has no token");
	for (size_t i = 0; !rc && i < n; i++)
		if (token[i] <= ' ' || token[i] > '~')
			rc = err_set(e, EINVAL,
				     "the token service's token has bytes that no token has");
	if (!rc)
		memcpy(to, token, n + 1);
	json_decref(doc);
	return rc;
}

void registry_error_text(const void *p, size_t len, char *to, size_t size)
{
	json_t *doc = len <= REGISTRY_DOC_MAX ? json_loadb(p, len, 0, NULL) : NULL;
	const json_t *first = json_array_get(json_object_get(doc, "errors"), 0);
	const char *code = json_string_value(json_object_get(first, "code"));
	const char *message = json_string_value(json_object_get(first, "message"));

	if (code && message)
		snprintf(to, size, "%s: %s", code, message);
	else
		snprintf(to, size, "%s", code ? code : message ? message : "");
	for (char *c = to; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	json_decref(doc);
}
