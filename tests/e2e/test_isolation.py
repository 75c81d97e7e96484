"""Isolation: whatever one VM or one SVM does, the others' delivery does not change.

Each test lets a disturber do its worst, and has the others send and receive meanwhile. No time is measured: what must
hold is that the others' events arrive, all of them and in order, while the disturber is still at it; and that what it
holds up stays within its own bounds.
"""

import re
import signal
import socket
import ssl
import threading
import uuid

import certs
import fake_svm
import pytest
from driver import Driver
from harness import wait_for
from proxy import Proxy
from test_contract import SMALL, assert_all_delivered, assert_polite, load, metric_sum, wait_drained

QUANTUM = 16384  # bytes of a VM's turn on a link, mux/route/sink.c
HOUR = "60m"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    certs.make(directory, ["miser"])
    return directory


@pytest.fixture
def pb():
    return fake_svm.load_pb()


def events_of(world, vm):
    """Events that gimuxd has taken from a VM."""
    return world.metrics().get(f'gimux_vm_events_total{{vm="{vm}"}}', 0)


def flooding(world):
    """UUIDs of the VMs that the metrics call flooding."""
    return [key.split('"')[1] for key, value in world.metrics().items()
            if key.startswith("gimux_vm_flooding{") and value]


# ---- a flooding VM ----

def test_one_vm_at_a_hundred_times_the_rate_of_the_others(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}},
                    rest="limits {\n    vm_log = 1M\n    flood_interval = 200ms\n    flood_records = 500\n}\n")
    world.start(up=1)
    flood, _ = load(world, "--vms", 1, "--seed", 99)
    flooder = wait_for("the flooder", lambda: world.status()["vms"])[0]["vm"]
    quiet = [Driver(world.shared).say_hello() for _ in range(8)]
    for n in range(1, 21):
        before = events_of(world, flooder)
        for one in quiet:
            one.events(1)
        for one in quiet:
            one.expect_ack(n)
        wait_for("a hundred times as much of the flooder", lambda b=before: events_of(world, flooder) >= b + 100)
    line = world.gimuxd.wait_err(r"warning vm=(\S+) flooding: .*").group(0)
    assert flooder in line and "other VMs is" in line
    wait_for("the metric", lambda: flooding(world) == [flooder])
    assert [vm["vm"] for vm in world.status()["vms"] if vm["flooding"]] == [flooder]
    assert flood.process.poll() is None
    assert events_of(world, flooder) >= 100 * 20
    flood.end(signal.SIGINT)
    world.gimuxd.wait_err(rf"info vm={flooder} no longer flooding: ")
    assert flooding(world) == []
    assert not [line for line in world.gimuxd.lines["err"] if "flooding: " in line and flooder not in line]
    for one in quiet:
        one.socket.close()


def small_svm(pb):
    """A fake SVM that the kernels of both sides hold little for."""
    svm = fake_svm.FakeSvm(pb)
    svm.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # the sender's buffer grows with it
    svm.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return svm


def read_events(link, count):
    """[(stream, sequence, size of the frame)] of so many events of class file, all acknowledged."""
    events = []
    while len(events) < count:
        frame = link.receive()
        assert frame is not None, "the connection ended"
        if frame.WhichOneof("body") != "event":
            continue
        event = frame.event
        link.ack(event.stream, event.sequence)
        if event.class_uid == 1001:
            events.append((event.stream, event.sequence, len(fake_svm.delimited(frame))))
    return events


