/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_LAYER_H
#define MSB_AGENT_LAYER_H

#include "base/err.h"

/* Writes the tree of an overlay's upper directory @upper to @out, as a layer of an image. */
int layer_pack(int upper, int out, struct err *e);

/* `/proc/1/exe layer`: the same of this machine's disk. Return: exit status. */
int layer_main(void);

#endif
