"""The client library against a fake gimuxd: this file speaks the SVM protocol with stock protobuf, as another
implementation would, and drives svm-tail and svm-minimal through what a real gimuxd seldom does.

Programs are taken from $GIMUX_BUILD (default build/). Nothing here needs gimuxd.
"""

import itertools
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import certs
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("GIMUX_BUILD", ROOT / "build"))
VM = "11111111-2222-3333-4444-555555555555"
BOOT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
FRAME_MAX = 1 << 20
PATIENCE = 20  # seconds after which a wait has failed


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    """The stock protobuf module of proto/gimux.proto."""
    out = tmp_path_factory.mktemp("pb")
    subprocess.run(["protoc", f"--python_out={out}", f"-I{ROOT}/proto", f"{ROOT}/proto/gimux.proto"], check=True)
    sys.path.insert(0, str(out))
    import gimux_pb2

    return gimux_pb2


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def delimited(frame):
    body = frame.SerializeToString()
    return varint(len(body)) + body


def split_frames(pb, data):
    """All whole frames of a byte string, and what is left."""
    frames = []
    while True:
        length, at = 0, 0
        while at < len(data):
            length |= (data[at] & 0x7F) << 7 * at
            at += 1
            if not data[at - 1] & 0x80:
                break
        else:
            return frames, data
        if len(data) - at < length:
            return frames, data
        frames.append(pb.Frame.FromString(data[at : at + length]))
        data = data[at + length :]


class Mux:
    """One connection of a gimuxd that does as it is told."""

    def __init__(self, pb, address, tls=None):
        _, host, port = address.split(":")
        self.pb = pb
        self.sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
        if tls:
            self.sock = tls.wrap_socket(self.sock)
        self.frames = []
        self.rest = b""
        self.hello = None

    def send(self, **body):
        self.sock.sendall(delimited(self.pb.Frame(**body)))

    def receive(self):
        """The next frame, or None at the end of the connection."""
        while not self.frames:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.frames, self.rest = split_frames(self.pb, self.rest + data)
        return self.frames.pop(0)

    def expect(self, kind):
        """The next frame of that kind; others are passed over."""
        while True:
            frame = self.receive()
            assert frame is not None, f"connection ended, expected {kind}"
            if frame.WhichOneof("body") == kind:
                return getattr(frame, kind)

    def ends(self):
        """Reads to the end of the connection; returns the reason of a Bye, if one came."""
        reason = None
        while frame := self.receive():
            if frame.WhichOneof("body") == "bye":
                reason = frame.bye.reason
        return reason

    def shake_hands(self, heartbeat_ms=60000, version=(1, 1)):
        self.send(
            mux_hello=self.pb.MuxHello(
                version_min=version[0],
                version_max=version[1],
                build="fake",
                solution="test",
                host="host-1",
                heartbeat_ms=heartbeat_ms,
                window_bytes=1 << 20,
            )
        )
        self.hello = self.expect("svm_hello")
        return self

    def start(self, stream=1, first=1, vm=VM, boot=BOOT, driver=1):
        self.send(
            stream_start=self.pb.StreamStart(
                stream=stream, vm_uuid=vm, driver=driver, boot_id=boot, first_sequence=first
            )
        )

    def event(self, sequence, stream=1, path="C:\\a"):
        self.send(event=self.file_event(sequence, stream, path))

    def file_event(self, sequence, stream=1, path="C:\\a"):
        return self.pb.Event(
            stream=stream,
            sequence=sequence,
            time=1700000000123456789,
            class_uid=1001,
            activity_id=14,
            status_id=1,
            file=self.pb.File(path=path),
        )

    def gap(self, first, last, reason=1, stream=1):
        self.send(gap=self.pb.Gap(stream=stream, first_sequence=first, last_sequence=last, reason=reason))

    def acked(self, sequence, stream=1):
        """Waits until that much of the stream is acknowledged, and no more."""
        while True:
            for ack in self.expect("ack").streams:
                if ack.stream == stream:
                    assert ack.sequence <= sequence
                    if ack.sequence == sequence:
                        return

    def close(self):
        self.sock.close()


