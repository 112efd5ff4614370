/* SPDX-License-Identifier: Apache-2.0 */
/* The store as msb reads it, its documents, and the disks made for a sandbox. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sha256.h"
#include "image/chain.h"
#include "image/store_write.h"

#define ZERO_ID "0000000000000000000000000000000000000000000000000000000000000000"

static char home[64];

static int make_home(void **state)
{
	strcpy(home, "/tmp/msb-unit-XXXXXX");
	assert_non_null(mkdtemp(home));
	return test_setup(state);
}

static int drop_home(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", home);
	assert_int_equal(system(cmd), 0);
	return test_teardown(state);
}

static void test_sha256(void **state)
{
	static const struct {
		const char *text, *digest;
	} v[] = {
		/* NIST, examples of FIPS 180-4 */
		{ "", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc",
		  "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	char text[DIGEST_SIZE], ids[2][DIGEST_SIZE];
	uint8_t d[SHA256_BYTES], chain[SHA256_BYTES] = { 0 }, one[SHA256_BYTES] = { 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		sha256(v[i].text, strlen(v[i].text), d);
		sha256_text(d, text);
		assert_string_equal(text, v[i].digest);
	}
	/* A chain computed both ways. */
	chain_add(chain, one);
	chain_add(chain, d);
	sha256_text(one, ids[0]);
	sha256_text(d, ids[1]);
	chain_of(ids, 2, text);
	sha256_text(chain, ids[0]);
	assert_string_equal(text, ids[0]);
}

static void test_documents(void **state)
{
	static const char *const bad_manifests[] = {
		"",
		"[]",
		"{",
		"{\"schemaVersion\":1,\"layers\":[]}",
		"{\"schemaVersion\":2}",
		"{\"schemaVersion\":2,\"layers\":[],\"config\":{\"size\":-1,\"digest\":"
		"\"sha256:" ZERO_ID "\"}}",
		"{\"schemaVersion\":2,\"layers\":[],\"config\":{\"size\":1,\"digest\":\"md5:1\"}}",
		"{\"schemaVersion\":2,\"schemaVersion\":2,\"layers\":[]}",
	};
	static const char *const bad_configs[] = {
		"{}",
		"{\"rootfs\":{\"diff_ids\":[1]}}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":1}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Cmd\":\"sh\"}}",
		"{\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Env\":[1]}}",
	};
	static const char good[] =
		"{\"os\":\"linux\",\"config\":{\"Cmd\":[\"a\",\"b\"],\"Env\":null,\"Labels\":{"
		"\"x\":\"y=z\"},"
		"\"ExposedPorts\":{\"80/"
		"tcp\":{}},\"User\":\"\"},\"rootfs\":{\"diff_ids\":[\"sha256:" ZERO_ID "\"]}}";
	struct image_config c;
	struct manifest m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_manifests); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(manifest_parse(bad_manifests[i], strlen(bad_manifests[i]), &m, &e),
				 -EINVAL);
		assert_true(e.msg[0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_configs); i++)
		assert_int_equal(image_config_parse(bad_configs[i], strlen(bad_configs[i]), &c,
						    NULL),
				 -EINVAL);
	assert_int_equal(image_config_parse(good, strlen(good), &c, NULL), 0);
	assert_int_equal(strlist_count(c.cmd), 2);
	assert_non_null(c.env);
	assert_int_equal(strlist_count(c.env), 0);
	assert_string_equal(c.labels[0], "x=y=z");
	assert_string_equal(c.exposed_ports[0], "80/tcp");
	assert_null(c.user);
	assert_int_equal(c.n_diff_ids, 1);
	image_config_fini(&c);
}

/* Puts an image of one layer into the store, without layer and root image. */
static void add_image(struct store_writer *w, const char *name, char *word)
{
	char ids[1][DIGEST_SIZE] = { "sha256:" ZERO_ID };
	char *cmd[] = { word, NULL };
	struct image_config c = { .cmd = cmd, .diff_ids = ids, .n_diff_ids = 1 };
	struct descriptor layer = { MEDIA_LAYER, "sha256:" ZERO_ID, 10 }, d;
	struct manifest m = { .layers = &layer, .n_layers = 1 };
	char *doc = image_config_format(&c);

	assert_int_equal(store_put_doc(w, doc, MEDIA_CONFIG, &m.config, NULL), 0);
	free(doc);
	doc = manifest_format(&m);
	assert_int_equal(store_put_doc(w, doc, MEDIA_MANIFEST, &d, NULL), 0);
	free(doc);
	assert_int_equal(store_set_name(w, &d, name, "2026-01-01T00:00:00Z", "", NULL), 0);
}

static void expect_cmd(struct store *s, const char *name, const char *word)
{
	struct image *img;

	assert_int_equal(store_resolve(s, name, &img, NULL), 0);
	assert_string_equal(img->config.cmd[0], word);
	image_free(img);
}

