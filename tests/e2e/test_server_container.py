# SPDX-License-Identifier: Apache-2.0
"""The server in a container: podman with its default confinement, and with less.

The image is the Containerfile's, on a base that msb-image makes of Debian packages, so that no
registry is asked.  `make container-parts` prepares both.
"""
import errno
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD, ROOT, STORE, TIMEOUT, wait_for
from podman import Podman
from server_client import texts

CONTEXT = BUILD / "container/context"
BASE = BUILD / "container/images"
PROFILE = pathlib.Path("/usr/share/containers/seccomp.json")


@pytest.fixture(scope="module")
def podman():
    p = Podman()
    try:
        assert (CONTEXT / "programs/usr/bin/msb").exists() and BASE.exists(), "run `make container-parts` first"
        base = p("pull", "-q", f"oci:{BASE}:microsandbox/server-base:latest").stdout.decode().strip()
        p("build", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}", "-t", "localhost/microsandbox",
          "-f", str(ROOT / "Containerfile"), str(CONTEXT))
        yield p
    finally:
        p.close()


class Container:
    """`podman run` of the server, in the foreground."""

    def __init__(self, podman, home, *args, options=()):
        self.podman, self.home = podman, home
        self.name = "msb-test"
        self.log_path = str(home) + ".log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*podman.run_command("--rm", "--name", self.name, "-v", f"{home}:/var/lib/microsandbox",
                                     "-v", f"{os.path.realpath(STORE)}:/var/lib/microsandbox/images", *options),
                 "localhost/microsandbox", "server", "start", "--port", "0", *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.port = self.key = None

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def wait_serving(self):
        wait_for(lambda: " event=start " in self.log() or self.process.poll() is not None, what=self.log, seconds=TIMEOUT)
        m = re.search(r"event=start address=http://[0-9.]+:(\d+)", self.log())
        assert m, self.log()
        self.port = int(m.group(1))
        return self

    def call(self, method, **params):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            c.request("POST", "/api/v1/rpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}),
                      {"Authorization": f"Bearer {self.key}"} if self.key else {})
            answer = json.loads(c.getresponse().read())
        finally:
            c.close()
        assert "result" in answer, answer
        return answer["result"]

    def python(self, name="py"):
        self.call("sandbox.start", sandbox=name, config={"image": "python"})
        assert texts(self.call("sandbox.repl.run", sandbox=name, language="python", code="1+1")) == ["2"]
        return next(b for b in self.call("sandbox.list")["sandboxes"] if b["name"] == name)

    def first(self):
        """The host's pid of the container's first process."""
        return int(self.podman("inspect", "-f", "{{.State.Pid}}", self.name).stdout)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)

    def close(self):
        if self.process.poll() is None:
            self.podman("kill", self.name, check=False)
            self.process.wait(TIMEOUT)


