"""Whoever sends nonsense, a guest, an SVM or whoever wrote the configuration, costs only itself and is told why."""

import re
import select
import struct
import subprocess
import uuid

import driver as d
import pytest
from fake_svm import FakeSvm, delimited, load_pb, varint
from harness import BUILD, wait_for

VM = "11111111-2222-3333-4444-555555555555"
BOOT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
ERRORS = "gimux_guest_errors_total"


@pytest.fixture(scope="session", name="pb")
def fixture_pb():
    return load_pb()


def grave(world, since=0):
    """Lines of the log that are warnings or errors."""
    return [line for line in world.gimuxd.lines["err"][since:] if re.search(r"Z (warning|error) ", line)]


def told(lines):
    """How many occurrences the lines tell of, those included that were left out because there were many alike."""
    left_out = [re.search(r"warning (\d+) more lines were left out", line) for line in lines]
    return sum(int(found.group(1)) if found else 1 for found in left_out)


# ---- guests ----


class Beside:
    """A gimuxd with an SVM, and a good driver beside whatever the test does, of which everything must arrive."""

    def __init__(self, world, silence="silence = 20s"):
        self.world = world
        self.svm = world.svm("one", "--quiet")
        world.configure({"one": {"address": self.svm}}, rest=f"heartbeat = 100ms\n{silence}")
        world.start(up=1)
        self.good = d.Driver(world.shared).say_hello()
        self.good.events(20)
        self.errors = world.metrics()[ERRORS]
        self.lines = len(world.gimuxd.lines["err"])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.assert_good()
        self.good.socket.close()

    def assert_good(self):
        self.good.events(20).expect_ack(self.good.sent)
        stats = self.svm.stats()
        (stream,) = [s for s in stats["streams"] if s["vm_uuid"] == self.good.vm and s["driver"] == "linux"]
        assert (stream["delivered"], stream["last"]) == (self.good.sent, self.good.sent)
        assert stats["totals"]["out_of_order"] == stats["totals"]["protocol_errors"] == 0
        assert stats["totals"]["connections"] == 1

    def assert_told(self, pattern, errors=1):
        """One line of the log says what was wrong; the counter has gone up by one."""
        found = self.world.gimuxd.wait_err(f"warning .*{pattern}")
        assert self.world.metrics()[ERRORS] == self.errors + errors
        lines = grave(self.world, self.lines)
        assert len(lines) == 1, f"expected only {found.group(0)}: {lines}"
        assert self.world.shared in lines[0]


def event_of_size(size):
    return d.record(d.FILE, b"", 1, size=size)


def lying_text(length):
    """A FILE whose path says that it is longer than the record."""
    whole = bytearray(d.file(1, "/tmp/a"))
    struct.pack_into("<H", whole, 72, length)
    return bytes(whole)


def no_such_number(kind, at, value, whole):
    whole = bytearray(whole)
    struct.pack_into(kind, whole, at, value)
    return bytes(whole)


