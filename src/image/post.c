/* SPDX-License-Identifier: Apache-2.0 */
#include "image/post.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/progress.h"
#include "image/tool.h"

/*
 * Arguments: the folder, then patterns of directories in the image.  Writes a tar of
 * the __pycache__ folders to stdout.  A module that does not compile (templates,
 * modules of another version) is left as it is.
 */
static const char post_compile[] =
	"import glob, os, sys, tarfile, io\n"
	"from importlib._bootstrap_external import _code_to_timestamp_pyc, cache_from_source\n"
	"root, patterns = sys.argv[1], sys.argv[2:]\n"
	"out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)\n"
	"def put(name, mtime, data=None):\n"
	"    info = tarfile.TarInfo(name.lstrip('/'))\n"
	"    info.mtime, info.mode = mtime, 0o644 if data is not None else 0o755\n"
	"    info.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE\n"
	"    info.size = len(data or b'')\n"
	"    out.addfile(info, io.BytesIO(data or b''))\n"
	"for pattern in patterns:\n"
	"    for top in sorted(glob.glob(root + pattern)):\n"
	"        for base, subs, files in os.walk(top):\n"
	"            subs.sort()\n"
	"            made = False\n"
	"            for f in sorted(files):\n"
	"                path = os.path.join(base, f)\n"
	"                if not f.endswith('.py') or os.path.islink(path):\n"
	"                    continue\n"
	"                with open(path, 'rb') as source:\n"
	"                    text = source.read()\n"
	"                mtime = int(os.stat(path).st_mtime)\n"
	"                name = path[len(root):]\n"
	"                try:\n"
	"                    code = compile(text, name, 'exec', dont_inherit=True, optimize=0)\n"
	"                except (SyntaxError, ValueError):\n"
	"                    continue\n"
	"                if not made:\n"
	"                    put(os.path.dirname(cache_from_source(name)), mtime)\n"
	"                    made = True\n"
	"                put(cache_from_source(name), mtime, _code_to_timestamp_pyc(code, mtime, "
	"len(text)))\n"
	"out.close()\n";

struct post {
	const struct recipe *recipe;
	const char *dir;
	char *tree; /* DIR/tree */
	char *loader; /* its dynamic loader */
	char *libraries; /* the folder that has it */
};

static int post_check(int status, const char *what, struct err *e)
{
	char text[128];

	if (!status)
		return 0;
	child_status_text(status, text, sizeof(text));
	return err_set(e, EIO, "%s: it %s", what, text);
}

/* tar(1) is on every Debian; owners do not matter here. */
static int post_unpack(const struct post *p, int base, struct err *e)
{
	char *argv[] = { (char *)"tar",
			 (char *)"-xf",
			 (char *)"-",
			 (char *)"-C",
			 p->tree,
			 (char *)"--no-same-owner",
			 (char *)"--no-same-permissions",
			 (char *)"--delay-directory-restore",
			 NULL };
	const struct child_fd fds[] = { { base, 0 }, { STDERR_FILENO, 2 } };
	const struct tool t = { "tar", "tar", argv, fds, ARRAY_SIZE(fds) };
	struct child child = CHILD_INIT;
	int status, rc;

	if (mkdir(p->tree, 0755) < 0)
		return err_errno(e, errno, "make %s", p->tree);
	if (lseek(base, 0, SEEK_SET) < 0)
		return err_errno(e, errno, "read the layer back");
	rc = tool_spawn(&t, &child, e);
	if (!rc)
		rc = child_reap(&child, &status);
	return rc ? rc : post_check(status, "cannot unpack the layer", e);
}

static int post_find_loader(struct post *p, struct err *e)
{
	char pattern[4096];
	glob_t g = { .gl_pathc = 0 };
	int rc = 0;

	snprintf(pattern, sizeof(pattern), "%s/usr/lib/*/ld-linux*.so.*", p->tree);
	if (glob(pattern, 0, NULL, &g) || !g.gl_pathc) {
		rc = err_set(e, ENOENT, "the packages have no dynamic loader (is libc6 omitted?)");
	} else {
		p->loader = strdup(g.gl_pathv[0]);
		p->libraries = strdup(g.gl_pathv[0]);
		if (!p->loader || !p->libraries)
			rc = err_errno(e, ENOMEM, "find the dynamic loader");
		else
			*strrchr(p->libraries, '/') = '\0';
	}
	globfree(&g);
	return rc;
}

