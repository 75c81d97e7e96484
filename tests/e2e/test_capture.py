"""What an SVM is sent, read back by stock protobuf: every frame parses, and keeps the order of the protocol."""

import signal

import driver as d
import pytest
from fake_svm import load_pb, split_frames
from harness import ROOT, load_summary, wait_for

REST = "heartbeat = 200ms\nsilence = 5s"


@pytest.fixture(scope="session", name="pb")
def fixture_pb():
    return load_pb()


class Captured:
    """A gimuxd with one SVM that captures; `frames` ends both and reads what came."""

    def __init__(self, world, pb, *args, **options):
        self.world, self.pb = world, pb
        self.file = world.directory / "frames.bin"
        self.svm = world.svm("one", "--json", "--capture", self.file, *args)
        world.configure({"one": {"address": self.svm, "heartbeat": "100ms", **options}}, rest=REST)
        world.start(up=1)

    def frames(self):
        assert self.world.gimuxd.end() == 0
        assert self.svm.end() == 0
        frames, rest = split_frames(self.pb, self.file.read_bytes())
        assert rest == b"", "a whole number of frames"
        assert frames
        return frames


def assert_ordered(frames):
    """The order that docs/svm-protocol.md promises, over any number of connections. Returns events per stream."""
    assert frames[0].WhichOneof("body") == "mux_hello"
    started, told, events = {}, {}, {}
    for frame in frames:
        kind = frame.WhichOneof("body")
        body = getattr(frame, kind)
        assert frame.ByteSize() <= 1 << 20
        if kind == "mux_hello":
            assert body.version_min <= 1 <= body.version_max and body.solution == "one"
            started, told = {}, {}
        elif kind == "stream_start":
            assert body.stream not in started, "once a connection"
            started[body.stream] = (body.vm_uuid, body.driver, body.boot_id)
            told[body.stream] = body.first_sequence - 1
        elif kind in ("event", "gap", "stream_progress", "stream_end"):
            assert body.stream in started, f"{kind} before StreamStart"
            first, last = {"event": lambda: (body.sequence, body.sequence),
                           "gap": lambda: (body.first_sequence, body.last_sequence),
                           "stream_progress": lambda: (None, body.sequence),
                           "stream_end": lambda: (None, body.last_sequence)}[kind]()
            if first is not None:
                assert told[body.stream] < first <= last, "ascending, and behind what progress has told"
            elif kind == "stream_end":
                assert last >= told[body.stream], "the end is not before what was sent"
            told[body.stream] = max(told[body.stream], last)  # progress may lag
            if kind == "event":
                events.setdefault(started[body.stream], []).append(body.sequence)
        else:
            assert kind in ("ping", "pong", "bye"), f"{kind} is not gimuxd's to send"
    return events


def test_frames_parse_and_keep_order(world, pb):
    captured = Captured(world, pb)
    summary = world.directory / "summary.json"
    load = ["load", "--connect", world.shared, "--vms", 3, "--events", 500, "--summary", summary]
    assert world.sim(*load).wait() == 0
    wait_for("all events", lambda: captured.svm.delivered() - captured.svm.delivered("gimuxd") == 1500)
    events = assert_ordered(captured.frames())
    for stream in load_summary(summary)["streams"]:
        key = (stream["vm_uuid"], {"vsepflt": 1, "vnetwfp": 3}[stream["driver"]], stream["boot_id"])
        assert events[key] == list(range(1, stream["sent"] + 1))


def test_progress_tells_what_was_filtered(world, pb):
    captured = Captured(world, pb, "--class", "network,dns", "--mute", "C:\\")
    summary = world.directory / "summary.json"
    load = ["load", "--connect", world.shared, "--vms", 2, "--events", 300, "--summary", summary]
    assert world.sim(*load).wait() == 0
    sent = {(s["vm_uuid"], s["driver"]): s["sent"] for s in load_summary(summary)["streams"]}
    wait_for("progress of both", lambda: all(
        captured.svm.streams().get(k, {}).get("progress", 0) == n for k, n in sent.items() if n))
    frames = captured.frames()
    assert_ordered(frames)
    starts = {f.stream_start.stream: f.stream_start for f in frames if f.HasField("stream_start")}
    progress = {f.stream_progress.stream: f.stream_progress for f in frames if f.HasField("stream_progress")}
    assert any(of.filtered for of in progress.values())
    for number, of in progress.items():
        count = sum(f.HasField("event") and f.event.stream == number for f in frames)
        assert count + of.filtered == of.sequence, starts[number]


