# SPDX-License-Identifier: Apache-2.0
"""`msb build`: steps that become an image, and what a sandbox of that image finds."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import ENGINE, MSB, STORE, TIMEOUT

FILE = """\
builds:
  over: {build: base, steps: {one: cat /opt/app/file > /opt/over, two: "test ! -e /usr/bin/env"}}
  base:
    image: python
    scope: none
    envs: [GREETING=hello]
    workdir: /opt
    steps:
      - mkdir -p app; echo "$GREETING $SET" > app/file; chown 5:6 app/file; chmod 4711 app/file
      - ln app/file app/hard; ln -s file app/soft; rm /usr/bin/env
      - rm -r /root; mkdir -m 0711 /root; echo new > /root/new; echo junk > /tmp/junk; export SET=no
      - echo to-out; echo to-err >&2; python3 -c "open('big','wb').write(b'x' * 3000000)"
sandboxes:
  app: {build: over}
"""


@pytest.fixture
def project(box, tmp_path):
    # Its images are its own: builds write there.
    home = box.home
    images = home / "images"
    if images.is_symlink():
        images.unlink()
    elif images.exists():
        shutil.rmtree(images)
    shutil.copytree(STORE, images, copy_function=os.link, ignore=lambda d, names: [n for n in names if n.endswith("lock")])

    def msb(*args, status=0):
        p = subprocess.run([MSB, *args], cwd=tmp_path, env=box.env, stdin=subprocess.DEVNULL, text=True,
                           capture_output=True, timeout=TIMEOUT)
        assert p.returncode == status, (args, p.stdout, p.stderr)
        return p
    msb.path = tmp_path
    msb.box = box
    return msb


def images(msb):
    return {i["name"]: i["digest"] for i in json.loads(msb("image", "ls", "--json").stdout)}


def test_steps_become_an_image(project):
    (project.path / "Sandboxfile").write_text(FILE)
    app, = json.loads(project("check", "--json").stdout)["sandboxes"]
    assert app["image"].startswith("build.invalid/over:") and app["image"] not in images(project)
    p = project("exe", app["image"], status=125)
    assert "build 'over' is not there" in p.stderr and "msb build" in p.stderr
    p = project("build", "--engine", ENGINE)
    assert "to-out\nto-err\n" in p.stderr and p.stdout == ""
    built = images(project)
    assert app["image"] in built
    # Nothing has changed: nothing runs, also for a file that says the same in other words.
    (project.path / "Sandboxfile").write_text(FILE.replace("[GREETING=hello]", "{GREETING: hello}"))
    p = project("build", "--engine", ENGINE)
    assert p.stderr.count("nothing has changed") == 2 and "step 1" not in p.stderr
    assert images(project) == built
    p = project("exe", "-q", "--engine", ENGINE, app["image"], "-e", "/bin/sh", "--", "-c",
                "pwd; echo $GREETING; cat /opt/over; cd /opt/app; stat -c '%n %h %u:%g %a' *; readlink soft; "
                "stat -c '%a %s' /root /opt/big; ls -A /root /tmp; ls /usr/bin/env; cat /etc/hostname")
    lines = p.stdout.splitlines()
    assert lines[:3] == ["/opt", "hello", "hello "], lines
    assert lines[3:7] == ["file 2 5:6 4711", "hard 2 5:6 4711", "soft 1 0:0 777", "file"]
    assert lines[7].startswith("711 ") and lines[8] == "644 3000000"
    assert lines[9:13] == ["/root:", "new", "", "/tmp:"] and len(lines) == 14, lines
    assert "/usr/bin/env" in p.stderr
    # The layers beneath are the base's own.
    def layers(name):
        return json.loads(project("image", "inspect", name).stdout)["config"]["rootfs"]["diff_ids"]
    below = layers("python")
    assert layers(app["image"])[:len(below)] == below and len(layers(app["image"])) == len(below) + 2
    check_failures(project, built)


def check_failures(project, built):
    (project.path / "bad").write_text(
        "builds:\n"
        "  fails: {image: python, scope: none, steps: [echo one, 'echo two; exit 3', echo three]}\n"
        "  hangs: {image: python, scope: none, timeout: 1, steps: [sleep 1000]}\n"
        "  floods: {image: python, scope: none, disk: 16,\n"
        "           steps: ['truncate -s 100G /hole 2>/dev/null || truncate -s 1G /hole']}\n")
    p = project("build", "-f", "bad", "--engine", ENGINE, "fails", status=125)
    assert "step 2 of 3" in p.stderr and "step 3" not in p.stderr and "status 3" in p.stderr
    p = project("build", "-f", "bad", "--engine", ENGINE, "hangs", status=125)
    assert "time limit" in p.stderr
    # What it sends is bounded by what its disk may hold.
    p = project("build", "-f", "bad", "--engine", ENGINE, "floods", status=125)
    assert "cannot write" in p.stderr
    assert "no build 'nothing'" in project("build", "-f", "bad", "nothing", status=125).stderr
    assert images(project) == built
    assert not os.listdir(project.box.home / "images" / "tmp") and not project.box.sandboxes()
