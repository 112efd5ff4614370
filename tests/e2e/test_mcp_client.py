# SPDX-License-Identifier: Apache-2.0
"""MCP as agents speak it: the library `mcp` of PyPI, over HTTP and with `msb mcp`.

The library is installed under build/ once, in the versions of mcp_client/requirements.txt;
without a registry of Python packages these tests fail and say so.
"""
import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, MSB, ROOT, TIMEOUT, Box, make_home
from server_client import Server

CLIENT = ROOT / "tests/e2e/mcp_client"
REQUIREMENTS = CLIENT / "requirements.txt"
INSTALL_TIMEOUT = 900


@pytest.fixture(scope="session")
def python():
    """A Python that has the library."""
    stamp = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    venv = BUILD / f"mcp-client-{stamp}"
    if not (venv / "ready").exists():
        shutil.rmtree(venv, ignore_errors=True)
        for command in ([sys.executable, "-m", "venv", venv],
                        [venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]):
            p = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, timeout=INSTALL_TIMEOUT)
            if p.returncode:
                pytest.fail(f"the MCP client library cannot be installed (this needs python3-venv and a registry of "
                            f"Python packages):\n{p.stdout}", pytrace=False)
        (venv / "ready").touch()
    return str(venv / "bin/python")


def run_session(python, *where, env=None):
    p = subprocess.run([python, "-X", "dev", "-W", "ignore", str(CLIENT / "session.py"), *where], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=4 * TIMEOUT, env=env)
    assert p.returncode == 0 and p.stdout.endswith("ok\n"), p.stdout


def test_library_over_http(python):
    server = Server()
    try:
        run_session(python, "http", server.url + "/mcp")
        assert server.stop() == 0
        server.box.assert_nothing_left()
    finally:
        server.close()


def test_library_over_stdio(python, tmp_path):
    box = Box(make_home())
    # The library passes no environment of its own on, so a wrapper says where home is.
    program = tmp_path / "msb"
    program.write_text(f"#!/bin/sh\nMICROSANDBOX_HOME='{box.home}' exec '{MSB}' \"$@\"\n")
    program.chmod(0o755)
    try:
        run_session(python, "stdio", str(program), "mcp")
        box.assert_nothing_left()
        assert os.listdir(box.home / "mcp") == []
    finally:
        shutil.rmtree(box.home, ignore_errors=True)
