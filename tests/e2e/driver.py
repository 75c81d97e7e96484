"""A driver written from docs/guest-protocol.md alone, and as impolite as a test needs it.

`record` and the functions named after record types make bytes, `Record` reads what gimuxd sends, `Driver` is one
connection. Nothing here answers by itself: a PING is answered by who waits in `expect`.
"""

import socket
import struct
import time
import uuid

from harness import DEADLINE

HELLO, WELCOME, REJECT, ACK, VERDICT, FILE_READ, FILE_DATA = range(1, 8)
INTEREST, PING, PONG, LOST, BYE, VOLUMES = range(8, 14)
FILE, NET, DNS, PROCESS, LOGON, POWER = range(0x100, 0x106)
VSEPFLT, VNETFLT, VNETWFP, LINUX, VMX = range(1, 6)
REJECT_VERSION, REJECT_IDENTITY, REJECT_CLONE, REJECT_DRIVER, REJECT_LIMIT, REJECT_UNKNOWN = range(1, 7)

HEADER = struct.Struct("<IHHQQ")
RECORD_MAX = 262144
MAGIC = 0x58554D47


def uuid_bytes(text):
    return uuid.UUID(text).bytes


def record(kind, body=b"", sequence=0, at=0, flags=0, size=None):
    """A record; `size` is what its header says if that is a lie."""
    return HEADER.pack(HEADER.size + len(body) if size is None else size, kind, flags, sequence, at) + body


def with_texts(fixed, *texts, wide=False):
    """The fixed part, the length of each text, then the texts. Bytes go out as they are."""
    raw = [t if isinstance(t, bytes) else t.encode("utf-16-le" if wide else "utf-8", "surrogatepass") for t in texts]
    return fixed + b"".join(struct.pack("<H", len(t)) for t in raw) + b"".join(raw)


def is_wide(driver):
    return driver in (VSEPFLT, VNETFLT, VNETWFP)


def hello(vm, boot, driver=LINUX, first_held=1, versions=(1, 1), magic=MAGIC, build="1.0", guest_os="test", more=b""):
    fixed = struct.pack("<IHHHH16s16sQ", magic, *versions, driver, 0, uuid_bytes(vm), uuid_bytes(boot), first_held)
    return record(HELLO, with_texts(fixed, build, guest_os, wide=is_wide(driver)) + more)


def file(sequence, path, op=1, target="", process="", user_name="", user_id="", wide=False, result=1, at=0,
         more=b""):
    fixed = struct.pack("<HHIIIQQIIII", op, 0, 0, 1, 1, 0, 0, result, 0, 0, 0)
    texts = with_texts(fixed, path, target, process, user_name, user_id, wide=wide)
    return record(FILE, texts + more, sequence, at)


def process(sequence, image, op=1, command_line="", parent_image="", user_name="", user_id="", wide=False):
    fixed = struct.pack("<HHIII", op, 0, 2, 1, 0)
    texts = with_texts(fixed, image, command_line, parent_image, user_name, user_id, wide=wide)
    return record(PROCESS, texts, sequence)


def net(sequence, op=2, protocol=6, direction=2, family=4):
    fixed = struct.pack("<HBBHHIIIHH16s16sQQQ", op, protocol, direction, family, 0, 0, 1, 1, 1000, 443,
                        bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 0, 0, 0)
    return record(NET, with_texts(fixed, "", "", ""), sequence)


def dns(sequence, name="example.org", op=1, wide=False):
    return record(DNS, with_texts(struct.pack("<HHHHII", op, 1, 0, 0, 0, 1), name, "", "", "", "", wide=wide), sequence)


def logon(sequence, user_name, op=1, user_id="", wide=False):
    fixed = struct.pack("<HHIQI", op, 2, 0, 77, 1)
    return record(LOGON, with_texts(fixed, user_name, user_id, "", "", wide=wide), sequence)


def power(sequence, vm, op=1, vm_name="", target_host=""):
    return record(POWER, with_texts(struct.pack("<HH16s", op, 0, uuid_bytes(vm)), vm_name, target_host), sequence)


def lost(first, last, reason=1):
    return record(LOST, struct.pack("<QI", last, reason), first)


