"""VM logs in files: what was accepted outlives gimuxd, and what is damaged is told."""

import json
import re
import signal

import pytest

from driver import ACK, Driver
from harness import Program, wait_for

VM = "0c6e1d3a-8f3c-4a53-9d0e-0000000000%02x"
BOOT = "6b1e2d3c-0000-4000-8000-0000000000%02x"


def storage(world, **more):
    fields = {"dir": world.directory / "logs", **more}
    return "storage {\n" + "".join(f"    {k} = {world.value(v)}\n" for k, v in fields.items()) + "}"


def segments(world):
    return sorted((world.directory / "logs").iterdir())


def kill(world):
    world.gimuxd.end(signal.SIGKILL)


@pytest.mark.parametrize("durability,level", [("process", 2), ("disk", 3)])
def test_what_was_accepted_outlives_a_kill(world, durability, level):
    svm = world.svm("svm", "--json")
    port = svm.port
    svm.end()
    world.configure({"s": {"address": f"tcp:127.0.0.1:{port}", "durability": durability, "redial_max": "100ms"}},
                    rest=storage(world))
    world.start()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(1000)
        while (ack := driver.expect(ACK)).sequence < 1000:
            assert ack.level == level
        assert ack.level == level
        kill(world)
    world.start()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        assert driver.say_hello(first_held=1001).welcome.next_wanted == 1001
        driver.events(10)
        svm = world.svm("svm", "--json", listen=f"tcp:127.0.0.1:{port}")
        events = svm.wait_events(1010, driver="linux")
        assert [e["sequence"] for e in events] == list(range(1, 1011))
        assert [e["file"]["path"] for e in events] == [f"/tmp/file-{n}" for n in range(1, 1011)]
        driver.expect_ack(1010)
    assert sum(s["gapped"] for s in svm.stats()["streams"]) == 0


def away(world):
    """The port of an SVM that does not run."""
    svm = world.svm("away")
    port = svm.port
    svm.end()
    return port


def solution(port, **more):
    return {"address": f"tcp:127.0.0.1:{port}", "durability": "process", "redial_max": "100ms", **more}


def assert_whole(svm, count, driver="linux"):
    """So many events came, in order, and nothing else."""
    wait_for(f"{count} events", lambda: svm.delivered(driver) >= count)
    stream, = (s for s in svm.stats()["streams"] if s["driver"] == driver)
    assert (stream["delivered"], stream["gapped"]) == (count, 0)
    assert svm.stats()["totals"]["protocol_errors"] == 0


LONG = "/" + "x" * 200 + "-%d"


