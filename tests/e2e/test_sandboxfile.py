# SPDX-License-Identifier: Apache-2.0
"""A project's Sandboxfile by our commands: made, added to, checked; nothing here starts a sandbox."""
import concurrent.futures
import json
import os
import stat
import subprocess

import pytest
import yaml

from conftest import MSB, ROOT, TIMEOUT


class Project:
    def __init__(self, box, path):
        self.path = path
        self.env = box.env

    def msb(self, *args, status=0):
        p = subprocess.run([MSB, *args], cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, text=True,
                           capture_output=True, timeout=TIMEOUT)
        assert p.returncode == status, (args, p.stdout, p.stderr)
        return p.stdout if status == 0 else p.stderr

    @property
    def text(self):
        return (self.path / "Sandboxfile").read_text()

    @text.setter
    def text(self, value):
        (self.path / "Sandboxfile").write_text(value)


@pytest.fixture
def project(box, tmp_path):
    return Project(box, tmp_path)


def test_init_leaves_what_is_there(project):
    (project.path / ".gitignore").write_text("*.o")
    project.msb("init")
    assert yaml.safe_load(project.text) == {"sandboxes": None}
    assert (project.path / ".gitignore").read_text() == "*.o\nmenv/\n"
    project.text = "# mine\n"
    project.msb("init")
    assert project.text == "# mine\n"
    assert (project.path / ".gitignore").read_text() == "*.o\nmenv/\n"
    (project.path / "sub").mkdir()
    project.msb("init", "-f", "sub")
    project.msb("init", "-f", "sub/other")
    assert sorted(p.name for p in (project.path / "sub").iterdir()) == [".gitignore", "Sandboxfile", "other"]
    assert "No such file" in project.msb("init", "-f", "none/sub", status=125)


def test_seed_example(project):
    project.text = ("sandboxes:\n  app: {image: python, memory: 1024, cpus: 1, scripts: {start: python -c "
                    "\"print('hello')\"}}\n")
    out = project.msb("check")
    assert "script start: python -c \"print('hello')\"" in out and "1 GiB" in out
    app, = json.loads(project.msb("check", "--json"))["sandboxes"]
    assert app["memory_bytes"] == 1 << 30 and app["cpus"] == 1 and app["runs"] == "script"


def test_add_writes_every_flag_as_its_key(project):
    (project.path / "src").mkdir()
    (project.path / ".env").write_text("A=1\n")
    project.msb("init")
    project.msb("add", "db", "cache", "--image", "python", "--memory", "512", "--env", "A=1", "--group", "shop")
    project.msb("add", "web", "-i", "microsandbox/node:20", "--memory", "2G", "--cpu", "2", "--disk", "1G",
                "--shell", "/bin/bash", "-v", "./src:/src:ro", "--tmpfs", "/t:size=64M", "-p", "8080:80",
                "-p", "9000", "--env", "X=two words", "--env", "Y=", "--env-file", ".env", "--depends-on", "db",
                "--workdir", "/src", "--user", "1000", "--script", "test=pytest -q", "--start", "one\ntwo\n",
                "--scope", "any", "--network", "allow any", "--secret", "K=env:T@a.example:81", "--timeout", "10m", "--",
                "sleep", "10")
    # As another reader of YAML has it.
    assert yaml.safe_load(project.text)["sandboxes"] == {
        "db": {"image": "python", "memory": 512, "envs": ["A=1"], "group": "shop"},
        "cache": {"image": "python", "memory": 512, "envs": ["A=1"], "group": "shop"},
        "web": {"image": "microsandbox/node:20", "memory": "2G", "cpus": 2, "disk": "1G", "shell": "/bin/bash",
                "volumes": ["./src:/src:ro"], "tmpfs": ["/t:size=64M"], "ports": ["8080:80", "9000"],
                "envs": ["X=two words", "Y="], "env_file": [".env"], "depends_on": ["db"], "workdir": "/src",
                "user": "1000", "scripts": {"test": "pytest -q", "start": "one\ntwo\n"}, "scope": "any",
                "network": ["allow any"], "secrets": ["K=env:T@a.example:81"], "timeout": "10m", "command": ["sleep", "10"]}}
    project.text += "\nbuilds:\n  tools: {image: python, steps: [\"true\"]}\n"
    project.msb("add", "built", "--build", "tools")
    assert yaml.safe_load(project.text)["sandboxes"].pop("built") == {"build": "tools"}
    project.msb("rm", "built")
    found = json.loads(project.msb("check", "--json"))
    assert found["valid"] and not found["warnings"]
    assert [s["name"] for s in found["sandboxes"]] == ["db", "cache", "web"]