def test_the_link_is_shared_fairly_while_one_vm_floods(world, pb):
    """Between two events of a quiet VM lies at most one turn of the flooding one, however much that has sent before."""
    with small_svm(pb) as svm:
        world.configure({"svm": {"address": svm.address, "window": "4M", "heartbeat": HOUR}},
                        rest='drain = "0s"\nlimits { vm_log = "16M" memory = "64M" }')
        world.start()
        link = svm.accept().greet()
        world.wait_up(1)
        with Driver(world.shared) as flooder, Driver(world.shared) as one, Driver(world.shared) as two:
            flooder.say_hello().events(10000, path="/flood/" + 150 * "x" + "-%d")
            wait_for("the flood", lambda: events_of(world, flooder.vm) == 10000)
            for quiet in (one, two):
                quiet.say_hello().events(2000, path="/quiet/" + 50 * "x" + "-%d")
            for quiet in (one, two):
                wait_for("the quiet", lambda q=quiet: events_of(world, q.vm) == 2000)
            events = read_events(link, 14000)
            flooder.expect_ack(10000)
            one.expect_ack(2000)
            two.expect_ack(2000)
    by_stream = {}
    for stream, sequence, _ in events:
        by_stream.setdefault(stream, []).append(sequence)
    assert sorted(by_stream.values()) == [list(range(1, 2001)), list(range(1, 2001)), list(range(1, 10001))]
    flood = next(stream for stream, seen in by_stream.items() if len(seen) == 10000)
    assert sum(size for stream, _, size in events if stream != flood) > 6 * 2 * QUANTUM  # several turns of each
    for quiet in set(by_stream) - {flood}:
        between, turns = 0, []
        for stream, sequence, size in events:
            if stream == flood:
                between += size
            elif stream == quiet:
                turns += [between] if sequence > 1 and between > 0 else []
                between = 0
        assert len(turns) >= 6, turns
        assert max(turns) <= 2 * QUANTUM, turns  # a turn, and what the one before it has left of its own


# ---- SVMs that do not do their part ----

class Miser:
    """An SVM that is alive by its pings, and reads one byte a second of what it is sent, after MuxHello."""

    def __init__(self, pb, tls=None):
        self.pb = pb
        self.svm = small_svm(pb)
        self.address = self.svm.address.replace("tcp:", "tls:") if tls else self.svm.address
        self.tls = tls
        self.links = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.svm.listener.close()

    def _run(self):
        link = self.svm.accept()
        if self.tls:
            link.socket = self.tls.wrap_socket(link.socket, server_side=True)
        self.links += 1
        with link:
            link.greet()
            while not self.done.wait(1):
                link.socket.recv(1)
                link.send(ping=self.pb.Ping())


@pytest.mark.parametrize("over", ["plain", "tls"])
def test_an_svm_that_reads_one_byte_a_second(world, pb, pki, over):
    """It holds its window of each VM, and what the socket took; the rest it is not sent becomes gaps."""
    tls, options = None, {}
    if over == "tls":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca.pem")
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_cert_chain(pki / "server.pem", pki / "server.key")
        options = {"cert": pki / "client.pem", "key": pki / "client.key", "ca": pki / "ca.pem"}
    healthy = world.svm("healthy", "--quiet")
    window = 65536
    with Miser(pb, tls) as miser:
        solutions = {"healthy": {"address": healthy},
                     "miser": {"address": miser.address, "policy": "drop", "heartbeat": "2s", "window": window,
                               **options}}
        world.configure(solutions, rest=SMALL % "64M")
        world.start(up=2)
        _, summary = load(world, "--vms", 8, "--events", 12000)
        wait_for("all events at the healthy SVM", lambda: healthy.delivered("linux") == 8 * 12000)
        metrics = world.metrics()
        assert metrics['gimux_solution_up{solution="miser"}'] == 1 and miser.links == 1
        assert metrics['gimux_solution_gapped_total{solution="miser"}'] > 0
        assert metrics['gimux_solution_sent_bytes_total{solution="miser"}'] <= 8 * (window + 1024)
        assert all(vm["log_bytes"] <= 768 * 1024 + 65536 for vm in world.status()["vms"])
        del solutions["miser"]  # or drivers would wait for what it has in flight
        world.configure(solutions, rest=SMALL % "64M")
        assert world.reload()
        sent = summary()
    wait_drained(world)
    assert_polite(healthy)
    assert_all_delivered(sent, healthy)


