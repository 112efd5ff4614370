/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Routes, keys and origins
 *
 * Purpose: decides, when a request's head is there, whether it may be made, and gives it
 * to whoever answers it when it is complete.  A body is read only of a request that has a
 * route and a key.
 *
 * Trust boundary: in dev mode nobody needs a key, so what a browser does on behalf of a
 * page that it happens to show must not get through: the Host must be a loopback name
 * or an address (no DNS rebinding), and an Origin must be a loopback one (no foreign
 * pages).  With keys neither matters: a page has none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/token.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/http_api.h"
#include "server/mcp.h"
#include "server/prometheus.h"
#include "server/sandbox_path.h"

struct route {
	const char *path; /* "*" in it is the name of a sandbox */
	uint8_t method; /* of llhttp; GET also means HEAD */
	bool open; /* needs no key */
	bool streamed; /* takes its body as it comes */
	void (*run)(struct conn *c, const char *rpc_method);
	const char *rpc_method; /* the only one of this path; NULL = any */
};

/* A request for calls, while it is worked on. */
struct api_request {
	struct conn *conn; /* NULL = gone */
	struct server *server;
	struct rpc_request rpc;
	struct corpse corpse;
};

/* ---- answers ------------------------------------------------------------------------------ */

/* CORS: pages may call us, as decided by http_api_head(). */
const char *http_api_headers(struct conn *c, char *to, size_t size)
{
	const char *origin = http_header(&c->reader.request, "origin");

	to[0] = '\0';
	if (origin && strlen(origin) < 256)
		snprintf(to, size,
			 "Access-Control-Allow-Origin: %s\r\n"
			 "Access-Control-Expose-Headers: Mcp-Session-Id\r\nVary: Origin\r\n",
			 origin);
	return to;
}

void http_api_reply(struct conn *c, int status, const char *type, const void *body, size_t len)
{
	char headers[400];

	conn_reply(c, status, type, http_api_headers(c, headers, sizeof(headers)), body, len, false);
}

/* Is there a body that has not come? Then the connection is of no more use. */
static bool api_unread(const struct conn *c)
{
	return c->reader.request.has_body && !c->body_done;
}

/* An error outside of JSON-RPC: {"error": text, "code": number or null}. */
static void api_error(struct conn *c, int status, int code, const char *more, const char *text)
{
	char body[512], number[16] = "null", headers[1024];
	int n;

	if (code)
		snprintf(number, sizeof(number), "%d", code);
	n = snprintf(body, sizeof(body), "{\"error\":\"%s\",\"code\":%s}", text, number);
	http_api_headers(c, headers, sizeof(headers));
	snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers), "%s", more);
	conn_reply(c, status, "application/json", headers, body, (size_t)n, api_unread(c));
}

void http_api_fail(struct conn *c, int status, int code, json_t *more, const char *text)
{
	json_t *o = more ? more : json_object();
	struct buf clean = BUF_INIT;
	char headers[400];
	char *body = NULL;

	if (!utf8_clean(&clean, text, strlen(text)) && o)
		json_object_set_new(o, "error",
				    json_stringn((const char *)buf_data(&clean), buf_len(&clean)));
	json_object_set_new(o, "code", code ? json_integer(code) : json_null());
	body = json_dumps(o, JSON_COMPACT);
	http_api_headers(c, headers, sizeof(headers));
	if (status == 503)
		snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
			 "Retry-After: 1\r\n");
	c->server->count.failed_calls++;
	conn_reply(c, status, "application/json", headers, body ? body : "{}",
		   body ? strlen(body) : 2, api_unread(c));
	free(body);
	json_decref(o);
	buf_fini(&clean);
}

/* ---- who asks ------------------------------------------------------------------------------ */

static const char *api_given_key(const struct http_request *q)
{
	const char *v = http_header(q, "proxy-authorization");

	if (!v)
		v = http_header(q, "authorization");
	if (v && !strncasecmp(v, "bearer ", 7))
		for (v += 7; *v == ' ';)
			v++;
	return v;
}