def test_nothing_steers_the_terminal(project):
    project.text = ("sandboxes:\n  a: {image: x, command: [\"\\e[31m\", \"\\x9b\"], scripts: {start: \"\\a\\e]0;x\"}}\n"
                    "  b: {image: x, command: [\"\\e[31m\", \"\\x9b\"], \"\\e[1m\": 1}\n")
    p = subprocess.run([MSB, "check"], cwd=project.path, env=project.env, capture_output=True, timeout=TIMEOUT)
    assert p.returncode == 0 and not {b"\x1b", b"\x07", b"\xc2\x9b"} & {bytes([c]) for c in p.stdout + p.stderr}
    assert b"\xc2\x9b" not in p.stdout and b"?[31m" in p.stdout and b"'?[1m'" in p.stderr
    for key in ("workdir: \"/\\e\"", "user: \"\\x7f\"", "volumes: [\"./\\e:/x\"]", "env_file: \"\\x9b\""):
        project.text = f"sandboxes:\n  a: {{image: x, {key}}}\n"
        assert "it has control characters" in project.msb("check", status=1)


def test_what_add_refuses_changes_nothing(project):
    project.msb("init")
    project.msb("add", "a", "--image", "python", "-p", "80")
    before = project.text
    for args, why in [
            (("a", "--image", "x"), "there is a sandbox 'a' already"),
            (("b/c", "--image", "x"), "is not a name for a sandbox"),
            (("b", "--image", "x", "--memory", "1"), "memory is '1'"),
            (("b", "--image", "x", "-p", "80:8080"), "port 80 is published by 'a'"),
            (("b", "c", "--image", "x", "-p", "81"), "port 81 is published by"),
            (("b", "--image", "x", "-p", "70000:1"), "port '70000:1'"),
            (("b", "--image", "x", "--depends-on", "q"), "no sandbox 'q'"),
            (("b", "--image", "x", "--scope", "local"), "use one of none, group, public"),
            (("b", "--image", "x", "--scope", "group"), "no 'group'"),
            (("b", "--image", "x", "--secret", "K=hunter2@a.b"), "write =env:VARIABLE"),
            (("b", "--image", "./x"), "is a path"),
            (("b", "--image", "x", "--import", "n=/p"), "imports is not supported"),
            (("b", "--image", "x", "--env", b"A=\xff"), "UTF-8")]:
        assert why in project.msb("add", *args, status=125)
        assert project.text == before
    for args in [("b",), (), ("b", "--image", "x", "--image", "y"), ("b", "--image", "x", "--script", "x"),
                 ("b", "--image", "x", "--colour", "red")]:
        project.msb("add", *args, status=2)
    project.text = "sandboxes: {a: {image: x}}\n"
    assert "edit the file by hand" in project.msb("add", "b", "--image", "x", status=125)
    assert project.text == "sandboxes: {a: {image: x}}\n"


def test_comments_and_order_stay(project):
    project.text = before = ("# top\n\nsandboxes: # all\n\n    # the first\n    one:\n        image: python # why\n\n"
                             "    two: {image: node}   # in braces\n    # off: {image: x}\n\n# about us\nmeta:\n"
                             "  tags: [b, a]\n")
    project.msb("add", "new", "--image", "python")
    assert project.text == before.replace("image: x}\n\n", "image: x}\n\n    new:\n        image: python\n\n")
    project.msb("remove", "new")
    assert project.text == before
    project.msb("rm", "one")
    assert "one" not in project.text and "# the first" in project.text and "# in braces" in project.text
    assert "did you mean 'two'" in project.msb("remove", "tow", status=125)


def test_remove_what_others_need(project):
    project.text = before = "sandboxes:\n  a: {image: x}\n  b: {image: x, depends_on: [a]}\n"
    assert "depends_on" in project.msb("remove", "a", status=125)
    assert project.text == before
    project.msb("remove", "a", "b")
    assert project.text == "sandboxes:\n"


def test_file_is_replaced_whole(project):
    """Mode and link stay; no other file is left; changes at once all arrive."""
    (project.path / "real").mkdir()
    real = project.path / "real" / "file"
    real.write_text("sandboxes:\n")
    real.chmod(0o640)
    (project.path / "Sandboxfile").symlink_to("real/file")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: project.msb("add", f"s{i}", "--image", "python"), range(24)))
    assert sorted(yaml.safe_load(project.text)["sandboxes"]) == sorted(f"s{i}" for i in range(24))
    assert (project.path / "Sandboxfile").is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(real.parent) == ["file"]


def test_json_that_cannot_be_printed_is_an_error(project):
    project.text = "sandboxes:\n  a: {image: x}\n"
    for args in (["list"], ["list", "--installed"], ["status"], ["stats"], ["volume", "ls"]):
        with open("/dev/full", "w") as full:
            p = subprocess.run([MSB, *args, "--json"], cwd=project.path, env=project.env, stdout=full,
                               stderr=subprocess.PIPE, timeout=TIMEOUT)
        assert (p.returncode, p.stderr) == (125, b"msb: error: cannot print it as JSON\n"), args


