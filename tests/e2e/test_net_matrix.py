# SPDX-License-Identifier: Apache-2.0
"""Scope x destination x protocol, each cell tried from a real sandbox against real servers.

The lab's namespaces (netlab.py) are the internet, private networks, metadata services and the machine
itself; nginx and dnsmasq answer on every address of them, and iperf3 on a public one.  A cell is open
if the server's answer came, and shut if it failed at once and the server never heard of it.
"""
import contextlib
import json
import os
import re
import subprocess
import textwrap

import pytest

import netlab
from conftest import MSX_ENGINE, TIMEOUT, wait_for
from test_net_process import lab, sandbox  # noqa: F401 (lab is a fixture)

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

# name: (address, protocols that are tried)
DESTINATIONS = {
    "internet": (netlab.PUBLIC, "tcp udp icmp"),
    "internet, IPv6": (netlab.PUBLIC6, "tcp udp"),
    "10/8": (netlab.OTHERS["private10"], "tcp udp icmp"),
    "172.16/12": (netlab.OTHERS["private172"], "tcp udp icmp"),
    "192.168/16": (netlab.OTHERS["private192"], "tcp udp icmp"),
    "100.64/10": (netlab.OTHERS["provider-nat"], "tcp udp icmp"),
    "fc00::/7": (netlab.OTHERS6["unique-local"], "tcp udp"),
    "169.254/16": (netlab.OTHERS["link-local"], "tcp udp icmp"),
    "198.18/15": (netlab.OTHERS["benchmark"], "tcp udp icmp"),
    "the host's loopback": (netlab.HOST_ALIAS, "tcp udp"),
    "the host's address": (netlab.HOST_PUBLIC, "tcp udp icmp"),
    "metadata": (netlab.OTHERS["metadata"], "tcp udp icmp"),
    "metadata, ECS": (netlab.OTHERS["metadata-ecs"], "tcp udp icmp"),
    "metadata, Azure": (netlab.OTHERS["metadata-azure"], "tcp udp icmp"),
    "metadata, IPv6": (netlab.OTHERS6["metadata"], "tcp udp"),
}
INTERNET = {"internet", "internet, IPv6"}
METADATA = {n for n in DESTINATIONS if n.startswith("metadata")}
# A row each.  Scope group reaches its group and nothing of all this.
OPEN = {
    "none": set(),
    "public": INTERNET,
    "any": set(DESTINATIONS) - METADATA,
}
NAMES = {"public.example": netlab.PUBLIC, "private.example": netlab.OTHERS["private10"],
         "meta.example": netlab.OTHERS["metadata"]}
RESOLVED = {"none": set(), "public": {"public.example"}, "any": {"public.example", "private.example"}}

PROGRAM = textwrap.dedent(r"""
    import concurrent.futures, errno, http.client, json, os, socket, struct, sys
    cells, names = json.loads(sys.argv[1])
    open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 2147483647")
    LONG = 120  # what is shut fails at once; this only ends a test that would hang

    def family(a):
        return socket.AF_INET6 if ":" in a else socket.AF_INET

    def tcp(a, i):
        c = http.client.HTTPConnection(f"[{a}]" if ":" in a else a, 80)
        c.sock = socket.socket(family(a))
        c.sock.settimeout(LONG)
        c.sock.connect((a, 80))
        c.request("GET", f"/cell-{i}")
        return "open" if c.getresponse().read() == b"nginx" else "odd"

    def udp(a, i):
        q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0)
        q += b"".join(bytes([len(p)]) + p for p in (b"cell-%d" % i, b"example")) + b"\0\0\1\0\1"
        with socket.socket(family(a), socket.SOCK_DGRAM) as s:
            s.settimeout(LONG)
            s.connect((a, 53))
            s.send(q)
            return "open" if s.recv(1000)[:2] == q[:2] else "odd"

    def icmp(a, i):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
            s.settimeout(LONG)
            s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
            s.connect((a, 0))
            s.send(struct.pack(">BBHHH", 8, 0, 0, 0, i) + b"cell")
            return "open" if s.recv(1000)[0] == 0 else "odd"

    def one(cell):
        i, a, proto = cell
        try:
            return i, globals()[proto](a, i)
        except OSError as e:
            return i, errno.errorcode.get(e.errno, type(e).__name__)

    def name(n):
        try:
            return n, socket.getaddrinfo(n, 80, socket.AF_INET)[0][4][0]
        except socket.gaierror:
            return n, None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        print(json.dumps([list(pool.map(one, cells)), list(pool.map(name, names))]))
""")


def nginx_conf(directory, listen):
    return textwrap.dedent(f"""
        daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;
        events {{ }}
        http {{
            access_log {directory}/access.log;
            client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
            uwsgi_temp_path {directory}; scgi_temp_path {directory};
            server {{ {" ".join(f"listen {a};" for a in listen)} location / {{ return 200 nginx; }} }}
        }}
    """)


