/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/sandboxfile.h"

static struct sandboxfile_notes notes;
static struct err err;

static struct sandboxfile *parse_n(const char *s, size_t n)
{
	struct sandboxfile *f = NULL;

	err_clear(&err);
	if (sandboxfile_parse(s, n, "F", &f, &notes, &err)) {
		assert_null(f);
		assert_true(err.code);
		return NULL;
	}
	return f;
}

static struct sandboxfile *parse(const char *s)
{
	return parse_n(s, strlen(s));
}

static struct sandboxfile *good(const char *s)
{
	struct sandboxfile *f = parse(s);

	if (!f)
		fail_msg("%s", err.msg);
	return f;
}

/* A file that is refused, with this message. */
static void bad(const char *s, const char *message)
{
	struct sandboxfile *f = parse(s);

	if (f)
		fail_msg("accepted: %s", s);
	assert_string_equal(err.msg, message);
}

/* What is wrong with a sandbox that has this besides an image. */
static void bad_key(const char *line, const char *message)
{
	char text[512];

	snprintf(text, sizeof(text), "sandboxes:\n  a:\n    image: x\n    %s\n", line);
	bad(text, message);
}

static void test_seed(void **state)
{
	struct sandboxfile *f = good("sandboxes:\n  app: {image: python, memory: 1024, cpus: 1, "
				     "scripts: {start: python -c \"print('hello')\"}}\n");
	const struct sandboxfile_sandbox *s = f->sandboxes[0];

	(void)state;
	assert_int_equal(f->n_sandboxes, 1);
	assert_string_equal(s->name, "app");
	assert_string_equal(s->image, "python");
	assert_int_equal(s->memory_bytes, 1024ull << 20);
	assert_int_equal(s->cpus, 1);
	assert_string_equal(sandboxfile_script(s, "start"), "python -c \"print('hello')\"");
	assert_null(sandboxfile_script(s, "stop"));
	assert_int_equal(notes.n, 0);
	sandboxfile_free(f);
}

static void test_every_key(void **state)
{
	static const char text[] = "# a project\n"
				   "meta:\n"
				   "  authors: [Ada]\n"
				   "  description: things\n"
				   "  tags: [a, b]\n"
				   "groups: {shop: {version: 1.0.0, meta: {tags: [x]}}, bank: }\n"
				   "sandboxes:\n"
				   "  web:\n"
				   "    image: microsandbox/python:3.11\n"
				   "    version: 1.2.3-rc.1\n"
				   "    meta: {homepage: \"https://example.org\"}\n"
				   "    memory: 2G\n"
				   "    cpus: 2\n"
				   "    disk: 512\n"
				   "    shell: /bin/bash\n"
				   "    volumes:\n"
				   "      - ./src:/src:ro\n"
				   "      - cache:/root/.cache\n"
				   "    tmpfs: [\"/scratch:size=64M\"]\n"
				   "    ports: [8080:80, 0.0.0.0:9000:9000/udp, 5432]\n"
				   "    envs: [A=1, \"B=two words\", C=]\n"
				   "    env_file: .env\n"
				   "    depends_on: [db]\n"
				   "    workdir: /src\n"
				   "    user: 1000:1000\n"
				   "    scripts:\n"
				   "      start: |\n"
				   "        pip list\n"
				   "        python app.py\n"
				   "      test: pytest\n"
				   "    command: [python, -m, http.server]\n"
				   "    scope: Any\n"
				   "    network: [allow tcp example.org:443, default deny]\n"
				   "    timeout: 90\n"
				   "  db:\n"
				   "    image: postgres\n"
				   "    envs: {USER: x, EMPTY: , N: 12}\n"
				   "    group: shop\n";
	struct sandboxfile *f = good(text);
	const struct sandboxfile_sandbox *s = sandboxfile_find(f, "web");

	(void)state;
	assert_int_equal(notes.n, 0);
	assert_string_equal(f->groups[0].name, "shop");
	assert_string_equal(f->groups[0].version, "1.0.0");
	assert_int_equal(f->n_groups, 2);
	assert_string_equal(f->meta.authors.v[0], "Ada");
	assert_string_equal(f->meta.tags.v[1], "b");
	assert_string_equal(f->meta.description, "things");
	assert_int_equal(s->at.line, 8);
	assert_int_equal(s->at.column, 3);
	assert_string_equal(s->version, "1.2.3-rc.1");
	assert_string_equal(s->meta.homepage, "https://example.org");
	assert_int_equal(s->memory_bytes, 2048ull << 20);
	assert_int_equal(s->disk_bytes, 512ull << 20);
	assert_string_equal(s->shell, "/bin/bash");
	assert_int_equal(s->volumes.n, 3);
	assert_string_equal(s->volumes.v[0].source, "./src");
	assert_true(s->volumes.v[0].readonly);
	assert_int_equal(s->volumes.v[1].kind, VOLUME_NAMED);
	assert_int_equal(s->volume_at[1].line, 18);
	assert_int_equal(s->volumes.v[2].size, 64ull << 20);
	assert_int_equal(s->ports.n, 3);
	assert_int_equal(s->ports.v[0].host, 8080);
	assert_true(s->ports.v[1].udp);
	assert_int_equal(s->ports.v[2].guest, 5432);
	assert_int_equal(s->envs.n, 3);
	assert_string_equal(s->envs.v[1], "B=two words");
	assert_null(s->envs.v[3]);
	assert_string_equal(s->env_file.v[0], ".env");
	assert_string_equal(s->depends_on.v[0], "db");
	assert_string_equal(s->user, "1000:1000");
	assert_string_equal(sandboxfile_script(s, "start"), "pip list\npython app.py\n");
	assert_string_equal(s->command.v[2], "http.server");
	assert_string_equal(s->scope, "any");
	assert_string_equal(s->network, "default out deny\nallow tcp example.org:443\n");
	assert_int_equal(s->timeout_ms, 90000);
	s = sandboxfile_find(f, "db");
	assert_string_equal(s->envs.v[0], "USER=x");
	assert_string_equal(s->envs.v[1], "EMPTY=");
	assert_string_equal(s->envs.v[2], "N=12");
	assert_int_equal(s->memory_bytes, 0);
	assert_string_equal(s->group, "shop");
	assert_string_equal(s->scope, "group");
	sandboxfile_free(f);
}