def descendants(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        children = [int(p) for p in f.read().split()]
    return children + [d for c in children for d in descendants(c)]


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


@pytest.fixture
def container(podman, tmp_path):
    made = []

    def make(*args, options=()):
        home = tmp_path / f"home{len(made)}"
        home.mkdir()
        made.append(Container(podman, home, *args, options=options))
        return made[-1]

    yield make
    for c in made:
        c.close()


def refusing_profile(folder):
    """podman's profile without new namespaces: what other programs have as their default."""
    profile = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [n for n in rule["names"] if n not in ("clone", "clone3", "unshare", "setns", "mount")]
    profile["syscalls"] += [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 0x7e020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
    ]
    profile["defaultErrnoRet"], profile["defaultErrno"] = errno.EPERM, "EPERM"
    path = folder / "refusing.json"
    path.write_text(json.dumps(profile))
    return f"seccomp={path}"


def test_full_jails_in_default_confinement(container):
    c = container("--dev").wait_serving()
    assert "jail=full" in c.log()
    assert c.python()["state"] == "running"
    first = c.first()
    # podman's own confinement is on: its filter, few capabilities.
    assert status(first)["Seccomp"] == "2" and int(status(first)["CapBnd"], 16) & 1 << 21 == 0
    jailed = [p for p in descendants(first)
              if os.readlink(f"/proc/{p}/ns/user") != os.readlink(f"/proc/{first}/ns/user")]
    assert len(jailed) == 2, c.log()  # the VM and msb-net
    for pid in jailed:
        assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink(f"/proc/{first}/ns/mnt")
        assert int(status(pid)["Uid"].split()[0]) >= 0x71000000
    assert c.stop() == 0, c.log()
    assert "event=end" in c.log()


@pytest.mark.parametrize("kvm", [False, True])
def test_the_engine_with_and_without_kvm(container, podman, kvm):
    options = []
    if kvm:
        if not os.path.exists("/dev/kvm"):
            pytest.skip("there is no /dev/kvm")
        options = ["--device", "/dev/kvm"]
    p = subprocess.run([*podman.run_command("--rm", *options), "localhost/microsandbox", "doctor", "--json"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TIMEOUT)
    report = json.loads(p.stdout)
    checks = {c["name"]: c for c in report["checks"]}
    assert p.returncode == 0 and report["usable"], report
    # Without the device the reason is its absence, with it what the probe found.
    assert ("there is no /dev/kvm" in checks["kvm"]["detail"]) is not kvm, report
    engine = "kvm" if checks["kvm"]["status"] == "ok" else "tcg"
    assert kvm or engine == "tcg"
    c = container("--dev", options=options).wait_serving()
    box = c.python()
    assert box["engine"] == engine and box["isolation"] == {"kvm": "hardware", "tcg": "emulated"}[engine]
    assert c.stop() == 0, c.log()


def test_where_namespaces_are_refused_the_server_says_so(container, tmp_path):
    c = container("--dev", options=["--security-opt", refusing_profile(tmp_path)])
    assert c.process.wait(TIMEOUT) == 125
    log = c.log()
    assert "event=start" not in log and "seccomp filter, such as a container's default profile" in log
    assert "--security-opt" in log and "--jail=reduced" in log


def test_a_reduced_jail_where_namespaces_are_refused(container, tmp_path):
    c = container("--dev", "--jail=reduced", options=["--security-opt", refusing_profile(tmp_path)]).wait_serving()
    assert "event=jail-reduced" in c.log() and "jail=reduced" in c.log()
    c.python()
    first = c.first()
    inside = {os.path.basename(os.readlink(f"/proc/{p}/exe")): p for p in descendants(first)}
    vm = inside.get("qemu-system-x86_64") or inside["msb-vmm"]
    for pid in vm, inside["msb-net"]:
        s = status(pid)
        assert int(s["CapPrm"], 16) == 0 and s["NoNewPrivs"] == "1"
        # The container's filter, the jail's, and the program's own.
        assert int(s["Seccomp_filters"]) >= 3
    assert c.stop() == 0, c.log()


def test_no_zombies_of_a_killed_supervisor(container):
    c = container("--dev").wait_serving()
    c.python()
    pid = int((c.home / "projects/default/menv/py/run/pid").read_text())  # as seen inside
    first = c.first()
    ended = descendants(first)
    supervisor = next(p for p in ended if status(p)["NSpid"].split()[-1] == str(pid))
    orphans = descendants(supervisor)
    assert len(orphans) >= 2
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not c.call("sandbox.list")["sandboxes"])
    # Whose parent is the first process now; it waits for them, or they would stay.
    wait_for(lambda: not [p for p in [supervisor, *orphans] if os.path.exists(f"/proc/{p}")],
             what=lambda: str([status(p)["State"] for p in orphans if os.path.exists(f"/proc/{p}")]))
    c.python()
    assert c.stop() == 0, c.log()


def test_keys_and_a_second_container_with_the_same_volume(container, podman):
    c = container("--host", "127.0.0.1").wait_serving()
    made = podman("exec", c.name, "msb", "server", "keygen", "--expire", "1h").stdout.decode()
    c.key = re.search(r"msb_\S+", made).group()
    c.python()
    assert podman("exec", c.name, "msb", "server", "status").returncode == 0
    # Killed, as by a machine that goes down: the container takes its sandboxes with it.
    os.kill(c.first(), signal.SIGKILL)
    assert c.process.wait(TIMEOUT) != 0
    d = Container(podman, c.home, "--host", "127.0.0.1")
    try:
        d.wait_serving()
        d.key = c.key  # the secret is in the volume
        assert d.call("sandbox.list")["sandboxes"] == []
        d.python()
        assert d.stop() == 0, d.log()
    finally:
        d.close()
        shutil.rmtree(c.home, ignore_errors=True)
