"""Traces of real machines through all of it: imported, replayed, and at the SVM what the logs say, counted here."""

import collections
import datetime
import gzip
import ipaddress
import json
import os
import pathlib

import pytest
from harness import ROOT, load_summary, wait_for

LOGS = pathlib.Path(os.environ.get("GIMUX_TRACES", ROOT.parent / "shared" / "traces"))
OWN = sorted((ROOT / "tests" / "data").glob("*.pcap"))
REST = "heartbeat = 200ms\nsilence = 30s"
DEVICE = "\\device\\harddiskvolume2"

# Event id: what it becomes, where that is not in doubt. 4663 becomes what its rights say; none here is of a file.
BECOMES = {1: ("process", "Launch"), 2: ("file", "Set Attributes"), 3: ("network", "Open"), 5: ("process", "Terminate"),
           11: ("file", "Create"), 15: ("file", "Create"), 22: ("dns", "Response"), 23: ("file", "Delete"),
           26: ("file", "Delete"), 4624: ("authentication", "Logon"), 4634: ("authentication", "Logoff"),
           4656: ("file", "Open"), 4688: ("process", "Launch"), 4689: ("process", "Terminate"),
           5156: ("network", "Open"), 5158: ("network", "Listen")}
CLOCKS = ("UtcTime", "TimeCreated", "EventTime", "@timestamp")  # the one whose time counts first
ACTIVITY_IDS = {("process", "Launch"): 1, ("process", "Terminate"): 2, ("file", "Create"): 1, ("file", "Delete"): 4,
                ("file", "Set Attributes"): 6, ("file", "Open"): 14, ("network", "Open"): 1, ("network", "Listen"): 7,
                ("dns", "Response"): 2, ("authentication", "Logon"): 1, ("authentication", "Logoff"): 2}


class Replayed:
    """One log: its events as JSON, and the events that an SVM got of it."""

    def __init__(self, world, name):
        path = LOGS / f"{name}.jsonl.gz"
        if not path.exists():
            pytest.skip(f"no {path}: set GIMUX_TRACES to the directory of the logs")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            self.lines = [json.loads(line) for line in lines]
        self.wanted = [e for e in self.lines if becomes_an_event(e)]
        trace = world.directory / f"{name}.pcap"
        run = world.sim("import", path, "--output", trace, "--json")
        assert run.wait() == 0, run.err
        self.imported = json.loads(run.out)
        svm = world.svm("one", "--json")
        world.configure({"one": {"address": svm}}, rest=REST)
        world.start(up=1)
        run = world.sim("replay", trace, "--fast", "--connect", world.shared)
        assert run.wait() == 0, run.err
        wait_for("all of it at the SVM", lambda: svm.delivered() - svm.delivered("gimuxd") >= len(self.wanted))
        assert world.gimuxd.end() == 0
        assert svm.end() == 0
        self.events = [e for e in svm.events() if e["driver"] != "gimuxd"]

    def of(self, *ids):
        return [e for e in self.wanted if e["EventID"] in ids]

    def at_svm(self, cls, activity):
        return [e for e in self.events if e["class"] == cls and e["activity_id"] == ACTIVITY_IDS[cls, activity]]


LOG = pytest.mark.parametrize("name", ["windows-ad-playbook", "windows-lsass"])


@pytest.fixture(name="log")
def fixture_log(world, name):
    return Replayed(world, name)


def letters(path):
    """A path as an SVM has it."""
    return "C:" + path[len(DEVICE):] if path and path.lower().startswith(DEVICE + "\\") else path


def counted(values):
    """How often each comes; "-" and what is missing are the same."""
    return collections.Counter(v for v in values if v and v not in ("-", "<unknown process>"))


def account(event, domain, name):
    return "\\".join(part for part in (event.get(domain), event[name]) if part and part != "-")


def becomes_an_event(line):
    """Only files are file events, and the bind of a TCP socket is no listen."""
    if line["EventID"] == 5158:
        return line["Protocol"] == "17"
    return line["EventID"] in BECOMES and line.get("ObjectType", "File") == "File"


def left_out_by_id(summary):
    counts = collections.Counter()
    for row in summary["left_out"]:
        counts[row["event_id"]] += row["count"]
    return counts