static void test_nothing_in_it(void **state)
{
	static const char *const texts[] = {
		"",
		"\n",
		"# comment\n",
		"sandboxes:\n",
		"sandboxes: {}\n",
		"sandboxes: ~",
		"---\n",
		"x-mine: {a: [1]}\n",
		"---\nsandboxes:\n...\n",
		"\xef\xbb\xbfsandboxes:\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct sandboxfile *f = good(texts[i]);

		assert_int_equal(f->n_sandboxes, 0);
		assert_int_equal(notes.n, 0);
		sandboxfile_free(f);
	}
}

static void test_unknown_keys(void **state)
{
	struct sandboxfile *f = good("sandbox:\nsandboxes:\n  a:\n    image: x\n    env: [A=1]\n"
				     "    volume: []\n    colour: red\n    x-y: 1\n");

	(void)state;
	assert_int_equal(notes.n, 4);
	assert_int_equal(notes.errors, 0);
	assert_string_equal(notes.v[0].text,
			    "the file has no key 'sandbox', which is passed over: did you mean "
			    "'sandboxes'?");
	assert_int_equal(notes.v[1].at.line, 5);
	assert_int_equal(notes.v[1].at.column, 5);
	assert_string_equal(notes.v[1].text,
			    "sandbox 'a' has no key 'env', which is passed over: did you mean "
			    "'envs'?");
	assert_non_null(strstr(notes.v[2].text, "did you mean 'volumes'?"));
	assert_string_equal(notes.v[3].text,
			    "sandbox 'a' has no key 'colour', which is passed over");
	sandboxfile_free(f);
}

static void test_wrong_values(void **state)
{
	(void)state;
	bad("sandboxes: [a]\n", "F:1:12: sandboxes takes names, and behind each what it is, as in "
				"'app: {image: python}'");
	bad("- a\n", "F:1:1: the file takes keys and values, as in 'key: value'");
	bad("sandboxes:\n  a:\n", "F:2:3: sandbox 'a' has no 'image', as in 'image: python'");
	bad("sandboxes:\n  a: python\n",
	    "F:2:6: sandbox 'a' takes keys and values, as in 'key: value'");
	bad("sandboxes:\n  a/b: {image: x}\n",
	    "F:2:3: 'a/b' is not a name for a sandbox: use letters, digits, '-' and '_', at most "
	    "63");
	bad("sandboxes:\n  ..: {image: x}\n",
	    "F:2:3: '..' is not a name for a sandbox: use letters, digits, '-' and '_', at most "
	    "63");
	bad("sandboxes:\n  a:\n    image:\n", "F:3:11: image has no value");
	bad("sandboxes: {a: {image: ./rootfs}}",
	    "F:1:24: image: './rootfs' is a path: make an image of it with `msb image import` and "
	    "give its name");
	bad_key("memory: 0", "F:4:13: memory is '0': give MiB or a size such as 512M or 2G, from "
			     "128M to 1024G");
	bad_key("memory: lots", "F:4:13: memory is 'lots': give MiB or a size such as 512M or 2G, "
				"from 128M to 1024G");
	bad_key("memory: 1e9", "F:4:13: memory is '1e9': give MiB or a size such as 512M or 2G, "
			       "from 128M to 1024G");
	bad_key("cpus: 17", "F:4:11: cpus is '17': give a number from 1 to 16");
	bad_key("cpus: 1.5", "F:4:11: cpus is '1.5': give a number from 1 to 16");
	bad_key("cpus: -1", "F:4:11: cpus is '-1': give a number from 1 to 16");
	bad_key("timeout: soon", "F:4:14: timeout is 'soon': give seconds or a time such as 1.5s, "
				 "10m or 2h, at least 1ms");
	bad_key("version: one", "F:4:14: version: 'one' is not a version such as 1.0.0");
	bad_key("workdir: src", "F:4:14: workdir: 'src' is not an absolute path in the sandbox");
	bad_key("scope: local", "F:4:12: scope is 'local': use one of none, group, public, any");
	bad_key("envs: [\"=x\"]", "F:4:12: envs: '=x' is not NAME=value");
	bad_key("envs: [A]", "F:4:12: envs: 'A' is not NAME=value");
	bad_key("envs: A=1", "F:4:11: envs takes a list, as in [DEBUG=1]");
	bad_key("command: ls -l", "F:4:14: command takes a list, as in [python, -m, http.server]");
	bad_key("scripts: [a]", "F:4:14: scripts takes a mapping, as in {start: python app.py}");
	bad_key("scripts: {a/b: x}", "F:4:15: scripts: 'a/b' is not a name for a script: use "
				     "letters, digits, '-', '_' and '.'");
	bad_key("scripts: {shell: x}", "F:4:15: scripts: a script cannot be called 'shell': that "
				       "name runs the sandbox's shell");
	bad_key("scripts: {a: }", "F:4:18: a has no value");
	bad_key("volumes: [{a: b}]", "F:4:15: volumes takes a text, not a mapping");
	bad_key("user: \"\"", "F:4:11: user: it is empty");
	bad_key("network: [\"allow\"]", "F:4:15: network: the rule has no target");
	bad_key("network: {ip: 1.2.3.4}", "F:4:15: network has no 'ip': it takes a list of rules, "
					  "or 'scope' and 'rules'");
}

