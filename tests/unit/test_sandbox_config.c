/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"

static struct sandbox_config sample(void)
{
	return (struct sandbox_config){
		.name = "box",
		.image = "python",
		.image_path = "/i\"mage\n",
		.kernel = "/k",
		.initramfs = "/r",
		.engine = "auto",
		.scope = "public",
		.network = "default out deny\nallow example.org:443\n",
		.jail = "full",
		.cpus = 2,
		.memory_bytes = 512ull << 20,
		.disk_bytes = 4ull << 30,
		.boot_timeout_s = 60,
		.ephemeral = true,
	};
}

static void what_is_written_is_read(void **state)
{
	struct sandbox_config in = sample(), out;
	char *text, *again;

	(void)state;
	assert_int_equal(publish_add(&in.ports, "[::1]:8000-8001:1-2/udp", NULL), 0);
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	assert_int_equal(sandbox_config_parse(text, strlen(text), &out, NULL), 0);
	assert_int_equal(out.ports.n, 2);
	assert_memory_equal(out.ports.v, in.ports.v, 2 * sizeof(out.ports.v[0]));
	assert_string_equal(out.image_path, in.image_path);
	assert_int_equal(out.memory_bytes, in.memory_bytes);
	assert_true(out.ephemeral);
	assert_int_equal(sandbox_config_format(&out, &again, NULL), 0);
	assert_string_equal(text, again);
	sandbox_config_fini(&out);
	free(text);
	free(again);
}

static void each_missing_or_wrong_value_is_named(void **state)
{
	static const char *const keys[] = {
		"name", "image", "image_path",   "kernel",     "initramfs",      "engine", "scope",
		"jail", "cpus",  "memory_bytes", "disk_bytes", "boot_timeout_s", "network"
	};
	struct sandbox_config in = sample(), out;
	char *text;

	(void)state;
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct err e = ERR_INIT;
		char quoted[64], *copy = strdup(text), *at;

		snprintf(quoted, sizeof(quoted), "\"%s\"", keys[i]);
		at = strstr(copy, quoted);
		assert_non_null(at);
		at[1] = '_';
		assert_int_equal(sandbox_config_parse(copy, strlen(copy), &out, &e), -EINVAL);
		snprintf(quoted, sizeof(quoted), "'%s'", keys[i]);
		assert_non_null(strstr(err_text(&e), quoted));
		free(copy);
	}
	free(text);
}

static void wrong_ports_are_refused(void **state)
{
	static const struct {
		const char *ports, *words;
	} bad[] = {
		{ "{}", "'ports' must be an array" },
		{ "[1]", "a port must be a string" },
		{ "[\"80\", \"x\"]", "give HOST:GUEST" },
	};
	struct sandbox_config in = sample(), out;
	char *text;

	(void)state;
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = ERR_INIT;
		char *changed, *at = strstr(text, "\"ports\": []");

		assert_non_null(at);
		assert_true(asprintf(&changed, "%.*s\"ports\": %s%s", (int)(at - text), text,
				     bad[i].ports, at + strlen("\"ports\": []")) > 0);
		assert_true(sandbox_config_parse(changed, strlen(changed), &out, &e) < 0);
		assert_non_null(strstr(err_text(&e), bad[i].words));
		free(changed);
	}
	/* Those of older versions have none. */
	memcpy(strstr(text, "\"ports\""), "\"other\"", 7);
	assert_int_equal(sandbox_config_parse(text, strlen(text), &out, NULL), 0);
	assert_int_equal(out.ports.n, 0);
	sandbox_config_fini(&out);
	free(text);
}

static void broken_text_is_refused_with_its_line(void **state)
{
	static const char *const bad[] = { "",    "{",   "[]", "null", "{\"cpus\": 1, \"cpus\": 2}",
					   "{}x", "\xff" };
	struct sandbox_config out;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(sandbox_config_parse(bad[i], strlen(bad[i]), &out, &e), -EINVAL);
		assert_non_null(strstr(err_text(&e), "config.json"));
	}
}

static void a_name_that_is_no_text_cannot_be_written(void **state)
{
	struct sandbox_config in = sample();
	char *text;

	(void)state;
	in.name = "\xff\xfe";
	assert_int_equal(sandbox_config_format(&in, &text, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read),
		TEST(each_missing_or_wrong_value_is_named),
		TEST(wrong_ports_are_refused),
		TEST(broken_text_is_refused_with_its_line),
		TEST(a_name_that_is_no_text_cannot_be_written),
	};

	return test_run(tests);
}