@LOG
def test_counts(log):
    assert log.imported["lines"] == len(log.lines) and log.imported["unusable"] == 0
    assert sum(row["imported"] for row in log.imported["events"]) == len(log.wanted) == len(log.events)
    expected = collections.Counter((BECOMES[e["EventID"]][0], ACTIVITY_IDS[BECOMES[e["EventID"]]]) for e in log.wanted)
    assert collections.Counter((e["class"], e["activity_id"]) for e in log.events) == expected
    left_out = collections.Counter(e["EventID"] for e in log.lines if not becomes_an_event(e))
    assert left_out_by_id(log.imported) == left_out


def utc(text):
    """Nanoseconds since 1970 of such as 2020-10-22 08:29:52.016."""
    time = datetime.datetime.fromisoformat(text.rstrip("Z") + "+00:00") - datetime.datetime.fromtimestamp(
        0, datetime.timezone.utc)
    return (time // datetime.timedelta(microseconds=1)) * 1000


def happened(line):
    """The event's own time. Local times, in one of the logs, are four hours behind UTC."""
    clock = next(clock for clock in CLOCKS if clock in line)
    return utc(line[clock]) + (4 * 3600 * 10**9 if clock == "EventTime" else 0)


@LOG
def test_times_are_the_events(log):
    assert counted(e["time_ns"] for e in log.events) == counted(map(happened, log.wanted))
    by_clock = collections.Counter(next(clock for clock in CLOCKS if clock in e) for e in log.wanted)
    assert log.imported["time_from"] == {clock: by_clock[clock] for clock in CLOCKS}


@LOG
def test_every_machine_is_a_vm(log):
    uuids = {m["hostname"]: m["vm_uuid"] for m in log.imported["machines"]}
    expected = collections.Counter(uuids[e["Hostname"]] for e in log.wanted)
    assert collections.Counter(e["vm_uuid"] for e in log.events) == expected
    by_stream = collections.defaultdict(list)
    for event in log.events:
        by_stream[event["vm_uuid"], event["driver"]].append(event["sequence"])
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_stream.values())


@LOG
def test_paths_of_files(log):
    """Every name arrives as the log has it; a stream's name in its own field."""
    for activity, ids in (("Create", (11, 15)), ("Set Attributes", (2,)), ("Delete", (23, 26))):
        got = [":".join(filter(None, (e["file"]["path"], e["file"].get("stream_name"))))
               for e in log.at_svm("file", activity)]
        assert counted(got) == counted(e["TargetFilename"] for e in log.of(*ids))
    created = log.at_svm("file", "Create")
    assert created and all(e["file"]["path"].startswith("C:\\") for e in created)
    with_stream = [e for e in log.of(11, 15) if ":" in e["TargetFilename"][2:]]
    assert sum("stream_name" in e["file"] for e in created) == len(with_stream)
    assert counted(e["file"]["path"] for e in log.at_svm("file", "Open")) == counted(
        letters(e["ObjectName"]) for e in log.of(4656))
    assert not any(e["lossy"] for e in log.events)


@LOG
def test_device_paths_have_letters(log):
    """5156 and 5158 name the application as the kernel does."""
    said = [e["Application"] for e in log.of(5156, 5158)]
    assert any(path.startswith(DEVICE) for path in said)
    of_sysmon = counted(e["Image"] for e in log.of(3))
    got = counted(e["actor"].get("process_path") for e in log.events if e["class"] == "network")
    assert got == counted(map(letters, said)) + of_sysmon
    assert not any("harddiskvolume" in path.lower() for path in got)


@LOG
def test_names_of_users(log):
    logons = log.at_svm("authentication", "Logon")
    assert counted(e["authentication"]["user_name"] for e in logons) == counted(
        account(e, "TargetDomainName", "TargetUserName") for e in log.of(4624))
    assert counted(e["authentication"].get("user_uid") for e in logons) == counted(
        e["TargetUserSid"] for e in log.of(4624))
    started = log.at_svm("process", "Launch")
    assert counted(e["actor"].get("user_name") for e in started) == counted(
        [e.get("User") for e in log.of(1)] + [account(e, "SubjectDomainName", "SubjectUserName") for e in log.of(4688)])
    assert counted(e["process"].get("cmd_line") for e in started) == counted(
        [e.get("CommandLine") for e in log.of(1, 4688)])


