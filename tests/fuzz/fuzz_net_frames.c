/* SPDX-License-Identifier: Apache-2.0 */
/* The stream from the VM, in pieces: the first byte says how long they are. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step, framed = 0, n;
	const uint8_t *frame;
	struct frames f;
	int sv[2], rc = 0;

	if (!size || size > 100000 || socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		return 0;
	if (frames_init(&f, sv[0], NULL) < 0)
		return 0;
	step = (size_t)data[0] * 8 + 1;
	for (size_t at = 1; at < size && rc != -EPROTO; at += step) {
		size_t part = size - at < step ? size - at : step;

		assert(write(sv[1], data + at, part) == (ssize_t)part);
		assert(frames_receive(&f) == 1);
		while ((rc = frames_next(&f, &frame, &n)) == 1) {
			/* Frames are the stream without the lengths, in order. */
			framed += 4 + n;
			assert(framed <= size - 1);
			assert(!memcmp(frame, data + 1 + framed - n, n));
			assert(frames_send(&f, frame, n) == 0);
			/* Nobody else reads: keep the socket empty. */
			char sink[4096];
			while (recv(sv[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
				;
		}
	}
	frames_fini(&f);
	close(sv[0]);
	close(sv[1]);
	return 0;
}
