"""Peers that mean harm: each test is an attack that once cost more than the attacker.

A peer pays for what it does with its own connection, its own VM or its own solution; never with gimuxd's time or
memory, the other VMs' connections, or what operators see.
"""

import os
import resource
import signal
import socket

import driver as guest
import fake_svm
import pytest
from driver import Driver
from harness import wait_for

VM, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def pb():
    return fake_svm.load_pb()


@pytest.fixture
def svm(pb):
    with fake_svm.FakeSvm(pb) as fake:
        yield fake


def start(world, svm, limits="", doors=None, vms=None, **options):
    """gimuxd with one solution, "one", and the connection that it makes."""
    world.configure({"one": {"address": svm.address, **options}}, doors=doors, vms=vms,
                    rest=f'drain = "0s"\nlimits {{ {limits} }}')
    world.start()
    return svm.accept()


def acknowledge(link, until):
    """Acknowledges all that comes, until a frame that `until` likes."""
    while True:
        frame = link.receive()
        assert frame is not None, "the connection ended"
        if frame.WhichOneof("body") == "event":
            link.ack(frame.event.stream, frame.event.sequence)
        if until(frame):
            return


def is_file(frame, sequence=1):
    return frame.WhichOneof("body") == "event" and frame.event.class_uid == 1001 and frame.event.sequence == sequence


# ---- guests ----


def test_a_record_for_which_there_is_no_memory_waits(world, svm):
    """gimuxd resumed a VM whose record needed more than was free, paused it again, and so on in one endless turn."""
    link = start(world, svm, 'memory = "1M" vm_log = "512K"').greet()
    with Driver(world.shared) as one, Driver(world.shared) as two:
        one.say_hello().events(500, "/" + "x" * 400 + "%d")  # takes a part of the memory, which nobody acknowledges
        wait_for("the events to be in the log", lambda: world.metrics()["gimux_guest_records_total"] == 500)
        two.say_hello()
        long = b"\xff" * 65000  # three bytes of U+FFFD and one of raw name each
        two.send(guest.file(1, b"/" + long, target=b"/" + long, process=b"/" + long, user_name=long))
        two.sent = 1
        world.wait_metric("gimux_guest_pauses_total", 1)
        assert world.metrics()["gimux_guest_pauses_total"] < 10
        acknowledge(link, lambda frame: is_file(frame) and len(frame.event.file.path_raw) > 60000)
        two.expect_ack(1)
        one.expect_ack(1)


def test_the_connections_of_one_vm_leave_room_for_others(world, svm):
    doors = {"vm_dir": world.vm_dir}
    start(world, svm, "connections = 40", doors=doors, vms={VM: {}, OTHER: {}})
    hoard = [Driver(world.vm_dir / f"{VM}.sock", VM) for _ in range(100)]
    world.gimuxd.wait_err("closed: this VM has 16 connections already")
    with Driver(world.vm_dir / f"{OTHER}.sock", OTHER) as other:
        other.say_hello()
    assert world.status()["connections"] <= 17
    for one in hoard:
        one.socket.close()
    wait_for("their connections to end", lambda: world.status()["connections"] == 0)
    with Driver(world.vm_dir / f"{VM}.sock", VM) as one:
        one.say_hello()


def test_a_driver_that_comes_and_goes_fills_no_more_than_its_log(world, svm):
    """Each coming and going is an event of gimuxd's own, which a full log takes, too; but not without end."""
    start(world, svm, 'memory = "8M" vm_log = "256K"')  # nobody takes them
    vm, boot = VM, OTHER

    def flap():
        for _ in range(50):
            with Driver(world.shared, vm, boot) as one:
                record = one.send_hello().receive()
                if record.type == guest.REJECT:
                    return record.code
        return None
    assert wait_for("a rejection", flap) == guest.REJECT_LIMIT
    held = world.metrics()["gimux_log_bytes"]
    assert held < 2 * 2**20
    for _ in range(3):
        flap()
    assert world.metrics()["gimux_log_bytes"] <= held + 65536
    with Driver(world.shared) as other:  # there is memory for others
        other.say_hello().events(100)
        world.wait_metric("gimux_guest_records_total", 100)


