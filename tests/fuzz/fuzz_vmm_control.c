/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of msb-vmm's control socket: what is read is written as the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/vmm_control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmm_control_message m;
	uint8_t p[VMM_CONTROL_MAX];

	if (vmm_control_decode(data, size, &m, NULL))
		return 0;
	if (vmm_control_encode(&m, p) != size || memcmp(p, data, size))
		abort();
	return 0;
}
