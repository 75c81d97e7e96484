#!/usr/bin/python3
"""Writes the seeds of the fuzzers: records and frames made without gimux's own code, from the documents alone.

usage: make_seeds.py BUILD_DIR      (protoc puts its Python module there)
"""
import pathlib
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
VSEPFLT, VNETFLT, VNETWFP, LINUX, VMX = 1, 2, 3, 4, 5


def record(kind, fixed, texts=(), sequence=0, time=0, flags=0, width="H"):
    """A record as docs/guest-protocol.md lays it out: header, fixed part, lengths of the texts, texts."""
    body = fixed + b"".join(struct.pack("<" + width, len(t)) for t in texts) + b"".join(texts)
    return struct.pack("<IHHQQ", 24 + len(body), kind, flags, sequence, time) + body


def file_record(op, path, target=b"", status=0, result=1, create=0, texts=(b"", b"", b""), **header):
    fixed = struct.pack("<HHIIIQQIIII", op, 0, status, 4711, 4712, 0x50000000001A2, 4096, result, create, 0x120089, 32)
    return record(0x100, fixed, (path, target, *texts), **header)


def net_record(op, direction, family, local, remote, texts=(b"", b"", b""), **header):
    fixed = struct.pack("<HBBHHIIIHH16s16sQQQ", op, 6, direction, family, 0, 0, 1, 2, 40000, 443, local, remote,
                        77, 1000, 2000)
    return record(0x101, fixed, texts, **header)


def dns_record(op, answers, name, rcode=0, **header):
    return record(0x102, struct.pack("<HHHHII", op, 28, 3, rcode, 0, 6), (name, answers, b"", b"", b""), **header)


def process_record(op, texts, **header):
    return record(0x103, struct.pack("<HHIII", op, 0, 10, 11, 0xFFFFFFFF), texts, **header)


def logon_record(op, texts, status=0, **header):
    return record(0x104, struct.pack("<HHIQI", op, 10, status, 0x3E7, 4), texts, **header)


def power_record(op, texts, **header):
    return record(0x105, struct.pack("<HH16s", op, 0, bytes(range(16))), texts, **header)


def volumes_record(*entries):
    data = b"".join(struct.pack("<HH", ord(letter), len(w(device))) + w(device) for letter, device in entries)
    return record(0x0D, struct.pack("<I", len(entries)), (data,), width="I")


def w(text):
    return text.encode("utf-16-le", "surrogatepass")


def control_records():
    hello = struct.pack("<IHHHH16s16sQ", 0x58554D47, 1, 1, VSEPFLT, 0, bytes(16), bytes(range(16)), 1)
    yield "hello", record(1, hello, (w("1.0"), w("Windows 11")))
    yield "welcome", record(2, struct.pack("<HHIQQQ", 1, 0, 10000, 1, 1 << 20, 0x3F))
    yield "reject", record(3, struct.pack("<H", 3), (b"another VM with this UUID",))
    yield "ack", record(4, struct.pack("<QH", 1000, 2))
    yield "verdict", record(5, struct.pack("<QHH", 7, 2, 1))
    yield "file_read", record(6, struct.pack("<QQQI", 1, 2, 3, 65536), (w("\\Device\\HarddiskVolume2\\a"),))
    yield "file_data", record(7, struct.pack("<QQII", 1, 0, 0, 1), (b"MZ" + bytes(30),), width="I")
    yield "interest", record(8, struct.pack("<Q", 1))
    yield "ping", record(9, struct.pack("<Q", 5))
    yield "pong", record(10, struct.pack("<Q", 5))
    yield "lost", record(11, struct.pack("<QI", 9, 1), sequence=3)
    yield "bye", record(12, struct.pack("<H", 1), (b"shutting down",))
    yield "volumes", volumes_record(("C", "\\Device\\HarddiskVolume2"), ("D", "\\Device\\HarddiskVolume20"))
    yield "unknown", record(0x0777, b"of a newer version")
    yield "longer", record(9, struct.pack("<Q", 5) + b"more")


