// SPDX-License-Identifier: Apache-2.0
// Made from api/openrpc.json by tools/gen-sdk-types: change the schema, not this file.

export interface Line {
  readonly stream: string;
  /** one line without its newline; bytes that are no UTF-8 are U+FFFD */
  readonly text: string;
}

export interface WireResult {
  /** of the data: text/plain, image/png; without parameters */
  readonly mime: string;
  /** utf-8: the data is text (text/*, *\/json, *\/xml, *\/javascript, *+json, *+xml; bytes that are no UTF-8 are U+FFFD); base64: it is bytes, in base64 with padding */
  readonly encoding: string;
  /** empty if there is a note */
  readonly data: string;
  /** only if the data is missing: why, one line */
  readonly note?: string | undefined;
}

export interface PortInfo {
  /** address of the server's machine that the port is bound to */
  readonly hostIp: string;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly protocol: string;
}

export interface SandboxInfo {
  readonly name: string;
  readonly namespace: string;
  readonly image: string;
  readonly state: string;
  /** kvm or tcg */
  readonly engine?: string | undefined;
  /** hardware or emulated */
  readonly isolation?: string | undefined;
  /** RFC 3339 */
  readonly startedAt: string;
  /** MiB */
  readonly memory?: number | undefined;
  readonly cpus?: number | undefined;
  /** what its network reaches: none, group, public or any */
  readonly scope?: string | undefined;
  /** seconds without use after which it is stopped; null: never */
  readonly idleTimeout?: number | undefined;
  /** published ports; empty while it is prepared */
  readonly ports: readonly PortInfo[];
}

export interface SandboxMetrics {
  readonly name: string;
  readonly namespace: string;
  readonly running: boolean;
  /** percent of one CPU, since the last call for this sandbox */
  readonly cpuUsage?: number | undefined;
  /** MiB, inside the guest */
  readonly memoryUsage?: number | undefined;
  /** bytes of the writable disk */
  readonly diskUsage?: number | undefined;
}

export interface NetworkCounter {
  /** passed and lost (frames), or the reason for which something was denied or dropped; docs/network.md lists them */
  readonly name: string;
  /** since the sandbox started */
  readonly count: number;
}

export interface NetworkMember {
  /** of the sandbox, in small letters: as the others of the group reach it */
  readonly name: string;
  /** in the group's network */
  readonly address: string;
}

export interface NetworkInfo {
  readonly scope: string;
  /** the group it is in; null: none */
  readonly group?: string | undefined;
  /** it was started with nothing open to the outside, and no rule can open anything */
  readonly closed: boolean;
  /** in their order */
  readonly rules: readonly string[];
  readonly counters: readonly NetworkCounter[];
  /** the others of its group */
  readonly members: readonly NetworkMember[];
}

export interface FileInfo {
  /** the last part of the path; bytes that are no UTF-8 are U+FFFD */
  readonly name: string;
  readonly path: string;
  readonly type: string;
  /** permission bits */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** bytes */
  readonly size: number;
  /** seconds since 1970 */
  readonly mtime: number;
  /** only of a symlink that was asked for itself: where it points */
  readonly target?: string | undefined;
}

export interface ReplResult {
  /** error: the code raised, ran out of time or ended its interpreter */
  readonly status: string;
  /** as it was given */
  readonly language: string;
  readonly output: readonly Line[];
  /** what the code showed beside its output: the value of its last expression, pictures, what it gave to display(); at most 64, with 8 MiB of data together. text/plain is the first entry of each value, those after it show the same value */
  readonly results: readonly WireResult[];
  /** only with status error */
  readonly reason?: string | undefined;
  /** only if the interpreter ended */
  readonly exitCode?: number | undefined;
  /** true: the next call starts with a fresh interpreter */
  readonly stateLost?: boolean | undefined;
  /** true: it printed more than is kept of a call */
  readonly truncated?: boolean | undefined;
  readonly durationMs?: number | undefined;
}

export interface CommandResult {
  readonly command: string;
  readonly args: readonly string[];
  /** 128 + n after signal n */
  readonly exitCode: number;
  /** is exit_code 0? */
  readonly success: boolean;
  readonly output: readonly Line[];
  /** true: it printed more than is kept of a call */
  readonly truncated?: boolean | undefined;
  readonly durationMs?: number | undefined;
}

export interface FileContent {
  readonly content: string;
  readonly encoding: string;
  /** bytes of the whole file */
  readonly size: number;
}
