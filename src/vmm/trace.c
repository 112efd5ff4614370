/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/trace.h"

#include <unistd.h>

#include "sys/loop.h"

int trace_fd = -1;

void trace_write(enum trace_point point, uint32_t cpu)
{
	const struct trace_stamp stamp = { .point = point, .cpu = cpu, .ns = loop_now_ns() };

	/* Nobody reads: then nobody misses it. */
	(void)!write(trace_fd, &stamp, sizeof(stamp));
}
