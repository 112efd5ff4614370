# SPDX-License-Identifier: Apache-2.0
"""What benches of whole machines share: children that end with us, what they cost, and their clock."""
import contextlib
import ctypes
import glob
import pathlib
import re


def die_with_parent():
    """For children: a bench that is killed leaves nothing."""
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM


def cpu_ns(*pids):
    """Processor time of all threads of these processes."""
    total = 0
    for pid in pids:
        for task in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(pathlib.Path(task).read_text().split()[0])
    return total


def tsc_khz():
    """The emulated counter is this processor's own, if it is steady (else 0): told, the kernel need not measure it."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    mhz = re.search(r"cpu MHz\s*: ([\d.]+)", info)
    return int(float(mhz[1]) * 1000) if "constant_tsc" in info and "nonstop_tsc" in info and mhz else 0
