// SPDX-License-Identifier: Apache-2.0
// Where the server is, and with which key: options, the environment, a file .env.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');

const DEFAULT_URL = 'http://127.0.0.1:5555';

/** The MSB_ variables of a file of KEY=VALUE lines; none if there is no such file. */
function readEnvFile(path = '.env') {
  let text;
  try {
    text = fs.readFileSync(path, 'utf8');
  } catch {
    return {};
  }
  const found = {};
  for (const raw of text.split(/\r\n|\r|\n/)) {
    const line = raw.trim().replace(/^export /, '').trimStart();
    const equals = line.indexOf('=');
    const key = line.slice(0, equals).trim();
    if (equals < 0 || !key.startsWith('MSB_')) continue;
    let value = line.slice(equals + 1).trim();
    const quote = value[0];
    const end = quote === '"' || quote === "'" ? value.indexOf(quote, 1) : -1;
    value = end > 0 ? value.slice(1, end) : value.split(' #', 1)[0].trimEnd();
    found[key] = value;
  }
  return found;
}

/** A server's address, as node:http takes it, and the key. */
function makeEndpoint(serverUrl, apiKey) {
  let env = process.env;
  if ((apiKey === undefined || apiKey === null) && !env.MSB_API_KEY) {
    const file = readEnvFile();
    env = { MSB_SERVER_URL: env.MSB_SERVER_URL || file.MSB_SERVER_URL, MSB_API_KEY: file.MSB_API_KEY };
  }
  const url = (serverUrl || env.MSB_SERVER_URL || DEFAULT_URL).replace(/\/+$/, '');
  const key = apiKey ?? env.MSB_API_KEY; // an empty one means none
  if (key && !/^[\x20-\x7e]*$/.test(key)) throw new TypeError('the API key holds characters that no key has');
  const bad = () =>
    new TypeError(`server URL '${url}': must be http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH`);
  if (/[^\x21-\x7e]/.test(url) && !url.startsWith('unix:')) throw bad();
  let parts;
  try {
    parts = new URL(url);
  } catch {
    throw bad();
  }
  const endpoint = { url, apiKey: key || undefined, tls: parts.protocol === 'https:' };
  if (url.startsWith('unix:///')) return { ...endpoint, prefix: '', target: { socketPath: url.slice('unix://'.length) } };
  if (!['http:', 'https:'].includes(parts.protocol) || !parts.hostname || parts.username || parts.password) throw bad();
  const host = parts.hostname.replace(/^\[|\]$/g, '');
  const port = parts.port || (endpoint.tls ? 443 : 80);
  return { ...endpoint, prefix: parts.pathname.replace(/\/+$/, ''), target: { host, port } };
}

const randomName = () => `sandbox-${crypto.randomBytes(4).toString('hex')}`;

module.exports = { makeEndpoint, randomName, readEnvFile };