static void test_network_of_others(void **state)
{
	struct sandboxfile *f = good("sandboxes:\n  a: {image: x, network: {scope: none, rules: "
				     "[allow any]}}\n");

	(void)state;
	assert_string_equal(f->sandboxes[0]->scope, "none");
	assert_string_equal(f->sandboxes[0]->network, "allow any\n");
	sandboxfile_free(f);
	bad("sandboxes:\n  a: {image: x, network: {scope: none}, scope: any}\n",
	    "F:2:48: the scope is given twice");
	bad("sandboxes:\n  a: {image: x, scope: any, network: {scope: none}}\n",
	    "F:2:39: the scope is given twice");
}

static void test_refused_keys(void **state)
{
	(void)state;
	bad("modules:\n", "F:1:1: modules is not supported: copy the sandbox, or use that file "
			  "with -f");
	bad_key("imports: {a: /b}", "F:4:5: imports is not supported: share a named volume or a "
				    "directory by `volumes`");
	bad_key("exports: {a: /b}", "F:4:5: exports is not supported: share a named volume or a "
				    "directory by `volumes`");
}

static void test_groups(void **state)
{
	struct sandboxfile *f = good("sandboxes:\n"
				     "  a: {image: x, group: g}\n"
				     "  b: {image: x, scope: GROUP, group: g}\n"
				     "  A: {image: x, group: h}\n"
				     "  c: {image: x}\n");

	(void)state;
	assert_null(f->groups);
	assert_string_equal(f->sandboxes[0]->scope, "group");
	assert_string_equal(f->sandboxes[1]->scope, "group");
	assert_null(f->sandboxes[3]->group);
	assert_null(f->sandboxes[3]->scope);
	sandboxfile_free(f);
	sandboxfile_free(good("groups:\nsandboxes: {a: {image: x, group: any-name}}\n"));
	bad_key("scope: group", "F:2:3: sandbox 'a' has scope group and no 'group', as in 'group: "
				"backend'");
}

/* Names of others, and what goes with them. */
static void test_groups_refused(void **state)
{
	(void)state;
	bad_key("group: a/b", "F:4:12: group: 'a/b' is not the name of a group");
	bad_key("groups: {g: }", "F:4:5: groups is not supported: a sandbox is in one group, which "
				 "`group` names");
	bad("sandboxes: {a: {image: x, scope: any, group: g}}",
	    "F:1:46: group goes with scope group, not any: what else is to be reached are rules of "
	    "network");
	bad("sandboxes: {a: {image: x, network: {scope: none}, group: g}}",
	    "F:1:58: group goes with scope group, not none: what else is to be reached are rules "
	    "of network");
	bad("groups: {backend: }\nsandboxes: {a: {image: x, group: backnd}}",
	    "F:2:34: group: there is no 'backnd' in groups: did you mean 'backend'?");
	bad("groups: {}\nsandboxes: {a: {image: x, group: g}}",
	    "F:2:34: group: there is no 'g' in groups");
	bad("sandboxes: {db: {image: x, group: g}, DB: {image: x, group: g}}",
	    "F:1:39: group: 'db' and 'DB' have one name in the network of g");
	bad("builds: {a: {image: x, network: {scope: group}}}",
	    "F:1:10: scope: build 'a' can be in no group");
	bad("builds: {a: {image: x, scope: group}}",
	    "F:1:31: scope is 'group': use one of none, public, any");
	bad("groups: [a]", "F:1:9: groups takes names, as in 'backend:'");
	bad("groups: {a/b: }", "F:1:10: 'a/b' is not the name of a group");
	bad("groups: {g: {network: {subnet: 10.0.0.0/8}}}",
	    "F:1:14: network is not supported: members find each other by name, whatever their "
	    "addresses");
	bad("groups: {g: {volumes: {}}}",
	    "F:1:14: volumes is not supported: give the sandboxes the same `volumes`");
}

