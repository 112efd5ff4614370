/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_IMAGECONFIG_H
#define MSB_LIB_IMAGECONFIG_H

/* What an image's configuration has a sandbox's machine do, whatever is run in it. */

#include "codec/manifest.h"
#include "codec/sandbox_config.h"

/**
 * imageconfig_apply() - WorkingDir, Volumes, User and StopSignal, for the guest's agent
 * @cfg: has none of them yet; owns what it gets, also if this fails
 *
 * Return: 0; -EINVAL: a volume that is no absolute path, a signal that there is not.
 */
int imageconfig_apply(struct sandbox_config *cfg, const struct image_config *image, struct err *e);

#endif