def event_records():
    """(name, driver, record)"""
    who = (w("\\Device\\HarddiskVolume2\\Windows\\explorer.exe"), w("CORP\\ann"), w("S-1-5-21-1-2-3-1001"))
    ft = 133500000000000000
    v2 = "\\Device\\HarddiskVolume2"
    paths = [v2 + "\\Users\\ann\\a.txt", v2 + "\\a.txt:Zone.Identifier:$DATA", "\\??\\c:\\a::$DATA", "\\DosDevices\\D:",
             "\\Device\\Mup\\;LanmanRedirector\\;Z:0001\\srv\\share\\f", "\\\\?\\UNC\\srv\\share\\f", "\\??\\Volume{0}\\f",
             "\\GLOBAL??\\GLOBALROOT\\Device\\HarddiskVolume20\\d:$I30:$INDEX_ALLOCATION", "bad \ud800 name", "\u00e4\U0001f600"]
    for i, path in enumerate(paths):
        yield f"file{i}", VSEPFLT, file_record(i % 7 + 1, w(path), w(paths[-1 - i]), 0, i % 6, 0x1000, who,
                                               sequence=i + 1, time=ft, flags=i % 2)
    yield "odd", VSEPFLT, file_record(1, b"a\0b", status=0xC0000022, sequence=1, time=ft)
    yield "linux", LINUX, file_record(5, b"/tmp/\xff\xc0\x80", "/tmp/\u00e4".encode(), sequence=1, time=10**18)
    v6 = bytes(15) + b"\1"
    yield "net4", VNETWFP, net_record(2, 1, 4, b"\x7f\0\0\1" + bytes(12), b"\x0a\0\0\1" + bytes(12), who, sequence=1)
    yield "net6", LINUX, net_record(3, 2, 6, v6, v6, (b"/usr/bin/curl", b"root", b"0"), sequence=1)
    yield "dns", LINUX, dns_record(2, b"192.0.2.1;;2001:db8::1;", b"example.org", sequence=1)
    yield "many", LINUX, dns_record(2, b"1;" * 80, b"many.example", sequence=1)
    yield "nx", VNETFLT, dns_record(2, b"", w("nx.example"), 3, sequence=1)
    yield "start", VSEPFLT, process_record(1, (w(v2 + "\\p.exe"), w("p -x"), w(v2 + "\\c.exe"), *who[1:]), sequence=1)
    yield "end", LINUX, process_record(2, (b"/bin/sh", b"sh -c true", b"/sbin/init", b"root", b"0"), sequence=1)
    yield "logon", VSEPFLT, logon_record(1, (*who[1:], w("10.0.0.1"), who[0]), 0xC000006D, sequence=1)
    yield "power", VMX, power_record(5, (b"web-1", b"esx-2"), sequence=1, time=10**18)


def frames(build):
    """Delimited frames: one of every kind, and all of them in a row."""
    subprocess.run(["protoc", f"--python_out={build}", f"-I{ROOT}", str(ROOT / "proto/gimux.proto")], check=True)
    sys.path.insert(0, build)
    from proto import gimux_pb2 as pb
    made = [
        ("mux_hello", pb.Frame(mux_hello=pb.MuxHello(version_min=1, version_max=1, solution="av", altitude=9))),
        ("svm_hello", pb.Frame(svm_hello=pb.SvmHello(
            version=1, subscription=pb.Subscription(class_uids=[1001], muted_path_prefixes=["C:\\Temp\\"]),
            positions=[pb.StreamPosition(vm_uuid="0" * 36, driver=1, boot_id="1" * 36, last_sequence=5)]))),
        ("stream_start", pb.Frame(stream_start=pb.StreamStart(stream=1, vm_uuid="0" * 36, first_sequence=1))),
        ("event", pb.Frame(event=pb.Event(stream=1, sequence=1, class_uid=1001, activity_id=14,
                                          actor=pb.Actor(pid=1), file=pb.File(path="C:\\a")))),
        ("gap", pb.Frame(gap=pb.Gap(stream=1, first_sequence=2, last_sequence=3, reason=1))),
        ("ack", pb.Frame(ack=pb.Ack(streams=[pb.StreamAck(stream=1, sequence=3)]))),
        ("ping", pb.Frame(ping=pb.Ping(token=1))),
        ("bye", pb.Frame(bye=pb.Bye(reason="done"))),
        ("empty", pb.Frame()),
    ]
    delimited = [(name, varint(frame.ByteSize()) + frame.SerializeToString()) for name, frame in made]
    delimited.append(("all", b"".join(data for _, data in delimited)))
    delimited.append(("too_long", b"\xff\xff\x7f"))
    return delimited