def test_an_svm_that_acknowledges_nothing_with_policy_drop(world):
    """Nobody waits for it: drivers are acknowledged, and send many times what their VM's log takes."""
    healthy, mute = world.svm("healthy", "--quiet"), world.svm("mute", "--quiet", "--ack", "never")
    solutions = {"healthy": {"address": healthy}, "mute": {"address": mute, "policy": "drop"}}
    world.configure(solutions, rest=SMALL % "64M")
    world.start(up=2)
    _, summary = load(world, "--vms", 8, "--events", 12000)
    wait_for("all events at the healthy SVM", lambda: healthy.delivered("linux") == 8 * 12000)
    wait_for("nobody to be paused", lambda: metric_sum(world.metrics(), "gimux_vm_paused") == 0)
    status = world.status()
    streams = [s for vm in status["vms"] for s in vm["streams"] if s["driver"] == "linux"]
    assert [s["last"] for s in streams] == [12000] * 8
    assert all(s["accepted"] > 0 for s in streams)
    assert {s["solution"]: s["gapped"] > 0 for s in status["solutions"]} == {"healthy": False, "mute": True}
    del solutions["mute"]
    world.configure(solutions, rest=SMALL % "64M")
    assert world.reload()
    sent = summary()
    wait_drained(world)
    assert_polite(healthy)
    assert_all_delivered(sent, healthy)


def uuids(count):
    return [str(uuid.uuid4()) for _ in range(count)]


def test_an_svm_that_acknowledges_nothing_with_policy_pause(world):
    """A VM that fills its log stands still, as the policy says, and the others get all of it up to there. VMs that do
    not fill theirs, and those that this SVM does not get, notice nothing."""
    busy = uuids(3)
    healthy, mute = world.svm("healthy", "--quiet"), world.svm("mute", "--quiet", "--ack", "never")
    few, many = uuids(2)
    world.configure({"healthy": {"address": healthy},
                     "mute": {"address": mute, "redial_max": "100ms", "vms": [*busy, few]}}, rest=SMALL % "64M")
    world.start(up=2)
    summaries = [load(world, "--vm", vm, "--events", 20000)[1] for vm in busy]
    wait_for("the busy VMs to be paused", lambda: metric_sum(world.metrics(), "gimux_vm_paused") == 3)
    with Driver(world.shared, few) as quiet, Driver(world.shared, many) as spared:
        quiet.say_hello()
        spared.say_hello()
        for n in range(1, 11):
            quiet.events(1)
            spared.events(1000).expect_ack(1000 * n)  # in all more than a log holds
            wait_for("the quiet VM's", lambda n=n: healthy.streams()[quiet.vm, "linux"]["delivered"] == n)
        paused = {vm["vm"]: vm for vm in world.status()["vms"] if vm["paused"]}
        assert sorted(paused) == sorted(busy)
        assert all(vm["log_bytes"] <= 768 * 1024 + 65536 for vm in paused.values())
        assert all(0 < events_of(world, vm) < 20000 for vm in busy)
        seen = healthy.streams()
        assert [seen[vm, "linux"]["delivered"] for vm in busy] == [events_of(world, vm) for vm in busy]
        mute.end()
        better = world.svm("better", "--quiet", listen=mute.address)
        quiet.expect_ack(10)
    sent = [summary() for summary in summaries]
    wait_drained(world)
    for svm in (healthy, better):
        assert_polite(svm)
        for one in sent:
            assert_all_delivered(one, svm)


def test_an_svm_that_is_not_there_holds_up_only_the_vms_that_it_gets(world):
    """With policy pause, an SVM that has never come."""
    healthy = world.svm("healthy", "--quiet")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    world.configure({"healthy": {"address": healthy},
                     "absent": {"address": f"tcp:127.0.0.1:{port}", "vms": uuids(1)}}, rest=SMALL % "64M")
    world.start(up=1)
    sent = load(world, "--vms", 2, "--events", 12000)[1]()
    assert_all_delivered(sent, healthy)