def test_a_driver_that_does_not_read_is_left_behind_at_the_end(world, svm):
    """Its last answers were being sent when gimuxd ended: the session was lost, which a sanitizer calls a leak."""
    start(world, svm)
    with Driver(world.shared) as one:
        one.say_hello()
        one.socket.setblocking(False)
        with pytest.raises((BlockingIOError, BrokenPipeError, ConnectionResetError)):
            while True:
                one.socket.send(guest.ping() * 10)
        world.gimuxd.kill(signal.SIGTERM)
        assert world.gimuxd.wait() == 0


def test_the_longest_record_arrives_in_pieces(world, svm):
    link = start(world, svm).greet()
    with Driver(world.shared) as one:
        one.say_hello()
        body = guest.file(1, "/long")
        data = guest.file(1, "/long", more=b"x" * (guest.RECORD_MAX - len(body))) + guest.file(2, "/after")
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        for at in range(0, len(data), 1500):
            one.send(data[at:at + 1500])
        one.sent = 2
        acknowledge(link, lambda frame: is_file(frame, 2))
        one.expect_ack(2)


# ---- SVMs ----


def test_the_longest_frame_arrives_in_pieces(world, pb, svm):
    """What follows a long beginning is read to where it is, so that it is not copied at every byte."""
    link = start(world, svm).greet()
    unknown = b"\xfa\x7f" + fake_svm.varint(1_000_000) + b"x" * 1_000_000  # field 2047: of a newer version
    data = fake_svm.delimited(unknown) + fake_svm.delimited(pb.Frame(ping=pb.Ping(token=4711)))
    link.send(data[:900_000])
    link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(900_000, 901_000):
        link.send(data[at:at + 1])
    link.send(data[901_000:])
    assert link.expect("pong").token == 4711


def test_mutes_without_end_are_refused(world, pb, svm):
    """Every file event of every VM is compared with each of them."""
    many = pb.Subscription(muted_path_prefixes=[f"/{n}" for n in range(1025)])
    start(world, svm).greet(subscription=many).expect_end()
    world.gimuxd.wait_err("more than 1024 muted path prefixes")
    del many.muted_path_prefixes[1024]
    with svm.accept() as link:
        link.greet(subscription=many)
        world.wait_up(1)


def greet_as(link, name):
    """SvmHello with a name that protobuf would not let us say."""
    link.expect("mux_hello")
    hello = link.pb.Frame(svm_hello=link.pb.SvmHello(version=1, name="N" * len(name))).SerializeToString()
    link.send(fake_svm.delimited(hello.replace(b"N" * len(name), name)))


def test_what_an_svm_says_is_fit_to_be_shown(world, pb, svm):
    """A name that was no UTF-8 made the solution disappear from /v1/status."""
    link = start(world, svm)
    greet_as(link, b"\xff\xc2\x9b2J\x1b[2J")
    world.wait_up(1)
    assert world.status()["solutions"][0]["name"] == "\ufffd\x9b2J\x1b[2J"
    link.send(bye=pb.Bye(reason="xy" + "\u00e9" * 1000))  # is cut somewhere
    link.expect_end()
    said = wait_for("the error", lambda: world.status()["solutions"][0]["last_error"])
    assert "said Bye: xy\u00e9\u00e9" in said
    line = world.gimuxd.wait_err("solution=one up: .*").group(0)
    assert not [c for c in line if ord(c) < 0x20 or 0x7f <= ord(c) < 0xa0]


# ---- the host ----


def test_without_descriptors_gimuxd_rests_and_recovers(world, svm):
    """The admin door tried to accept without end, a line of log each time."""
    start(world, svm)
    pid = world.worker()
    limit = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 3
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    hoard = [Driver(world.shared) for _ in range(10)]
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(world.admin))
        admin.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        world.gimuxd.wait_err("admin: cannot accept: .*resting")
        world.gimuxd.wait_err("(?s)(admin: cannot accept: .*){3}")  # a second later
        assert world.gimuxd.err.count("cannot accept") < 20
        for one in hoard:
            one.socket.close()
        admin.settimeout(60)
        assert admin.recv(15) == b"HTTP/1.0 200 OK"
    with Driver(world.shared) as one:
        one.say_hello()
