/* SPDX-License-Identifier: Apache-2.0 */
/* What registries say in headers and documents, and the files with their passwords. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "unit/test.h"

#include "base/mem.h"
#include "codec/authfile.h"
#include "codec/manifest.h"
#include "codec/registries.h"
#include "codec/registry_doc.h"
#include "codec/registry_head.h"
#include "fetch/fetch.h"

static int challenge(const char *s, struct challenge *c)
{
	return challenge_parse(s, strlen(s), c);
}

static void test_challenges(void **state)
{
	struct challenge c;

	(void)state;
	assert_int_equal(
		challenge("Bearer realm=\"https://a/t\",service=\"s, t\",scope=\"r:a:pull\"", &c),
		0);
	assert_int_equal(c.scheme, CHALLENGE_BEARER);
	assert_string_equal(c.realm, "https://a/t");
	assert_string_equal(c.service, "s, t");
	assert_string_equal(c.scope, "r:a:pull");
	assert_int_equal(challenge("BASIC Realm=x", &c), 0);
	assert_int_equal(c.scheme, CHALLENGE_BASIC);
	assert_string_equal(c.realm, "x");
	/* Of several the one that needs no password each time; quotes inside quotes. */
	assert_int_equal(
		challenge(
			"Negotiate YII==, Basic realm=\"b\", Bearer realm=\"q\\\"r\" , Digest a=b",
			&c),
		0);
	assert_int_equal(c.scheme, CHALLENGE_BEARER);
	assert_string_equal(c.realm, "q\"r");
	assert_int_equal(challenge("Negotiate", &c), 0);
	assert_int_equal(c.scheme, CHALLENGE_NONE);
	assert_int_equal(challenge("", &c), 0);
	assert_int_equal(c.scheme, CHALLENGE_NONE);
	assert_int_equal(challenge("Bearer realm=\"x", &c), -EINVAL);
	assert_int_equal(challenge("Bearer realm=\"x\1\"", &c), -EINVAL);
	assert_int_equal(challenge("\"x\"", &c), -EINVAL);
	assert_int_equal(challenge("Bearer realm=\"x\" service=y", &c), -EINVAL);
}

