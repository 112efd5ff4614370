# SPDX-License-Identifier: Apache-2.0
"""config.network of sandbox.start: rules of the network through the server."""
import pytest

from server_client import RpcError, Server, texts

PROBE = """
import socket
for host, port in {targets!r}:
    try:
        socket.create_connection((host, port), 20).close()
        print("open")
    except OSError as e:
        print(e.strerror)
"""


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def test_rules_hold_and_outlive_a_restart(server, listener):
    code = PROBE.format(targets=[("10.0.2.4", listener), ("10.0.2.4", listener ^ 1), ("192.168.1.1", 80)])
    server.start("net", scope="none", network=[f"allow tcp loopback:{listener}", "default deny"])
    for _ in range(2):
        assert texts(server.run("net", code)) == ["open", "Connection refused", "Connection refused"]
        server.call("sandbox.restart", sandbox="net")
    server.call("sandbox.stop", sandbox="net")


def test_bad_rules_are_refused_by_their_place(server):
    for network, text in [(["allow any", "allow privat"], "network[1]: 'privat' is no group"),
                          (["allow tcp metadata:80"], "metadata"), (["allow 169.254.169.254"], "metadata"),
                          ([""], "network"), ("allow any", "network"), ([5], "network"),
                          (["allow any\ndeny any"], "network[0]")]:
        with pytest.raises(RpcError) as e:
            server.call("sandbox.start", sandbox="bad", config={"image": "python", "network": network})
        assert e.value.code == -32602 and e.value.status == 400 and text in e.value.message, (network, e.value.message)