static void test_secrets(void **state)
{
	struct sandboxfile *f = good(
		"sandboxes:\n"
		"  a:\n"
		"    image: x\n"
		"    secrets:\n"
		"      KEY: {hosts: [api.example.org, \"*.example.com:8080\"], env: MY_KEY}\n"
		"      TOKEN: {file: ./run/a@b, hosts: api.example.org}\n"
		"      PLAIN: {hosts: [one.]}\n"
		"  b: {image: x, secrets: [KEY@api.example.org, T=file:/run/t@example.org:81]}\n"
		"  c: {image: x, secrets: }\n");
	const struct sandboxfile_list *l = &f->sandboxes[0]->secrets;

	(void)state;
	assert_int_equal(l->n, 3);
	assert_string_equal(l->v[0], "KEY=env:MY_KEY@api.example.org,*.example.com:8080");
	assert_int_equal(l->at[0].line, 5);
	assert_string_equal(l->v[1], "TOKEN=file:./run/a@b@api.example.org");
	assert_string_equal(l->v[2], "PLAIN=env:PLAIN@one.");
	assert_string_equal(f->sandboxes[1]->secrets.v[1], "T=file:/run/t@example.org:81");
	assert_int_equal(f->sandboxes[2]->secrets.n, 0);
	sandboxfile_free(f);
}

/* A value that somebody has put into the file is in no message. */
static void test_secrets_refused(void **state)
{
	static const char *const leaks[] = {
		"secrets: {K: hunter2}",
		"secrets: {K: [hunter2]}",
		"secrets: {K: {value: hunter2, hosts: [a.b]}}",
		"secrets: {K: {env: A, file: hunter2, hosts: [a.b]}}",
		"secrets: {K: {env: hunter2}}",
		"secrets: {K: {env: hunter2, hosts: []}}",
		"secrets: {K: {env: hunter2, hosts: [10.0.0.1]}}",
		"secrets: {\"K=hunter2\": {hosts: [a.b]}}",
		"secrets: [\"K=hunter2\"]",
		"secrets: [\"K=hunter2@a.b\"]",
		"secrets: [\"K=file:hunter2@\"]",
		"secrets: [hunter2]",
		"secrets: hunter2",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(leaks); i++) {
		char text[512];

		snprintf(text, sizeof(text), "sandboxes:\n  a:\n    image: x\n    %s\n", leaks[i]);
		if (parse(text))
			fail_msg("accepted: %s", text);
		assert_memory_equal(err.msg, "F:4:", 4);
		if (strstr(err.msg, "hunter2"))
			fail_msg("%s", err.msg);
	}
	bad_key("secrets: {K: {hosts: [\"a.b,c.d\"]}}",
		"F:4:27: secrets: a host of K is no domain name");
	bad_key("secrets: {K: {hosts: [\"a.b:443\"]}}",
		"F:4:15: secrets: secret K: port 443 is TLS, which is not supported: values are "
		"put into plain HTTP");
	bad_key("secrets: [K@a.b, \"K=env:X@c.d\"]", "F:4:22: secrets: K is given twice");
	bad_key("secrets: {K: {env: X, hosts: [a.b], hots: c}}",
		"F:4:41: secrets: a secret takes 'env' or 'file', and 'hosts', not 'hots'; its "
		"value does not belong into the file");
}

