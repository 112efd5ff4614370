// SPDX-License-Identifier: Apache-2.0
// Made from api/openrpc.json by tools/gen-sdk-types: change the schema, not this file.
'use strict';

const methods = Object.freeze({
  START: 'sandbox.start',
  STOP: 'sandbox.stop',
  RESTART: 'sandbox.restart',
  GET: 'sandbox.get',
  KEEP_ALIVE: 'sandbox.keep_alive',
  LOGS: 'sandbox.logs',
  LIST: 'sandbox.list',
  NETWORK_GET: 'sandbox.network.get',
  NETWORK_SET: 'sandbox.network.set',
  METRICS_GET: 'sandbox.metrics.get',
  REPL_RUN: 'sandbox.repl.run',
  COMMAND_RUN: 'sandbox.command.run',
  FS_READ: 'sandbox.fs.read',
  FS_WRITE: 'sandbox.fs.write',
  FS_LIST: 'sandbox.fs.list',
  FS_STAT: 'sandbox.fs.stat',
  FS_MKDIR: 'sandbox.fs.mkdir',
  FS_REMOVE: 'sandbox.fs.remove',
  FS_RENAME: 'sandbox.fs.rename',
  VOLUME_CREATE: 'volume.create',
  VOLUME_LIST: 'volume.list',
  VOLUME_GET: 'volume.get',
  VOLUME_REMOVE: 'volume.remove',
});

// JSON-RPC codes and their names in the schema.
const errors = Object.freeze({
  '-32700': 'ParseError',
  '-32600': 'InvalidRequest',
  '-32601': 'MethodNotFound',
  '-32602': 'InvalidParams',
  '-32603': 'Internal',
  '-32001': 'NotFound',
  '-32002': 'SandboxFailed',
  '-32003': 'NotRun',
  '-32004': 'TimedOut',
  '-32005': 'Limit',
  '-32006': 'Denied',
  '-32007': 'FileFailed',
});

// Members of the answers: [name on the wire, name here, type, may it be absent ('empty': it is
// an empty array then)].
const types = Object.freeze({
  Line: [
    ['stream', 'stream', 'string', false],
    ['text', 'text', 'string', false],
  ],
  WireResult: [
    ['mime', 'mime', 'string', false],
    ['encoding', 'encoding', 'string', false],
    ['data', 'data', 'string', false],
    ['note', 'note', 'string', true],
  ],
  PortInfo: [
    ['host_ip', 'hostIp', 'string', false],
    ['host_port', 'hostPort', 'integer', false],
    ['guest_port', 'guestPort', 'integer', false],
    ['protocol', 'protocol', 'string', false],
  ],
  SandboxInfo: [
    ['name', 'name', 'string', false],
    ['namespace', 'namespace', 'string', false],
    ['image', 'image', 'string', false],
    ['state', 'state', 'string', false],
    ['engine', 'engine', 'string', true],
    ['isolation', 'isolation', 'string', true],
    ['started_at', 'startedAt', 'string', false],
    ['memory', 'memory', 'integer', true],
    ['cpus', 'cpus', 'integer', true],
    ['scope', 'scope', 'string', true],
    ['idle_timeout', 'idleTimeout', 'number', true],
    ['ports', 'ports', ['PortInfo'], 'empty'],
  ],
  SandboxMetrics: [
    ['name', 'name', 'string', false],
    ['namespace', 'namespace', 'string', false],
    ['running', 'running', 'boolean', false],
    ['cpu_usage', 'cpuUsage', 'number', true],
    ['memory_usage', 'memoryUsage', 'integer', true],
    ['disk_usage', 'diskUsage', 'integer', true],
  ],
  NetworkCounter: [
    ['name', 'name', 'string', false],
    ['count', 'count', 'integer', false],
  ],
  NetworkMember: [
    ['name', 'name', 'string', false],
    ['address', 'address', 'string', false],
  ],
  NetworkInfo: [
    ['scope', 'scope', 'string', false],
    ['group', 'group', 'string', true],
    ['closed', 'closed', 'boolean', false],
    ['rules', 'rules', ['string'], false],
    ['counters', 'counters', ['NetworkCounter'], false],
    ['members', 'members', ['NetworkMember'], false],
  ],
  FileInfo: [
    ['name', 'name', 'string', false],
    ['path', 'path', 'string', false],
    ['type', 'type', 'string', false],
    ['mode', 'mode', 'integer', false],
    ['uid', 'uid', 'integer', false],
    ['gid', 'gid', 'integer', false],
    ['size', 'size', 'integer', false],
    ['mtime', 'mtime', 'number', false],
    ['target', 'target', 'string', true],
  ],
  ReplResult: [
    ['status', 'status', 'string', false],
    ['language', 'language', 'string', false],
    ['output', 'output', ['Line'], false],
    ['results', 'results', ['WireResult'], 'empty'],
    ['reason', 'reason', 'string', true],
    ['exit_code', 'exitCode', 'integer', true],
    ['state_lost', 'stateLost', 'boolean', true],
    ['truncated', 'truncated', 'boolean', true],
    ['duration_ms', 'durationMs', 'number', true],
  ],
  CommandResult: [
    ['command', 'command', 'string', false],
    ['args', 'args', ['string'], false],
    ['exit_code', 'exitCode', 'integer', false],
    ['success', 'success', 'boolean', false],
    ['output', 'output', ['Line'], false],
    ['truncated', 'truncated', 'boolean', true],
    ['duration_ms', 'durationMs', 'number', true],
  ],
  FileContent: [
    ['content', 'content', 'string', false],
    ['encoding', 'encoding', 'string', false],
    ['size', 'size', 'integer', false],
  ],
});

module.exports = { methods, errors, types };