/* Compiles; the tar goes to @extra. */
static int post_bytecode(const struct post *p, int extra, struct err *e)
{
	const struct child_fd fds[] = { { extra, 1 }, { STDERR_FILENO, 2 } };
	char home[4096], python[4096], **argv = NULL;
	char *env[] = { (char *)"PYTHONHASHSEED=0", (char *)"LC_ALL=C.UTF-8", home, NULL };
	struct child child = CHILD_INIT;
	int status, rc;
	const char *const words[] = {
		p->loader, "--library-path", p->libraries, python,       "-S",   "-s", "-P",
		"-B",      "-Wignore",       "-c",         post_compile, p->tree
	};

	snprintf(home, sizeof(home), "PYTHONHOME=%s/usr", p->tree);
	snprintf(python, sizeof(python), "%s%s", p->tree, p->recipe->bytecode_python);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlist_add(&argv, words[i]))
			return err_errno(e, ENOMEM, "compile Python's modules");
	for (char **d = p->recipe->bytecode_dirs; *d; d++)
		if (strlist_add(&argv, *d))
			return err_errno(e, ENOMEM, "compile Python's modules");
	rc = tool_spawn_tree(p->tree, argv, env, fds, ARRAY_SIZE(fds), &child, e);
	strlist_free(argv);
	if (!rc)
		rc = child_reap(&child, &status);
	return rc ? rc : post_check(status, "cannot compile Python's modules", e);
}

/* Adds a file to the tars in @extra. */
static int post_add_file(int extra, const char *name, const char *path, time_t mtime, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct archive_entry *entry = archive_entry_new();
	struct archive *out = archive_write_new();
	auto_free char *buf = NULL;
	struct stat st;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		rc = err_errno(e, errno, "read %s", path);
	else if (!entry || !out || !(buf = malloc((size_t)st.st_size + 1)))
		rc = err_errno(e, ENOMEM, "read %s", path);
	else if (read(fd, buf, (size_t)st.st_size) != st.st_size)
		rc = err_errno(e, EIO, "read %s", path);
	if (!rc) {
		archive_entry_set_pathname(entry, name);
		archive_entry_set_mode(entry, S_IFREG | 0644);
		archive_entry_set_mtime(entry, mtime, 0);
		archive_entry_set_size(entry, st.st_size);
		archive_write_set_format_pax_restricted(out);
		if (archive_write_open_fd(out, extra) != ARCHIVE_OK ||
		    archive_write_header(out, entry) != ARCHIVE_OK ||
		    archive_write_data(out, buf, (size_t)st.st_size) != st.st_size ||
		    archive_write_close(out) != ARCHIVE_OK)
			rc = err_set(e, EIO, "write a part of the layer: %s",
				     archive_error_string(out));
	}
	archive_entry_free(entry);
	archive_write_free(out);
	return rc;
}

/*
 * /etc/ld.so.cache, without which each start of a program looks for its libraries in
 * a dozen folders.  ldconfig is a static program; it writes next to what it reads, so
 * it gets no jail of its own.
 */
static int post_library_cache(const struct post *p, int extra, struct err *e)
{
	char program[4096], cache[4096];
	char *argv[] = { (char *)"ldconfig", (char *)"-X", (char *)"-r", p->tree, NULL };
	const struct child_fd fds[] = { { STDERR_FILENO, 2 } };
	const struct child_spec spec = {
		.path = program,
		.argv = argv,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.die_with_parent = true,
	};
	struct child child = CHILD_INIT;
	struct stat st;
	int status, rc;

	snprintf(program, sizeof(program), "%s/usr/sbin/ldconfig", p->tree);
	snprintf(cache, sizeof(cache), "%s/etc/ld.so.cache", p->tree);
	if (stat(program, &st) < 0)
		return err_set(e, ENOENT, "library-cache: no package has /sbin/ldconfig (libc-bin)");
	rc = child_spawn(&spec, &child, e);
	if (!rc)
		rc = child_reap(&child, &status);
	if (!rc)
		rc = post_check(status, "cannot make the cache of shared libraries", e);
	return rc ? rc : post_add_file(extra, "etc/ld.so.cache", cache, st.st_mtime, e);
}

int post_run(const struct recipe *r, const char *dir, int base, int extra, struct err *e)
{
	struct post p = { .recipe = r, .dir = dir };
	int rc;

	if (asprintf(&p.tree, "%s/tree", dir) < 0)
		return err_errno(e, ENOMEM, "unpack the layer");
	rc = post_unpack(&p, base, e);
	if (!rc)
		rc = post_find_loader(&p, e);
	if (!rc && r->bytecode_python) {
		progress_step("%s: compiling Python's modules", r->name);
		rc = post_bytecode(&p, extra, e);
	}
	if (!rc && r->ld_cache)
		rc = post_library_cache(&p, extra, e);
	free(p.tree);
	free(p.loader);
	free(p.libraries);
	return rc;
}