def test_spill_goes_on_in_files(world):
    """Ten times a VM's log is accepted while the SVM is away; memory is bounded; the SVM gets all of it, and files go."""
    port = away(world)
    world.configure({"s": solution(port, policy="spill")},
                    rest=storage(world) + "limits { memory = 4M vm_log = 1M vm_window = 256K }")
    world.start()
    count = 40_000
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello()
        for _ in range(count // 500):
            driver.events(500, LONG)
            driver.expect_ack(driver.sent - 500)
        driver.expect_ack(count)
        metrics = world.metrics()
        assert metrics["gimux_storage_bytes"] > 10 * 1024 * 1024
        assert metrics["gimux_log_bytes"] <= 1024 * 1024
        kill(world)
        world.start()
        assert world.metrics()["gimux_log_bytes"] == 0
        svm = world.svm("svm", listen=f"tcp:127.0.0.1:{port}")
        assert_whole(svm, count)
    wait_for("the files to go", lambda: len(segments(world)) == 1 and segments(world)[0].stat().st_size < 100_000)


def test_a_bound_of_files_is_obeyed(world):
    """At storage.vm nothing more is accepted and the guest waits; when the SVM comes, all goes on."""
    port = away(world)
    world.configure({"s": solution(port, policy="spill")},
                    rest=storage(world, vm="4M") + "limits { memory = 4M vm_log = 1M vm_window = 256K }")
    world.start()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello()
        driver.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while driver.sent < 100_000:
                driver.events(100, LONG)
        world.gimuxd.wait_err("storage: the bound")
        assert 3 * 1024 * 1024 < sum(s.stat().st_size for s in segments(world)) <= 4 * 1024 * 1024
        assert world.metrics()["gimux_storage_full"] == 1


def test_an_svm_goes_on_where_it_was(world):
    """Without positions of its own, after both were killed, it gets what it had not acknowledged."""
    svm = world.svm("svm")
    world.configure({"s": solution(svm.port)}, rest=storage(world))
    world.start(up=1)
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(100)
        driver.expect_ack(100)
        assert_whole(svm, 100)
        wait_for("its position to be written", lambda: world.metrics()["gimux_storage_waiting"] == 0)
        svm.end(signal.SIGKILL)
        driver.events(50)
        driver.expect_ack(150)
        kill(world)
    world.start()
    svm = world.svm("svm", listen=svm.address)
    wait_for("the rest", lambda: svm.delivered("linux") >= 50)
    stream, = (s for s in svm.stats()["streams"] if s["driver"] == "linux")
    assert (stream["first"], stream["delivered"]) == (101, 50)


def test_damage_costs_what_was_damaged(world):
    port = away(world)
    world.configure({"s": solution(port)}, rest=storage(world))
    world.start()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(1000)
        driver.expect_ack(1000)
    kill(world)
    segment, = segments(world)
    data = bytearray(segment.read_bytes())
    at = data.index(b"/tmp/file-500")
    data[at] ^= 1
    segment.write_bytes(data)
    world.start()
    world.gimuxd.wait_err("storage: damage in 1 places; 1 events are missing")
    svm = world.svm("svm", "--json", listen=f"tcp:127.0.0.1:{port}")
    events = svm.wait_events(999, driver="linux")
    assert [e["sequence"] for e in events] == [n for n in range(1, 1001) if n != 500]
    gap, = (json.loads(line) for line in svm.lines["out"] if '"gap"' in line and '"linux"' in line)
    assert (gap["first"], gap["last"], gap["reason"]) == (500, 500, "storage")


def test_a_new_solution_begins_now_though_files_were_damaged(world):
    """Those that are configured when damaged files are taken up are told what is missing; one that comes later is not."""
    port = away(world)
    solutions = {"s": solution(port)}
    world.configure(solutions, rest=storage(world))
    world.start()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(100)
        driver.expect_ack(100)
    kill(world)
    segment, = segments(world)
    data = bytearray(segment.read_bytes())
    data[data.index(b"/tmp/file-50")] ^= 1
    segment.write_bytes(data)
    world.start()
    world.gimuxd.wait_err("storage: damage in 1 places")
    late = world.svm("late", "--json")
    world.configure(solutions | {"late": solution(late.port)}, rest=storage(world))
    assert world.reload()
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello(first_held=101).events(10)
        events = late.wait_events(10, driver="linux")
        assert [e["sequence"] for e in events] == list(range(101, 111))
        assert not [line for line in late.lines["out"] if '"gap"' in line and '"linux"' in line]


def test_what_belongs_to_nothing_is_left_alone(world):
    (world.directory / "logs").mkdir()
    strays = [world.directory / "logs" / name for name in ("notes.txt", "x.vmlog", f"{VM % 1}.1.2.vmlog")]
    for stray in strays:
        stray.write_text("mine")
    world.configure({"s": solution(away(world))}, rest=storage(world))
    world.start()
    for stray in strays:
        world.gimuxd.wait_err(re.escape(stray.name) + " belongs to nothing")
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(10)
        driver.expect_ack(10)
    world.gimuxd.end()
    assert all(stray.read_text() == "mine" for stray in strays)


def test_two_gimuxds_do_not_share_a_directory(world):
    world.configure({"s": solution(away(world))}, rest=storage(world))
    world.start()
    other = (world.directory / "gimuxd.conf").read_text().replace(str(world.run), str(world.run) + "/other")
    (world.run / "other").mkdir()
    path = world.directory / "other.conf"
    path.write_text(other)
    second = world.track(Program("gimuxd", "-f", "-c", path))
    second.wait_err("storage: .*: another gimuxd uses it")
    assert second.wait() == 1


def test_a_stop_leaves_positions(world):
    """After an orderly stop nothing is sent again, even to an SVM that knows nothing."""
    svm = world.svm("svm")
    world.configure({"s": solution(svm.port)}, rest=storage(world))
    world.start(up=1)
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(100)
        driver.expect_ack(100)
    assert_whole(svm, 100)
    world.gimuxd.end()
    svm.end()
    svm = world.svm("svm", listen=svm.address)
    world.start(up=1)
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        assert driver.say_hello(first_held=101).welcome.next_wanted == 101
        driver.events(1)
        driver.expect_ack(101)
    assert_whole(svm, 1)


def test_a_first_storage_dir_on_a_reload(world):
    """Files come with a restart. Until then nothing is recorded, whatever solutions rely on: gimuxd once ended here."""
    svm = world.svm("never", "--json", "--ack", "never")
    world.configure({"s": {"address": svm, "policy": "drop"}}, rest="limits { memory = 8M vm_log = 512K vm_window = 4M }")
    world.start(up=1)
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        driver.say_hello().events(10)
        svm.wait_events(10, driver="linux")
        world.configure({"s": {"address": svm, "policy": "drop", "durability": "process"}},
                        rest="limits { memory = 8M vm_log = 512K vm_window = 4M }\n" + storage(world))
        assert world.reload()
        world.gimuxd.wait_err("storage: dir = .* is used after a restart")
        driver.events(20000)
        world.gimuxd.wait_err("fell behind: [0-9]+ events become a gap")
        driver.expect_ack(10000)
    assert not (world.directory / "logs").exists()


def test_vms_beyond_a_limit_that_became_smaller(world):
    """What was accepted is told, whatever limits.vms is by now; no other VM is taken meanwhile."""
    port = away(world)
    world.configure({"s": solution(port)}, rest=storage(world))
    world.start()
    for number in 1, 2, 3:
        with Driver(world.shared, VM % number, BOOT % number) as driver:
            driver.say_hello().events(10).expect_ack(10)
    world.gimuxd.end()
    world.configure({"s": solution(port)}, rest=storage(world) + "\nlimits { vms = 1 }")
    world.start()
    world.gimuxd.wait_err(r"storage: \d VMs, limits.vms = 1: no other VM")
    svm = world.svm("svm", listen=f"tcp:127.0.0.1:{port}")
    wait_for("30 events", lambda: svm.delivered("linux") >= 30)
    assert sum(s["gapped"] for s in svm.stats()["streams"]) == 0
    with Driver(world.shared, VM % 1, BOOT % 1) as driver:
        assert driver.say_hello(first_held=11).welcome.next_wanted == 11
