# SPDX-License-Identifier: Apache-2.0
"""What a client can ask of a running sandbox, over its ctl.sock."""
import os
import stat

import pytest

import wire
from conftest import ENGINE, with_time_enough


def test_hello_tells_engine_and_isolation(sandbox):
    c = sandbox()
    c.ping()
    assert wire.STATES[c.state["state"]] == "ready"
    assert (c.state["engine"], c.state["isolation"]) == (ENGINE, {"tcg": "emulated", "kvm": "hardware"}[ENGINE])


def test_exec_reports_exactly(sandbox):
    c = sandbox()
    last, out, err = c.exec(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (last["reason"], last["status"], out, err) == (0, 3, b"out\n", b"err\n")
    last, _, _ = c.exec(["/bin/sh", "-c", "kill -SEGV $$"])
    assert (last["reason"], last["status"]) == (1, 11)
    assert last["wall_ns"] > 0
    last, out, _ = with_time_enough(lambda s: c.exec(["/bin/sh", "-c", "echo a; sleep 1000"], timeout_ms=500 * s),
                                    lambda r: r[0]["reason"] != 2 or r[1])
    assert (last["reason"], out) == (2, b"a\n")
    with pytest.raises(wire.Error, match="nosuch"):
        c.exec(["nosuch"])


def test_exec_does_not_wait_for_grandchildren(sandbox):
    c = sandbox()
    last, out, _ = c.exec(["/bin/sh", "-c", "sleep 1000 & echo started"])
    assert (last["status"], out) == (0, b"started\n")
    c.exec(["/usr/bin/pkill", "sleep"])


def test_a_reader_that_stops_holds_up_nobody_else(sandbox):
    a, b = sandbox(), sandbox()
    flood = a.open("EXEC", argv=["/usr/bin/yes"])
    for _ in range(20):
        assert b.exec(["/bin/echo", "x"])[1] == b"x\n"
    a.send("CLOSE", flood)
    last, _, _ = a.finish(flood, eof=False)
    assert last["reason"] == 1


def test_gone_client_takes_its_processes_along(sandbox):
    a, b = sandbox(), sandbox()
    channel = a.open("EXEC", argv=["/bin/sh", "-c", "echo $$; exec sleep 12345"])
    while True:
        name, got, flags, body = a.recv()
        if name == "DATA" and got == channel:
            pid = body.decode().strip()
            break
    a.close()
    script = f"while test -d /proc/{pid} && ! grep -q '^State:.Z' /proc/{pid}/status; do :; done; echo gone"
    assert b.exec(["/bin/sh", "-c", script])[1] == b"gone\n"


def test_repl_keeps_state_and_echoes(sandbox):
    c = sandbox()
    assert c.repl("python", "name = 'Python'")[1] == b""
    assert c.repl("python", "print(f'Hello {name}!')")[1] == b"Hello Python!\n"
    assert c.repl("Python", "1+1")[1] == b"2\n"
    last, out, err = c.repl("python", "print('x', end='')\n1/0")
    assert last["status"] == 1 and out == b"x" and b"ZeroDivisionError" in err
    last, _, _ = c.repl("python", "import sys; sys.exit(4)")
    assert (last["status"], last["exit_code"], last["state_lost"]) == (3, 4, 1)
    assert b"NameError" in c.repl("python", "name")[2]


def test_repl_timeout_interrupts_and_keeps_state(sandbox):
    c = sandbox()

    def attempt(seconds):
        c.repl("python", "kept = 1")
        return c.repl("python", "print('begin', flush=True)\nwhile True: pass", timeout_ms=1000 * seconds)

    last, out, _ = with_time_enough(attempt, lambda r: r[0]["status"] != 2 or r[1])
    assert last["status"] == 2 and out.startswith(b"begin\n")
    if not last["state_lost"]:
        assert c.repl("python", "kept")[1] == b"1\n"


def test_repl_results_come_beside_the_output(sandbox):
    c = sandbox()
    size = 3 << 20
    last, out, _ = c.repl("python", f"""
class Picture:
    def __repr__(self): return "a picture"
    def _repr_png_(self): return bytes(range(256)) * {size // 256}
print("printed")
Picture()""", flags=wire.REPL_RESULTS)
    assert (last["status"], out) == (0, b"printed\na picture\n")
    (mime, data, note), picture = c.results
    assert (mime, data, note) == ("text/plain", b"a picture", "")
    assert picture == ("image/png", bytes(range(256)) * (size // 256), "")
    assert c.repl("python", "1+1")[1] == b"2\n"
    assert c.results == []  # nobody asked


def test_repl_shell(sandbox):
    c = sandbox()
    c.repl("sh", "cd /usr; X=5")
    assert c.repl("sh", "echo $PWD $X")[1] == b"/usr 5\n"


def test_repl_languages_that_are_missing(sandbox):
    c = sandbox()
    with pytest.raises(wire.Error, match="node"):
        c.repl("node", "1")
    with pytest.raises(wire.Error, match="cobol"):
        c.repl("cobol", "1")


def test_files(sandbox):
    c = sandbox()
    data = os.urandom(5_000_000)
    c.file("WRITE", "/tmp/d/e/f.bin", data, flags=1, mode=0o640)
    last, out, _ = c.file("READ", "/tmp/d/e/f.bin")
    assert out == data
    last, out, _ = c.file("READ", "/tmp/d/e/f.bin", offset=4_000_000, length=7)
    assert out == data[4_000_000:4_000_007]
    last, _, _ = c.file("STAT", "/tmp/d/e/f.bin")
    assert (stat.S_IMODE(last["mode"]), last["size"]) == (0o640, len(data))
    c.file("MKDIR", "/tmp/d/g", mode=0o700)
    assert sorted(e["name"] for e in c.listdir("/tmp/d")) == ["e", "g"]
    c.file("RENAME", "/tmp/d/e/f.bin", to="/tmp/d/g/h")
    assert [e["size"] for e in c.listdir("/tmp/d/g")] == [len(data)]
    with pytest.raises(wire.Error):
        c.file("REMOVE", "/tmp/d")
    c.file("REMOVE", "/tmp/d", flags=8)
    with pytest.raises(wire.Error) as e:
        c.file("STAT", "/tmp/d")
    assert e.value.code == 2


def test_special_files_are_refused_at_once(sandbox):
    c = sandbox()
    c.exec(["/usr/bin/mkfifo", "/tmp/fifo"])
    with pytest.raises(wire.Error, match="/tmp/fifo"):
        c.file("READ", "/tmp/fifo")


def test_files_as_another_user(sandbox):
    c = sandbox()
    with pytest.raises(wire.Error) as e:
        c.file("WRITE", "/root/x", b"x", user="nobody", mode=0o644)
    assert e.value.code == 13
    c.file("WRITE", "/tmp/mine", b"x", user="nobody", mode=0o644)
    assert c.file("STAT", "/tmp/mine")[0]["uid"] == 65534


def test_a_large_copy_delays_no_keystroke(sandbox):
    """Bulk and control travel apart: both finish, interleaved."""
    c, d = sandbox(), sandbox()
    data = os.urandom(30_000_000)
    copy = c.open("FILE_WRITE", path="/tmp/large", mode=0o600)
    half = len(data) // 2
    window = wire.WINDOW
    at = 0
    while at < half:
        n = min(window, wire.DATA_MAX, half - at)
        if not n:
            name, _, _, body = c.recv()
            assert name == "CREDIT"
            window += wire.unpack("CREDIT", body)["bytes"]
            continue
        c.send_raw("DATA", copy, data[at:at + n])
        at, window = at + n, window - n
    assert d.exec(["/bin/echo", "prompt"])[1] == b"prompt\n"
    c.send("CLOSE", copy)
    c.finish_error = None
    with pytest.raises((wire.Error, AssertionError)):
        c.finish(copy, eof=False)
        raise AssertionError
    assert b"large" not in d.exec(["/bin/ls", "-a", "/tmp"])[1]


def test_metrics(sandbox):
    m = sandbox().metrics()
    assert m["cpus"] == 1 and m["uptime_ns"] > 0
    assert 300 << 20 < m["mem_total"] < 512 << 20 and 0 < m["mem_available"] < m["mem_total"]
    assert 3 << 30 < m["disk_total"] <= 4 << 30 and 0 < m["disk_available"] <= m["disk_total"]
    assert m["processes"] >= 1 and m["cpu_idle_ns"] > 0


def test_kernel_offers_what_people_run_in_sandboxes(sandbox):
    c = sandbox()
    script = r"""
set -e
grep -qw overlay /proc/filesystems; grep -qw fuse /proc/filesystems
test "$(stat -c %a /dev/fuse /dev/net/tun | tr '\n' ' ')" = "666 666 "
test "$(cat /proc/sys/net/core/bpf_jit_enable)" = 1
grep -q cgroup2 /proc/mounts
for c in cpu memory pids io; do grep -qw $c /sys/fs/cgroup/cgroup.controllers; done
test "$(cat /proc/sys/user/max_user_namespaces)" -gt 0
test "$(cat /proc/sys/kernel/modules_disabled)" = 1
python3 -c 'import ctypes; assert ctypes.CDLL(None).syscall(444, 0, 0, 1) > 0'  # Landlock's version
python3 - <<'PY'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def check(rc):
    if rc: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
os.setgid(65534); os.setuid(65534); libc.prctl(4, 1)  # dumpable: /proc/self is ours
uid = os.getuid()
check(libc.unshare(0x10000000 | 0x20000 | 0x40000000))  # user, mount and network namespaces
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
open("/proc/self/gid_map", "w").write("0 65534 1")
check(libc.mount(b"t", b"/mnt", b"tmpfs", 0, None))
for d in "lower", "upper", "work", "all": os.mkdir("/mnt/" + d)
open("/mnt/lower/x", "w").write("x")
check(libc.mount(b"o", b"/mnt/all", b"overlay", 0, b"lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work"))
open("/mnt/all/x", "a").write("y")
assert open("/mnt/upper/x").read() == "xy" and open("/mnt/lower/x").read() == "x"
PY
echo fine
"""
    last, out, err = c.exec(["/bin/sh", "-c", script])
    assert last["status"] == 0, (out, err)
    assert out.endswith(b"fine\n")


def test_agent_cannot_be_killed_from_inside(sandbox):
    c = sandbox()
    c.exec(["/bin/kill", "-9", "1"])
    c.exec(["/bin/kill", "-TERM", "1"])
    c.ping()


def test_fork_bomb_and_memory_hog_leave_the_agent_alive(sandbox):
    c = sandbox()
    c.exec(["python3", "-c", "x = bytearray(1 << 40)"])
    last, _, _ = c.exec(["python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 24))"])
    assert (last["reason"], last["status"]) in ((1, 9), (0, 1))
    bomb = "import os, time\nfor i in range(100000):\n  try:\n    if os.fork() == 0: time.sleep(1000)\n  except OSError: break"
    c.exec(["/usr/bin/timeout", "-s", "KILL", "20", "python3", "-c", bomb])
    c.ping()


def test_hosts_resolv_hostname(sandbox):
    c = sandbox()
    out = c.exec(["/bin/sh", "-c", "cat /etc/hostname; hostname; cat /etc/resolv.conf /etc/hosts"])[1].decode()
    assert out.split("\n")[0] == out.split("\n")[1] != ""
    assert "nameserver 10.0.2.2" in out and "127.0.0.1" in out