@LOG
def test_names_and_addresses_of_the_network(log):
    assert counted(e["dns"]["hostname"] for e in log.at_svm("dns", "Response")) == counted(
        e["QueryName"] for e in log.of(22))
    # network.step 2: ESTABLISHED, which 5156 and Sysmon's 3 are; one machine may tell both
    expected = [ends(e, "SourceAddress", "DestAddress", "DestPort") for e in log.of(5156)]
    expected += [ends(e, "SourceIp", "DestinationIp", "DestinationPort") for e in log.of(3)]
    got = [e["network"] for e in log.at_svm("network", "Open")]
    assert {n["step"] for n in got} == {2}
    assert counted(ends(n, "src_ip", "dst_ip", "dst_port") for n in got) == counted(expected)
    assert counted(str(e["network"]["src_port"]) for e in log.at_svm("network", "Listen")) == counted(
        e["SourcePort"] for e in log.of(5158))


def ends(event, source, target, port):
    return (*sorted((normal(event[source]), normal(event[target]))), str(event[port]))


def normal(address):
    return str(ipaddress.ip_address(address))


# ---- the traces that we recorded ourselves ----


@pytest.mark.parametrize("trace", OWN, ids=lambda path: path.stem)
def test_own_trace_as_several_vms(world, trace):
    run = world.sim("info", trace, "--json")
    assert run.wait() == 0
    (stream,) = json.loads(run.out)["streams"]
    svm = world.svm("one", "--json")
    world.configure({"one": {"address": svm}}, rest=REST)
    world.start(up=1)
    summary = world.directory / "summary.json"
    replay = ["replay", trace, "--fast", "--copies", 4, "--connect", world.shared, "--summary", summary]
    assert world.sim(*replay).wait() == 0
    wait_for("four times all", lambda: svm.delivered("linux") == 4 * stream["events"])
    sent = {s["vm_uuid"]: s["sent"] for s in load_summary(summary)["streams"]}
    assert len(sent) == 4 and stream["vm_uuid"] in sent
    assert {vm: of["delivered"] for (vm, driver), of in svm.streams().items() if driver == "linux"} == sent
    events = wait_for("its lines", lambda: len(svm.events(driver="linux")) == 4 * stream["events"]
                      and svm.events(driver="linux"))
    said = [[(e["sequence"], e["type_uid"], json.dumps(e.get(e["class"]))) for e in events if e["vm_uuid"] == vm]
            for vm in sent]
    assert all(copy == said[0] for copy in said), "every copy is the same but for its VM"


# ---- what is no trace ----


def cut(trace, size, directory):
    path = directory / f"cut-{size}.pcap"
    path.write_bytes(trace.read_bytes()[:size])
    return path


@pytest.mark.parametrize("size", [5000, 4913 - 100, 3000])
def test_truncated_trace(world, size):
    """What is whole is used; the message says how far that is."""
    path = cut(ROOT / "tests/data/unpack.pcap", size, world.directory)
    run = world.sim("info", path, "--json")
    assert run.wait() == 1
    packet, offset = map(int, run.wait_err(rf"{path.name}: damaged, .*packet (\d+) at byte (\d+): trunc").groups())
    assert offset <= size < offset + 1000 and packet > 5
    info = json.loads(run.out)
    assert info["damaged"] and info["bytes_read"] == offset and info["packets"] == packet - 1
    events = info["streams"][0]["events"]
    svm = world.svm("one", "--quiet")
    world.configure({"one": {"address": svm}}, rest=REST)
    world.start(up=1)
    run = world.sim("replay", path, "--fast", "--connect", world.shared)
    run.wait()
    run.wait_err(rf"damaged, replaying what could be read: packet {packet} at byte {offset}")
    wait_for("what is whole", lambda: svm.delivered("linux") == events)


@pytest.mark.parametrize(("data", "said"), [
    (b"", "truncated dump file"), (b"\xd4\xc3\xb2\xa1\x02\x00", "truncated dump file"),
    (b"Lorem ipsum dolor sit amet " * 20, "unknown file format")], ids=["empty", "half a header", "garbage"])
@pytest.mark.parametrize("command", ["info", "replay"])
def test_no_trace(world, command, data, said):
    path = world.directory / "no.pcap"
    path.write_bytes(data)
    door = ["--connect", world.shared] if command == "replay" else []
    run = world.sim(command, path, *door)
    assert run.wait() == 1
    assert said in run.err and str(path) in run.err and len(run.lines["err"]) == 1


def test_trace_of_another_link_type(world):
    """An Ethernet capture is a pcap file, but none of a guest."""
    path = world.directory / "ethernet.pcap"
    data = bytearray((ROOT / "tests/data/unpack.pcap").read_bytes())
    data[20:24] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    run = world.sim("info", path)
    assert run.wait() == 1
    assert "271" in run.err