static void test_builds(void **state)
{
	static const char text[] = "sandboxes:\n"
				   "  app: {build: over}\n"
				   "builds:\n"
				   "  over: {build: base, steps: {one: a, two: b}}\n"
				   "  base:\n"
				   "    image: python\n"
				   "    envs: [A=1]\n"
				   "    steps:\n"
				   "      - pip list\n"
				   "      - |\n"
				   "        x\n"
				   "        y\n";
	struct sandboxfile *f = good(text), *g;
	const struct sandboxfile_sandbox *base = sandboxfile_find_build(f, "base");
	char was[2][SANDBOXFILE_RESULT_MAX];

	(void)state;
	assert_int_equal(f->n_builds, 2);
	assert_ptr_equal(f->builds[0], base);
	assert_string_equal(base->image, "python");
	assert_string_equal(base->steps.v[1], "x\ny\n");
	assert_memory_equal(base->result, "build.invalid/base:", 19);
	assert_int_equal(strlen(base->result), 19 + 32);
	assert_string_equal(f->builds[1]->image, base->result);
	assert_string_equal(f->builds[1]->steps.v[1], "b");
	assert_string_equal(f->sandboxes[0]->image, f->builds[1]->result);
	strcpy(was[0], base->result);
	strcpy(was[1], f->builds[1]->result);
	sandboxfile_free(f);
	/* What does not go into the image changes nothing; what does, changes all that stand on it. */
	for (unsigned i = 0; i < 4; i++) {
		static const char *const lines[] = {
			"    image: python\n    memory: 512\n    scope: none\n",
			"    image: python:3\n", "    image: python\n    shell: /bin/sh\n",
			"    image: python\n    workdir: /\n"
		};
		char other[1024];
		const char *at = strstr(text, "    image: python\n");

		snprintf(other, sizeof(other), "%.*s%s%s", (int)(at - text), text, lines[i],
			 at + strlen("    image: python\n"));
		g = good(other);
		assert_int_equal(!strcmp(g->builds[0]->result, was[0]), !i);
		assert_int_equal(!strcmp(g->builds[1]->result, was[1]), !i);
		sandboxfile_free(g);
	}
	g = good("builds:\n  base: {image: python, envs: {A: 1}, steps: [pip list, "
		 "\"x\\ny\\n\"]}\n");
	assert_string_equal(g->builds[0]->result, was[0]);
	sandboxfile_free(g);
	g = good("builds:\n  base: {image: python, envs: {A: 1}, steps: [\"pip listx\\ny\\n\"]}\n");
	assert_string_not_equal(g->builds[0]->result, was[0]);
	sandboxfile_free(g);
}

static void test_builds_refused(void **state)
{
	(void)state;
	bad("builds: {A: {image: x}}\n", "F:1:10: 'A' is not a name for a build: use lower-case "
					 "letters, digits and single '-'");
	bad("builds: {a: {}}\n", "F:1:10: build 'a' has no 'image', as in 'image: python'");
	bad("builds: {a: {image: x, build: b}, b: {image: x}}\n",
	    "F:1:10: build 'a' has 'image' and 'build': give one of them");
	bad("builds: {a: {image: x, volumes: [.:/s]}}\n",
	    "F:1:24: volumes is not supported in a build: give it to the sandbox");
	bad("builds: {a: {image: x, steps: ls}}\n",
	    "F:1:31: steps takes a list, as in [pip install flask]");
	bad("builds: {a: {build: b}, b: {build: c}, c: {build: b}}\n",
	    "F:1:10: build 'a' stands on itself, by way of 'b'");
	bad("builds: {tools: {image: x}}\nsandboxes: {a: {build: tool}}\n",
	    "F:2:13: 'a': no build 'tool' in the file: did you mean 'tools'?");
	bad("sandboxes: {a: {image: x, build: b}}\n",
	    "F:1:13: sandbox 'a' has 'image' and 'build': give one of them");
	bad("sandboxes: {a: {build: B}}\n", "F:1:24: build: 'B' is not a name for a build: use "
					    "lower-case letters, digits and single '-'");
}

static void test_volumes_and_ports(void **state)
{
	(void)state;
	bad_key("volumes: [\"./a\"]", "F:4:15: volumes: volume './a' (give HOST:GUEST[:ro], as in "
				      "./src:/src:ro): where in the sandbox is it to be?");
	bad_key("volumes: [\"./a:/x\", \"./b:/x\"]",
		"F:4:25: volumes: two volumes are to be at /x in the sandbox");
	bad_key("volumes: [\"./a:/x\"]\n    tmpfs: [/x]",
		"F:5:13: tmpfs: two volumes are to be at /x in the sandbox");
	bad_key("ports: [70000:80]",
		"F:4:13: ports: port '70000:80': give HOST:GUEST, PORT or ADDRESS:HOST:GUEST, with "
		"/udp or ranges if wanted");
	bad_key("ports: [80:80, 80:81]", "F:4:20: ports: port '80:81': this port of the host "
					 "is given twice");
	bad("sandboxes:\n  a: {image: x, ports: [80:80]}\n  b: {image: x, ports: [80]}\n",
	    "F:3:25: ports: port 80 is published by 'a' at line 2 already");
	bad("sandboxes:\n  a: {image: x, ports: [80:80]}\n"
	    "  b: {image: x, ports: [81, \"0.0.0.0:80:1\"]}\n",
	    "F:3:29: ports: port 80 is published by 'a' at line 2 already");
	sandboxfile_free(good("sandboxes:\n  a: {image: x, ports: [80:80, 0:1]}\n"
			      "  b: {image: x, ports: [127.0.0.2:80:80, 80/udp, 0:1]}\n"));
}

