/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"
#include "lib/imageconfig.h"

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
		.image_workdir = "/w/\xc3\xbc",
		.image_user = "app:1",
		.stop_signal = 3,
		.ephemeral = true,
	};
}

static void what_is_written_is_read(void **state)
{
	struct sandbox_config in = sample(), out;
	char *text, *again;

	(void)state;
	assert_int_equal(publish_add(&in.ports, "[::1]:8000-8001:1-2/udp", NULL), 0);
	in.image_volumes = (char *[]){ "/data", "/var/lib/x", NULL };
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	assert_int_equal(sandbox_config_parse(text, strlen(text), &out, NULL), 0);
	assert_string_equal(out.image_workdir, in.image_workdir);
	assert_string_equal(out.image_user, "app:1");
	assert_string_equal(out.image_volumes[1], "/var/lib/x");
	assert_null(out.image_volumes[2]);
	assert_int_equal(out.stop_signal, 3);
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

static void an_image_has_its_say(void **state)
{
	static const struct {
		const char *name;
		unsigned number;
	} signals[] = {
		{ "SIGQUIT", 3 },      { "QUIT", 3 },        { "9", 9 },
		{ "64", 64 },          { "SIGRTMIN", 34 },   { "RTMIN+3", 37 },
		{ "SIGRTMIN+30", 64 }, { "SIGRTMAX-2", 62 }, { "SIGRTMIN+31", 0 },
		{ "SIGRTMIN+", 0 },    { "SIGRTMIN-1", 0 },  { "SIGRTMAX+1", 0 },
		{ "65", 0 },           { "-1", 0 },          { "+3", 0 },
		{ "3 ", 0 },           { "99999999999", 0 }, { "SIG", 0 },
		{ "SIGSIGINT", 0 },    { "sigint", 0 },      { "SIGQUIT;", 0 },
	};
	char *volumes[] = { "/data", NULL }, *relative[] = { "/data", "data", NULL };
	struct image_config image = { .volumes = volumes, .workdir = "/w", .user = "app" };
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct sandbox_config c = { .name = NULL };

		image.stop_signal = (char *)signals[i].name;
		assert_int_equal(imageconfig_apply(&c, &image, &e), signals[i].number ? 0 : -EINVAL);
		assert_int_equal(c.stop_signal, signals[i].number);
		assert_string_equal(c.image_workdir, "/w");
		assert_string_equal(c.image_user, "app");
		if (signals[i].number)
			assert_string_equal(c.image_volumes[0], "/data");
		else
			assert_non_null(strstr(err_text(&e), signals[i].name));
		sandbox_config_fini(&c);
		err_clear(&e);
	}
	image = (struct image_config){ .volumes = relative };
	struct sandbox_config c = { .name = NULL };

	assert_int_equal(imageconfig_apply(&c, &image, &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "'data' is no absolute path"));
	sandbox_config_fini(&c);
	/* Nothing said: nothing done. */
	image = (struct image_config){ .volumes = NULL };
	assert_int_equal(imageconfig_apply(&c, &image, NULL), 0);
	assert_int_equal(c.stop_signal, 0);
	assert_null(c.image_volumes);
	sandbox_config_fini(&c);
}

static void what_the_image_asks_for_is_checked(void **state)
{
	static const char *const bad[] = { "\"image_volumes\": {}", "\"image_volumes\": [1]",
					   "\"image_volumes\": \"/a\"" };
	struct sandbox_config in = sample(), out;
	char *text, *changed;

	(void)state;
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *at = strstr(text, "\"image_volumes\": []");

		assert_non_null(at);
		assert_true(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, bad[i],
				     at + strlen("\"image_volumes\": []")) > 0);
		assert_int_equal(sandbox_config_parse(changed, strlen(changed), &out, NULL),
				 -EINVAL);
		free(changed);
	}
	free(text);
	in.stop_signal = 65;
	assert_int_equal(sandbox_config_format(&in, &text, NULL), 0);
	assert_int_equal(sandbox_config_parse(text, strlen(text), &out, NULL), -EINVAL);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read),
		TEST(each_missing_or_wrong_value_is_named),
		TEST(wrong_ports_are_refused),
		TEST(broken_text_is_refused_with_its_line),
		TEST(a_name_that_is_no_text_cannot_be_written),
		TEST(an_image_has_its_say),
		TEST(what_the_image_asks_for_is_checked),
	};

	return test_run(tests);
}