def test_an_svm_that_holds_up_many_vms_leaves_memory_to_the_others(world):
    """With policy pause, and logs that together could be twice the memory."""
    busy = uuids(8)
    healthy, mute = world.svm("healthy", "--quiet"), world.svm("mute", "--quiet", "--ack", "never")
    world.configure({"healthy": {"address": healthy}, "mute": {"address": mute, "vms": busy}},
                    rest='drain = "0s"\nlimits {\n    memory = 4M\n    vm_log = 1M\n}\n')
    world.start(up=2)
    for vm in busy:
        load(world, "--vm", vm)
    wait_for("the busy VMs to be paused", lambda: metric_sum(world.metrics(), "gimux_vm_paused") == len(busy))
    with Driver(world.shared) as spared:
        spared.say_hello()
        for n in range(1, 11):
            spared.events(1000).expect_ack(1000 * n)  # in all more than a log holds
        assert metric_sum(world.metrics(), "gimux_vm_paused") == len(busy)


def test_what_a_dropping_svm_has_in_flight_does_not_take_all_memory(world):
    """Windows of many VMs are together more than memory; an SVM that acknowledges nothing has no more than its share."""
    healthy, mute = world.svm("healthy", "--quiet"), world.svm("mute", "--quiet", "--ack", "never")
    world.configure({"healthy": {"address": healthy}, "mute": {"address": mute, "policy": "drop"}},
                    rest='drain = "0s"\nlimits {\n    vm_log = 1M\n    memory = 4M\n}\n')
    world.start(up=2)
    load(world, "--vms", 40, "--events", 3000)
    wait_for("all events at the healthy SVM", lambda: healthy.delivered("linux") == 40 * 3000)
    assert world.metrics()['gimux_solution_gapped_total{solution="mute"}'] > 0


# ---- a link that is cut silently ----

@pytest.mark.parametrize("policy", ["pause", "drop"])
def test_an_svm_whose_tcp_is_cut_silently(world, policy):
    """No reset comes: the heartbeats find out. Meanwhile the others get everything; afterwards the cut one has, too."""
    cut, healthy = world.svm("cut", "--json"), world.svm("healthy", "--quiet")
    with Proxy("tcp:127.0.0.1:0", cut.address, cuts=1, longest=150_000, silently=True) as proxy:
        world.configure({"cut": {"address": proxy.address, "policy": policy, "heartbeat": "300ms",
                                 "redial_max": "100ms"},
                         "healthy": {"address": healthy}}, rest="limits { vm_log = 8M }")
        world.start(up=2)
        _, summary = load(world, "--vms", 6, "--events", 3000)
        wait_for("the cut", lambda: proxy.cut)
        wait_for("all events at the healthy SVM", lambda: healthy.delivered("linux") == 6 * 3000)
        world.gimuxd.wait_err(r"solution=cut the SVM is silent for \d+ ms; trying again")
        sent = summary()
        wait_drained(world)
        assert world.metrics()["gimux_guest_pauses_total"] == 0
        assert world.metrics()["gimux_svm_connections_total"] == 3
    for svm in (cut, healthy):
        assert_polite(svm)
        assert_all_delivered(sent, svm)
    assert healthy.stats()["totals"]["connections"] == 1


# ---- the log ----

def test_a_driver_that_reconnects_without_end_does_not_fill_the_log(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}})
    world.start(up=1)
    vm, boot = uuids(2)
    for _ in range(500):
        with Driver(world.shared, vm, boot) as one:
            one.say_hello()
    wait_for("them to be gone", lambda: world.status()["connections"] == 0)
    assert world.gimuxd.end() == 0
    lines = [line for line in world.gimuxd.lines["err"] if vm in line and " debug " not in line]
    assert re.search(rf"info vm={vm} driver=linux connected by ", lines[0])
    assert len(lines) < 200, len(lines)
    told = [int(n) for n in re.findall(r"warning (\d+) more lines were left out like: \S+ \S+ connected by",
                                       world.gimuxd.err)]
    assert sum(told) + sum(" info " in line and " connected by " in line for line in lines) == 500
