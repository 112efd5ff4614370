/* SPDX-License-Identifier: Apache-2.0 */
/* Which sandboxes there are, and what one uses. */
#include <inttypes.h>
#include <math.h>

#include "example.h"

int main(void)
{
	struct msb_sandbox *sb;
	struct msb_list *list;
	struct msb_metrics *m;
	struct msb_error *err;

	if (msb_sandbox_create(&sb, MSB_PYTHON, NULL, NULL, NULL, NULL, &err))
		example_fail(NULL, err);

	if (msb_list(&list, NULL, NULL, &err))
		example_fail(sb, err);
	for (size_t i = 0; i < msb_list_count(list); i++) {
		const struct msb_info *info = msb_list_item(list, i);

		printf("%s: %s, %s since %s\n", info->name, info->image, info->state,
		       info->started_at);
	}
	msb_list_free(list);

	if (msb_sandbox_metrics(sb, NULL, &m, &err))
		example_fail(sb, err);
	if (!isnan(m->cpu_usage))
		printf("CPU: %.1f %%\n", m->cpu_usage);
	if (m->memory_usage >= 0)
		printf("memory: %" PRId64 " MiB\n", m->memory_usage);
	if (m->disk_usage >= 0)
		printf("disk: %" PRId64 " bytes\n", m->disk_usage);
	msb_metrics_free(m);

	if (msb_sandbox_stop(sb, NULL, &err))
		example_fail(sb, err);
	msb_sandbox_free(sb);
	return 0;
}
