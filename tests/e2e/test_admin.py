"""The admin door: replies are made in portions, and whatever a client does meanwhile, the others have theirs whole."""

import collections
import contextlib
import json
import re
import select
import signal
import socket
import threading
import time

import pytest
from driver import WELCOME, Driver
from harness import DEADLINE, ROOT, load_summary, wait_for
from test_storage import storage
from test_upgrade import HALF_WAY, install, start, upgrade

VMS = 500  # with eight solutions a reply is several times what the kernel buffers
QUIET = "heartbeat = 60s\nsilence = 120s"  # a PING is nothing that these tests wait for
NOBODY = {f"solution-{n}": {"address": "tcp:127.0.0.1:1"} for n in range(8)}  # makes replies long
TIMEOUT = 10  # TIMEOUT_S of mux/operator/http.c

Reply = collections.namedtuple("Reply", "status headers body")


class Cut(Exception):
    """The connection ended inside a reply."""


class Client:
    """One connection to the admin door, which reads only when it is told to."""

    def __init__(self, world):
        self.data = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(world.admin))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, path, method="GET", version="1.1", more=""):
        self.socket.sendall(f"{method} {path} HTTP/{version}\r\nHost: gimux\r\n{more}\r\n".encode())
        return self

    def read(self):
        """What there is, at least a byte; False at the end."""
        try:
            more = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.data += more
        return bool(more)

    def take(self, size):
        while len(self.data) < size:
            if not self.read():
                raise Cut
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def line(self):
        while b"\r\n" not in self.data:
            if not self.read():
                raise Cut
        line, self.data = self.data.split(b"\r\n", 1)
        return line.decode()

    def chunks(self):
        while size := int(self.line(), 16):
            yield self.take(size)
            assert self.line() == ""
        assert self.line() == ""

    def reply(self, method="GET"):
        """The next reply, read as RFC 9112 says."""
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line():
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        if method == "HEAD":
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join(self.chunks())
        elif "content-length" in headers:
            body = self.take(int(headers["content-length"]))
        else:
            while self.read():
                pass
            body, self.data = self.data, b""
        return Reply(status, headers, body.decode())

    def is_cut_off(self):
        """Whether the other end has closed the connection, whatever is unread."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))


@contextlib.contextmanager
def crowd(world, count=VMS):
    """So many VMs, each with a driver."""
    drivers = [Driver(world.shared).say_hello() for _ in range(count)]
    try:
        yield drivers
    finally:
        for driver in drivers:
            driver.socket.close()


def status_vms(body):
    """The VMs of /v1/status, each there once."""
    vms = [vm["vm"] for vm in json.loads(body)["vms"]]
    assert len(set(vms)) == len(vms)
    return vms


def assert_metrics(body):
    """Each metric's HELP and TYPE stand before its values, and all of it stands together."""
    assert body.endswith("\n")
    seen, name = [], None
    for line in body.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in seen, f"{name} twice"
            seen.append(name)
        elif line.startswith("# TYPE "):
            assert line.split()[2] == name
        else:
            what, value = line.rsplit(" ", 1)
            base = what.split("{")[0]
            assert base in (name, f"{name}_bucket", f"{name}_sum", f"{name}_count"), line
            float(value)
    return seen


# ---- several requests on one connection ----

def test_one_after_the_other(world):
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world) as drivers, Client(world) as client:
        for _ in range(5):
            reply = client.ask("/v1/status").reply()
            assert reply.headers["content-type"] == "application/json"
            assert sorted(status_vms(reply.body)) == sorted(driver.vm for driver in drivers)
            assert_metrics(client.ask("/metrics").reply().body)
            assert client.data == b""


def test_all_in_one_piece(world):
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world), Client(world) as client:
        paths = ["/v1/status", "/metrics"] * 5
        client.socket.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: gimux\r\n\r\n".encode() for path in paths))
        for path in paths:
            body = client.reply().body
            if path == "/metrics":
                assert_metrics(body)
            else:
                assert len(status_vms(body)) == VMS


def test_head(world):
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world), Client(world) as client:
        for path in ("/v1/status", "/metrics"):
            reply = client.ask(path, "HEAD").reply("HEAD")
            assert reply.status == 200 and "content-length" not in reply.headers
        assert len(status_vms(client.ask("/v1/status").reply().body)) == VMS  # nothing of it stands before that