static void test_ranges_and_waits(void **state)
{
	static const char *const bad[] = { "",
					   "bytes",
					   "bytes -5/9",
					   "bytes 5-/9",
					   "bytes 5-9",
					   "bytes 9-5/10",
					   "bytes 5-9/9",
					   "items 5-9/10",
					   "bytes 5-9/10 ",
					   "bytes 99999999999999999999-9/10" };
	uint64_t first;
	uint32_t s;

	(void)state;
	assert_int_equal(content_range_parse("bytes 5-9/10", 12, &first), 0);
	assert_int_equal(first, 5);
	assert_int_equal(content_range_parse("bytes 7-9/*", 11, &first), 0);
	assert_int_equal(first, 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(content_range_parse(bad[i], strlen(bad[i]), &first), -EINVAL);
	assert_int_equal(retry_after_parse("17", 2, 0, &s), 0);
	assert_int_equal(s, 17);
	assert_int_equal(retry_after_parse("999999999999", 12, 0, &s), 0);
	assert_int_equal(s, RETRY_AFTER_MAX);
	assert_int_equal(retry_after_parse("Sun, 06 Nov 1994 08:49:37 GMT", 29, 784111770, &s), 0);
	assert_int_equal(s, 7);
	assert_int_equal(retry_after_parse("Sun, 06 Nov 1994 08:49:37 GMT", 29, 784111778, &s), 0);
	assert_int_equal(s, 0);
	assert_int_equal(retry_after_parse("soon", 4, 0, &s), -EINVAL);
	assert_int_equal(retry_after_parse("-1", 2, 0, &s), -EINVAL);
}

static int find(const char *doc, const char *registry, const char *path, struct authfile_match *m)
{
	return authfile_find(doc, strlen(doc), registry, path, m, NULL);
}

static void test_password_files(void **state)
{
	static const char doc[] =
		"{\"auths\":{\"h:1\":{\"auth\":\"dTpwOnE=\"},\"h:1/a\":{\"auth\":\"djpx\"},"
		"\"https://index.docker.io/v1/\":{\"identitytoken\":\"tok\"}},"
		"\"credHelpers\":{\"z.example\":\"pass\"}}";
	struct authfile_match *m = calloc(1, sizeof(*m));

	(void)state;
	assert_non_null(m);
	assert_int_equal(find(doc, "h:1", "", m), 0);
	assert_string_equal(m->credential.user, "u");
	assert_string_equal(m->credential.secret, "p:q");
	assert_int_equal(find(doc, "h:1", "a/b", m), 0);
	assert_string_equal(m->credential.user, "v");
	/* A folder's name is no prefix of a word. */
	assert_int_equal(find(doc, "h:1", "ab", m), 0);
	assert_string_equal(m->credential.user, "u");
	assert_int_equal(find(doc, "h:12", "", m), -ENOENT);
	assert_int_equal(find(doc, "docker.io", "library/x", m), 0);
	assert_true(m->credential.identity);
	assert_string_equal(m->credential.secret, "tok");
	assert_int_equal(find(doc, "z.example", "x", m), 0);
	assert_string_equal(m->helper, "pass");
	assert_int_equal(find("{\"credsStore\":\"x/y\"}", "h", "", m), -EINVAL);
	assert_int_equal(find("{\"auths\":{\"h\":{\"auth\":\"dQ==\"}}}", "h", "", m), -EINVAL);
	assert_int_equal(find("{\"auths\":{\"h\":{\"auth\":\"dToKCg==\"}}}", "h", "", m), -EINVAL);
	free(m);
}

static void test_password_files_are_changed(void **state)
{
	static const char doc[] =
		"{\"auths\":{\"other\":{\"auth\":\"eDp5\"}},\"HttpHeaders\":{\"a\":\"b\"}}";
	struct credential *c = calloc(1, sizeof(*c));
	struct authfile_match *m = calloc(1, sizeof(*m));
	char *text, *again;
	bool found;

	(void)state;
	assert_true(c && m);
	strcpy(c->user, "me");
	strcpy(c->secret, "s:\"ecret");
	text = authfile_update(doc, strlen(doc), "docker.io", c, &found, NULL);
	assert_non_null(text);
	assert_false(found);
	assert_non_null(strstr(text, "HttpHeaders"));
	assert_int_equal(find(text, "docker.io", "library/x", m), 0);
	assert_string_equal(m->credential.secret, "s:\"ecret");
	again = authfile_update(text, strlen(text), "docker.io", NULL, &found, NULL);
	assert_non_null(again);
	assert_true(found);
	assert_int_equal(find(again, "docker.io", "", m), -ENOENT);
	assert_int_equal(find(again, "other", "", m), 0);
	free(again);
	free(text);
	free(c);
	free(m);
}

static void test_registries_file(void **state)
{
	static const char doc[] =
		"{\"registries\":{\"docker.io\":{\"mirrors\":[\"https://m:5\",\"http://n\"]},"
		"\"h:1\":{\"insecure\":true,\"ca_certs\":\"/c.pem\"}}}";
	static const char two[] = "{\"registries\":{\"a\":1,\"b\":{},\"c\":{}}}";
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"registries\":{},\"more\":1}",
		"{\"registries\":{\"a\":{\"mirror\":[]}}}",
		"{\"registries\":{\"a\":{\"mirrors\":[\"m\"]}}}",
		"{\"registries\":{\"a\":{\"mirrors\":[\"https://u@m\"]}}}",
		"{\"registries\":{\"a\":{\"insecure\":1}}}",
		"{\"registries\":{\"a\":{\"ca_certs\":\"c.pem\"}}}",
	};
	struct registry_options o;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(registries_find(doc, strlen(doc), "docker.io", &o, NULL), 0);
	assert_int_equal(o.n_mirrors, 2);
	assert_string_equal(o.mirrors[1], "http://n");
	assert_int_equal(registries_find(doc, strlen(doc), "h:1", &o, NULL), 0);
	assert_true(o.insecure);
	assert_string_equal(o.ca_certs, "/c.pem");
	assert_int_equal(registries_find(doc, strlen(doc), "elsewhere", &o, NULL), 0);
	assert_int_equal(o.n_mirrors, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(registries_find(bad[i], strlen(bad[i]), "b", &o, NULL), -EINVAL);
	/* The message names the one that is wrong, and no other. */
	assert_int_equal(registries_find(two, strlen(two), "b", &o, &e), -EINVAL);
	assert_string_equal(err_text(&e), "registry a: not an object");
}

static void test_tokens(void **state)
{
	static char token[REGISTRY_TOKEN_MAX];
	static const char *const bad[] = { "{}",
					   "{\"token\":\"\"}",
					   "{\"token\":\"a b\"}",
					   "{\"token\":\"a\\nb\"}",
					   "{\"token\":5}",
					   "x" };
	char text[32];

	(void)state;
	assert_int_equal(registry_token_parse("{\"token\":\"t\"}", 13, token, NULL), 0);
	assert_string_equal(token, "t");
	assert_int_equal(registry_token_parse("{\"access_token\":\"u\"}", 20, token, NULL), 0);
	assert_string_equal(token, "u");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(registry_token_parse(bad[i], strlen(bad[i]), token, NULL), -EINVAL);
	registry_error_text("{\"errors\":[{\"code\":\"C\",\"message\":\"m\\u001b[1m\"}]}", 48, text,
			    sizeof(text));
	assert_string_equal(text, "C: m?[1m");
	registry_error_text("<html>", 6, text, sizeof(text));
	assert_string_equal(text, "");
}

static void test_variants(void **state)
{
	static const char form[] =
		"{\"manifests\":[{\"mediaType\":\"" MEDIA_MANIFEST
		"\",\"size\":1,\"digest\":\"sha256:"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"platform\":"
		"{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"}},"
		"{\"mediaType\":\"" MEDIA_DOCKER_MANIFEST "\",\"size\":2,\"digest\":\"sha256:"
		"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"platform\":"
		"{\"os\":\"linux\",\"architecture\":\"arm\"}}]}";
	struct index x;

	(void)state;
	assert_int_equal(index_parse(form, strlen(form), &x, NULL), 0);
	assert_int_equal(index_pick(&x, "linux", "arm", "v6")->target.size, 1);
	assert_int_equal(index_pick(&x, "linux", "arm", "")->target.size, 2);
	assert_null(index_pick(&x, "linux", "arm", "v7"));
	assert_null(index_pick(&x, "windows", "arm", ""));
	index_fini(&x);
	assert_string_equal(manifest_kind("{\"layers\":[]}", 13, "text/plain", NULL),
			    MEDIA_MANIFEST);
	assert_null(manifest_kind("{\"layers\":[],\"mediaType\":\"x\"}", 29, MEDIA_MANIFEST, NULL));
	assert_true(manifest_is_layer(MEDIA_LAYER_ZSTD) &&
		    manifest_is_layer(MEDIA_DOCKER_LAYER ".gzip"));
	assert_false(manifest_is_layer(MEDIA_LAYER "+encrypted") || manifest_is_layer(""));
	assert_string_equal(manifest_oci_type(MEDIA_DOCKER_LAYER ".gzip"), MEDIA_LAYER_GZIP);
	assert_string_equal(manifest_oci_type("x"), "x");
}