static void api_peer(struct conn *c, char *to, size_t size)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
	const struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
	const struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;
	socklen_t len = sizeof(sa);
	char text[INET6_ADDRSTRLEN];

	to[0] = '\0';
	if (getpeername(c->stream.fd, (struct sockaddr *)&sa, &len) < 0)
		return;
	if (sa.ss_family == AF_INET)
		snprintf(to, size, "%s:%u", inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)),
			 ntohs(v4->sin_port));
	else if (sa.ss_family == AF_INET6)
		snprintf(to, size, "[%s]:%u",
			 inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)),
			 ntohs(v6->sin6_port));
	else
		snprintf(to, size, "unix");
}

bool http_api_who(struct conn *c, struct principal *who)
{
	const struct http_request *q = &c->reader.request;
	static const char ask[] = "WWW-Authenticate: Bearer\r\n";
	struct token_claims claims;
	const char *key;
	int rc;

	*who = (struct principal){ .ns = "*" };
	api_peer(c, who->peer, sizeof(who->peer));
	if (c->server->opt->dev)
		return true;
	key = api_given_key(q);
	rc = key ? token_check(c->server->secret, strlen(c->server->secret), key, time(NULL),
			       &claims)
		 : -1;
	if (!rc && revoked_has(&c->server->revoked, c->server->opt->home, claims.id))
		rc = -EACCES;
	if (rc) {
		bool token = key && !strncmp(key, TOKEN_PREFIX, strlen(TOKEN_PREFIX));

		c->server->count.denied++;
		api_error(c, 401, token ? 1004 : 1001, ask,
			  token ? "Invalid or expired token" : "Invalid credentials");
		return false;
	}
	snprintf(who->ns, sizeof(who->ns), "%s", claims.ns);
	snprintf(who->key, sizeof(who->key), "%s", claims.id);
	who->limits = claims.limits;
	return true;
}

/* Return: false if the key sends too much; it is told so. */
static bool api_within_rate(struct conn *c, const struct principal *who)
{
	unsigned wait = quota_take_request(&c->server->quotas, who, loop_now_ns());
	char header[64], text[128];

	if (!wait)
		return true;
	snprintf(header, sizeof(header), "Retry-After: %u\r\n", wait);
	snprintf(text, sizeof(text), RPC_OVER_RATE, who->limits.rate, wait);
	api_error(c, 429, 5003, header, text);
	return false;
}

/* Is it an address, or a name that always means this machine?  A port may follow. */
static bool api_is_local(const char *host)
{
	char name[64];
	uint8_t addr[16];
	size_t n;

	if (*host == '[') {
		n = strcspn(++host, "]");
	} else {
		n = strcspn(host, ":");
	}
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = '\0';
	return !strcasecmp(name, "localhost") || inet_pton(AF_INET, name, addr) == 1 ||
	       inet_pton(AF_INET6, name, addr) == 1;
}

static bool api_origin_is_loopback(const char *origin)
{
	const char *host = strstr(origin, "://");

	if (!host)
		return false; /* "null": a file, a sandboxed frame */
	host += 3;
	return api_is_local(host) && (!strncasecmp(host, "localhost", 9) ||
				      !strncmp(host, "127.", 4) || !strncmp(host, "[::1]", 5));
}

static bool api_origin_ok(struct conn *c)
{
	const char *host = http_header(&c->reader.request, "host");
	const char *origin = http_header(&c->reader.request, "origin");

	if (!c->server->opt->dev || c->local)
		return true;
	if ((!host || api_is_local(host)) && (!origin || api_origin_is_loopback(origin)))
		return true;
	c->server->count.denied++;
	api_error(
		c, 403, 3001, "",
		"Access denied: without keys (--dev) only pages and names of this machine may ask");
	return false;
}

/* ---- calls ---------------------------------------------------------------------------------- */

static void api_request_free(struct corpse *c)
{
	struct api_request *r = container_of(c, struct api_request, corpse);

	rpc_request_fini(&r->rpc);
	free(r);
}

