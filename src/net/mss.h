/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_NET_MSS_H
#define MSB_NET_MSS_H

/*
 * Sizes of TCP segments between libslirp and the guest.
 *
 * libslirp has one MTU for both directions, and its windows are 64 KiB, since it does not
 * scale them.  Towards the guest a segment of its maximum, 32 KiB, is too large: a guest that
 * has half of its window left, less a few bytes, gets nothing for five seconds, because
 * libslirp then waits for more room (RFC 9293 §3.8.6.2.1) until its persist timer fires.  A
 * quarter of the window never waits, and keeps both sides at work.
 *
 * From the guest larger segments are better: each costs the guest the same.  Half of the
 * window lets it make one while the other is on its way.  So libslirp is told an MTU for the
 * one direction, and what it offers the guest for the other is raised on the way.
 */

#include <stddef.h>
#include <stdint.h>

#define MSS_TO_GUEST 16320u
#define MSS_FROM_GUEST 32720u

/* The MTU that makes libslirp send segments of at most MSS_TO_GUEST bytes. */
#define MSS_SLIRP_MTU (MSS_TO_GUEST + 40u)

/**
 * mss_raise() - offer the guest MSS_FROM_GUEST
 * @frame: of libslirp, changed in place if it is an IPv4 SYN that offers a smaller MSS
 */
void mss_raise(uint8_t *frame, size_t len);

#endif