def ping(token=1):
    return record(PING, struct.pack("<Q", token))


def pong(token):
    return record(PONG, struct.pack("<Q", token))


def bye(reason="test"):
    return record(BYE, with_texts(struct.pack("<H", 0), reason))


def volumes(devices, count=None):
    """devices: {letter: device name}"""
    entries = b""
    for letter, name in devices.items():
        name = name.encode("utf-16-le")
        entries += struct.pack("<HH", ord(letter), len(name)) + name
    return record(VOLUMES, struct.pack("<II", len(devices) if count is None else count, len(entries)) + entries)


class Record:
    """A record from gimuxd; fields of its body are attributes."""

    BODIES = {
        WELCOME: ("<HHIQQQ", "version padding heartbeat_ms next_wanted window interest"),
        REJECT: ("<HH", "code reason"),
        ACK: ("<QH", "sequence level"),
        INTEREST: ("<Q", "kinds"),
        PING: ("<Q", "token"),
        PONG: ("<Q", "token"),
        BYE: ("<HH", "code reason"),
    }

    def __init__(self, data):
        self.size, self.type, self.flags, _, _ = HEADER.unpack_from(data)
        form, names = self.BODIES[self.type]
        values = dict(zip(names.split(), struct.unpack_from(form, data, HEADER.size)))
        if "reason" in values:  # the last field is the text's length
            at = HEADER.size + struct.calcsize(form)
            values["reason"] = data[at:at + values["reason"]].decode()
        self.__dict__.update(values)

    def __repr__(self):
        return str(self.__dict__)


class Driver:
    """One connection to a door (unix:PATH)."""

    def __init__(self, door, vm=None, boot=None, driver=LINUX):
        self.vm = vm or str(uuid.uuid4())
        self.boot = boot or str(uuid.uuid4())
        self.driver = driver
        self.sent = 0  # the last sequence
        self.acked = 0  # the last that expect_ack has seen
        self.data = b""
        self.welcome = None
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(door).removeprefix("unix:"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_hello(self, **fields):
        self.send(hello(self.vm, self.boot, self.driver, **fields))
        return self

    def say_hello(self, **fields):
        """HELLO, and the WELCOME that must follow; numbering goes on where gimuxd wants it to."""
        self.send_hello(**fields)
        self.welcome = self.expect(WELCOME)
        self.sent = self.welcome.next_wanted - 1
        self.acked = 0
        return self

    def events(self, count, path="/tmp/file-%d"):
        """So many FILE events in one piece."""
        numbers = range(self.sent + 1, self.sent + count + 1)
        self.send(b"".join(file(n, path % n, wide=is_wide(self.driver)) for n in numbers))
        self.sent += count
        return self

    def receive(self):
        """The next record, or None at the end of the connection."""
        while len(self.data) < HEADER.size or len(self.data) < HEADER.unpack_from(self.data)[0]:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                assert self.data == b"", "the connection ended inside a record"
                return None
            self.data += more
        size = HEADER.unpack_from(self.data)[0]
        whole, self.data = self.data[:size], self.data[size:]
        return Record(whole)

    def expect(self, kind):
        """The next record of that type. PINGs are answered; others that come at any time are passed over."""
        end = time.monotonic() + DEADLINE
        while True:
            found = self.receive()
            assert found is not None, f"the connection ended, expected a record of type {kind:#x}"
            assert time.monotonic() < end, f"not within {DEADLINE} s: a record of type {kind:#x}"
            if found.type == kind:
                return found
            if found.type == PING:
                self.send(pong(found.token))
            assert found.type in (PING, PONG, ACK, INTEREST), f"expected type {kind:#x}: {found}"

    def expect_ack(self, sequence):
        """Waits until everything up to that sequence is acknowledged."""
        while self.acked < sequence:
            self.acked = self.expect(ACK).sequence
            assert self.acked <= self.sent

    def expect_end(self):
        """Reads to the end of the connection; returns the records before it, pings and such left out."""
        records = []
        end = time.monotonic() + DEADLINE
        while (found := self.receive()) is not None:
            assert time.monotonic() < end, f"not within {DEADLINE} s: the end of the connection"
            if found.type not in (PING, ACK, INTEREST):
                records.append(found)
        return records
