# SPDX-License-Identifier: Apache-2.0
"""Named volumes that clients of the server make and remove.  No sandbox is started."""
import fcntl
import json
import os

import pytest

from server_client import RpcError, Server
from test_server_keys import Keyed

MIB = 1 << 20


@pytest.fixture(scope="module")
def server():
    s = Server("--max-volumes", "3", "--max-volume-size", "10M", dev=False)
    yield s
    assert s.stop() == 0, s.log()
    s.close()


@pytest.fixture(scope="module")
def team(server):
    return Keyed(server, "-n", "team-a")


@pytest.fixture(autouse=True)
def nothing_left(server):
    yield
    for ns in ("team-a", "team-b", "default"):
        names = server.box.msb("volume", "ls", "-q", "-n", ns).stdout.split()
        assert not names or server.box.msb("volume", "rm", "-n", ns, *(n.decode() for n in names)).returncode == 0


def fails(client, code, status, text, method, **params):
    with pytest.raises(RpcError) as e:
        client.call(method, **params)
    assert (e.value.code, e.value.status) == (code, status) and text in e.value.message, e.value
    assert "/volumes" not in e.value.message  # nothing of the host's paths


def data_of(server, ns, name):
    return server.home / "volumes" / f"@{ns}" / name / "data"


def names(client, **params):
    return [v["name"] for v in client.call("volume.list", **params)["volumes"]]


def test_made_seen_and_removed(server, team):
    assert names(team) == []
    v = team.call("volume.create", name="b.1", size=4 * MIB)
    assert v == {"name": "b.1", "size": 4 * MIB, "created_at": v["created_at"], "in_use": False, "removable": True}
    team.call("volume.create", name="a", size=MIB)
    assert names(team) == ["a", "b.1"] and team.call("volume.get", name="b.1") == v
    # It is what `msb volume` makes.
    info, = json.loads(server.box.msb("volume", "inspect", "b.1", "-n", "team-a").stdout)
    assert info["size"] == 4 * MIB and info["path"] == str(data_of(server, "team-a", "b.1"))
    # Deeper than a path can be long.
    fd = os.open(data_of(server, "team-a", "b.1"), os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert team.call("volume.remove", name="b.1")["name"] == "b.1"
    assert names(team) == ["a"] and not data_of(server, "team-a", "b.1").parent.exists()
    fails(team, -32001, 404, "no volume 'b.1' in namespace team-a", "volume.remove", name="b.1")
    fails(team, -32001, 404, "no volume 'b.1'", "volume.get", name="b.1")


def test_how_much_a_client_may_make(server, team):
    for i in range(3):
        team.call("volume.create", name=f"v{i}", size=2 * MIB)
    fails(team, -32005, 503, "limit 3", "volume.create", name="v3", size=MIB)
    team.call("volume.remove", name="v0")
    fails(team, -32005, 503, "ask for less", "volume.create", name="v3", size=6 * MIB + 1)
    fails(team, -32005, 503, "ask for less", "volume.create", name="v3", size=1 << 50)
    team.call("volume.create", name="v3", size=6 * MIB)
    assert names(team) == ["v1", "v2", "v3"]
    # Each namespace for itself; what the server's user makes does not count.
    other = Keyed(server, "-n", "team-b")
    assert server.box.msb("volume", "create", "x", "y", "z", "-n", "team-b", "--size", "1G").returncode == 0
    other.call("volume.create", name="v", size=10 * MIB)


def test_a_volume_of_the_servers_user_stays(server, team):
    assert server.box.msb("volume", "create", "models", "-n", "team-a").returncode == 0
    v = team.call("volume.get", name="models")
    assert v["size"] is None and not v["removable"]
    fails(team, -32006, 403, "msb volume rm models --namespace team-a", "volume.remove", name="models")
    fails(team, -32602, 400, "already", "volume.create", name="models", size=MIB)
    assert names(team) == ["models"]


def test_what_is_in_use_stays(server, team):
    team.call("volume.create", name="busy", size=MIB)
    with open(data_of(server, "team-a", "busy") / "f", "w") as f:
        f.write("kept")
    fd = os.open(data_of(server, "team-a", "busy"), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)  # as a sandbox does that has it
        assert team.call("volume.get", name="busy")["in_use"]
        fails(team, -32602, 400, "in use", "volume.remove", name="busy")
    finally:
        os.close(fd)
    assert (data_of(server, "team-a", "busy") / "f").read_text() == "kept"
    team.call("volume.remove", name="busy")


def test_namespaces_know_nothing_of_each_other(server, team):
    other, every = Keyed(server, "-n", "team-b"), Keyed(server)
    other.call("volume.create", name="secret", size=MIB)
    assert names(team) == []
    for method in ("volume.get", "volume.remove"):
        fails(team, -32001, 404, "namespace team-a", method, name="secret")
        fails(team, -32006, 403, "team-a", method, name="secret", namespace="team-b")
    fails(team, -32006, 403, "team-a", "volume.list", namespace="team-b")
    fails(team, -32006, 403, "team-a", "volume.create", namespace="team-b", name="x", size=MIB)
    team.call("volume.create", name="secret", size=MIB)
    team.call("volume.remove", name="secret")
    assert names(other) == ["secret"] and names(every, namespace="team-b") == ["secret"]
    # Looking does not make a directory.
    assert names(every, namespace="nobody") == [] and not (server.home / "volumes/@nobody").exists()


@pytest.mark.parametrize("params", [
    {}, {"name": "a"}, {"size": MIB}, {"name": "", "size": MIB}, {"name": "a/b", "size": MIB}, {"name": "..", "size": MIB},
    {"name": "@team-b", "size": MIB}, {"name": "-n", "size": MIB}, {"name": "x" * 64, "size": MIB},
    {"name": "a", "size": 0}, {"name": "a", "size": MIB - 1}, {"name": "a", "size": -MIB}, {"name": "a", "size": 1 << 60},
    {"name": "a", "size": None}, {"name": "a", "size": "1G"}, {"name": "a", "size": MIB + 0.5}, {"name": 1, "size": MIB},
    {"name": "a", "size": MIB, "namespace": "*"}, {"name": "a", "size": MIB, "namespace": "../x"}])
def test_parameters_that_are_none(team, params):
    fails(team, -32602, 400, "Invalid params", "volume.create", **params)
    assert names(team) == []


def test_the_audit_log_names_the_volume(server, team):
    team.call("volume.create", name="noted", size=MIB)
    team.call("volume.remove", name="noted")
    lines = [json.loads(x) for x in (server.home / "server.audit.log").read_text().splitlines()][-2:]
    assert [(x["method"], x["volume"], x["namespace"], x["outcome"]) for x in lines] == [
        ("volume.create", "noted", "team-a", "ok"), ("volume.remove", "noted", "team-a", "ok")]


def test_a_server_may_forbid_it():
    s = Server("--max-volumes", "0")
    try:
        fails(s, -32006, 403, "--max-volumes", "volume.create", name="a", size=MIB)
        assert names(s) == []
        assert s.box.msb("volume", "create", "mine", "-n", "default").returncode == 0
        assert names(s) == ["mine"]
        fails(s, -32006, 403, "msb volume rm", "volume.remove", name="mine")
    finally:
        assert s.stop() == 0, s.log()
        s.close()


def test_options_that_are_none(server):
    for option, value in (("--max-volumes", "many"), ("--max-volumes", "1025"), ("--max-volume-size", "big"), ("--max-volume-size", "0")):
        p = server.box.msb("server", "start", option, value)
        assert p.returncode == 2 and option.encode() in p.stderr
