# SPDX-License-Identifier: Apache-2.0
"""An answer of the misbehaving server."""


def http(body, status="200 OK", kind="application/json", extra=""):
    return (f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n").encode() + body