class Tail:
    """A running svm-tail."""

    def __init__(self, tmp_path, *options, listen="tcp:127.0.0.1:0"):
        self.stats_path = tmp_path / "stats.json"
        self.out_path = tmp_path / "stdout"
        self.errors_path = tmp_path / "stderr"
        command = [BUILD / "svm-tail", "--listen", listen, "--stats", self.stats_path, *options]
        with self.out_path.open("wb") as out, self.errors_path.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=out, stderr=errors)
        self.address = self.log("listening on ").split()[-1]

    @property
    def errors(self):
        return self.errors_path.read_text(errors="replace")

    def log(self, text):
        """Waits for a whole line on stderr that holds text."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            lines = [line for line in self.errors.splitlines(True) if text in line and line.endswith("\n")]
            if lines:
                return lines[-1]
            assert self.process.poll() is None, f"ended without {text!r}:\n{self.errors}"
            select.select([], [], [], 0.01)
        raise AssertionError(f"no {text!r} in:\n{self.errors}")

    def stats(self, until=lambda stats: True):
        """What SIGUSR1 writes, as soon as it satisfies `until`."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.stats_path.unlink(missing_ok=True)
            self.process.send_signal(signal.SIGUSR1)
            while not self.stats_path.exists():
                assert self.process.poll() is None and time.monotonic() < end
                select.select([], [], [], 0.01)
            stats = json.loads(self.stats_path.read_text())
            if until(stats):
                return stats
        raise AssertionError(f"never came: {stats}")

    def end(self):
        """Ends it with SIGTERM; returns the last stats and all of stdout."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self):
        """Waits for its end; returns the last stats and all of stdout."""
        assert self.process.wait(PATIENCE) == 0, self.errors
        return json.loads(self.stats_path.read_text()), self.out_path.read_text()


@pytest.fixture
def run_tail(tmp_path):
    tails = []

    def start(*options, **more):
        tails.append(Tail(tmp_path, *options, **more))
        return tails[-1]

    yield start
    for tail in tails:
        if tail.process.poll() is None:
            tail.process.kill()
        tail.process.wait()
        assert "Sanitizer" not in tail.errors


def events_of(out):
    return [json.loads(line) for line in out.splitlines() if '"kind":"event"' in line]


def sequences(out):
    return [event["sequence"] for event in events_of(out)]


# ---- the ordinary course ----


def test_events_gaps_progress_and_acknowledgement(pb, run_tail):
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    for sequence in (1, 2, 5):
        mux.event(sequence)
    mux.gap(6, 9)
    mux.acked(9)
    mux.send(stream_progress=pb.StreamProgress(stream=1, sequence=12, filtered=5))
    mux.send(stream_end=pb.StreamEnd(stream=1, last_sequence=12))
    stats = tail.stats(lambda s: s["streams"] and s["streams"][0]["ended"])
    stream = stats["streams"][0]
    assert (stream["vm_uuid"], stream["driver"], stream["boot_id"]) == (VM, "vsepflt", BOOT)
    assert stream["gaps"] == [{"first": 6, "last": 9, "reason": "overflow"}]
    assert (stream["first"], stream["last"], stream["progress"]) == (1, 9, 12)
    assert stream["delivered"] + stream["gapped"] + stream["filtered_told"] == stream["progress"]
    assert stream["by_class"] == {"file": 3}
    stats, out = tail.end()
    assert sequences(out) == [1, 2, 5]
    assert events_of(out)[0]["time_ns"] == 1700000000123456789


def test_one_ack_carries_all_streams_that_moved(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    data = b""
    for stream in range(1, 9):
        boot = f"aaaaaaaa-bbbb-cccc-dddd-{stream:012x}"
        start = pb.StreamStart(stream=stream, vm_uuid=VM, driver=1, boot_id=boot, first_sequence=1)
        data += delimited(pb.Frame(stream_start=start))
        for sequence in range(1, 11):
            data += delimited(pb.Frame(event=mux.file_event(sequence, stream)))
    mux.sock.sendall(data)
    seen = {}
    acks = 0
    while len(seen) < 8 or set(seen.values()) != {10}:
        acks += 1
        seen.update({ack.stream: ack.sequence for ack in mux.expect("ack").streams})
    assert acks <= 3, "80 events in one piece want one Ack, or few if the piece was split"


def test_acknowledges_at_least_every_256_events(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.sock.sendall(b"".join(delimited(pb.Frame(event=mux.file_event(s))) for s in range(1, 2001)))
    last = 0
    while last < 2000:
        ack = mux.expect("ack").streams[0].sequence
        assert ack - last <= 256
        last = ack


def test_subscription_is_offered(pb, run_tail):
    tail = run_tail("--class", "file,dns", "--vm", VM, "--mute", "C:\\Windows\\", "--mute", "/proc/", "--name", "x")
    hello = Mux(pb, tail.address).shake_hands().hello
    assert hello.version == 1 and hello.name == "x"
    assert list(hello.subscription.class_uids) == [1001, 4003]
    assert list(hello.subscription.vm_uuids) == [VM]
    assert list(hello.subscription.muted_path_prefixes) == ["C:\\Windows\\", "/proc/"]


def all_classes(pb):
    yield 1001, dict(
        lossy=True,
        actor=pb.Actor(pid=4, tid=5, process_path="C:\\x.exe", user_name="D\\u", user_uid="S-1-5-18"),
        file=pb.File(path="C:\\\ufffd", path_raw=b"C\x00\x00\xd8", target_path="C:\\b", size=7, delete_on_close=True),
    )
    yield 1007, dict(process=pb.Process(pid=9, parent_pid=1, path="/bin/sh", cmd_line="sh -c x", exit_code=-1))
    yield 1011, dict(power=pb.Power(vm_uuid=VM, vm_name="web", target_host="h2"))
    yield 3002, dict(authentication=pb.Authentication(logon_type_id=10, session_uid=77, user_name="u", src="10.0.0.1"))
    yield 4001, dict(
        network=pb.Network(
            step=2, direction=2, protocol_num=6, src_ip=b"\x0a\0\0\1", src_port=1, dst_ip=b"\0" * 15 + b"\1", dst_port=443
        )
    )
    yield 4003, dict(dns=pb.Dns(hostname="example.org", type=1, answers=["192.0.2.1", "192.0.2.2"]))
    yield 6002, dict(lifecycle=pb.Lifecycle(driver=4, boot_id=BOOT, reason="gone", door="vsock:3:1"))


def test_every_class_arrives_whole(pb, run_tail):
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    for sequence, (class_uid, body) in enumerate(all_classes(pb), 1):
        mux.send(event=pb.Event(stream=1, sequence=sequence, class_uid=class_uid, activity_id=1, **body))
    mux.acked(7)
    events = {event["class"]: event for event in events_of(tail.end()[1])}
    assert events["file"]["file"]["path_raw"] == "430000d8"
    assert events["file"]["file"]["delete_on_close"] and events["file"]["lossy"]
    assert events["file"]["actor"]["user_uid"] == "S-1-5-18"
    assert events["process"]["process"]["exit_code"] == -1
    assert events["power"]["power"]["target_host"] == "h2"
    assert events["authentication"]["authentication"]["session_uid"] == 77
    assert events["network"]["network"]["src_ip"] == "10.0.0.1"
    assert events["network"]["network"]["dst_ip"] == "::1"
    assert events["dns"]["dns"]["answers"] == ["192.0.2.1", "192.0.2.2"]
    assert events["lifecycle"]["lifecycle"]["driver"] == "linux"


def test_hostile_names_do_not_reach_the_terminal(pb, run_tail):
    tail = run_tail()
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.event(1, path="/tmp/\x1b]0;owned\x07\n\u202egpj.exe\u0085é")
    mux.acked(1)
    out = tail.end()[1]
    assert "/tmp/\\x1b]0;owned\\x07\\x0a\\u202egpj.exe\\x85é" in out
    assert len(out.splitlines()) == 1


def test_json_survives_text_that_is_not_unicode(pb, run_tail):
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    frame = pb.Frame(event=mux.file_event(1, path="AAAA")).SerializeToString().replace(b"AAAA", b"A\xff\xc0A")
    mux.sock.sendall(varint(len(frame)) + frame)
    mux.acked(1)
    assert events_of(tail.end()[1])[0]["file"]["path"] == "A\ufffd\ufffdA"


def test_count_ends_after_exactly_so_many(pb, run_tail):
    tail = run_tail("--json", "--count", "5")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.sock.sendall(b"".join(delimited(pb.Frame(event=mux.file_event(s))) for s in range(1, 21)))
    mux.acked(5)
    assert sequences(tail.ended()[1]) == [1, 2, 3, 4, 5]


def test_capture_is_what_stock_protobuf_reads(pb, run_tail, tmp_path):
    tail = run_tail("--quiet", "--capture", tmp_path / "capture")
    for sequence in (1, 2):
        mux = Mux(pb, tail.address).shake_hands()
        mux.start(first=sequence)
        mux.event(sequence)
        mux.acked(sequence)
        mux.close()
    tail.end()
    frames, rest = split_frames(pb, (tmp_path / "capture").read_bytes())
    assert rest == b""
    assert [f.WhichOneof("body") for f in frames] == ["mux_hello", "stream_start", "event"] * 2
    assert [f.event.sequence for f in frames if f.HasField("event")] == [1, 2]


def test_minimal_example(pb):
    process = subprocess.Popen(
        [BUILD / "svm-minimal", "tcp:127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        mux = Mux(pb, process.stderr.readline().split()[-1]).shake_hands()
        mux.start()
        mux.event(1)
        mux.gap(2, 3)
        assert process.stdout.readline() == f"{VM} vsepflt 1 file open C:\\a\n"
        assert process.stdout.readline() == f"{VM} vsepflt 2-3 missing: overflow\n"
    finally:
        process.kill()
        process.communicate()


# ---- after a break ----


def test_positions_are_offered_and_duplicates_dropped(pb, run_tail):
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    assert not mux.hello.positions
    mux.start()
    for sequence in (1, 2, 3):
        mux.event(sequence)
    mux.acked(3)
    mux.close()
    tail.log("disconnected")
    mux = Mux(pb, tail.address).shake_hands()
    (position,) = mux.hello.positions
    assert (position.vm_uuid, position.driver, position.boot_id, position.last_sequence) == (VM, 1, BOOT, 3)
    mux.start(stream=9, first=2)  # a gimuxd that does not believe it
    for sequence in (2, 3, 4):
        mux.event(sequence, stream=9)
    mux.acked(4, stream=9)
    stats, out = tail.end()
    assert sequences(out) == [1, 2, 3, 4]
    assert stats["totals"]["duplicates"] == 2 and stats["totals"]["out_of_order"] == 0
    assert stats["totals"]["connections"] == 2


def test_gaps_are_clipped_to_what_is_new(pb, run_tail):
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.event(5)
    mux.acked(5)
    mux.close()
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.gap(2, 4, reason=3)  # all had
    mux.gap(5, 8, reason=3)  # 6..8 new
    mux.acked(8)
    stats, _ = tail.end()
    assert stats["streams"][0]["gaps"] == [{"first": 6, "last": 8, "reason": "restart"}]
    assert stats["streams"][0]["gapped"] == 3


def test_progress_moves_the_position(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.event(1)
    mux.send(stream_progress=pb.StreamProgress(stream=1, sequence=50, filtered=49))
    tail.stats(lambda s: s["streams"] and s["streams"][0]["progress"] == 50)
    mux.close()
    mux = Mux(pb, tail.address).shake_hands()
    assert mux.hello.positions[0].last_sequence == 50


def test_what_was_not_acknowledged_comes_again(pb, run_tail):
    tail = run_tail("--json", "--ack", "never")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start(first=11)
    mux.event(11)
    mux.event(12)
    tail.stats(lambda s: s["totals"]["delivered"] == 2)
    mux.close()
    mux = Mux(pb, tail.address).shake_hands()
    assert mux.hello.positions[0].last_sequence == 10
    mux.start(first=11)
    for sequence in (11, 12, 13):
        mux.event(sequence)
    stats = tail.stats(lambda s: s["totals"]["delivered"] == 3)
    assert stats["totals"]["again"] == 2 and stats["totals"]["duplicates"] == 0
    assert sequences(tail.end()[1]) == [11, 12, 11, 12, 13]


def test_explicit_acknowledgement(pb, run_tail):
    tail = run_tail("--json", "--ack", "explicit")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.event(1)
    mux.gap(2, 4)
    mux.event(7)
    mux.acked(7)
    mux.close()
    mux = Mux(pb, tail.address).shake_hands()
    assert mux.hello.positions[0].last_sequence == 7


def test_newer_connection_takes_a_stream_over_from_a_half_dead_one(pb, run_tail):
    tail = run_tail("--json")
    old = Mux(pb, tail.address).shake_hands()
    old.start()
    old.event(1)
    old.acked(1)
    new = Mux(pb, tail.address).shake_hands()
    assert new.hello.positions[0].last_sequence == 1
    new.start(stream=2, first=2)
    new.event(2, stream=2)
    new.acked(2, stream=2)
    old.event(2)
    old.event(3)  # left over in the old one: the new one will bring it
    old.send(ping=pb.Ping(token=5))
    assert old.expect("pong").token == 5
    totals = tail.stats()["totals"]
    assert (totals["delivered"], totals["duplicates"]) == (2, 2)
    new.event(3, stream=2)
    new.acked(3, stream=2)
    assert sequences(tail.end()[1]) == [1, 2, 3]


def test_no_more_is_acknowledged_than_the_connection_has_told(pb, run_tail):
    """The former connection still brings 2 and 3 when the new one has shaken hands: on the new one, an Ack of
    3 before it has sent 3 would be an error."""
    tail = run_tail("--json")
    old = Mux(pb, tail.address).shake_hands()
    old.start()
    old.event(1)
    old.acked(1)
    new = Mux(pb, tail.address).shake_hands()
    old.event(2)
    old.event(3)
    old.acked(3)
    new.start(stream=2, first=2)
    for sequence in (2, 3):
        new.event(sequence, stream=2)
        new.acked(sequence, stream=2)
    assert sequences(tail.end()[1]) == [1, 2, 3]


def test_two_hosts_at_once(pb, run_tail):
    tail = run_tail("--quiet")
    one, two = (Mux(pb, tail.address).shake_hands() for _ in range(2))
    one.start()
    two.start(vm="99999999-2222-3333-4444-555555555555")
    for sequence in range(1, 301):
        one.event(sequence)
        two.event(sequence)
    one.acked(300)
    two.acked(300)
    stats, _ = tail.end()
    assert [s["delivered"] for s in stats["streams"]] == [300, 300]


def test_seventeenth_connection_is_refused(pb, run_tail):
    tail = run_tail("--quiet")
    muxes = [Mux(pb, tail.address).shake_hands() for _ in range(16)]
    assert Mux(pb, tail.address).receive() is None
    muxes[0].close()
    tail.log("disconnected")
    Mux(pb, tail.address).shake_hands()


def test_idle_strangers_do_not_keep_a_host_out(pb, run_tail):
    tail = run_tail("--quiet")
    strangers = [Mux(pb, tail.address) for _ in range(16)]
    Mux(pb, tail.address).shake_hands()
    assert strangers[0].receive() is None


# ---- the clock ----


def test_ping_is_answered_and_sent(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands(heartbeat_ms=1000)
    mux.send(ping=pb.Ping(token=2**64 - 1))
    assert mux.expect("pong").token == 2**64 - 1
    begin = time.monotonic()
    mux.expect("ping")
    assert time.monotonic() - begin < 1


def test_silent_link_is_closed_after_three_heartbeats(pb, run_tail):
    tail = run_tail("--quiet")
    begin = time.monotonic()
    mux = Mux(pb, tail.address).shake_hands(heartbeat_ms=100)
    mux.ends()
    assert 0.29 < time.monotonic() - begin < 5
    assert "silent" in tail.log("disconnected")


def test_slow_callback_neither_lets_the_link_die_nor_takes_it_for_dead(pb, run_tail):
    """A callback sleeps for 100 ms for each of 12 events, four heartbeats in all, while the peer, having sent
    everything, is silent because nothing is asked of it: data that waits unread is no silence."""
    tail = run_tail("--quiet", "--slow", "100")
    mux = Mux(pb, tail.address).shake_hands(heartbeat_ms=300)
    mux.start()
    begin = time.monotonic()
    mux.sock.sendall(b"".join(delimited(pb.Frame(event=mux.file_event(s))) for s in range(1, 13)))
    last = time.monotonic()
    done = False
    while not done:
        frame = mux.receive()
        assert frame is not None
        assert time.monotonic() - last < 0.6, "silent for two heartbeats"
        last = time.monotonic()
        done = frame.HasField("ack") and frame.ack.streams[0].sequence == 12
    assert time.monotonic() - begin > 1.1


def test_peer_that_does_not_read_is_closed_and_bounded(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    pings = delimited(pb.Frame(ping=pb.Ping(token=2**64 - 1))) * 5000
    mux.sock.settimeout(PATIENCE)
    with pytest.raises(OSError):
        while True:
            mux.sock.sendall(pings)
    assert "does not read" in tail.log("disconnected")


# ---- bad peers ----


def bad_peer(pb, run_tail, act, expected, shake=True):
    """What `act` does must end that connection with the reason, and no other."""
    tail = run_tail("--quiet")
    good = Mux(pb, tail.address).shake_hands()
    good.start(vm="99999999-2222-3333-4444-555555555555")
    bad = Mux(pb, tail.address)
    if shake:
        bad.shake_hands()
    act(bad)
    bad.ends()
    line = tail.log(expected)
    assert "protocol" in line
    good.event(1)
    good.acked(1)
    return tail.end()[0]


def test_oversized_frame(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.sock.sendall(varint(FRAME_MAX + 1)), "bad frame length")


def test_endless_varint(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.sock.sendall(b"\xff" * 10), "bad frame length")


def test_large_frame_before_the_handshake(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.sock.sendall(varint(65537)), "bad frame length", shake=False)


def test_largest_frame_is_taken(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    frame = pb.Frame(event=mux.file_event(1, path="x" * (FRAME_MAX - 100)))
    frame.event.file.path += "x" * (FRAME_MAX - frame.ByteSize())
    assert frame.ByteSize() == FRAME_MAX
    mux.sock.sendall(delimited(frame))
    mux.acked(1)


def test_garbage(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.sock.sendall(b"\x05\xff\xff\xff\xff\xff"), "is not a gimux.v1.Frame")


def test_frame_that_would_take_too_much_memory(pb, run_tail):
    """A megabyte of empty answers takes eight bytes and more for each two: refused, not allocated."""
    frame = pb.Frame(event=pb.Event(stream=1, sequence=1, dns=pb.Dns(answers=[""] * 500000)))
    bad_peer(pb, run_tail, lambda mux: mux.sock.sendall(delimited(frame)), "too complex")


def test_event_before_hello(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.event(1), "expected MuxHello", shake=False)


def test_second_hello(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.send(mux_hello=pb.MuxHello(version_max=1)), "not expected")


@pytest.mark.parametrize("low, high", [(0, 0), (2, 3)])
def test_no_common_version(pb, run_tail, low, high):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address)
    mux.send(mux_hello=pb.MuxHello(version_min=low, version_max=high, heartbeat_ms=1000))
    assert "no common version" in mux.ends()


def test_event_of_unknown_stream(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.event(1, stream=4), "was not started")


def test_sequence_going_back(pb, run_tail):
    def act(mux):
        mux.start()
        mux.event(5)
        mux.event(5)

    stats = bad_peer(pb, run_tail, act, "expected ascending order")
    assert stats["totals"]["out_of_order"] == 1


def test_gap_going_back(pb, run_tail):
    def act(mux):
        mux.start()
        mux.event(5)
        mux.gap(2, 5)

    stats = bad_peer(pb, run_tail, act, "expected ascending order")
    assert stats["totals"]["out_of_order"] == 1


def test_event_after_progress_that_excluded_it(pb, run_tail):
    def act(mux):
        mux.start()
        mux.send(stream_progress=pb.StreamProgress(stream=1, sequence=9, filtered=9))
        mux.event(9)

    bad_peer(pb, run_tail, act, "expected ascending order")


def test_gap_inside_out(pb, run_tail):
    def act(mux):
        mux.start()
        mux.gap(5, 4)

    bad_peer(pb, run_tail, act, "first <= last")


def test_event_after_end(pb, run_tail):
    def act(mux):
        mux.start()
        mux.event(1)
        mux.send(stream_end=pb.StreamEnd(stream=1, last_sequence=1))
        mux.event(2)

    bad_peer(pb, run_tail, act, "has ended")


def test_number_of_two_streams(pb, run_tail):
    def act(mux):
        mux.start()
        mux.start(driver=2)

    bad_peer(pb, run_tail, act, "started twice")


def test_stream_with_two_numbers(pb, run_tail):
    def act(mux):
        mux.start(stream=1)
        mux.start(stream=2)

    bad_peer(pb, run_tail, act, "started twice")


def test_bad_uuid(pb, run_tail):
    bad_peer(pb, run_tail, lambda mux: mux.start(vm="../../etc/passwd"), "8-4-4-4-12")


def test_half_frames_and_unknown_ones(pb, run_tail):
    """Bytes come one by one, and between frames that are known, ones of a later version."""
    tail = run_tail("--json")
    mux = Mux(pb, tail.address).shake_hands()
    mux.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    mux.start()
    unknown = b"\xfa\x3f\x03abc"  # field 1023, 3 bytes
    event = pb.Frame(event=mux.file_event(1)).SerializeToString() + unknown
    for byte in varint(len(unknown)) + unknown + b"\0" + varint(len(event)) + event:
        mux.sock.sendall(bytes([byte]))
    mux.acked(1)
    assert sequences(tail.end()[1]) == [1]


def test_bye(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    mux.start()
    mux.event(1)
    mux.send(bye=pb.Bye(reason="gimuxd \x1b stops"))
    mux.acked(1)
    assert mux.receive() is None
    assert tail.log("disconnected").endswith("bye: gimuxd \\x1b stops\n")


def test_says_good_bye(pb, run_tail):
    tail = run_tail("--quiet")
    mux = Mux(pb, tail.address).shake_hands()
    tail.end()
    assert mux.expect("bye").reason


def test_mutated_frames_end_only_their_connection(pb, run_tail):
    """Every single-byte change of a course of frames: what it makes is refused or taken, nothing breaks."""
    tail = run_tail("--quiet")
    event = pb.Event(stream=1, sequence=1, class_uid=4003, actor=pb.Actor(pid=1), dns=pb.Dns(answers=["a", "b"]))
    start = pb.StreamStart(stream=1, vm_uuid=VM, driver=1, boot_id=BOOT, first_sequence=1)
    whole = delimited(pb.Frame(stream_start=start)) + delimited(pb.Frame(event=event))
    whole += delimited(pb.Frame(gap=pb.Gap(stream=1, first_sequence=2, last_sequence=3)))
    for at, value in itertools.product(range(len(whole)), (0, 0x7F, 0xFF)):
        mux = Mux(pb, tail.address).shake_hands()
        mux.sock.sendall(whole[:at] + bytes([value]) + whole[at + 1 :])
        mux.sock.shutdown(socket.SHUT_WR)
        mux.ends()
        mux.close()
    tail.end()


# ---- TLS ----


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return certs.make(tmp_path_factory.mktemp("pki"))


def tls_options(pki, name="server", ca="ca"):
    return "--cert", pki / f"{name}.pem", "--key", pki / f"{name}.key", "--ca", pki / f"{ca}.pem"


def tls_context(pki, name="client", ca="ca"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pki / f"{ca}.pem")
    if name:
        context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    return context


def test_tls_carries_events(pb, run_tail, pki):
    tail = run_tail("--json", *tls_options(pki), listen="tls:127.0.0.1:0")
    assert tail.address.startswith("tls:127.0.0.1:")
    mux = Mux(pb, tail.address, tls_context(pki)).shake_hands()
    assert mux.sock.version() == "TLSv1.3"
    mux.start()
    path = "C:\\" + "x" * 20000
    mux.sock.sendall(b"".join(delimited(pb.Frame(event=mux.file_event(s, path=path))) for s in range(1, 101)))
    mux.acked(100)
    mux.send(ping=pb.Ping(token=3))
    assert mux.expect("pong").token == 3
    stats, out = tail.end()
    assert sequences(out) == list(range(1, 101))
    assert mux.expect("bye")


def refused_by_svm(pb, tail, context, expected):
    """The SVM must refuse this gimuxd, say why, and go on. In TLS 1.3 the dialling side learns of it late."""
    try:
        Mux(pb, tail.address, context).receive()
    except ssl.SSLError:
        pass
    line = tail.log("refused")
    assert "tls" in line and expected in line, line


@pytest.mark.parametrize(
    "name, expected",
    [
        ("client-wrong-ca", "chain: unable to get local issuer certificate"),
        ("client-expired", "date: certificate has expired"),
        ("server", "purpose:"),
        (None, "chain: it sent none"),
    ],
)
def test_tls_bad_certificate_of_gimuxd(pb, run_tail, pki, name, expected):
    tail = run_tail("--quiet", *tls_options(pki), listen="tls:127.0.0.1:0")
    refused_by_svm(pb, tail, tls_context(pki, name), expected)
    Mux(pb, tail.address, tls_context(pki)).shake_hands()


def test_tls_peer_name(pb, run_tail, pki):
    tail = run_tail("--quiet", "--peer-name", "gimuxd", *tls_options(pki), listen="tls:127.0.0.1:0")
    refused_by_svm(pb, tail, tls_context(pki, "client-wrong-name"), "name:")
    Mux(pb, tail.address, tls_context(pki)).shake_hands()


@pytest.mark.parametrize(
    "name, expected", [("server-wrong-ca", "chain: "), ("server-expired", "date: ")]
)
def test_tls_own_certificate_refused_by_gimuxd(pb, run_tail, pki, name, expected):
    tail = run_tail("--quiet", *tls_options(pki, name), listen="tls:127.0.0.1:0")
    with pytest.raises(ssl.SSLError):
        Mux(pb, tail.address, tls_context(pki))
    assert "gimuxd refused the handshake: " + expected in tail.log("refused")


def test_tls_older_version_is_refused(pb, run_tail, pki):
    tail = run_tail("--quiet", *tls_options(pki), listen="tls:127.0.0.1:0")
    context = tls_context(pki)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        Mux(pb, tail.address, context)
    assert "unsupported protocol" in tail.log("refused")


def test_tls_plain_bytes_are_refused(pb, run_tail, pki):
    tail = run_tail("--quiet", *tls_options(pki), listen="tls:127.0.0.1:0")
    mux = Mux(pb, tail.address)
    mux.send(mux_hello=pb.MuxHello(version_min=1, version_max=1, heartbeat_ms=1000))
    assert "tls" in tail.log("refused")


def test_tls_break_in_the_middle(pb, run_tail, pki):
    """The connection ends without close_notify, in the middle of a frame; the next one goes on."""
    tail = run_tail("--json", *tls_options(pki), listen="tls:127.0.0.1:0")
    mux = Mux(pb, tail.address, tls_context(pki)).shake_hands()
    mux.start()
    mux.event(1)
    mux.acked(1)
    mux.sock.sendall(delimited(pb.Frame(event=mux.file_event(2)))[:-3])
    os.close(mux.sock.detach())
    tail.log("disconnected")
    mux = Mux(pb, tail.address, tls_context(pki)).shake_hands()
    mux.start(first=2)
    mux.event(2)
    mux.acked(2)
    assert sequences(tail.end()[1]) == [1, 2]


def test_certificates_are_replaced_while_running(pb, run_tail, pki, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ["--cert", cert, "--key", key, "--ca", pki / "ca.pem"]

    def install(name):
        cert.write_bytes((pki / f"{name}.pem").read_bytes())
        key.write_bytes((pki / f"{name}.key").read_bytes())

    install("server-expired")
    tail = run_tail("--quiet", *options, listen="tls:127.0.0.1:0")
    with pytest.raises(ssl.SSLError):
        Mux(pb, tail.address, tls_context(pki))
    key.write_text("")
    tail.process.send_signal(signal.SIGHUP)
    tail.log("certificates kept")
    install("server")
    tail.process.send_signal(signal.SIGHUP)
    tail.log("certificates read again")
    Mux(pb, tail.address, tls_context(pki)).shake_hands()


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--listen", "tls:127.0.0.1:0"], "needs a certificate"),
        (["--listen", "unix:/tmp/x"], "expected tcp:HOST:PORT or tls:HOST:PORT"),
        (["--listen", "tcp:127.0.0.1:0", "--vm", "x"], "8-4-4-4-12"),
        (["--listen", "tcp:127.0.0.1:0", "--class", "files"], "--class files"),
        (["--listen", "tcp:127.0.0.1:0", "--slow", "-1"], "--slow -1"),
        (["--listen", "tls:127.0.0.1:0", "--cert", "/none", "--key", "/none", "--ca", "/none"], "cannot use /none"),
        ([], "--listen is missing"),
    ],
)
def test_bad_options(options, expected):
    done = subprocess.run([BUILD / "svm-tail", *options], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and expected in done.stderr


def test_key_of_another_certificate(pki):
    options = ["--cert", pki / "server.pem", "--key", pki / "client.key", "--ca", pki / "ca.pem"]
    command = [BUILD / "svm-tail", "--listen", "tls:127.0.0.1:0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and "client.key: key values mismatch" in done.stderr
