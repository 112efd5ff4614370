/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_ENGINE_PROBE_CACHE_H
#define MSB_ENGINE_PROBE_CACHE_H

/*
 * What a trial of /dev/kvm found, as the text of a small file.  Whoever writes the file
 * can make us take or leave KVM, and choose a few numbers of the reason; nothing else.
 */

#include <stdbool.h>
#include <stddef.h>

#include "engine/probe_vm.h"

#define PROBE_CACHE_MAX 1024

/* Is @r worth keeping?  A timeout or a busy device may be different the next time. */
bool probe_cache_lasting(const struct probe_report *r);

/* Writes @r for the machine named @key (one line). Return: length, 0 if it does not fit. */
size_t probe_cache_format(const char *key, const struct probe_report *r, char *to, size_t size);

/* Reads it back. Return: 0, or -EINVAL: malformed, or of another machine or boot. */
int probe_cache_parse(const char *text, size_t len, const char *key, struct probe_report *out);

#endif