static void test_depends_on(void **state)
{
	const struct sandboxfile_sandbox *order[4];
	struct sandboxfile *f = good("sandboxes:\n"
				     "  web: {image: x, depends_on: [api, db]}\n"
				     "  job: {image: x}\n"
				     "  api: {image: x, depends_on: db}\n"
				     "  db: {image: x}\n");
	const char *const one[] = { "api" }, *const wrong[] = { "dbb" };
	size_t n;

	(void)state;
	assert_int_equal(sandboxfile_order(f, NULL, 0, order, &n, NULL), 0);
	assert_int_equal(n, 4);
	assert_string_equal(order[0]->name, "db");
	assert_string_equal(order[1]->name, "api");
	assert_string_equal(order[2]->name, "web");
	assert_string_equal(order[3]->name, "job");
	assert_int_equal(sandboxfile_order(f, one, 1, order, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(order[0]->name, "db");
	err_clear(&err);
	assert_int_equal(sandboxfile_order(f, wrong, 1, order, &n, &err), -ENOENT);
	assert_string_equal(err.msg, "no sandbox 'dbb': did you mean 'db'?");
	sandboxfile_free(f);
	f = good("sandboxes:\n"
		 "  web: {image: x, depends_on: {db: {port: 5432}, api: , job: {}}}\n"
		 "  api: {image: x, depends_on: db}\n"
		 "  job: {image: x}\n"
		 "  db: {image: x}\n");
	assert_int_equal(sandboxfile_order(f, NULL, 0, order, &n, NULL), 0);
	assert_string_equal(order[3]->name, "web");
	assert_int_equal(f->sandboxes[0]->depends_on.n, 3);
	assert_int_equal(f->sandboxes[0]->depends_port[0], 5432);
	assert_int_equal(f->sandboxes[0]->depends_port[1], 0);
	assert_int_equal(f->sandboxes[0]->depends_port[2], 0);
	assert_null(f->sandboxes[1]->depends_port);
	sandboxfile_free(f);
	bad("sandboxes:\n  a: {image: x, depends_on: {b: {port: 0}}}\n",
	    "F:2:40: port is '0': give a number from 1 to 65535");
	bad("sandboxes:\n  a: {image: x, depends_on: {b: 1}}\n",
	    "F:2:33: depends_on: b takes {port: NUMBER}, or nothing");
	bad("sandboxes:\n  a: {image: x, depends_on: {b: {condition: healthy}}}\n",
	    "F:2:34: depends_on has no 'condition': it takes {port: NUMBER}, or nothing");
	bad("sandboxes:\n  a: {image: x, depends_on: {a: {port: 1}}}\n",
	    "F:2:30: depends_on: 'a' cannot depend on itself");
	bad("sandboxes:\n  a: {image: x, depends_on: [a]}\n",
	    "F:2:30: depends_on: 'a' cannot depend on itself");
	bad("sandboxes:\n  a: {image: x, depends_on: [c]}\n",
	    "F:2:30: depends_on: no sandbox 'c' in the Sandboxfile");
}

static void test_cycle(void **state)
{
	(void)state;
	bad("sandboxes:\n"
	    "  z: {image: x, depends_on: [a]}\n"
	    "  a: {image: x, depends_on: [b]}\n"
	    "  b: {image: x, depends_on: [c]}\n"
	    "  c: {image: x, depends_on: [a]}\n",
	    "F:3:3: depends_on goes in a circle: a -> b -> c -> a");
}

static void test_syntax(void **state)
{
	(void)state;
	bad("sandboxes:\n\ta:\n", "F:2:1: a tab: YAML is indented with spaces, tabs are an error");
	bad("a: [1\nb: 2\n",
	    "F:2:2: not YAML: did not find expected ',' or ']' (while parsing a flow sequence at "
	    "line 1)");
	bad("a: @x\n", "F:1:4: a text cannot begin with '@': put it in quotes");
	bad("a: 1\nb: 2\na: 3\n", "F:3:1: 'a' is here twice: it stands at line 1 already");
	bad("sandboxes:\n  a: {image: x}\n  a: {image: y}\n",
	    "F:3:3: 'a' is here twice: it stands at line 2 already");
	bad("a: \"\\0\"\n", "F:1:4: a text cannot hold a NUL byte (\\0)");
	bad("a: 1\n---\nb: 2\n", "F:2:1: a second document: one file has one");
	bad("? [a]\n: b\n", "F:1:3: a key has to be a text, not a list or mapping");
	bad("a: !!binary x\n", "F:1:4: this tag means nothing here: 'tag:yaml.org,2002:binary'");
	bad("a: \xff\n", "F:1:4: not UTF-8: this is no text, or one of an old encoding");
	bad("\xff\xfe"
	    "a",
	    "F:1:1: not UTF-8: this is no text, or one of an old encoding");
	bad("# \xc3\xa4\na: b\x01\n", "F:2:5: a control character, which no YAML has");
	bad("# \xc3\xa4\na: {\xc3\xa4: @}\n",
	    "F:2:8: a text cannot begin with '@': put it in quotes");
	assert_null(parse_n("a: \0b\n", 6));
	assert_string_equal(err.msg, "F:1:4: a NUL byte: this is no text");
}

static void test_all_errors(void **state)
{
	(void)state;
	assert_null(parse("sandboxes:\n  a: {image: x, cpus: 0, memory: 1, foo: 1}\n"
			  "  b: {ports: [x]}\n"));
	assert_string_equal(err.msg, "F:2:23: cpus is '0': give a number from 1 to 16");
	assert_int_equal(notes.errors, 4);
	assert_int_equal(notes.n, 5);
	assert_false(notes.v[2].error);
	assert_int_equal(notes.v[3].at.column, 3);
	assert_int_equal(notes.v[4].at.column, 15);
}

static void test_aliases(void **state)
{
	struct sandboxfile *f = good("x-base: &base\n  image: python\n  cpus: 2\n  envs: &e [A=1]\n"
				     "sandboxes:\n"
				     "  a: *base\n"
				     "  b: {<<: *base, cpus: 4}\n"
				     "  c: {image: d, <<: [{envs: [B=1]}, *base]}\n");

	(void)state;
	assert_string_equal(f->sandboxes[0]->image, "python");
	assert_int_equal(f->sandboxes[1]->cpus, 4);
	assert_string_equal(f->sandboxes[1]->envs.v[0], "A=1");
	assert_string_equal(f->sandboxes[2]->image, "d");
	assert_string_equal(f->sandboxes[2]->envs.v[0], "B=1");
	assert_int_equal(f->sandboxes[2]->cpus, 2);
	sandboxfile_free(f);
	bad("a: *b\n", "F:1:4: no anchor of this name stands before it: 'b'");
	bad("a: &b [*b]\n", "F:1:8: an alias of what it stands in: 'b'");
	bad("a: &b {<<: *b}\n", "F:1:12: an alias of what it stands in: 'b'");
	bad("a: {<<: 1}\n", "F:1:5: '<<' takes a mapping, as in '<<: *name', or a list of them");
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void append(struct buf *b, const char *s)
{
	assert_int_equal(buf_append(b, s, strlen(s)), 0);
}

/* Parses @b, which ends within seconds of processor time, and frees it. */
static struct sandboxfile *timed(struct buf *b)
{
	double start = seconds();
	struct sandboxfile *f = parse_n((const char *)buf_data(b), buf_len(b));

	/* Far more than it takes, and far less than what nothing bounds. */
	assert_true(seconds() - start < 20);
	buf_fini(b);
	return f;
}

static void test_billion_laughs(void **state)
{
	struct buf b = BUF_INIT;
	char line[256];

	(void)state;
	append(&b, "a0: &a0 {k: v}\n");
	for (int i = 1; i < 60; i++) {
		snprintf(line, sizeof(line), "a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1,
			 i - 1, i - 1, i - 1);
		append(&b, line);
	}
	append(&b, "sandboxes: {a: {image: x, envs: *a59, ports: *a59, network: *a59}}\n");
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "envs takes a text, not a list"));
	/* The same by merge keys. */
	append(&b, "a0: &a0 {k: v}\n");
	for (int i = 1; i < 200; i++) {
		snprintf(line, sizeof(line), "a%d: &a%d {<<: [*a%d, *a%d], k%d: v}\n", i, i, i - 1,
			 i - 1, i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "too many keys come by '<<'"));
	for (int i = 0; i < 300; i++) {
		snprintf(line, sizeof(line), "k%d: &k%d v\n", i, i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_string_equal(err.msg, "F:257:7: too many anchors");
}

/* A text that is put together is a copy: of those there is no end by aliases, either. */
static void test_many_copies(void **state)
{
	struct buf b = BUF_INIT;
	char line[64];

	(void)state;
	append(&b, "v: &v \"");
	for (int i = 0; i < 500; i++)
		append(&b, "0123456789012345678901234567890123456789012345678901234567890123456789"
			   "012345678901234567890123456789");
	append(&b, "\"\nx-e: &e\n");
	for (int i = 0; i < 100; i++) {
		snprintf(line, sizeof(line), "  N%d: *v\n", i);
		append(&b, line);
	}
	append(&b, "sandboxes:\n");
	for (int i = 0; i < 256; i++) {
		snprintf(line, sizeof(line), "  s%d: {image: x, envs: *e}\n", i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "envs: too much text comes by aliases"));
}

/* What a build is made of is copied, too, to be hashed. */
static void test_many_steps(void **state)
{
	struct buf b = BUF_INIT;
	char line[64];

	(void)state;
	append(&b, "v: &v \"");
	for (int i = 0; i < 500000 / 10; i++)
		append(&b, "0123456789");
	append(&b, "\"\nx-s: &s [");
	for (int i = 0; i < 1000; i++)
		append(&b, "*v,");
	append(&b, "]\nbuilds:\n");
	for (int i = 0; i < 256; i++) {
		snprintf(line, sizeof(line), "  s%d: {image: x, steps: *s}\n", i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "build: too much text comes by aliases"));
}

/* Sandboxes with @n keys each, most of them unknown. */
static struct sandboxfile *many_unknown(unsigned n)
{
	struct buf b = BUF_INIT;
	char line[64];

	append(&b, "x-k: &k\n  image: x\n");
	for (unsigned i = 1; i < n; i++) {
		snprintf(line, sizeof(line), "  k%u: x\n", i);
		append(&b, line);
	}
	append(&b, "sandboxes:\n");
	for (int i = 0; i < 256; i++) {
		snprintf(line, sizeof(line), "  s%d: *k\n", i);
		append(&b, line);
	}
	return timed(&b);
}

/* A name that is missing, or a key that is unknown, is looked for among all others. */
static void test_many_missing(void **state)
{
	static const char digits[] = "0123456789012345678901234567890123456789012345678901234567";
	struct buf b = BUF_INIT;
	struct sandboxfile *f;
	char line[160];

	(void)state;
	append(&b, "x-d: &d [");
	for (int i = 0; i < 1024; i++) {
		snprintf(line, sizeof(line), "x%s%d,", digits, i);
		append(&b, line);
	}
	append(&b, "]\nsandboxes:\n");
	for (int i = 0; i < 256; i++) {
		snprintf(line, sizeof(line), "  z%s%d: {image: x, depends_on: *d}\n", digits, i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "depends_on: no sandbox 'x0123"));
	f = many_unknown(SANDBOXFILE_LIST_MAX);
	assert_non_null(f);
	sandboxfile_free(f);
	assert_null(many_unknown(SANDBOXFILE_LIST_MAX + 1));
	assert_non_null(strstr(err.msg, "sandbox 's0' has more than 1024 keys"));
}

static void repeat(struct buf *b, const char *s, size_t size)
{
	while (buf_len(b) + strlen(s) <= size)
		append(b, s);
}

static void test_large(void **state)
{
	struct buf b = BUF_INIT;
	char line[1024];

	(void)state;
	repeat(&b, "# a comment\n", 10u << 20);
	assert_null(timed(&b));
	assert_string_equal(err.msg, "F: larger than 1024 KiB");
	repeat(&b, "[", 1u << 20);
	assert_null(timed(&b));
	assert_string_equal(err.msg, "F:1:65: nested too deeply");
	repeat(&b, "{a: ", 1u << 20);
	assert_null(timed(&b));
	for (int i = 0; i < 700; i++) {
		snprintf(line, sizeof(line), "%*sa:\n", i, "");
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_string_equal(err.msg, "F:65:65: nested too deeply");
	repeat(&b, "- - - - - - - -\n", 1u << 20);
	assert_null(timed(&b));
	repeat(&b, "- a\n", 1u << 20);
	assert_null(timed(&b));
	assert_non_null(strstr(err.msg, "too many values for one file"));
	append(&b, "a: '");
	repeat(&b, "x ", 1u << 20);
	assert_null(timed(&b));
	append(&b, "a: |\n");
	repeat(&b, "  x\n", 1u << 20);
	sandboxfile_free(timed(&b));
	append(&b, "sandboxes:\n");
	for (int i = 0; i < 257; i++) {
		snprintf(line, sizeof(line), "  s%d: {image: x}\n", i);
		append(&b, line);
	}
	assert_null(timed(&b));
	assert_string_equal(err.msg, "F:2:3: more than 256 sandboxes");
	append(&b, "a: {");
	repeat(&b, "a, ", 100u << 10);
	assert_null(timed(&b));
}

static void test_many_errors(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	append(&b, "sandboxes:\n  a:\n    image: x\n    envs:\n");
	for (int i = 0; i < 1000; i++)
		append(&b, "    - x\n");
	append(&b, "    cpus: 0\n");
	assert_null(timed(&b));
	assert_int_equal(notes.n, SANDBOXFILE_NOTES_MAX);
	assert_int_equal(notes.errors, 1001);
	assert_int_equal(notes.more, 1001 - SANDBOXFILE_NOTES_MAX);
	assert_string_equal(err.msg, "F:5:7: envs: 'x' is not NAME=value");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_seed),
		TEST(test_every_key),
		TEST(test_nothing_in_it),
		TEST(test_unknown_keys),
		TEST(test_wrong_values),
		TEST(test_network_of_others),
		TEST(test_refused_keys),
		TEST(test_builds),
		TEST(test_builds_refused),
		TEST(test_volumes_and_ports),
		TEST(test_depends_on),
		TEST(test_cycle),
		TEST(test_syntax),
		TEST(test_all_errors),
		TEST(test_aliases),
		TEST(test_billion_laughs),
		TEST(test_large),
		TEST(test_many_errors),
		TEST(test_many_copies),
		TEST(test_many_steps),
		TEST(test_many_missing),
		TEST(test_groups),
		TEST(test_groups_refused),
		TEST(test_secrets),
		TEST(test_secrets_refused),
	};

	return test_run(tests);
}