# name: (what a driver that has been welcomed sends, what the log says)
AFTER_HELLO = {
    "size 0": (event_of_size(0), "record of 0 bytes, expected 24 to 262144"),
    "size 23": (event_of_size(23), "record of 23 bytes"),
    "size over 256 KiB": (event_of_size(d.RECORD_MAX + 1), "record of 262145 bytes"),
    "size 4 GiB - 1": (event_of_size(0xFFFFFFFF), "record of 4294967295 bytes"),
    "unknown type over 256 KiB": (d.record(0x7777, size=d.RECORD_MAX + 1), "record of 262145 bytes"),
    "no body": (d.record(d.FILE, b"", 1), "FILE"),
    "half of the fixed part": (d.record(d.FILE, bytes(10), 1), "FILE"),
    "text over the end": (lying_text(100), "FILE"),
    "text of 65535 bytes": (lying_text(65535), "FILE"),
    "empty ping": (d.record(d.PING), "PING"),
    "event number 0": (d.file(0, "/a"), "FILE"),
    "hole in the sequence": (d.file(7, "/a"), "sequence 7, expected 1"),
    "far sequence": (d.file(2**64 - 1, "/a"), f"sequence {2**64 - 1}, expected 1"),
    "LOST with a hole": (d.lost(5, 9), "sequence 5, expected 1"),
    "LOST that ends before it begins": (d.file(1, "/a") + d.lost(2, 1), "LOST"),
    "LOST without end": (d.lost(1, 2**63 - 1), f"LOST record: {2**63 - 1} events, expected at most {2**32 - 1}"),
    "LOST beyond the end": (d.lost(1, 2**64 - 1), f"LOST record: last sequence is {2**64 - 1}, expected 1 to {2**63 - 1}"),
    "LOST of 2^32": (d.lost(1, 2**32), f"LOST record: {2**32} events, expected at most"),
    "LOST of number 0": (d.lost(0, 3), "LOST"),
    "operation 0": (d.file(1, "/a", op=0), "FILE"),
    "operation 8": (d.file(1, "/a", op=8), "FILE"),
    "direction 3": (d.net(1, direction=3), "NET"),
    "family 5": (d.net(1, family=5), "NET"),
    "WELCOME from a driver": (d.record(d.WELCOME, struct.pack("<HHIQQQ", 1, 0, 1000, 1, 1, 1)), "WELCOME record"),
    "REJECT from a driver": (d.record(d.REJECT, struct.pack("<HH", 1, 0)), "REJECT record"),
    "ACK from a driver": (d.record(d.ACK, struct.pack("<QH", 1, 1)), "ACK record"),
    "VERDICT from a driver": (d.record(d.VERDICT, struct.pack("<QHH", 1, 1, 0)), "VERDICT record"),
    "INTEREST from a driver": (d.record(d.INTEREST, struct.pack("<Q", 1)), "INTEREST record"),
    "POWER from a guest": (d.power(1, VM), "POWER record from driver linux"),
    "fewer volumes than said": (d.volumes({"C": "\\Device\\X"}, count=2), "VOLUMES"),
    "more volumes than said": (d.volumes({"C": "\\Device\\X", "D": "\\Device\\Y"}, count=1), "VOLUMES"),
    "65 volumes": (d.volumes({"C": "\\Device\\X"}, count=65), "VOLUMES"),
    "volume of no letter": (d.volumes({"c": "\\Device\\X"}), "VOLUMES"),
    "garbage": (bytes(range(255, 0, -1)) * 40, r"record of \d+ bytes"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", r"record of \d+ bytes"),
}

GOOD_HELLO = d.hello(VM, BOOT)
BEFORE_HELLO = {
    "event first": (d.file(1, "/a"), "FILE record, expected HELLO first"),
    "ping first": (d.ping(), "PING record, expected HELLO first"),
    "volumes first": (d.volumes({"C": "\\Device\\X"}), "VOLUMES record, expected HELLO first"),
    "wrong magic": (d.hello(VM, BOOT, magic=0x47494D55), "HELLO"),
    "version 0": (d.hello(VM, BOOT, versions=(0, 1)), "HELLO"),
    "first held 0": (d.hello(VM, BOOT, first_held=0), "HELLO"),
    "short hello": (d.record(d.HELLO, GOOD_HELLO[24:60]), "HELLO"),
    "hello over the end": (no_such_number("<H", 76, 60000, GOOD_HELLO), "HELLO"),
    "garbage": (b"\xff" * 4096, r"record of \d+ bytes"),
    "zeroes": (bytes(4096), "record of 0 bytes"),
}


@pytest.mark.parametrize(("data", "pattern"), AFTER_HELLO.values(), ids=AFTER_HELLO)
def test_bad_record_ends_that_connection(world, data, pattern):
    with Beside(world) as beside, d.Driver(world.shared) as bad:
        bad.say_hello()
        bad.send(data)
        assert bad.expect_end() == []
        beside.assert_told(f"closed: .*{pattern}")


@pytest.mark.parametrize(("data", "pattern"), BEFORE_HELLO.values(), ids=BEFORE_HELLO)
def test_bad_beginning_ends_that_connection(world, data, pattern):
    with Beside(world) as beside, d.Driver(world.shared) as bad:
        bad.send(data)
        assert bad.expect_end() == []
        beside.assert_told(f"closed: .*{pattern}")


def test_what_came_before_the_bad_record_is_delivered(world):
    with Beside(world) as beside, d.Driver(world.shared) as bad:
        bad.say_hello().events(10)
        bad.send(d.file(99, "/a"))
        assert bad.expect_end() == []
        beside.assert_told("sequence 99, expected 11")
        wait_for("its ten events", lambda: beside.svm.streams().get((bad.vm, "linux"), {}).get("delivered") == 10)


def test_bad_driver_may_come_again(world):
    with Beside(world) as beside, d.Driver(world.shared) as bad:
        bad.say_hello().events(3)
        bad.send(bytes(100))
        assert bad.expect_end() == []
        with d.Driver(world.shared, bad.vm, bad.boot) as again:
            assert again.say_hello().welcome.next_wanted == 4
            again.events(1).expect_ack(4)
        beside.assert_told("record of 0 bytes")


@pytest.mark.parametrize("cut", [1, 23, 24, 60, 90])
def test_record_that_ends_with_the_connection(world, cut):
    """A break in the middle of a record is no error of anybody's: half a record is as good as none."""
    with Beside(world) as beside:
        with d.Driver(world.shared) as bad:
            bad.say_hello().events(1)
            bad.send(d.file(2, "/tmp/" + "x" * 100)[:cut])
        # "the peer closed", or a failed write if it closes while it is acknowledged
        world.gimuxd.wait_err(f"info vm={bad.vm} .*disconnected: ")
        assert grave(world, beside.lines) == [] and world.metrics()[ERRORS] == beside.errors
        with d.Driver(world.shared, bad.vm, bad.boot) as again:
            assert again.say_hello().welcome.next_wanted == 2


def test_half_a_hello_and_silence(world):
    with Beside(world, "silence = 400ms") as beside, d.Driver(world.shared) as bad:
        bad.send(GOOD_HELLO[:40])
        while not select.select([bad.socket], [], [], 0.05)[0]:  # the good one must not be silent meanwhile
            beside.good.send(d.ping())
        assert bad.expect_end() == []
        beside.assert_told("no HELLO within 400 ms")


def test_hello_byte_by_byte_without_end(world):
    """Every byte is a sign of life, but a connection that never gets to say who it is must not stay."""
    with Beside(world, "silence = 400ms") as beside, d.Driver(world.shared) as bad:
        whole = iter(d.hello(VM, BOOT, more=bytes(60000)))
        while not select.select([bad.socket], [], [], 0.02)[0]:
            bad.send(bytes([next(whole)]))
            beside.good.send(d.ping())
        assert bad.expect_end() == []
        beside.assert_told("no HELLO within 400 ms")


def test_slow_driver_is_no_bad_one(world):
    with Beside(world) as beside, d.Driver(world.shared) as slow:
        for byte in d.hello(slow.vm, slow.boot):
            slow.send(bytes([byte]))
        slow.expect(d.WELCOME)
        for byte in d.file(1, "/slow") + d.file(2, "/slower"):
            slow.send(bytes([byte]))
        slow.sent = 2
        slow.expect_ack(2)
        assert grave(world, beside.lines) == []


def test_unknown_types_and_longer_bodies_are_skipped(world):
    """So that old and new can talk."""
    with Beside(world) as beside, d.Driver(world.shared) as newer:
        newer.say_hello(more=b"something new")
        unknown = [d.record(kind, bytes(1000), sequence=kind) for kind in (0, 14, 0xFF, 0x106, 0x7FFF, 0xFFFF)]
        unknown.append(d.record(0x106, bytes(d.RECORD_MAX - 24)))
        newer.send(b"".join(unknown) + d.file(1, "/a", more=b"new field") + d.ping(77))
        assert newer.expect(d.PONG).token == 77
        newer.sent = 1
        newer.expect_ack(1)
        assert world.metrics()["gimux_guest_skipped_total"] == len(unknown)
        assert grave(world, beside.lines) == []


def test_unknown_type_before_hello_is_skipped(world):
    with Beside(world), d.Driver(world.shared) as newer:
        newer.send(d.record(0x7777, bytes(100)))
        newer.say_hello().events(1).expect_ack(1)


def test_unknown_flags_and_padding_are_ignored(world):
    with Beside(world), d.Driver(world.shared) as newer:
        newer.say_hello()
        newer.send(no_such_number("<H", 6, 0xFFFE, no_such_number("<H", 26, 0xFFFF, d.file(1, "/a"))))
        newer.sent = 1
        newer.expect_ack(1)


def test_repetitions_are_ignored(world):
    with Beside(world) as beside, d.Driver(world.shared) as again:
        again.say_hello().events(5)
        again.sent = 0
        again.events(7).expect_ack(7)
        wait_for("seven, once each", lambda: beside.svm.streams().get((again.vm, "linux"), {}).get("delivered") == 7)
        assert world.metrics()["gimux_guest_duplicates_total"] == 5
        assert grave(world, beside.lines) == []


def test_first_held_far_ahead(world):
    """A hole of 2^63 sequences is one gap at most, not a VM log full of them, nor a turn of a second."""
    with Beside(world) as beside, d.Driver(world.shared) as first:
        first.say_hello().events(1).expect_ack(1)
        used = world.metrics()["gimux_log_bytes"]
        with d.Driver(world.shared, first.vm, first.boot) as liar:
            (answer,) = liar.send_hello(first_held=2**63 - 1).expect_end()
        assert (answer.type, answer.code) == (d.REJECT, d.REJECT_LIMIT)
        assert world.metrics()["gimux_log_bytes"] <= used + 65536
        with d.Driver(world.shared, first.vm, first.boot) as again:
            assert again.say_hello(first_held=2).welcome.next_wanted == 2
            again.send(d.lost(2, 2**32))
            again.sent = 2**32
            again.expect_ack(again.sent)
            assert beside.svm.streams()[first.vm, "linux"]["gaps"] == [{"first": 2, "last": 2**32, "reason": "driver"}]


def test_last_sequence_of_all(world):
    """No arithmetic overflows at the end of the numbers."""
    last = 2**63 - 1
    with Beside(world), d.Driver(world.shared) as guest:
        guest.say_hello(first_held=last)
        guest.send(d.file(last, "/a"))
        guest.sent = last
        guest.expect_ack(last)
        with d.Driver(world.shared, guest.vm, guest.boot) as again:
            again.send_hello(first_held=1)
            again.send(d.file(1, "/a") + d.ping(3))
            assert again.expect(d.WELCOME)
            again.sent = last
            assert again.expect(d.PONG)


def test_many_bad_ones_at_once(world):
    with Beside(world) as beside:
        cases = [data for data, _ in [*AFTER_HELLO.values(), *BEFORE_HELLO.values()]]
        bad = [d.Driver(world.shared) for _ in cases]
        for guest, data in zip(bad, cases):
            guest.send(data)
        for guest in bad:
            guest.expect_end()
            guest.socket.close()
        assert world.metrics()[ERRORS] == beside.errors + len(cases)
        wait_for("all to be told of", lambda: told(grave(world, beside.lines)) >= len(cases))
        assert told(grave(world, beside.lines)) == len(cases)


# ---- SVMs ----


SVM_ERRORS = "gimux_svm_errors_total"


class TwoSvms:
    """A gimuxd with a good SVM and a fake one, and a driver whose events both must get in the end."""

    def __init__(self, world, pb, heartbeat="5s"):
        self.world, self.pb = world, pb
        self.good = world.svm("good", "--quiet")
        self.fake = FakeSvm(pb)
        world.configure({"good": {"address": self.good}, "fake": {
            "address": self.fake.address, "heartbeat": heartbeat, "redial_max": "50ms"}},
                        rest="heartbeat = 200ms\nsilence = 60s\ndrain = 0s")
        world.start()
        self.accept()
        self.guest = d.Driver(world.shared).say_hello().events(10)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.assert_good()
        self.guest.socket.close()
        self.link.socket.close()
        self.fake.listener.close()

    def accept(self):
        self.link = self.fake.accept()
        self.started = {}  # number: driver

    def take(self, count):
        """The next events of the guest on the link; returns their sequences. All are acknowledged."""
        numbers = []
        while len(numbers) < count:
            frame = self.link.receive()
            assert frame is not None, numbers
            if frame.HasField("stream_start"):
                self.started[frame.stream_start.stream] = frame.stream_start.driver
            elif frame.HasField("event"):
                if self.started[frame.event.stream] == d.LINUX:
                    numbers.append(frame.event.sequence)
                    self.stream = frame.event.stream
                self.link.ack(frame.event.stream, frame.event.sequence)
        return numbers

    def assert_ended(self, pattern, errors=1):
        """The link was closed with a reason, once; it is dialled again."""
        self.link.expect_end()
        self.link.socket.close()
        self.accept()
        lines = [line for line in grave(self.world) if "solution=fake" in line]
        assert len(lines) == 1 and re.search(pattern, lines[0]), lines
        assert self.world.metrics()[SVM_ERRORS] == errors
        assert self.world.metrics()['gimux_solution_up{solution="good"}'] == 1

    def assert_good(self):
        """Afterwards the fake one is as good as any, and the good one has noticed nothing."""
        self.link.greet()
        self.guest.events(10)
        total = self.guest.sent
        numbers = self.take(1)
        numbers += self.take(total - numbers[0])
        assert numbers == list(range(numbers[0], total + 1)), "what was not acknowledged comes again"
        self.guest.expect_ack(total)
        stats = self.good.stats()
        assert stats["totals"]["connections"] == 1 and stats["totals"]["protocol_errors"] == 0
        assert self.good.delivered("linux") == total


def frames_of(pb):
    """name: (frames instead of SvmHello, what the log says)"""
    hello, position = pb.SvmHello, pb.StreamPosition
    many = [str(uuid.UUID(int=n)) for n in range(65)]
    twice = [position(vm_uuid=VM, driver=4, boot_id=BOOT, last_sequence=n) for n in (1, 2)]
    yield "garbage", b"\x05\xff\xff\xff\xff\xff", "no gimux.v1.Frame"
    yield "truncated message", delimited(b"\x12\x7f\x01"), "no gimux.v1.Frame"
    yield "length over 1 MiB", varint((1 << 20) + 1), "longer than 1048576"
    yield "length of 4 bytes", b"\x80\x80\x80\x01", "longer than 1048576"
    yield "length of 10 bytes", b"\xff" * 10, "longer than 1048576"
    yield "length that never ends", b"\x80" * 5000, "longer than 1048576"
    yield "HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50, "no gimux.v1.Frame"
    for name, body in {
        "ack first": dict(ack=pb.Ack()), "event first": dict(event=pb.Event(stream=1, sequence=1)),
        "ping first": dict(ping=pb.Ping(token=1)), "MuxHello": dict(mux_hello=pb.MuxHello(version_min=1)),
    }.items():
        yield name, delimited(pb.Frame(**body)), "expected SvmHello first"
    for name, body, pattern in (
        ("version 0", hello(), "version 0, expected 1"),
        ("version 2", hello(version=2), "version 2, expected 1"),
        ("bad UUID in a position", hello(version=1, positions=[position(vm_uuid="x", boot_id=BOOT)]), "not a UUID"),
        ("bad boot id", hello(version=1, positions=[position(vm_uuid=VM, boot_id=BOOT + "a")]), "not a UUID"),
        ("two positions", hello(version=1, positions=twice), "two positions"),
        ("bad UUID of a VM", hello(version=1, subscription=pb.Subscription(vm_uuids=["web"])), "not a UUID"),
        ("65 VMs", hello(version=1, subscription=pb.Subscription(vm_uuids=many)), "64 VMs"),
    ):
        yield name, delimited(pb.Frame(svm_hello=body)), pattern


@pytest.mark.parametrize(("data", "pattern"), [pytest.param(*case, id=name) for name, *case in frames_of(load_pb())])
def test_bad_greeting_ends_that_link(world, pb, data, pattern):
    with TwoSvms(world, pb) as two:
        two.link.expect("mux_hello")
        two.link.send(data)
        two.assert_ended(pattern)


def later_frames(pb):
    """name: (what an SVM sends that is up and has acknowledged 10 events of stream %s, what the log says)"""
    def ack(stream, sequence):
        return lambda known: pb.Frame(ack=pb.Ack(streams=[pb.StreamAck(stream=stream or known, sequence=sequence)]))

    def frame(**body):
        return lambda known: pb.Frame(**body)
    yield "ack of more than was sent", ack(None, 11), r"Ack: stream \d+ up to 11, which was not sent"
    yield "ack without end", ack(None, 2**64 - 1), "which was not sent"
    yield "ack of an unknown stream", ack(4000, 1), "Ack: stream 4000 up to 1, which was not sent"
    yield "ack of stream 0", lambda known: pb.Frame(ack=pb.Ack(streams=[pb.StreamAck(sequence=1)])), "Ack: stream 0"
    yield "second hello", frame(svm_hello=pb.SvmHello(version=1)), "expected one that SVMs send"
    yield "MuxHello", frame(mux_hello=pb.MuxHello()), "expected one that SVMs send"
    yield "event", frame(event=pb.Event(stream=1, sequence=1)), "expected one that SVMs send"
    yield "gap", frame(gap=pb.Gap(stream=1, first_sequence=1, last_sequence=2)), "expected one that SVMs send"
    yield "stream start", frame(stream_start=pb.StreamStart(stream=1)), "expected one that SVMs send"
    yield "garbage", lambda known: b"\x0a", "no gimux.v1.Frame"
    wide = b"\x42\x08\x0a\x06\x08\xff\xff\xff\xff\x7f"
    yield "stream number over 32 bits", lambda known: wide, "Ack|no gimux.v1.Frame"


@pytest.mark.parametrize(("frame", "pattern"),
                         [pytest.param(*case, id=name) for name, *case in later_frames(load_pb())])
def test_bad_frame_ends_that_link(world, pb, frame, pattern):
    with TwoSvms(world, pb) as two:
        two.link.greet()
        assert two.take(10) == list(range(1, 11))
        two.link.send(delimited(frame(two.stream)))
        two.assert_ended(pattern)


def test_what_an_svm_may_send(world, pb):
    """Empty frames, unknown fields, acknowledgements that go back, unknown classes, pongs to no ping."""
    with TwoSvms(world, pb) as two:
        unknown = pb.Subscription(class_uids=[1001, 6002, 424242], muted_path_prefixes=["/nowhere/"])
        two.link.greet(subscription=unknown)
        assert two.take(10) == list(range(1, 11))
        two.link.send(b"\x00" + delimited(b"\xf2\x3f\x03new"), pong=pb.Pong(token=5))
        two.link.ack(two.stream, 3)
        two.link.send(ack=pb.Ack())
        two.link.send(ping=pb.Ping(token=99))
        assert two.link.expect("pong").token == 99
        two.guest.events(1)
        assert two.take(1) == [11]
        two.link.send(bye=pb.Bye(reason="enough"))
        two.assert_ended("the SVM said Bye: enough", errors=0)


@pytest.mark.parametrize("greeted", [False, True], ids=["before its hello", "after it"])
def test_silent_svm_is_dialled_again(world, pb, greeted):
    with TwoSvms(world, pb, heartbeat="500ms") as two:
        if greeted:
            two.link.greet()
        two.assert_ended("the SVM is silent for", errors=0)


def test_svm_that_closes_at_once(world, pb):
    with TwoSvms(world, pb) as two:
        for _ in range(5):
            two.link.socket.close()
            two.accept()


# ---- the configuration ----


A = '"11111111-1111-1111-1111-111111111111"'
B = '"22222222-1111-1111-1111-111111111111"'
LONG = "x" * 300

# name: (configuration, line of the error, what the message says)
CONFIGURATIONS = {
    "unknown option": ("nonsense = 1", 1, "no such option 'nonsense'"),
    "option of another section": ("heartbeat = 1s\n\naltitude = 5", 3, "no such option 'altitude'"),
    "no unit": ("heartbeat = 5", 1, 'heartbeat = "5": expected a time with ms, s or m'),
    "time too short": ("\nheartbeat = 1ms", 2, "heartbeat = 1ms: expected 50 to 3600000 ms"),
    "no choice": ('log = "printer"', 1, r'log = "printer": expected one of stderr\|syslog'),
    "silence under heartbeat": ("silence = 1s\nheartbeat = 10s\n", None, "silence: expected at least twice the heartbeat"),
    "text too long": (f'host = "{LONG}"', 1, "too long"),
    "no value": ("heartbeat =", None, "premature end"),
    "no equal sign": ("heartbeat 5s", 1, "missing equal sign"),
    "address of another kind": ('doors {\n shared = "tcp:127.0.0.1:5"\n}', 2, "expected unix:PATH"),
    "relative path": ('doors {\n\n shared = "unix:a"\n}', 3, "expected an absolute path"),
    "path too long": (f'doors {{\n vmx = "unix:/{LONG}"\n}}', 2, "at most 107 bytes"),
    "port 0": ("doors {\n port = 0\n}", 2, "port = 0: expected 1 to 4294967295"),
    "port too high": ("doors {\n port = 4294967296\n}", 2, "expected 1 to 4294967295"),
    "vsock without a port": ('doors {\n vsock = "vsock:any"\n}', 2, "expected vsock:CID:PORT"),
    "memory too small": ("limits {\n memory = 1K\n}", 2, "memory = 1K: expected 1048576 to 1099511627776 bytes"),
    "memory overflows": ("limits {\n memory = 99999999999999999999G\n}", 2, "expected 1048576 to"),
    "negative": ("limits {\n memory = -1\n}", 2, "expected a number"),
    "no bytes": ("limits {\n memory = 1MB\n}", 2, "expected a number of bytes, or one with K, M or G"),
    "log over memory": ("limits {\n vm_log = 1G\n}", None, "vm_log is more than memory"),
    "no UUID": ('\nvm "web" {\n}', 3, 'vm "web": expected a UUID'),
    "no title": ("vm {\n}", 1, "missing title for section 'vm'"),
    "vm twice": (f"vm {A} {{}}\nvm {A} {{}}", 2, "duplicate title"),
    "cid twice": (f"vm {A} {{ cid = 3 }}\nvm {B} {{ cid = 3 }}", None, "cid is that of vm .* already"),
    "uds_path twice": (f'vm {A} {{ uds_path = "/a" }}\nvm {B} {{ uds_path = "/a" }}', None, "uds_path is that of vm"),
    "dial twice": (f'vm {A} {{ dial = "unix:/a" }}\nvm {B} {{ dial = "unix:/a" }}', None, "dial is that of vm"),
    "dial over TCP": (f'vm {A} {{\n dial = "tcp:127.0.0.1:1"\n}}', 2, "expected unix:PATH or vsock:CID:PORT"),
    "more vms than vms": (f"limits {{\n vms = 1\n}}\nvm {A} {{}}\nvm {B} {{}}", None, "vms = 1, but there are 2"),
    "no address": ('solution "a" {\n}', 2, 'solution "a": expected an address'),
    "plain not allowed": ('solution "a" {\n address = "tcp:127.0.0.1:1"\n}', 3, "expected a tls: address, or plain = true"),
    "TLS without files": ('solution "a" {\n address = "tls:127.0.0.1:1"\n}', 3, "expected cert, key and ca"),
    "port of an SVM": ('solution "a" {\n address = "tls:127.0.0.1:99999"\n}', 2, "expected a port number"),
    "name with a space": ('solution "a b" {\n address = "tcp:127.0.0.1:1"\n plain = true\n}', 4, "expected a name of 1 to 63"),
    "no boolean": ('solution "a" {\n plain = maybe\n}', 2, "expected true or false"),
    "no class": ('solution "a" {\n classes = {"file", "fire"}\n}', 2, 'classes = "fire": expected file, process'),
    "no VM": ('solution "a" {\n vms = {"web"}\n}', 2, 'vms = "web": expected a UUID'),
    "no policy": ('solution "a" {\n policy = "hope"\n}', 2, r"expected one of pause\|drop"),
    "solution twice": ('solution "a" {\n address = "tcp:a:1"\n plain = yes\n}\nsolution "a" {\n}', 5, "duplicate title"),
    "too many solutions": ("\n".join(f'solution "s{n}" {{\n address = "tcp:a:1"\n plain = yes\n}}' for n in range(17)),
                           None, "17 solutions: expected at most 16"),
    "brace too many": ("heartbeat = 1s\n}", 2, "unexpected closing brace"),
    "binary": ("\n\x01\x02\x03\xff = \x00", 2, "a NUL byte, expected text"),
}


@pytest.mark.parametrize(("text", "line", "pattern"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_bad_configuration(tmp_path, text, line, pattern):
    path = tmp_path / "gimuxd.conf"
    path.write_text(text, encoding="latin-1")
    for options in (["--check"], []):
        done = subprocess.run([BUILD / "gimuxd", "-f", "-c", path, *options], capture_output=True, text=True,
                              errors="replace", timeout=60, check=False)
        assert done.returncode == 1 and done.stdout == ""
        assert re.match(rf"{re.escape(str(path))}:{line or '[0-9]+'}: .*{pattern}", done.stderr), done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "directory"])
def test_configuration_that_is_no_file(tmp_path, missing):
    path = tmp_path / "no" if missing else tmp_path
    done = subprocess.run([BUILD / "gimuxd", "-f", "-c", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path}: ") and len(done.stderr.splitlines()) == 1


def refuse_reload(world, pattern):
    """Asks for a reload, which must fail with one line that says why; what runs, runs on."""
    lines = len(world.gimuxd.lines["err"])
    assert not world.reload()
    said = wait_for("what the log says of it", lambda: len(grave(world, lines)) >= 2 and grave(world, lines))
    assert len(said) == 2 and re.search(pattern, said[0]), said
    assert "the old configuration stays in force" in said[1]


def test_bad_configuration_on_reload_leaves_the_old_one_in_force(world):
    with Beside(world) as beside:
        path = world.directory / "gimuxd.conf"
        good = path.read_text()
        before = world.status()["solutions"]
        for name in ("unknown option", "no UUID", "no policy", "too many solutions", "path too long"):
            text, _, pattern = CONFIGURATIONS[name]
            path.write_text(text)
            refuse_reload(world, rf"{path}:\d+: .*{pattern}")
            beside.good.events(5).expect_ack(beside.good.sent)
        path.unlink()
        refuse_reload(world, f"{path}: cannot be read")
        path.mkdir()
        refuse_reload(world, f"{path}: is a directory")
        path.rmdir()
        after = world.status()["solutions"]
        assert [(s["solution"], s["state"]) for s in after] == [(s["solution"], s["state"]) for s in before]
        path.write_text(good)
        assert world.reload()


def test_missing_tls_files_on_reload_leave_the_old_one_in_force(world):
    with Beside(world):
        path = world.directory / "gimuxd.conf"
        text = path.read_text()
        path.write_text(text + f"""solution "two" {{
            address = "tls:127.0.0.1:1"
            cert = "{path}-no"
            key = "{path}-no"
            ca = "{path}-no"
        }}""")
        refuse_reload(world, f"solution=two .*{path}-no")
        assert [s["solution"] for s in world.status()["solutions"]] == ["one"]


def test_door_that_cannot_be_opened_on_reload(world):
    """The others stay open; the log says which one is not."""
    with Beside(world) as beside:
        path = world.directory / "gimuxd.conf"
        path.write_text(path.read_text().replace(world.vmx, f"unix:{world.run}/nowhere/vmx.sock"))
        world.reload()
        world.gimuxd.wait_err(f"error .*cannot listen on unix:{world.run}/nowhere/vmx.sock: No such file")
        with d.Driver(world.shared) as guest:
            guest.say_hello().events(1).expect_ack(1)
        assert beside.good.welcome
