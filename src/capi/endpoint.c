/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server is, and with which key: arguments, the environment, a file .env. */
#include <ctype.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capi/internal.h"

#define ENDPOINT_DEFAULT "http://127.0.0.1:5555"
#define ENDPOINT_ENV_MAX ((size_t)1 << 20)
#define ENDPOINT_SPACE " \t\v\f\r"

/* Takes white space off both ends. */
static const char *endpoint_trim(const char *s, size_t *n)
{
	while (*n && strchr(ENDPOINT_SPACE, *s)) {
		s++;
		--*n;
	}
	while (*n && strchr(ENDPOINT_SPACE, s[*n - 1]))
		--*n;
	return s;
}

/* What stands after the equals sign: in quotes, or up to a comment. */
static const char *endpoint_unquote(const char *s, size_t *n)
{
	const char *end;

	s = endpoint_trim(s, n);
	if (*n && (*s == '"' || *s == '\'')) {
		end = memchr(s + 1, *s, *n - 1);
		if (end) {
			*n = (size_t)(end - s - 1);
			return s + 1;
		}
	}
	end = memmem(s, *n, " #", 2);
	if (end)
		*n = (size_t)(end - s);
	return endpoint_trim(s, n);
}

char *capi_env_value(const char *text, size_t len, const char *key)
{
	const char *end = text + len, *line, *next, *equals, *found = NULL, *value;
	size_t n, name_len, found_len = 0, value_len;

	for (line = text; line < end; line = next) {
		next = memchr(line, '\n', (size_t)(end - line));
		n = (size_t)((next ? next : end) - line);
		next = next ? next + 1 : end;
		line = endpoint_trim(line, &n);
		if (n >= 7 && !memcmp(line, "export ", 7)) {
			line += 7;
			n -= 7;
		}
		equals = memchr(line, '=', n);
		if (!equals)
			continue;
		name_len = (size_t)(equals - line);
		value_len = n - name_len - 1;
		line = endpoint_trim(line, &name_len);
		if (name_len != strlen(key) || memcmp(line, key, name_len))
			continue;
		value = endpoint_unquote(equals + 1, &value_len);
		if (memchr(value, '\0', value_len))
			continue;
		found = value;
		found_len = value_len;
	}
	return found ? strndup(found, found_len) : NULL;
}

/* malloc()ed; NULL: there is no such file, or no memory. */
static char *endpoint_read_file(const char *path, size_t *len)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	auto_free char *text = NULL;
	size_t have = 0;
	ssize_t n = 1;

	if (fd < 0)
		return NULL;
	text = malloc(ENDPOINT_ENV_MAX);
	while (text && have < ENDPOINT_ENV_MAX && n > 0) {
		n = read(fd, text + have, ENDPOINT_ENV_MAX - have);
		have += n > 0 ? (size_t)n : 0;
	}
	*len = have;
	return take_ptr(&text);
}

static const char *endpoint_env(const char *key)
{
	const char *v = secure_getenv(key);

	return v && *v ? v : NULL;
}

static int endpoint_copy(char **out, const char *text, struct msb_error **err)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? capi_no_memory(err) : 0;
}

static int endpoint_settings(struct capi_endpoint *e, const char *url, const char *api_key,
			     struct msb_error **err)
{
	auto_free char *text = NULL, *file_url = NULL, *file_key = NULL;
	const char *env_url = endpoint_env("MSB_SERVER_URL"),
		   *env_key = endpoint_env("MSB_API_KEY");
	size_t len = 0, n;

	if (!api_key && !env_key) {
		text = endpoint_read_file(".env", &len);
		file_url = text ? capi_env_value(text, len, "MSB_SERVER_URL") : NULL;
		file_key = text ? capi_env_value(text, len, "MSB_API_KEY") : NULL;
	}
	env_url = env_url ? env_url : file_url;
	env_key = env_key ? env_key : file_key;
	url = url && *url ? url : env_url && *env_url ? env_url : ENDPOINT_DEFAULT;
	api_key = api_key ? api_key : env_key;
	if (endpoint_copy(&e->url, url, err) ||
	    endpoint_copy(&e->api_key, api_key && *api_key ? api_key : NULL, err) ||
	    endpoint_copy(&e->ca_file, endpoint_env("SSL_CERT_FILE"), err) ||
	    endpoint_copy(&e->ca_dir, endpoint_env("SSL_CERT_DIR"), err))
		return MSB_ERR_NO_MEMORY;
	for (n = strlen(e->url); n && e->url[n - 1] == '/'; n--)
		e->url[n - 1] = '\0';
	return 0;
}

/* Is there nothing but visible ASCII (and blanks, if @blank)? */
static bool endpoint_is_plain(const char *s, bool blank)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 127 || *s < (blank ? ' ' : '!'))
			return false;
	return true;
}

static bool endpoint_has(CURLU *u, CURLUPart part)
{
	char *value = NULL;
	bool has = !curl_url_get(u, part, &value, 0) && value && *value;

	curl_free(value);
	return has;
}

/* Sets base and unix_path. Return: 0, -1 (not an address), or MSB_ERR_NO_MEMORY. */
static int endpoint_take_apart(struct capi_endpoint *e)
{
	CURLU *u;
	int rc = -1;

	if (!strncasecmp(e->url, "unix:", 5)) {
		const char *path = e->url + 5;

		if (path[0] == '/' && path[1] == '/')
			path += 2;
		if (path[0] != '/')
			return -1;
		e->unix_path = strdup(path);
		e->base = strdup("http://localhost");
		return e->unix_path && e->base ? 0 : MSB_ERR_NO_MEMORY;
	}
	if (!endpoint_is_plain(e->url, false) ||
	    (strncasecmp(e->url, "http://", 7) && strncasecmp(e->url, "https://", 8)))
		return -1;
	/* libcurl would take a third slash for none. */
	if (strstr(e->url, "://")[3] == '/')
		return -1;
	u = curl_url();
	if (!u)
		return MSB_ERR_NO_MEMORY;
	if (!curl_url_set(u, CURLUPART_URL, e->url, CURLU_DISALLOW_USER) &&
	    endpoint_has(u, CURLUPART_HOST) && !endpoint_has(u, CURLUPART_QUERY) &&
	    !endpoint_has(u, CURLUPART_FRAGMENT)) {
		e->base = strdup(e->url);
		rc = e->base ? 0 : MSB_ERR_NO_MEMORY;
	}
	curl_url_cleanup(u);
	return rc;
}

int capi_endpoint_init(struct capi_endpoint *e, const char *url, const char *api_key,
		       struct msb_error **err)
{
	int rc;

	*e = (struct capi_endpoint){ .url = NULL };
	rc = endpoint_settings(e, url, api_key, err);
	if (rc)
		return rc;
	if (e->api_key && !endpoint_is_plain(e->api_key, true))
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "the API key holds characters that no key has");
	rc = endpoint_take_apart(e);
	if (rc == MSB_ERR_NO_MEMORY)
		return capi_no_memory(err);
	if (rc)
		return capi_fail(err, MSB_ERR_ARGUMENT,
				 "server URL '%s': must be http://HOST[:PORT], https://HOST[:PORT] "
				 "or unix:///PATH",
				 e->url);
	return 0;
}

void capi_endpoint_fini(struct capi_endpoint *e)
{
	free(e->url);
	free(e->base);
	free(e->unix_path);
	free(e->api_key);
	free(e->ca_file);
	free(e->ca_dir);
}