# Steps of fuzz_guest_session.c by their place in its table.
CONNECT, HELLO, EVENTS, _, LOST, CONTROL, VOLUMES, RAW, CORRUPT, FLUSH, CUT, TURN, _, TIME, UP, GUESS, DOWN, CREDIT, ACK, \
    _, PROGRESS, COMES_OR_GOES, RELOAD, _ = range(24)
ALL = 3  # of four quarters
FILES = (1, ord("/"), 0)  # the texts of a file event: a path and no target


def sessions():
    """Programs of fuzz_guest_session.c: (name, steps), after the bytes for limits and three SVMs."""
    pause, drop, here = 0, 1, (TURN, 5)
    hello = (CONNECT, 0, 4, HELLO, 0, 48, 1, 2, 65, 66, 0, *here)
    yield "plain", (0, pause, drop, pause), (*hello, EVENTS, 0, 0, 20, *FILES, *here, ACK, 0, ALL, ACK, 1, ALL, ACK, 2, 1, *here)
    yield "resume", (0, pause, pause, pause), (
        *hello, EVENTS, 0, 0, 9, *FILES, TURN, 1, FLUSH, 0, 9, CUT, 0, 2, CONNECT, 0, 4, HELLO, 0, 48, 1, 0, 0, *here,
        EVENTS, 0, 0, 9, *FILES, *here, DOWN, 0, 1, UP, 0, 1, *here, ACK, 0, ALL, *here)
    flood = (EVENTS, 0, 0, 60, 255, 9, 0, *here) * 3
    yield "full", (0, pause, drop, drop), (*hello, CREDIT, 0, 0, CREDIT, 1, 9, *flood, ACK, 2, ALL, *here, CREDIT, 0, 255,
                                           ACK, 0, ALL, *here, *flood, CREDIT, 1, 255, ACK, 1, ALL, *here)
    yield "gaps", (0, drop, drop, drop), (*hello, CREDIT, 0, 0, *flood, LOST, 0, 9, *here, CREDIT, 0, 255, DOWN, 0, 0,
                                          UP, 0, 1, *here, ACK, 0, 1, *here, ACK, 0, ALL, *here)
    yield "filters", (0, pause, pause, drop), (
        DOWN, 0, 0, UP, 0, 2, 3, *hello, EVENTS, 0, 2, 20, 1, 65, 0, EVENTS, 0, 0, 9, *FILES, *here, PROGRESS, 0, *here,
        ACK, 0, ALL, COMES_OR_GOES, 1, COMES_OR_GOES, 1, 3, UP, 1, 1, EVENTS, 0, 1, 9, 1, 65, *here)
    yield "boots", (0, pause, drop, pause), (
        *hello, EVENTS, 0, 0, 5, *FILES, *here, HELLO, 0, 52, 0, 0, 0, *here, EVENTS, 0, 0, 5, *FILES, *here, CONTROL, 0, 12,
        0, *here, ACK, 0, ALL, ACK, 1, ALL, ACK, 2, ALL, PROGRESS, 0, *here, CONNECT, 1, 0, HELLO, 1, 48, 3, 0, 0, *here)
    yield "hostile", (0, pause, drop, pause), (
        *hello, VOLUMES, 0, 2, 2, 2, 65, 66, 3, 1, 65, RAW, 0, 4, 1, 2, 3, 4, *here, CONNECT, 1, 0, HELLO, 1, 49, 4,
        *[255] * 8, 0, 0, CORRUPT, 1, 30, 1, *here, CONNECT, 2, 1, HELLO, 2, 64, 0, 0, 0, *here, EVENTS, 2, 5, 3, 0, *here,
        GUESS, 0, 48, 9, TIME, 4, TIME, 4, RELOAD, 5, *here)