def test_check_says_what_is_wrong_and_where(project):
    (project.path / "out").symlink_to("/usr")
    project.text = ("sandboxes:\n"
                    "  a:\n"
                    "    image: python\n"
                    "    volums: [x]\n"
                    "    volumes: [./none:/n, ./out:/o, nothing:/v]\n"
                    "    env_file: .env\n")
    lines = project.msb("check", status=1).splitlines()
    assert [line.split(": ", 1)[0] for line in lines] == ["Sandboxfile:4:5", "Sandboxfile:5:15", "Sandboxfile:5:26",
                                                          "Sandboxfile:5:36", "Sandboxfile:6:15"]
    assert "warning: sandbox 'a' has no key 'volums'" in lines[0] and "did you mean 'volumes'" in lines[0]
    assert "does not exist" in lines[1] and "leads out of the project" in lines[2]
    assert "msb volume create nothing" in lines[3] and "cannot read .env" in lines[4]
    p = subprocess.run([MSB, "check", "--json"], cwd=project.path, env=project.env, capture_output=True,
                       timeout=TIMEOUT)
    found = json.loads(p.stdout)
    assert p.returncode == 1 and not found["valid"] and len(found["errors"]) == 4 and found["warnings"]
    project.text = "sandboxes:\n  a: {image: x, builds: 1, imports: {}}\nmodules: {}\n"
    lines = project.msb("check", "-q", status=1).splitlines()
    assert [line.split(": ", 1)[0] for line in lines] == ["Sandboxfile:2:28", "Sandboxfile:3:1"]
    # Whoever reads the file says all that is wrong with it, as check does.
    for verb in (["list"], ["up"], ["run", "a"], ["build"], ["log", "a"], ["status"]):
        assert project.msb(*verb, status=125).splitlines() == lines
    project.text = ""
    assert "0 sandboxes" in project.msb("check")
    project.msb("check", "-f", "none", status=125)


@pytest.mark.parametrize("data,why", [
    (b"\x7fELF\x02\x01\x01\x00" + os.urandom(4096), b"Sandboxfile:1:1: error: "),
    (b"\xff\xfea\x00", b"not UTF-8"),
    (b"sandboxes:\n\ta: {}\n", b"Sandboxfile:2:1: error: a tab"),
    (b"a: 1\n" * (2 << 20), b"larger than 1024 KiB"),
    (b"[" * 1000000, b"nested too deeply"),
    (b"a:\n" + b"- - - - - - - - - -\n" * 50000, b"too many values"),
    (b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9))
                                 for i in range(1, 40)) + b"sandboxes: {a: {image: x, ports: *a39}}\n",
     b"ports takes a text"),
    (b"sandboxes:\n  a: {image: x}\n  a: {image: x}\n", b"Sandboxfile:3:3: error: 'a' is here twice"),
    (b"sandboxes:\n  ../a: {image: x}\n", b"is not a name for a sandbox"),
], ids=["binary", "utf16", "tab", "10MB", "nested", "values", "aliases", "duplicate", "slash"])
def test_bad_files_fail_soon(project, data, why):
    (project.path / "Sandboxfile").write_bytes(data)
    # Address space bounds the memory; the time is for a machine that is busy.
    p = subprocess.run(["sh", "-c", f"ulimit -v 300000; ulimit -t 60; exec {MSB} check"], cwd=project.path,
                       env=project.env, capture_output=True, timeout=TIMEOUT)
    assert p.returncode in (1, 125) and why in p.stderr or why == b"Sandboxfile:1:1: error: " and \
        b"Sandboxfile:1:" in p.stderr, p.stderr[:500]
    assert b"\x00" not in p.stderr and len(p.stderr) < 50000
    project.msb("add", "b", "--image", "x", status=125)
    assert (project.path / "Sandboxfile").read_bytes() == data


def test_schema_knows_what_the_parser_knows(project):
    schema = json.loads(project.msb("check", "--schema"))
    assert schema == json.loads((ROOT / "api" / "sandboxfile.schema.json").read_text())
    sandbox = schema["$defs"]["sandbox"]
    assert sandbox["oneOf"] == [{"required": ["image"]}, {"required": ["build"]}]
    for name, key in sandbox["properties"].items():
        if name == "build":
            continue
        refused = "not" in key
        value = "" if name in ("ports", "tmpfs", "volumes") else key.get("examples", [""])[0]
        if name == "depends_on":
            value = "[]"
        elif name == "env_file":
            value = "[]"
        image = "" if name == "image" else "image: x, "
        project.text = f"sandboxes: {{a: {{{image}{name}: {value}}}}}\n"
        err = project.msb("check", status=1 if refused else 0)
        assert not refused or f": error: {name} is not supported" in err