static void test_resolve(void **state)
{
	struct err e = ERR_INIT;
	struct store_entry *list;
	struct store_writer *w;
	struct image *img;
	struct store *s;
	char digest[DIGEST_SIZE];
	size_t n;

	(void)state;
	/* No store yet: an empty one, and nothing is created. */
	assert_int_equal(store_open(home, &s, NULL), 0);
	assert_int_equal(store_resolve(s, "python", &img, &e), -ENOENT);
	assert_int_equal(store_list(s, &list, &n, NULL), 0);
	assert_int_equal(n, 0);
	free(list);
	store_close(s);
	assert_int_equal(store_writer_open(home, &w, NULL), 0);
	s = store_writer_store(w);
	add_image(w, "microsandbox/python:latest", (char *)"ours");
	add_image(w, "mine:1", (char *)"mine");
	expect_cmd(s, "python", "ours");
	expect_cmd(s, "microsandbox/python", "ours");
	expect_cmd(s, "mine:1", "mine");
	assert_int_equal(store_resolve(s, "mine", &img, NULL), -ENOENT);
	assert_int_equal(store_resolve(s, "docker.io/library/python", &img, NULL), -ENOENT);
	assert_int_equal(store_resolve(s, "Bad", &img, NULL), -EINVAL);
	/* What was named explicitly goes before what came with the program. */
	add_image(w, "docker.io/library/python:latest", (char *)"hub");
	expect_cmd(s, "python", "hub");
	add_image(w, "python:latest", (char *)"local");
	expect_cmd(s, "python", "local");
	expect_cmd(s, "microsandbox/python", "ours");
	assert_int_equal(store_resolve(s, "mine:1", &img, NULL), 0);
	strcpy(digest, img->digest);
	assert_string_equal(img->reference, "mine:1");
	assert_non_null(strstr(img->rootfs, "/images/rootfs/" ZERO_ID ".ext4"));
	image_free(img);
	expect_cmd(s, digest, "mine");
	/* A name moves to its newest image; a removed one is gone with its blobs. */
	add_image(w, "mine:1", (char *)"newer");
	expect_cmd(s, "mine:1", "newer");
	assert_int_equal(store_remove(w, "mine:1", false, NULL), 0);
	assert_int_equal(store_remove(w, "mine:1", false, NULL), -ENOENT);
	assert_int_equal(store_list(s, &list, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_string_equal(list[0].name, "docker.io/library/python:latest");
	free(list);
	store_writer_close(w);
}

static void test_damaged_documents(void **state)
{
	struct store_writer *w;
	struct err e = ERR_INIT;
	struct image *img;
	struct store *s;
	char path[256];
	int fd;

	(void)state;
	assert_int_equal(store_writer_open(home, &w, NULL), 0);
	s = store_writer_store(w);
	add_image(w, "a:latest", (char *)"x");
	assert_int_equal(store_resolve(s, "a", &img, NULL), 0);
	snprintf(path, sizeof(path), "%s/images/blobs/sha256/%s", home, img->config_digest + 7);
	image_free(img);
	assert_int_equal(truncate(path, 10), 0);
	assert_int_equal(store_resolve(s, "a", &img, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "is damaged: it has 10 bytes"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_resolve(s, "a", &img, NULL), -ENOENT);
	snprintf(path, sizeof(path), "%s/images/index.json", home);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "{\"manifests\":[", 14), 14);
	close(fd);
	err_clear(&e);
	assert_int_equal(store_resolve(s, "a", &img, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "not valid JSON"));
	store_writer_close(w);
}

static int fsck(const char *path)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin e2fsck -fn %s >/dev/null 2>&1", path);
	return system(cmd);
}

static void test_upper(void **state)
{
	static const uint64_t sizes[] = { 4u << 20, 33u << 20, 1ull << 30, 4ull << 30,
					  100ull << 30 };
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/upper", home);
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * 2; i++) {
		bool journal = i % 2;
		uint64_t size = sizes[i / 2];
		struct err e = ERR_INIT;
		struct stat st;
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		int rc = rootimage_make_upper(fd, size, journal, &e);

		if (journal && size < 16u << 20) {
			assert_int_equal(rc, -EINVAL);
		} else {
			assert_int_equal(rc, 0);
			assert_int_equal(fstat(fd, &st), 0);
			assert_int_equal(st.st_size, size);
			assert_true(st.st_blocks * 512 < 4 << 20);
			assert_int_equal(fsck(path), 0);
			/* A disk that has something on it is not formatted. */
			assert_int_equal(rootimage_make_upper(fd, size, journal, NULL), -EINVAL);
		}
		close(fd);
	}
}

/* Runs an empty tree through the writer. */
static void write_rootfs(const char *path)
{
	const struct rootimage_limits limits = ROOTIMAGE_LIMITS_DEFAULT;
	static const uint8_t id[16];
	struct rootimage_stats stats;
	struct rootimage *r;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(rootimage_create(fd, &limits, &r, NULL), 0);
	assert_int_equal(tree_layer_begin(rootimage_tree(r), NULL), 0);
	assert_int_equal(rootimage_finish(r, id, &stats, NULL), 0);
	rootimage_destroy(r);
	close(fd);
}

static void test_rootimage_open(void **state)
{
	char path[160], other[160];
	struct err e = ERR_INIT;
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/" ZERO_ID ".ext4", home);
	snprintf(other, sizeof(other), "%s/1%s.ext4", home, ZERO_ID + 1);
	assert_int_equal(rootimage_open(path, &fd, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "prepare"));
	write_rootfs(path);
	assert_int_equal(fsck(path), 0);
	assert_int_equal(rootimage_open(path, &fd, NULL), 0);
	close(fd);
	assert_int_equal(rename(path, other), 0);
	err_clear(&e);
	assert_int_equal(rootimage_open(other, &fd, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "another image"));
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1), 0);
	err_clear(&e);
	assert_int_equal(rootimage_open(path, &fd, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "truncated"));
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(rootimage_open(path, &fd, NULL), -EUCLEAN);
	write_rootfs(path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 1024 + 100), 1);
	close(fd);
	err_clear(&e);
	assert_int_equal(rootimage_open(path, &fd, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "corrupt"));
}

#define HOME_TEST(fn) cmocka_unit_test_setup_teardown(fn, make_home, drop_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sha256),       TEST(test_documents),
		HOME_TEST(test_resolve), HOME_TEST(test_damaged_documents),
		HOME_TEST(test_upper),   HOME_TEST(test_rootimage_open),
	};

	return test_run(tests);
}