def test_truncated_log(world):
    line = json.dumps({"EventID": 11, "SourceName": "Microsoft-Windows-Sysmon", "Hostname": "web",
                       "@timestamp": "2020-10-22T08:29:53.801Z", "TargetFilename": "C:\\a-%d"})
    whole = gzip.compress("".join(f"{line % n}\n" for n in range(1000)).encode(), mtime=0)
    path = world.directory / "log.gz"
    path.write_bytes(whole[:len(whole) // 2])
    run = world.sim("import", path, "--output", world.directory / "out.pcap")
    assert run.wait() == 1
    assert 0 < int(run.wait_err(r"log.gz: after line (\d+): .*unexpected end of file").group(1)) < 1000


SOURCE = "Microsoft-Windows-Security-Auditing"
FILTERED = {"Protocol": "6", "ProcessId": "4", "SourceAddress": "192.0.2.1", "SourcePort": "445"}
CONNECTION = {**FILTERED, "Direction": "%%14593", "DestAddress": "192.0.2.2", "DestPort": "80"}
HANDLE = {"ProcessId": "0x10", "HandleId": "0x4"}
FILE = {**HANDLE, "ObjectType": "File", "ObjectName": "C:\\a", "AccessMask": "0x10000"}
SESSION = {"TargetUserName": "anna", "TargetLogonId": "0x77", "LogonType": "2"}
# Made-up events: id, fields, class and activity at the SVM (None: left out), status_id there (1 success, 2 failure)
MADE = [(4625, {"TargetUserName": "anna", "Status": "0xc000006d", "LogonType": "3"}, ("authentication", 1), 2),
        (4647, SESSION, ("authentication", 2), 1), (4634, SESSION, None, 0), (4658, HANDLE, None, 0),
        (4656, FILE, ("file", 14), 1), (4663, FILE, None, 0), (4660, HANDLE, ("file", 4), 1),
        (5154, FILTERED, ("network", 7), 1), (5155, FILTERED, ("network", 7), 2),
        (5156, CONNECTION, ("network", 1), 1), (5157, CONNECTION, ("network", 5), 2),
        (5158, FILTERED, None, 0), (5159, FILTERED, None, 0), (4658, HANDLE, None, 0)]


def test_made_up_log(world):
    """What there is none of in the logs of real machines; and what is left out, by id."""
    path = world.directory / "made.jsonl"
    path.write_text("".join(json.dumps({
        "EventID": number, "SourceName": SOURCE, "Hostname": "web", "TimeCreated": "2020-10-22T08:29:53.5Z",
        "@timestamp": "2020-10-22T08:32:08.000Z", **fields}) + "\n" for number, fields, _, _ in MADE))
    trace = world.directory / "made.pcap"
    text = world.sim("import", path, "--output", trace)
    assert text.wait() == 0, text.err
    run = world.sim("import", path, "--output", trace, "--json")
    assert run.wait() == 0, run.err
    left_out = left_out_by_id(json.loads(run.out))
    assert left_out == {4634: 1, 4658: 2, 4663: 1, 5158: 1, 5159: 1}
    rows = text.out.split("left out:\n")[1].splitlines()[:len(left_out)]
    assert {int(row.split()[1]): int(row.split()[2]) for row in rows} == left_out
    svm = world.svm("one", "--json")
    world.configure({"one": {"address": svm}}, rest=REST)
    world.start(up=1)
    assert world.sim("replay", trace, "--fast", "--connect", world.shared).wait() == 0
    expected = collections.Counter((*made, status) for _, _, made, status in MADE if made)
    events = wait_for("all of it", lambda: len(got := [e for e in svm.events() if e["driver"] != "gimuxd"]) ==
                      expected.total() and got)
    assert collections.Counter((e["class"], e["activity_id"], e["status_id"]) for e in events) == expected
    assert {e["time_ns"] for e in events} == {utc("2020-10-22T08:29:53.500")}
    assert [e["file"]["path"] for e in events if e["class"] == "file"] == ["C:\\a", "C:\\a"]


def test_log_of_garbage(world):
    path = world.directory / "log.jsonl"
    path.write_bytes(b"\xff\xfe garbage\n[1]\n{}\n" + b"not JSON\n" * 10)
    run = world.sim("import", path, "--output", world.directory / "out.pcap", "--json")
    assert run.wait() == 1
    assert "log.jsonl: line 1: " in run.err and "line 2: expected a JSON object" in run.err
    assert "more such lines" in run.err
    assert json.loads(run.out)["unusable"] == 12 and json.loads(run.out)["machines"] == []
