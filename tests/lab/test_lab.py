# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what the other tests here take for granted."""
import os
import re

from vmm import Vm


def test_kvm_has_nested_paging():
    with open("/proc/cpuinfo") as f:
        assert re.search(r"^flags\b.*\bsvm\b", f.read(), re.M)
    with open("/sys/module/kvm_amd/parameters/npt") as f:
        assert f.read().strip() == "Y"
    assert os.access("/dev/kvm", os.R_OK | os.W_OK)


def test_another_vmm_boots_our_kernel_to_the_agent():
    """If this fails, look for the fault in the kernel, the agent or the lab, not in our VMM."""
    with Vm("qemu") as vm:
        ack, _ = vm.hello()
        assert ack["version"] == 1
