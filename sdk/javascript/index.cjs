// SPDX-License-Identifier: Apache-2.0
'use strict';

const { classes } = require('./lib/errors.cjs');
const sandbox = require('./lib/sandbox.cjs');

module.exports = { ...sandbox, ...classes };