def test_order_holds_over_a_crash(world, pb):
    """Two connections in one capture: the second goes on behind the first, and a new boot is a new stream."""
    captured = Captured(world, pb)
    with d.Driver(world.shared) as guest:
        guest.say_hello().events(20).expect_ack(20)
        world.gimuxd.kill(signal.SIGKILL)
        world.gimuxd.wait()
    world.start(up=1)
    with d.Driver(world.shared, guest.vm, guest.boot) as again:
        again.say_hello(first_held=21).events(20).expect_ack(40)
    with d.Driver(world.shared, guest.vm) as rebooted:
        rebooted.say_hello().events(5).expect_ack(5)
    frames = captured.frames()
    events = assert_ordered(frames)
    assert events[(guest.vm, d.LINUX, guest.boot)] == list(range(1, 41))
    assert events[(guest.vm, d.LINUX, rebooted.boot)] == list(range(1, 6))
    starts = [f.stream_start for f in frames if f.HasField("stream_start") and f.stream_start.driver == d.LINUX]
    assert [of.first_sequence for of in starts] == [1, 21, 1]


@pytest.mark.parametrize(("driver", "name", "said"), [
    (d.LINUX, b"/tmp/\xe4", "/tmp/\ufffd"),
    (d.LINUX, b"\xc0\xaf", "\ufffd\ufffd"),
    (d.LINUX, b"/a\x00b", "/a\ufffdb"),
    (d.VSEPFLT, "C:\\a\ud800b".encode("utf-16-le", "surrogatepass"), "C:\\a\ufffdb"),
    (d.VSEPFLT, "C:\\a".encode("utf-16-le") + b"\x41", "C:\\a\ufffd"),
], ids=["latin1", "overlong", "nul", "surrogate", "odd"])
def test_lossy_names_carry_the_drivers_own_bytes(world, pb, driver, name, said):
    captured = Captured(world, pb)
    wide = d.is_wide(driver)
    with d.Driver(world.shared, driver=driver) as guest:
        guest.say_hello()
        guest.send(d.file(1, name, wide=wide) + d.file(2, b"", op=5, target=name, wide=wide)
                   + d.process(3, name, wide=wide) + d.file(4, "/clean", wide=wide))
        guest.expect_ack(4)
        captured.svm.wait_events(4, driver="linux" if driver == d.LINUX else "vsepflt")
    frames = captured.frames()
    starts = [f.stream_start for f in frames if f.HasField("stream_start")]
    (number,) = [of.stream for of in starts if of.driver == driver]
    opened, renamed, process, clean = [f.event for f in frames if f.HasField("event") and f.event.stream == number]
    assert opened.lossy and renamed.lossy and process.lossy and not clean.lossy
    assert (opened.file.path, opened.file.path_raw) == (said, name)
    assert (renamed.file.target_path, renamed.file.target_path_raw) == (said, name)
    assert (process.process.path, process.process.path_raw) == (said, name)
    assert clean.file.path_raw == b""


def test_largest_record_fits_a_frame(world, pb):
    """Texts of 64 KiB that are all lossy: the largest event that a driver can bring about."""
    captured = Captured(world, pb)
    name = "\udc00" * 32767
    with d.Driver(world.shared, driver=d.VSEPFLT) as guest:
        guest.say_hello()
        guest.send(d.file(1, name, op=5, target=name, process=name, user_name="\udc00" * 32000, wide=True))
        guest.events(0)
        guest.expect(d.ACK)
        captured.svm.wait_events(1, driver="vsepflt")
    (event,) = [f.event for f in captured.frames() if f.HasField("event") and f.event.HasField("file")]
    assert event.lossy and event.ByteSize() > 500000
    assert event.file.path == event.file.target_path == "\ufffd" * 32767
    assert event.file.path_raw == name.encode("utf-16-le", "surrogatepass")


def test_document_shows_how_to_read_a_capture(world, pb, tmp_path, capsys):
    """The program in docs/svm-protocol.md does what the page says."""
    captured = Captured(world, pb)
    with d.Driver(world.shared) as guest:
        guest.say_hello().events(2).expect_ack(2)
    captured.frames()
    page = (ROOT / "docs/svm-protocol.md").read_text()
    program = page.split("```python\n")[1].split("```")[0].replace("frames.bin", str(captured.file))
    exec(program, {})
    shown = capsys.readouterr().out
    assert "mux_hello" in shown and 'path: "/tmp/file-2"' in shown
