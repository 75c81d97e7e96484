"""The benchmark measures, and marks who loses or reorders events.

It is run as small as it can be: what it says of speed is of no interest here.
"""

import json
import os
import pathlib
import subprocess

import pytest
from harness import BUILD

# A relay in the place of the limit, which does something to every 500th record of a producer.
RELAY = """#!/usr/bin/python3
import selectors, socket, struct, sys

def whole(data):
    at = 0
    while len(data) - at >= 24 and len(data) - at >= struct.unpack_from("<I", data, at)[0]:
        size = struct.unpack_from("<I", data, at)[0]
        yield data[at : at + size]
        at += size

door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen(100)
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
receivers = [listener.accept()[0] for _ in range(int(sys.argv[3]))]
ready = selectors.DefaultSelector()
ready.register(door, selectors.EVENT_READ)
left, count = {}, 0
while True:
    for key, _ in ready.select():
        if key.fileobj is door:
            ready.register(door.accept()[0], selectors.EVENT_READ)
            continue
        data = left.pop(key.fd, b"") + key.fileobj.recv(1 << 16)
        if not data:
            ready.unregister(key.fileobj)
            continue
        records = list(whole(data))
        left[key.fd] = data[sum(map(len, records)) :]
        count += len(records)
        if count > 500 and len(records) > 2:
            count = 0
            WHAT
        for receiver in receivers:
            receiver.sendall(b"".join(records))
"""


def bench(tmp_path, *options, programs=BUILD / "bench"):
    """Runs it with private directories under tmp_path, of which nothing may be left. Returns its rows."""
    work = tmp_path / "work"
    work.mkdir()
    out = tmp_path / "bench.json"
    command = [BUILD / "bench/bench", "--gimuxd", BUILD / "gimuxd", "--programs", programs, "--json", out]
    command += ["--repetitions", "1", "--seconds", "0.2", *options]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(work)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert list(work.iterdir()) == []
    assert processes_of(work) == []
    return {row["system"]: row for row in json.loads(out.read_text())}, done.stdout


def processes_of(directory):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass  # has ended
    return found


def test_limit_and_gimuxd_are_measured(tmp_path):
    rows, table = bench(tmp_path, "--scenario", "batch", "--system", "limit", "--system", "gimuxd")
    assert set(rows) == {"limit", "gimuxd"}
    for row in rows.values():
        assert row["scenario"] == "batch"
        assert row["cpu_s_per_million"] > 0
        assert row["deliveries_per_s"] > 1000
        assert row["rss_mb"] > 0.5
        assert row["p50_us"] is None and row["p99_us"] is None  # nothing can be said of latency at full speed
        assert row["lossless"] is True
        assert 150 < row["event_bytes"] < 300
    assert rows["limit"]["ratio_to_limit"] == 1
    ratio = rows["gimuxd"]["cpu_s_per_million"] / rows["limit"]["cpu_s_per_million"]
    assert rows["gimuxd"]["ratio_to_limit"] == pytest.approx(ratio, rel=1e-3)
    assert ratio > 1
    assert "batch: saturated" in table


def test_latency_of_a_paced_run(tmp_path):
    rows, _ = bench(tmp_path, "--scenario", "paced", "--system", "gimuxd")
    assert 0 < rows["gimuxd"]["p50_us"] <= rows["gimuxd"]["p99_us"]
    assert rows["gimuxd"]["ratio_to_limit"] is None
    assert rows["gimuxd"]["deliveries_per_s"] < 200000  # 3 times the rate, and what the drain adds


@pytest.mark.parametrize("scenario", ["status", "metrics"])
def test_what_asking_costs(tmp_path, scenario):
    rows, table = bench(tmp_path, "--scenario", scenario)
    row = rows["gimuxd"]
    assert 0 < row["quiet_p50_us"] <= row["quiet_p99_us"] <= row["quiet_most_us"]
    assert 0 < row["asked_p50_us"] <= row["asked_p99_us"] <= row["asked_most_us"]
    assert row["reply_kib"] > 4096 * 5 * 40 / 1024  # five metrics of each VM, each with its UUID
    assert row["reply_ms"] > 1
    assert "4,096 VMs" in table


@pytest.mark.parametrize("what", ["del records[1]", "records[0], records[1] = records[1], records[0]"])
def test_who_loses_or_reorders_is_marked(tmp_path, what):
    programs = tmp_path / "programs"
    programs.mkdir()
    relay = programs / "relay"
    relay.write_text(RELAY.replace("WHAT", what))
    relay.chmod(0o755)
    rows, table = bench(tmp_path, "--scenario", "batch", "--system", "limit", programs=programs)
    assert rows["limit"]["lossless"] is False
    assert "NO: " in table
