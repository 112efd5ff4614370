# SPDX-License-Identifier: Apache-2.0
"""podman with a storage of its own, for tests: no registry, nothing left behind.

What a machine may lack is made up for in a mount namespace of podman's own: crun refuses the
mixture of both generations of control groups that some have.
"""
import ctypes
import os
import resource
import shutil
import subprocess
import tempfile

import pytest

from conftest import TIMEOUT

CGROUP2_MAGIC = 0x63677270


def _magic(path):
    buf = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.c_long.from_buffer(buf).value if libc.statfs(path.encode(), buf) == 0 else 0


def _ulimits():
    """podman asks for more than a machine may give: no more than it gives."""
    out = []
    for name, which, enough in (("nofile", resource.RLIMIT_NOFILE, 16384), ("nproc", resource.RLIMIT_NPROC, 8192)):
        hard = resource.getrlimit(which)[1]
        hard = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
        out += ["--ulimit", f"{name}={hard}:{hard}"]
    return out


class Podman:
    def __init__(self):
        missing = [p for p in ("podman", "crun") if not shutil.which(p)]
        if missing:
            pytest.fail(f"missing: {', '.join(missing)}; install the Debian packages podman and crun, or run `make deps`")
        if os.geteuid():
            pytest.skip("containers are made as root here; without root podman needs sub-ids that a test cannot give itself")
        self.dir = tempfile.mkdtemp(prefix="msb-podman-")
        self.cmd = ["podman", "--root", self.dir + "/storage", "--runroot", self.dir + "/run", "--cgroup-manager",
                    "cgroupfs", "--events-backend", "file", "--tmpdir", self.dir + "/tmp"]
        if _magic("/sys/fs/cgroup") != CGROUP2_MAGIC:
            self.cmd = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh", *self.cmd]

    def __call__(self, *args, check=True):
        p = subprocess.run([*self.cmd, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=TIMEOUT)
        assert not check or p.returncode == 0, (args, p.returncode, p.stderr.decode())
        return p

    def run_command(self, *options):
        """Of `podman run`, with the host's network (no other is sure to be there) and limits."""
        return [*self.cmd, "run", "--cgroups=disabled", "--network=host", *_ulimits(), *options]

    def close(self):
        self("rm", "--all", "--force", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
