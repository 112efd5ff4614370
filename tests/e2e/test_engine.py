# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a sandbox, and what people are told about it."""
import json
import time

import pytest


def kvm_check(box):
    report = json.loads(box.msb("doctor", "--json").stdout)
    return report, next(c for c in report["checks"] if c["name"] == "kvm")


def test_doctor_names_the_default_engine(box):
    report, kvm = kvm_check(box)
    assert (report["engine"], report["isolation"]) in (("kvm", "hardware"), ("tcg", "emulated"))
    lines = [c["detail"] for c in report["checks"] if c["name"] == "engine"]
    assert [line.startswith(report["engine"]) for line in lines if "used by default" in line] == [True]
    if kvm["status"] != "ok":
        assert kvm["status"] == "warning" and "/dev/kvm" in kvm["detail"] and "emulation" in kvm["advice"]
        assert report["engine"] == "tcg"


def test_kvm_is_refused_at_once_with_the_reason(box):
    _, kvm = kvm_check(box)
    if kvm["status"] == "ok":
        pytest.skip("kvm works here")
    (box.home / "kvm-probe").unlink(missing_ok=True)
    start = time.monotonic()
    p = box.msb("exe", "-q", "--engine", "kvm", "python", "-e", "/bin/true")
    took = time.monotonic() - start
    assert p.returncode == 125 and p.stdout == b""
    assert p.stderr.count(b"\n") == 1 and kvm["detail"].split("(")[0].encode() in p.stderr
    assert b"--engine tcg" in p.stderr
    # 100 ms are promised; a busy machine may take its time, a probe that hangs takes seconds.
    assert took < 1.5
    box.assert_nothing_left()


def test_auto_tells_the_reason(box):
    report, kvm = kvm_check(box)
    if report["engine"] == "kvm":
        pytest.skip("kvm works here")
    p = box.msb("exe", "python", "-e", "/bin/true")
    assert p.returncode == 0 and p.stderr.count(b"\n") == 1
    assert b"software emulation (engine tcg); kvm: " in p.stderr and kvm["detail"].split("(")[0].encode() in p.stderr
    assert box.msb("exe", "--engine", "tcg", "python", "-e", "/bin/true").stderr == b""


def test_result_is_kept_for_the_boot(box):
    kvm_check(box)
    path = box.home / "kvm-probe"
    if not path.exists():
        pytest.skip("no /dev/kvm to try")
    first, key, numbers = path.read_text().splitlines()
    assert open("/proc/sys/kernel/random/boot_id").read().strip() in key
    before = path.stat().st_ino
    kvm_check(box)
    assert path.stat().st_ino == before
    # A file of another boot counts for nothing.
    path.write_text("\n".join([first, "x" + key, "1 0 0 9 0 0 1000 1000", ""]))
    _, kvm = kvm_check(box)
    assert path.read_text().splitlines()[1] == key
    assert (kvm["status"] == "ok") == (path.read_text().splitlines()[2][0] == "1")


def test_emulated_processor_copies_by_words(box):
    """Where "rep movsb" is said to be fast, the guest copies with it, a byte at a time in emulation."""
    p = box.msb("exe", "-q", "--engine", "tcg", "python", "-e", "/bin/grep", "--", "-m1", "^flags", "/proc/cpuinfo")
    flags = p.stdout.decode().split()
    assert "sse2" in flags and not {"erms", "fsrm"} & set(flags)
