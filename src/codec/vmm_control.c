/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/vmm_control.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "codec/le.h"

static bool control_is_printable(uint8_t c)
{
	return c >= ' ' && c != 0x7f;
}

const char *vmm_control_type_name(uint16_t type)
{
	switch (type) {
	case VMM_CONTROL_PAUSE:
		return "PAUSE";
	case VMM_CONTROL_RESUME:
		return "RESUME";
	case VMM_CONTROL_SNAPSHOT:
		return "SNAPSHOT";
	case VMM_CONTROL_DONE:
		return "DONE";
	case VMM_CONTROL_ENDED:
		return "ENDED";
	default:
		return "?";
	}
}

static bool control_end_known(uint32_t code)
{
	return code == VMM_CONTROL_END_RESET || code == VMM_CONTROL_END_HOST ||
	       code == VMM_CONTROL_END_CRASH || code == VMM_CONTROL_END_KVM;
}

size_t vmm_control_encode(const struct vmm_control_message *m, uint8_t out[VMM_CONTROL_MAX])
{
	size_t len = strnlen(m->text, VMM_CONTROL_TEXT_MAX);

	le_put16(out, VMM_CONTROL_VERSION);
	le_put16(out + 2, m->type);
	le_put32(out + 4, m->id);
	le_put32(out + 8, m->code);
	le_put32(out + 12, (uint32_t)len);
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)m->text[i];

		out[VMM_CONTROL_HEADER_SIZE + i] = control_is_printable(c) ? c : '?';
	}
	return VMM_CONTROL_HEADER_SIZE + len;
}

int vmm_control_decode(const uint8_t *p, size_t n, struct vmm_control_message *out, struct err *e)
{
	struct vmm_control_message m = { .type = 0 };
	uint32_t len;

	if (n < VMM_CONTROL_HEADER_SIZE || n > VMM_CONTROL_MAX)
		return err_set(e, EPROTO, "control message of %zu bytes", n);
	if (le_get16(p) != VMM_CONTROL_VERSION)
		return err_set(e, EPROTO, "control message of version %u, not %u", le_get16(p),
			       VMM_CONTROL_VERSION);
	m.type = le_get16(p + 2);
	m.id = le_get32(p + 4);
	m.code = le_get32(p + 8);
	len = le_get32(p + 12);
	if (len != n - VMM_CONTROL_HEADER_SIZE)
		return err_set(e, EPROTO, "control message: text of %u bytes in a packet of %zu",
			       len, n);
	if (!vmm_control_is_request(m.type) && m.type != VMM_CONTROL_DONE &&
	    m.type != VMM_CONTROL_ENDED)
		return err_set(e, EPROTO, "control message of unknown type %u", m.type);
	if (vmm_control_is_request(m.type) && (m.code || len))
		return err_set(e, EPROTO, "control request %s with code or text",
			       vmm_control_type_name(m.type));
	if (m.type == VMM_CONTROL_ENDED && (!control_end_known(m.code) || m.id))
		return err_set(e, EPROTO, "control message: end of unknown kind %u", m.code);
	/* An errno, as the kernel bounds it (MAX_ERRNO). */
	if (m.type == VMM_CONTROL_DONE && m.code > 4095)
		return err_set(e, EPROTO, "control message: error %u", m.code);
	for (uint32_t i = 0; i < len; i++) {
		uint8_t c = p[VMM_CONTROL_HEADER_SIZE + i];

		if (!control_is_printable(c))
			return err_set(e, EPROTO, "control message: text is not printable");
		m.text[i] = (char)c;
	}
	*out = m;
	return 0;
}
