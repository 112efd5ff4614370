// SPDX-License-Identifier: Apache-2.0
// The same types for require().
import microsandbox = require('microsandbox');

export const create = (): Promise<microsandbox.NodeSandbox> => microsandbox.NodeSandbox.create({ name: 'a' });