static bool private(const char *text)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
		return fetch_is_private((const struct sockaddr *)&four);
	assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
	return fetch_is_private((const struct sockaddr *)&six);
}

static void test_addresses(void **state)
{
	static const char *const in[] = { "127.0.0.1",       "10.1.2.3",    "172.16.0.1",
					  "172.31.255.255",  "192.168.1.1", "169.254.169.254",
					  "0.0.0.0",         "100.64.0.1",  "224.0.0.1",
					  "255.255.255.255", "::1",         "::",
					  "fe80::1",         "fd00::1",     "::ffff:10.0.0.1",
					  "64:ff9b::7f00:1", "::127.0.0.1", "ff02::1" };
	static const char *const out[] = { "8.8.8.8",         "172.32.0.1",      "172.15.0.1",
					   "100.128.0.1",     "2001:4860::8888", "::ffff:8.8.8.8",
					   "64:ff9b::808:808" };
	const struct sockaddr other = { .sa_family = AF_UNIX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(in); i++)
		if (!private(in[i]))
			fail_msg("%s", in[i]);
	for (size_t i = 0; i < ARRAY_SIZE(out); i++)
		if (private(out[i]))
			fail_msg("%s", out[i]);
	assert_true(fetch_is_private(&other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_challenges),      TEST(test_ranges_and_waits),
		TEST(test_password_files),  TEST(test_password_files_are_changed),
		TEST(test_registries_file), TEST(test_tokens),
		TEST(test_variants),        TEST(test_addresses),
	};

	return test_run(tests);
}