@pytest.mark.parametrize("more", ["", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: Keep-Alive\r\n"])
def test_old_http(world, more):
    """Without chunks, the reply ends where the connection does, whatever the client would like better."""
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world):
        with Client(world) as client:
            reply = client.ask("/v1/status", version="1.0", more=more).reply()
            assert "transfer-encoding" not in reply.headers and "content-length" not in reply.headers
            assert len(status_vms(reply.body)) == VMS
        with Client(world) as client:
            assert_metrics(client.ask("/metrics", version="1.0", more=more).reply().body)
        with Client(world) as client:
            client.ask("/metrics", "HEAD", version="1.0", more=more).reply("HEAD")
            assert not client.read()


def test_a_client_that_wants_the_end(world):
    world.configure({}, rest=QUIET)
    world.start()
    with Client(world) as client:
        reply = client.ask("/v1/status", more="Connection: close\r\n").reply()
        assert reply.headers["connection"] == "close" and status_vms(reply.body) == []
        assert not client.read()


@pytest.mark.parametrize("method, path, status", [("GET", "/", 404), ("GET", "/v1/statu", 404), ("POST", "/metrics", 501),
                                                  ("GET", "/" + "x" * 20000, 400)],
                         ids=["root", "prefix", "post", "long"])
def test_what_is_not_there(world, method, path, status):
    world.configure({}, rest=QUIET)
    world.start()
    with Client(world) as client:
        assert client.ask(path, method).reply().status == status
    world.status()


# ---- clients that do as they like ----

def test_clients_that_go_in_the_middle(world):
    """Each leaves a reply behind that is under way. (That nothing of it stays in memory, the sanitizer's build says.)"""
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world):
        for number in range(100):
            with Client(world) as client:
                client.ask("/v1/status" if number % 2 else "/metrics")
                for _ in range(number % 4):
                    client.read()
                if number % 3 == 0:
                    client.socket.shutdown(socket.SHUT_RD)
        assert len(status_vms(world.get("/v1/status"))) == VMS
    assert world.gimuxd.end() == 0


def test_a_client_that_does_not_read(world):
    """It is cut off after ten seconds, and nobody else waits for it."""
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world), Client(world) as client:
        client.ask("/v1/status")

        def is_over():
            assert len(status_vms(world.get("/v1/status"))) == VMS
            return client.is_cut_off()
        wait_for("the end of its connection", is_over, 3 * TIMEOUT)
        with pytest.raises(Cut):
            client.reply()


def test_a_client_that_reads_slowly(world):
    """The time-out is that of one portion: who takes longer for all of it, but goes on reading, has it.

    Here the time that passes is itself what is tested: nothing is waited for."""
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world), Client(world) as client:
        client.ask("/v1/status")
        for _ in range(5):
            time.sleep(TIMEOUT / 4)
            client.read()
        assert len(status_vms(client.reply().body)) == VMS


def test_a_client_that_says_too_much(world):
    """What it sends while it is answered waits in the kernel, not in gimuxd's memory."""
    world.configure(NOBODY, rest=QUIET)
    world.start()
    with crowd(world), Client(world) as client:
        client.ask("/v1/status")
        client.socket.settimeout(1)  # it must stand still at last; if it does not, there is an end, too
        sent = 0
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < 64 << 20:
                sent += client.socket.send(b"x" * 65536)
        assert sent < 2 << 20  # it was not taken without end
        assert len(status_vms(world.get("/v1/status"))) == VMS


# ---- what changes while a reply is under way ----

def test_vms_that_come_and_go(world):
    """Those that stay are in every reply, once, and it is always well-formed."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest=f"{QUIET}\nlimits {{ vms = 940 }}")
    world.start(up=1)
    ended, come = threading.Event(), []

    def churn():
        while not ended.is_set():
            with Driver(world.shared) as driver:
                driver.send_hello()
                if driver.receive().type == WELCOME:  # else those that went are not settled yet, and hold all the room
                    come.append(driver.vm)
    with crowd(world, 900) as drivers:
        stay = {driver.vm for driver in drivers}
        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for round_ in range(20):
                with Client(world) as slow, Client(world) as other:
                    slow.ask("/v1/status")
                    slow.read()
                    other.ask("/metrics")
                    other.read()
                    before = len(come)
                    wait_for("others to come and go", lambda seen=before: len(come) >= seen + 50)
                    vms = status_vms(slow.reply().body)
                    assert stay <= set(vms), round_
                    assert_metrics(other.reply().body)
        finally:
            ended.set()
            thread.join()


def test_vms_that_are_forgotten(world):
    """A reply that began with them leaves them out from then on; those that took their place are in the next one."""
    world.configure({}, rest=f"{QUIET}\nlimits {{ vms = 1000\nconnections = 3000 }}")
    world.start()
    with crowd(world, 1000) as drivers, Client(world) as status, Client(world) as metrics:
        status.ask("/v1/status").read()
        metrics.ask("/metrics").read()
        stay, go = ({driver.vm for driver in half} for half in (drivers[:500], drivers[500:]))
        for driver in drivers[500:]:
            driver.socket.close()
        wait_for("them to go", lambda: world.metrics()["gimux_vms_connected"] == 500)
        with crowd(world, 500) as others:
            come = {driver.vm for driver in others}
            shown = set(status_vms(status.reply().body))
            assert stay <= shown and len(shown) < 1000 and not shown & come
            assert_metrics(metrics.reply().body)
            assert set(status_vms(world.get("/v1/status"))) == stay | come
    assert stay | go == {driver.vm for driver in drivers}


def test_every_length_of_a_reply(world):
    """Wherever a portion ends, a metric begins once."""
    world.configure({}, rest=QUIET)
    world.start()
    with contextlib.ExitStack() as drivers, Client(world) as client:
        for count in range(1, 601):
            drivers.enter_context(Driver(world.shared).say_hello())
            assert_metrics(client.ask("/metrics").reply().body)
            if count % 20 == 0:
                assert len(status_vms(client.ask("/v1/status").reply().body)) == count


def test_the_end_of_gimuxd(world):
    """A reply that is under way is cut off, and nothing else happens."""
    world.configure(NOBODY, rest=QUIET + "\ndrain = 0s")
    world.start()
    with crowd(world), Client(world) as client, Client(world) as idle:
        client.ask("/v1/status").read()
        idle.ask("/metrics").reply()
        assert world.gimuxd.end() == 0
        with pytest.raises(Cut):
            client.reply()
        assert not idle.read()


def test_an_upgrade(world):
    """What is under way is cut off, as by an end: the client can tell, and asks the new one."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    with crowd(world, 900), Client(world) as client:
        client.ask("/v1/status").read()
        assert upgrade(world) == "done"
        with pytest.raises(Cut):
            client.reply()
        assert len(status_vms(world.get("/v1/status"))) == 900


