/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the control socket of msb-vmm. */
#include "unit/test.h"

#include <errno.h>

#include "base/mem.h"
#include "codec/le.h"
#include "codec/vmm_control.h"

static void test_golden(void **state)
{
	static const uint8_t request[] = { 1, 0, 3, 0, 0x78, 0x56, 0x34, 0x12,
					   0, 0, 0, 0, 0,    0,    0,    0 };
	static const uint8_t answer[] = { 1, 0, 16, 0, 7, 0, 0,   0,   16,  0,
					  0, 0, 4,  0, 0, 0, 'b', 'u', 's', 'y' };
	static const uint8_t ended[] = { 1, 0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0 };
	struct vmm_control_message m = { .type = VMM_CONTROL_SNAPSHOT, .id = 0x12345678 };
	uint8_t p[VMM_CONTROL_MAX];

	(void)state;
	assert_int_equal(vmm_control_encode(&m, p), sizeof(request));
	assert_memory_equal(p, request, sizeof(request));
	m = (struct vmm_control_message){
		.type = VMM_CONTROL_DONE, .id = 7, .code = EBUSY, .text = "busy"
	};
	assert_int_equal(vmm_control_encode(&m, p), sizeof(answer));
	assert_memory_equal(p, answer, sizeof(answer));
	assert_int_equal(vmm_control_decode(p, sizeof(answer), &m, NULL), 0);
	assert_int_equal(m.type, VMM_CONTROL_DONE);
	assert_int_equal(m.id, 7);
	assert_int_equal(m.code, EBUSY);
	assert_string_equal(m.text, "busy");
	m = (struct vmm_control_message){ .type = VMM_CONTROL_ENDED, .code = VMM_CONTROL_END_CRASH };
	assert_int_equal(vmm_control_encode(&m, p), sizeof(ended));
	assert_memory_equal(p, ended, sizeof(ended));
}

static void test_text(void **state)
{
	struct vmm_control_message m = { .type = VMM_CONTROL_ENDED }, back;
	uint8_t p[VMM_CONTROL_MAX];
	size_t n;

	(void)state;
	strcpy(m.text, "panic:\n\x1b[2J caf\xc3\xa9");
	n = vmm_control_encode(&m, p);
	assert_int_equal(vmm_control_decode(p, n, &back, NULL), 0);
	assert_string_equal(back.text, "panic:??[2J caf\xc3\xa9");
	/* The longest that there can be. */
	memset(m.text, 'x', VMM_CONTROL_TEXT_MAX);
	m.text[VMM_CONTROL_TEXT_MAX] = '\0';
	n = vmm_control_encode(&m, p);
	assert_int_equal(n, VMM_CONTROL_MAX);
	assert_int_equal(vmm_control_decode(p, n, &back, NULL), 0);
	assert_string_equal(back.text, m.text);
}

struct refusal {
	unsigned off, bytes;
	uint32_t value;
	const char *reason;
};

static void test_refused(void **state)
{
	static const struct refusal cases[] = {
		{ 0, 2, 2, "version 2" },
		{ 2, 2, 0, "unknown type 0" },
		{ 2, 2, 4, "unknown type 4" },
		{ 2, 2, 18, "unknown type 18" },
		{ 2, 2, VMM_CONTROL_PAUSE, "request PAUSE with code or text" },
		{ 2, 2, VMM_CONTROL_ENDED, "end of unknown kind" },
		{ 8, 4, 4096, "error 4096" },
		{ 8, 4, UINT32_MAX, "error 4294967295" },
		{ 12, 4, 3, "text of 3 bytes in a packet of 20" },
		{ 12, 4, 5, "text of 5 bytes" },
		{ 12, 4, UINT32_MAX, "text of 4294967295 bytes" },
		{ 16, 1, 0, "not printable" },
		{ 19, 1, 0x7f, "not printable" },
	};
	const struct vmm_control_message m = {
		.type = VMM_CONTROL_DONE, .id = 1, .code = EBUSY, .text = "busy"
	};
	struct vmm_control_message out;
	uint8_t p[VMM_CONTROL_MAX + 1];
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = ERR_INIT;

		n = vmm_control_encode(&m, p);
		le_put(p + cases[i].off, cases[i].value, cases[i].bytes);
		assert_int_equal(vmm_control_decode(p, n, &out, &e), -EPROTO);
		if (!strstr(e.msg, cases[i].reason))
			fail_msg("'%s' does not say '%s'", e.msg, cases[i].reason);
	}
	for (n = 0; n < VMM_CONTROL_HEADER_SIZE; n++)
		assert_int_equal(vmm_control_decode(p, n, &out, NULL), -EPROTO);
	assert_int_equal(vmm_control_decode(p, VMM_CONTROL_MAX + 1, &out, NULL), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_golden),
		TEST(test_text),
		TEST(test_refused),
	};

	return test_run(tests);
}