static void api_rpc_cancel(struct conn *c)
{
	struct api_request *r = c->state;

	r->conn = NULL;
	rpc_cancel(&r->rpc.call);
	r->rpc.active = false;
	server_bury(r->server, &r->corpse, api_request_free);
}

static void api_rpc_done(struct rpc_request *q, int status, char *body)
{
	struct api_request *r = container_of(q, struct api_request, rpc);

	if (r->conn && q->retry_after_s) {
		char headers[512];

		http_api_headers(r->conn, headers, sizeof(headers));
		snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
			 "Retry-After: %u\r\n", q->retry_after_s);
		conn_reply(r->conn, status, "application/json", headers, body,
			   body ? strlen(body) : 0, false);
	} else if (r->conn) {
		r->conn->cancel = NULL;
		http_api_reply(r->conn, status, "application/json", body, body ? strlen(body) : 0);
	}
	free(body);
	r->conn = NULL;
	server_bury(r->server, &r->corpse, api_request_free);
}

static void api_run_rpc(struct conn *c, const char *rpc_method)
{
	struct buf *body = &c->reader.request.body;
	struct api_request *r = calloc(1, sizeof(*r));
	struct principal who;

	if (!r) {
		api_error(c, 503, 5003, "", "the server is out of memory: try again later");
		return;
	}
	if (!http_api_who(c, &who)) { /* a key may have expired while the body came */
		free(r);
		return;
	}
	r->conn = c;
	r->server = c->server;
	r->rpc.done = api_rpc_done;
	r->rpc.only_method = rpc_method;
	c->state = r;
	c->cancel = api_rpc_cancel;
	rpc_request_start(&r->rpc, c->server, &who, (const char *)buf_data(body), buf_len(body));
}

/* ---- documents ------------------------------------------------------------------------------- */

static void api_run_health(struct conn *c, const char *rpc_method)
{
	static const char text[] = "{\"message\":\"Service is healthy\"}";

	(void)rpc_method;
	http_api_reply(c, 200, "application/json", text, sizeof(text) - 1);
}

static void api_run_document(struct conn *c, const char *rpc_method)
{
	(void)rpc_method;
	http_api_reply(c, 200, "application/json", api_document, strlen(api_document));
}

static void api_run_metrics(struct conn *c, const char *rpc_method)
{
	struct buf text = BUF_INIT;
	struct principal who;

	(void)rpc_method;
	if (!http_api_who(c, &who))
		return;
	/* They are of all namespaces. */
	if (strcmp(who.ns, "*"))
		api_error(c, 403, 3001, "",
			  "Access denied: these figures are for keys of all namespaces");
	else if (prometheus_text(c->server, &text))
		api_error(c, 503, 5003, "", "the server is out of memory: try again later");
	else
		http_api_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", buf_data(&text),
			       buf_len(&text));
	buf_fini(&text);
}

static void api_run_mcp(struct conn *c, const char *rpc_method)
{
	struct principal who;

	(void)rpc_method;
	if (!http_api_who(c, &who))
		return;
	who.counted = true; /* when its head came */
	if (c->reader.request.method == HTTP_DELETE)
		mcp_http_delete(c, &who);
	else
		mcp_http_post(c, &who);
}

/* ---- routes ----------------------------------------------------------------------------------- */

#define API_SANDBOX "/api/v1/sandbox/"

#define API_SANDBOXES "/api/v1/sandboxes/*/"

