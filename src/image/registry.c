/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/credentials.h"
#include "sys/file.h"

#define REGISTRIES_FILE "registries.json"
#define REGISTRY_CA_MAX (4u << 20)
#define HUB "docker.io"
#define HUB_HOST "registry-1.docker.io"

static bool registry_is_loopback(const char *host)
{
	size_t n = strcspn(host, ":");

	return (n == 9 && !strncmp(host, "localhost", n)) ||
	       (!strncmp(host, "127.", 4) && strspn(host, "0123456789.") == n) ||
	       !strncmp(host, "[::1]", 5);
}

/* "https://host:port/…" -> "host:port" */
static void registry_host(const char *url, char *to, size_t size)
{
	const char *host = strstr(url, "://");

	host = host ? host + 3 : url;
	snprintf(to, size, "%.*s", (int)strcspn(host, "/"), host);
}

static int registry_options(const char *home, const char *registry, struct registry_options *o,
			    struct err *e)
{
	auto_free char *path = NULL;
	auto_free char *doc = NULL;
	size_t len;
	int rc;

	*o = (struct registry_options){ .n_mirrors = 0 };
	if (asprintf(&path, "%s/" REGISTRIES_FILE, home) < 0)
		return err_errno(e, ENOMEM, "read " REGISTRIES_FILE);
	if (access(path, F_OK) < 0)
		return 0;
	rc = file_read_at(AT_FDCWD, path, REGISTRIES_MAX, &doc, &len, e);
	if (!rc && registries_find(doc, len, registry, o, e))
		rc = err_wrap(e, "%s", path);
	return rc;
}

static int registry_endpoint(struct fetch_setup *s, const char *home, const char *url,
			     bool insecure, bool public, const struct credential *login,
			     struct err *e)
{
	struct fetch_endpoint *ep = &s->endpoints[s->n_endpoints];
	char host[REGISTRY_URL_MAX];
	int rc = 0;

	snprintf(ep->url, sizeof(ep->url), "%s", url);
	registry_host(url, host, sizeof(host));
	ep->unverified = insecure;
	ep->public = public;
	ep->plain = insecure || registry_is_loopback(host);
	if (login)
		ep->credential = *login;
	else
		rc = credentials_find(home, strcmp(host, HUB_HOST) ? host : HUB, s->path,
				      &ep->credential, e);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc && e && e->code)
		return rc;
	s->n_endpoints++;
	return 0;
}

static int registry_read_ca(const char *path, char **ca, struct err *e)
{
	auto_free char *real = realpath(path, NULL); /* a link to it will do */
	size_t len;
	int rc;

	rc = file_read_at(AT_FDCWD, real ? real : path, REGISTRY_CA_MAX, ca, &len, e);
	if (!rc && !strstr(*ca, "-----BEGIN CERTIFICATE-----"))
		rc = err_set(e, EINVAL, "%s holds no certificate in PEM", path);
	return rc;
}

int registry_setup(const char *home, const char *registry, const char *path,
		   const struct registry_args *args, const struct credential *login,
		   struct fetch_setup *out, char **ca, struct err *e)
{
	struct registry_options o;
	const char *pem = args->ca_certs;
	char url[REGISTRY_URL_MAX];
	int rc = registry_options(home, registry, &o, e);

	*ca = NULL;
	if (rc)
		return rc;
	*out = (struct fetch_setup){
		.workers = args->parallel,
		.retries = args->retries,
		.stall_s = args->stall_s,
	};
	snprintf(out->path, sizeof(out->path), "%s", path);
	snprintf(url, sizeof(url), "https://%s", strcmp(registry, HUB) ? registry : HUB_HOST);
	for (unsigned i = 0; !rc && *path && i < o.n_mirrors; i++)
		rc = registry_endpoint(out, home, o.mirrors[i], args->insecure || o.insecure, false,
				       NULL, e);
	if (!rc)
		rc = registry_endpoint(out, home, url, args->insecure || o.insecure,
				       args->public_only && !o.listed, login, e);
	if (!pem && o.ca_certs[0])
		pem = o.ca_certs;
	if (!rc && pem)
		rc = registry_read_ca(pem, ca, e);
	return rc;
}
