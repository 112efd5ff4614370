# SPDX-License-Identifier: Apache-2.0
"""Help, manual page, completion and README say what the program does."""
import json
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, MSB, ROOT


def output(*args):
    p = subprocess.run([MSB, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 0, p.stderr
    return p.stdout


def commands():
    section = output("help").split("Commands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in section.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_every_option_is_in_the_manual(command):
    page = (ROOT / "man/msb.1.scd").read_text()
    assert f"*{command}*" in page
    for option in re.findall(r"^ .*?(--[a-z-]+)", output("help", command), re.M):
        assert f"*{option}*" in page, option


@pytest.mark.parametrize("command", commands())
def test_help_options_are_the_same(command):
    if command not in ("image", "help"):
        assert output(command, "--help") == output("help", command)


@pytest.mark.parametrize("page", sorted(p.stem for p in (ROOT / "man").glob("*.scd")))
def test_manual_page_is_well_formed(page):
    p = subprocess.run(["mandoc", "-Tlint", "-Werror", BUILD / "man" / page], stdout=subprocess.PIPE, text=True)
    assert p.returncode == 0, p.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_option(shell):
    text = output("completion", shell)
    for option in re.findall(r"^ .*?--([a-z-]+)", output("help", "exe"), re.M):
        assert option in text or option == "help", option
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_completion_of_fish_is_quoted_and_knows_every_program():
    text = output("completion", "fish")
    for line in text.splitlines():
        assert "'" not in re.sub(r"'(?:[^'\\]|\\.)*'", "", line), line
    for program, command in ("msx", "exe"), ("msr", "run"), ("msi", "install"):
        for option in re.findall(r"^ .*?--([a-z-]+)", output("help", command), re.M):
            assert f"complete -c {program} -l {option} " in text or option == "help", option


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_completion_of_bash_knows_verbs_and_volumes(box):
    def complete(*words):
        script = 'eval "$("$1" completion bash)"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _msb; echo "${COMPREPLY[@]}"'
        return subprocess.run(["bash", "-c", script, "-", MSB, *words], env=box.env, cwd=box.home, stdout=subprocess.PIPE, text=True,
                              check=True).stdout.split()

    assert box.msb("volume", "create", "data", "dates", "other").returncode == 0
    assert box.msb("volume", "create", "-n", "team", "theirs").returncode == 0
    assert complete("msb", "vol") == ["volume"]
    assert complete(MSB, "volume", "") == ["create", "ls", "rm", "inspect"]
    assert complete(MSB, "volume", "rm", "da") == ["data", "dates"]
    assert complete(MSB, "volume", "inspect", "") == ["data", "dates", "other"]
    assert complete(MSB, "volume", "rm", "-n", "team", "") == ["theirs"]
    assert complete(MSB, "volume", "create", "") == []
    assert complete(MSB, "server", "st") == ["start", "stop", "status"]
    assert complete(MSB, "server", "start", "--allow") == ["--allow-volumes"]
    assert complete(MSB, "exe", "python", "-v", "oth") == ["other:"]
    assert complete(MSB[:-1] + "x", "python", "--volume", "da") == ["data:", "dates:"]
    assert complete(MSB[:-1] + "x", "--mem") == ["--memory"]


def test_version():
    version = (ROOT / "VERSION").read_text().strip()
    assert output("version") == output("--version") == f"v{version}\n"
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_links_in_the_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_doctor_is_readable_by_programs():
    p = subprocess.run([MSB, "doctor", "--json"], stdout=subprocess.PIPE, text=True)
    report = json.loads(p.stdout)
    assert report["usable"] is (p.returncode == 0)
    assert {c["name"] for c in report["checks"]} >= {"kvm", "engine", "jail", "kernel", "initramfs", "home"}
    assert all(c["status"] in ("ok", "warning", "problem") for c in report["checks"])
