/* SPDX-License-Identifier: Apache-2.0 */
/* Files: small ones in one call, a large one as it comes, and what a directory holds. */
#include <inttypes.h>
#include <string.h>

#include "example.h"

#define LARGE ((uint64_t)20 << 20)

/* Gives LARGE bytes without ever having them all. */
static ptrdiff_t source(void *context, void *buf, size_t room)
{
	uint64_t *left = context;

	if (room > *left)
		room = *left;
	memset(buf, 'x', room);
	*left -= room;
	return (ptrdiff_t)room;
}

static int sink(void *context, const void *data, size_t len)
{
	uint64_t *total = context;

	(void)data;
	*total += len;
	return 0;
}

int main(void)
{
	static const char text[] = "Hello from outside\n";
	uint64_t left = LARGE, total = 0;
	struct msb_fs parents = { .size = sizeof(parents), .parents = 1, .mode = 0600 };
	struct msb_sandbox *sb;
	struct msb_files *files;
	struct msb_error *err;
	void *data;
	size_t len;

	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, NULL, &err))
		example_fail(NULL, err);

	if (msb_fs_write(sb, "/tmp/work/hello", text, strlen(text), &parents, NULL, NULL, &err) ||
	    msb_fs_read(sb, "/tmp/work/hello", NULL, NULL, &data, &len, &err))
		example_fail(sb, err);
	printf("%s", (char *)data);
	msb_free(data);

	if (msb_fs_put(sb, "/tmp/work/large", NULL, (int64_t)LARGE, source, &left, NULL, NULL,
		       &err) ||
	    msb_fs_get(sb, "/tmp/work/large", NULL, sink, &total, NULL, &err))
		example_fail(sb, err);
	printf("%" PRIu64 " bytes there and back\n", total);

	if (msb_fs_list(sb, "/tmp/work", NULL, NULL, &files, &err))
		example_fail(sb, err);
	for (size_t i = 0; i < msb_files_count(files); i++) {
		const struct msb_file *f = msb_files_item(files, i);

		printf("%04o %10" PRId64 " %s\n", (unsigned)f->mode, f->size, f->name);
	}
	msb_files_free(files);

	if (msb_fs_read(sb, "/nowhere", NULL, NULL, &data, &len, &err) == MSB_ERR_FILE) {
		printf("%s: %s\n", msb_error_errno_name(err), msb_error_message(err));
		msb_error_free(err);
	}

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	return 0;
}