def test_an_upgrade_that_is_given_up(world):
    """The old one goes on, with the reply as well."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    with crowd(world, 900), Client(world) as client:
        client.ask("/v1/status").read()
        install(world, HALF_WAY.format(end="sys.exit(3)"))
        assert upgrade(world) == "failed"
        assert len(status_vms(client.reply().body)) == 900
        assert len(status_vms(world.get("/v1/status"))) == 900


def test_another_address(world):
    """It counts from the next upgrade on, and a reload in between does not mix the two up."""
    old, new = world.admin, world.run / "elsewhere.sock"
    text = world.configure({}, rest=QUIET).read_text()
    start(world)
    (world.directory / "gimuxd.conf").write_text(text.replace(str(old), str(new)))
    assert world.reload()
    assert old.is_socket() and not new.exists()
    assert upgrade(world) == "done"
    assert new.is_socket() and not old.exists()
    world.admin = new
    assert world.status()["connections"] == 0
    assert world.gimuxd.end() == 0
    assert not new.exists()


def test_names_that_are_not_unicode(world):
    """What cannot be said in JSON does not break it."""
    directory = world.directory / "logs-%"
    svm = world.svm("svm", "--quiet")
    path = world.configure({"svm": {"address": svm, "durability": "process"}},
                           rest=QUIET + f'\nstorage {{ dir = "{directory}" }}')
    path.write_bytes(path.read_bytes().replace(b"logs-%", b"logs-\xff"))
    world.start(up=1)
    status = world.status()
    assert status["storage"]["dir"] is None and status["storage"]["bytes"] >= 0 and len(status["solutions"]) == 1


# ---- the whole of it ----

def test_while_events_flow(world):
    """Asked all the time, and read in a hurry or not, it costs no event."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}})
    world.start(up=1)
    path = world.directory / "summary.json"
    sim = world.sim("load", "--connect", world.shared, "--vms", 200, "--rate", 20, "--seconds", 4, "--summary", path)
    while sim.process.poll() is None:
        status_vms(world.get("/v1/status"))
        assert_metrics(world.get("/metrics"))
    assert sim.wait() == 0
    wait_for("everything to settle", lambda: all(s["pending"] == 0 for s in world.status()["solutions"]))
    world.gimuxd.end(signal.SIGTERM)
    sent = sum(stream["sent"] for stream in load_summary(path)["streams"])
    delivered = sum(stream["delivered"] for stream in svm.stats()["streams"] if stream["driver"] != "gimuxd")
    assert delivered == sent > 0


def test_the_memory_bound_of_the_defaults(world):
    """operations.md says what it adds up to."""
    text = (ROOT / "docs/operations.md").read_text()
    without, with_files = (int(n.replace(",", "")) for n in re.findall(r"\| \*\*sum\*\*.* ([\d,]+) bytes \|", text))
    for rest, bound in ("", without), (storage(world), with_files):
        world.configure(NOBODY, rest=rest)
        world.start()
        assert int(world.gimuxd.wait_err(r"memory bound (\d+) bytes").group(1)) == bound
        world.gimuxd.end(signal.SIGKILL)