class Internet:
    """The real servers, in the world's namespace and in the host's."""

    def __init__(self, path):
        self.path, self.processes = path, []

    def start(self, lab):
        for where, ns, listen, bind in (
                ("world", lab.world, ["80", "[::]:80"], []),
                ("host", lab.host, ["127.0.0.1:80", f"{netlab.HOST_PUBLIC}:80"],
                 ["--bind-interfaces", "--listen-address=127.0.0.1", f"--listen-address={netlab.HOST_PUBLIC}"])):
            d = self.path / where
            d.mkdir()
            (d / "nginx.conf").write_text(nginx_conf(d, listen))
            self.run(ns, "nginx", "-p", str(d), "-e", str(d / "error.log"), "-c", str(d / "nginx.conf"))
            self.run(ns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                     "--user=root", "--pid-file=", "--log-queries", f"--log-facility={d}/dns.log", *bind,
                     f"--address=/example/{netlab.DNS}", *(f"--address=/{n}/{a}" for n, a in NAMES.items()))
        self.run(lab.world, "iperf3", "--server", "--bind", netlab.PUBLIC)
        for ns, address, port in ((lab.world, netlab.PUBLIC, 80), (lab.world, netlab.PUBLIC, 53), (lab.host, "127.0.0.1", 80),
                                  (lab.world, netlab.PUBLIC, 5201), (lab.host, "127.0.0.1", 53)):
            wait_for(lambda: self.answers(ns, address, port), what=self.log)

    def run(self, ns, *cmd):
        with open(self.path / "out.log", "ab") as out:
            self.processes.append(subprocess.Popen(ns.command(*cmd), pass_fds=[ns.fd], stdin=subprocess.DEVNULL,
                                                   stdout=out, stderr=out))

    def log(self):
        return (self.path / "out.log").read_text() + "".join(p.read_text() for p in self.path.glob("*/error.log"))

    @staticmethod
    def answers(ns, address, port):
        with contextlib.suppress(OSError), ns.socket() as s:
            s.connect((address, port))
            return True

    def seen(self):
        """The numbers of the cells that a server heard of."""
        found = set()
        for f in [*self.path.glob("*/access.log"), *self.path.glob("*/dns.log")]:
            found |= {int(n) for n in re.findall(r"cell-(\d+)", f.read_text())}
        return found

    def close(self):
        for p in self.processes:
            p.kill()
            p.wait()


@pytest.fixture(scope="module")
def internet(lab, tmp_path_factory):
    with lab.host.inside(), open("/proc/sys/net/ipv4/ping_group_range", "w") as f:
        f.write("0 2147483647")
    i = Internet(tmp_path_factory.mktemp("internet"))
    try:
        i.start(lab)
        yield i
    finally:
        i.close()


def run_in_lab(lab, box, tmp_path, scope, *args):
    """msx on the lab's machine, with its resolver."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {netlab.DNS}\n")
    os.chmod(tmp_path, 0o755)
    p = subprocess.run(
        lab.host.command("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"',
                         str(tmp_path / "resolv.conf"), *MSX_ENGINE, "-q", "--scope", scope, "python", "--", *args),
        pass_fds=[lab.host.fd], stdin=subprocess.DEVNULL, capture_output=True, env=box.env, timeout=TIMEOUT)
    assert p.returncode == 0, p.stderr
    return p.stdout


@pytest.mark.parametrize("scope", OPEN)
def test_each_cell(lab, internet, box, tmp_path, scope):
    base = 1000 * (1 + list(OPEN).index(scope))  # so that the servers' logs tell the rows apart
    cells = {base + i: (name, address, proto) for i, (name, address, proto) in enumerate(
        (n, a, p) for n, (a, protos) in DESTINATIONS.items() for p in protos.split())}
    asked = json.dumps([[[i, a, p] for i, (_, a, p) in cells.items()], list(NAMES)])
    results, names = json.loads(run_in_lab(lab, box, tmp_path, scope, "-c", PROGRAM, asked))
    wrong = []
    heard = internet.seen()
    for i, result in results:
        name, address, proto = cells[i]
        is_open = name in OPEN[scope]
        # A closed network has no IPv6.
        shut = ({"ENETUNREACH"} if scope == "none" and ":" in address else
                {"ECONNREFUSED"} if proto == "tcp" else {"EHOSTUNREACH", "EACCES"})
        if result not in ({"open"} if is_open else shut) or (proto != "icmp" and (i in heard) != is_open):
            wrong.append((name, proto, result, i in heard))
    assert len(results) == len(cells) and not wrong, (scope, wrong)
    assert dict(names) == {n: a if n in RESOLVED[scope] else None for n, a in NAMES.items()}


def test_traffic_of_a_real_program(lab, internet):
    """iperf3 both ways, with TCP, many connections and UDP; towards a shut address it does not begin."""
    def once(guest, *args):
        p = subprocess.run(guest.ns.command("iperf3", "--json", "--client", *args), pass_fds=[guest.ns.fd],
                           capture_output=True, timeout=TIMEOUT)
        result = json.loads(p.stdout)
        return None if "busy" in result.get("error", "") else result

    def iperf(*args):
        """The server takes one at a time, and ends the last one a little after its client."""
        return wait_for(lambda: once(*args))

    with sandbox(lab, "public") as (net, guest):
        for args in ((), ("--reverse",), ("--parallel", "4"), ("--reverse", "--parallel", "4")):
            end = iperf(guest, netlab.PUBLIC, "--time", "1", *args)["end"]
            # What was on its way at the end iperf3 does not count.
            assert end["sum_received"]["bytes"] > 1 << 20, end
        # At a rate that even a busy machine takes, with datagrams that are not cut up.
        end = iperf(guest, netlab.PUBLIC, "--udp", "--bytes", "200K", "--length", "1200", "--bitrate", "4M")["end"]
        assert end["sum"]["packets"] > 100 and end["sum"]["lost_percent"] < 20, end
        assert "refused" in iperf(guest, netlab.OTHERS["private10"])["error"]
        assert net.end() == 0
        assert " lost=0" in net.log_text()