static const struct route api_routes[] = {
	{ .path = "/api/v1/health", .method = HTTP_GET, .open = true, .run = api_run_health },
	{ .path = "/api/v1/openrpc.json", .method = HTTP_GET, .open = true, .run = api_run_document },
	{ .path = "/api/v1/rpc", .method = HTTP_POST, .run = api_run_rpc },
	{ .path = "/metrics", .method = HTTP_GET, .run = api_run_metrics },
	{ .path = "/mcp", .method = HTTP_POST, .run = api_run_mcp },
	{ .path = "/mcp", .method = HTTP_DELETE, .run = api_run_mcp },
	{ .path = API_SANDBOXES "files", .method = HTTP_GET, .run = http_files_get },
	{ .path = API_SANDBOXES "files",
	  .method = HTTP_PUT,
	  .run = http_files_put,
	  .streamed = true },
	{ .path = API_SANDBOXES "exec", .method = HTTP_POST, .run = http_events_exec },
	{ .path = API_SANDBOXES "exec", .method = HTTP_GET, .run = http_socket_exec },
	{ .path = API_SANDBOXES "repl", .method = HTTP_POST, .run = http_events_repl },
	/* Some older clients send each method to a path of its own. */
	{ API_SANDBOX "start", HTTP_POST, false, false, api_run_rpc, "sandbox.start" },
	{ API_SANDBOX "stop", HTTP_POST, false, false, api_run_rpc, "sandbox.stop" },
	{ API_SANDBOX "repl/run", HTTP_POST, false, false, api_run_rpc, "sandbox.repl.run" },
	{ API_SANDBOX "command/run", HTTP_POST, false, false, api_run_rpc, "sandbox.command.run" },
	{ API_SANDBOX "metrics/get", HTTP_POST, false, false, api_run_rpc, "sandbox.metrics.get" },
	{ NULL },
};

/* Return: NULL if there is none; @allow gets the methods of the path, "" = no such path. */
static const struct route *api_find_route(const struct http_request *q, char *allow, size_t size)
{
	uint8_t method = q->method == HTTP_HEAD ? HTTP_GET : q->method;

	allow[0] = '\0';
	for (const struct route *r = api_routes; r->path; r++) {
		size_t n = strlen(allow);

		if (!sandbox_path_match(r->path, q->path))
			continue;
		if (r->method == method)
			return r;
		snprintf(allow + n, size - n, "%s%s", n ? ", " : "",
			 r->method == HTTP_GET ? "GET, HEAD"
					       : llhttp_method_name((llhttp_method_t)r->method));
	}
	return NULL;
}

static void api_wrong_method(struct conn *c, const char *allow)
{
	char header[100], text[100];

	snprintf(header, sizeof(header), "Allow: %s, OPTIONS\r\n", allow);
	snprintf(text, sizeof(text), "this path has the methods %s", allow);
	api_error(c, 405, 0, header, text);
}

static void api_preflight(struct conn *c)
{
	char headers[1024];

	http_api_headers(c, headers, sizeof(headers));
	snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
		 "Access-Control-Allow-Methods: GET, POST, PUT, DELETE\r\n"
		 "Access-Control-Allow-Headers: Authorization, Accept, Content-Type, "
		 "Mcp-Session-Id, Mcp-Protocol-Version\r\n"
		 "Access-Control-Max-Age: 600\r\n");
	conn_reply(c, 204, "", headers, NULL, 0, api_unread(c));
}

bool http_api_head(struct conn *c)
{
	const struct http_request *q = &c->reader.request;
	const struct route *r;
	struct principal who;
	char allow[64];

	if (!api_origin_ok(c))
		return false;
	if (q->method == HTTP_OPTIONS) {
		api_preflight(c);
		return false;
	}
	r = api_find_route(q, allow, sizeof(allow));
	if (!r && !allow[0]) {
		api_error(c, 404, 4001, "", "no such path: the API is at /api/v1/rpc");
		return false;
	}
	if (!r) {
		api_wrong_method(c, allow);
		return false;
	}
	c->streamed = r->streamed;
	if (r->open)
		return true;
	/* Calls are counted one by one: there may be many in a request. */
	return http_api_who(c, &who) && (r->run == api_run_rpc || api_within_rate(c, &who));
}

void http_api_request(struct conn *c)
{
	char allow[64];
	const struct route *r = api_find_route(&c->reader.request, allow, sizeof(allow));

	r->run(c, r->rpc_method);
}