def segments():
    """Programs of fuzz_segment.c: a seed, a name, then records and damage."""
    start = (1, 7, 1, 9, 1, 9, 16, *range(17), 3, 0)
    frame, stream, position = (0, 4, 3, 1, 0, 1, 5, 9, 2, 3, 20, *[65] * 20), (2, 4, 0, 1, 1, 9, 2, *[66] * 40), (3, 4, *[1, 7] * 3)
    yield "whole", (*start, *frame, *stream, *position, *frame * 3)
    yield "flipped", (*start, *frame, *stream, *position, *frame, 7, 1, 0, 70, 255, 1, 9)
    yield "torn", (*start, *frame * 4, 7, 0, 0, 200)
    yield "hostile", (*start, 4, 2, 0, 200, 2, *[255] * 30, *frame, 5, 9, 255, 200, 4, *[1] * 60, 6, 9, 9, *frame)


def recoveries():
    """Programs of fuzz_recover.c: solutions, the limit of VMs, files, then lives and damage."""
    def run(source, *hows):  # 1, 6, 11 or 16 of them
        return (len(hows) // 5 * 64 + source * 8 + 5, *(byte for how in hows for byte in (how, 1)))

    end, mark, streams = 0, 3, (1, 0, 9, 0, 17, 0, 25, 1)
    some, more = run(0, 0, 1, 2, 3, 4, 5), run(1, *range(11))
    here, there = (2, 0, 1, 4), (10, 1, 1, 7)  # positions
    gap, jump, back = run(0, 224, 1, 9), run(0, 208, 2, 1, 0), run(0, 208, 1, 3)
    whole = (0, *streams, *some, *more, *here, mark, *run(2, 1), *there, *some, end)
    yield "plain", (0, 2, 0, *whole, 2, 9, 1, 9)
    yield "two", (2, 2, 2, *whole, 0, *some, *here, *more, end, 8, *streams, *some, end, 1, 3)
    yield "gaps", (69, 2, 1, 0, *streams, *some, *gap, *jump, *some, *back, *some, end, 0, *more, *there, *gap, end)
    yield "ahead", (0, 2, 0, 0, *streams, *some, *more, 2, 16, 1, 4, 1, 2, 10, 49, 1, 3, 1, 5, 1, 1, 1, 1, 1, 1, end, 1, 4)
    yield "damaged", (32, 2, 1, *whole, 3, *streams, *some, *more, *some, mark, *some, end, 1, 0, 1, 200, 1, 3, 0, 1, 90)
    yield "damaged_later", (0, 2, 0, *whole, 0, 1, 2, 1, 144)
    yield "names", (0, 2, 3, 4, *some, end, 5, *some, end, 1, 6, *some, end, 5, 20, *some, end, 1, 0)
    yield "own", (0, 2, 0, 0, *streams, *(byte for i in range(6) for byte in (*run(3, 1), 156 + 32 * (i % 3), 9 + i)), end)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def write(folder, seeds):
    (HERE / folder).mkdir(exist_ok=True)
    for name, data in seeds:
        (HERE / folder / name).write_bytes(data)


def main():
    events = list(event_records())
    write("guest_record", [*control_records(), *((name, data) for name, _, data in events)])
    volumes = volumes_record(("C", "\\Device\\HarddiskVolume2"), ("D", "\\Device\\HarddiskVolume20"))
    # fuzz_normalize reads the driver from its first byte, then records.
    write("normalize", [(name, bytes([driver]) + volumes + data) for name, driver, data in events])
    write("guest_session", [(name, bytes((*first, *steps))) for name, first, steps in sessions()])
    write("segment", [(name, bytes(steps)) for name, steps in segments()])
    write("recover", [(name, bytes(steps)) for name, steps in recoveries()])
    write("delimited", frames(sys.argv[1]))


if __name__ == "__main__":
    main()
