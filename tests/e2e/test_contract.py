"""The contract of the event stream: order, nothing lost, nothing silent, nothing twice, isolation, bounded memory.

Whatever breaks here (guests, SVMs, links, gimuxd itself), the sum is done from what the drivers say that they sent and
what the SVMs say that they got; gimuxd's own counters are only compared with it afterwards.
"""

import signal
from collections import defaultdict

import driver as guest
import pytest
from driver import Driver
from harness import load_summary, wait_for
from proxy import Proxy

SMALL = "limits {\n    vm_log = 768K\n    vm_window = 2M\n    memory = %s\n}\n"
FAST = "heartbeat = 200ms\nsilence = 2s\n"


def load(world, *args, connect=None):
    """thinagent-sim load with a summary; returns (program, a function that waits for its end and reads that)."""
    path = world.directory / f"summary-{len(world.programs)}.json"
    sim = world.sim("load", "--connect", connect or world.shared, "--linux", "--summary", path, *args)

    def summary():
        status = sim.wait()
        assert status == 0, f"thinagent-sim ended with {status}:\n{sim.err[-2000:]}"
        return load_summary(path)
    return sim, summary


def metric_sum(metrics, name):
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


def pending(world, solution=None):
    return sum(s["pending"] for s in world.status()["solutions"] if solution in (None, s["solution"]))


def wait_drained(world):
    wait_for("every SVM to settle everything", lambda: pending(world) == 0)


def key_of(item):
    return item["vm_uuid"], item["driver"], item["boot_id"]


def counts_of(svm):
    return {key_of(stream): stream for stream in svm.stats()["streams"]}


def assert_table(sent, svm):
    """Nothing silent: for every stream sent = delivered + filtered + in gaps."""
    got = counts_of(svm)
    for stream in sent["streams"]:
        if stream["sent"] == 0:
            continue
        seen = got[key_of(stream)]
        assert seen["delivered"] + seen["filtered_told"] + seen["gapped"] == stream["sent"], (stream, seen)


def assert_all_delivered(sent, svm):
    got = counts_of(svm)
    for stream in sent["streams"]:
        assert got[key_of(stream)]["delivered"] == stream["sent"], (stream, got[key_of(stream)])
        assert got[key_of(stream)]["gaps"] == []


def assert_polite(svm):
    """What the client library found nothing wrong with: in order, nothing twice, no broken rule."""
    totals = svm.stats()["totals"]
    assert (totals["again"], totals["out_of_order"], totals["protocol_errors"]) == (0, 0, 0), totals


def assert_own_counters(world, svms, drivers=("linux",)):
    """gimuxd's status, taken before it ended, against the SVMs' counts. svms: {solution: Svm}"""
    seen = {name: counts_of(svm) for name, svm in svms.items()}
    for vm in world["vms"]:
        for stream in vm["streams"]:
            if stream["driver"] not in drivers:
                continue
            for cursor in stream["cursors"]:
                got = seen[cursor["solution"]].get((vm["vm"], stream["driver"], stream["boot_id"]))
                told = (got["delivered"], got["filtered_told"], got["gapped"]) if got else (0, 0, 0)
                assert (cursor["delivered"], cursor["filtered"], cursor["gapped"]) == told, (vm["vm"], cursor, got)
                assert cursor["settled"] == stream["last"] == stream["accepted"]


def assert_solution_counters(status, metrics):
    """The totals of /metrics are the sums of the cursors of /v1/status."""
    sums = defaultdict(int)
    for vm in status["vms"]:
        for stream in vm["streams"]:
            for cursor in stream["cursors"]:
                for part in ("delivered", "filtered", "gapped"):
                    sums[part, cursor["solution"]] += cursor[part]
    for (part, solution), total in sums.items():
        assert metrics[f'gimux_solution_{part}_total{{solution="{solution}"}}'] == total


# ---- policies ----

@pytest.mark.parametrize("heartbeat, memory", [("10s", "128M"), ("200ms", "24M")], ids=["hung", "declared-dead"])
def test_64_vms_with_a_healthy_a_pausing_and_a_dropping_svm(world, heartbeat, memory):
    """With a long heartbeat the stopped SVMs' links stand; with a short one they break, again and again."""
    svms = {"healthy": world.svm("healthy", "--quiet", "--class", "file,lifecycle"),
            "pausing": world.svm("pausing", "--quiet"),
            "dropping": world.svm("dropping", "--quiet", "--mute", "/home/")}
    world.configure({name: {"address": svm, "heartbeat": heartbeat, "redial_max": "500ms",
                            "policy": "drop" if name == "dropping" else "pause"} for name, svm in svms.items()},
                    rest=FAST + SMALL % memory)
    world.start(up=3)
    limit = world.metrics()["gimux_log_limit_bytes"]
    highest = 0

    def watch(condition):
        def look():
            nonlocal highest
            metrics = world.metrics()
            highest = max(highest, metrics["gimux_log_bytes"])
            return condition(metrics)
        return look

    svms["dropping"].kill(signal.SIGSTOP)
    _, summary = load(world, "--vms", 64, "--events", 12000)
    wait_for("gaps", watch(lambda m: m['gimux_solution_gapped_total{solution="dropping"}'] > 0))
    svms["pausing"].kill(signal.SIGSTOP)
    wait_for("all VMs to be paused", watch(lambda m: metric_sum(m, "gimux_vm_paused") == 64))
    assert world.metrics()["gimux_guest_pauses_total"] >= 64
    for name in ("pausing", "dropping"):
        svms[name].kill(signal.SIGCONT)
    sent = summary()
    wait_for("everything to settle", watch(lambda m: metric_sum(m, "gimux_solution_pending") == 0))
    status, metrics = world.status(), world.metrics()
    assert world.gimuxd.end() == 0
    assert sent["totals"]["sent"] == 64 * 12000
    assert 0 < highest <= limit
    assert [s["skips"] > 0 for s in sorted(status["solutions"], key=lambda s: s["solution"])] == [True, False, False]
    for svm in svms.values():
        assert_polite(svm)
        assert_table(sent, svm)
    assert_all_delivered(sent, svms["pausing"])
    healthy = counts_of(svms["healthy"])
    for stream in sent["streams"]:
        assert healthy[key_of(stream)]["delivered"] == stream["by_kind"]["file"]
        assert healthy[key_of(stream)]["gaps"] == []
    assert {gap["reason"] for stream in counts_of(svms["dropping"]).values() for gap in stream["gaps"]} == {"overflow"}
    assert_own_counters(status, svms)
    assert_solution_counters(status, metrics)


def test_a_healthy_dropping_svm_loses_nothing_to_a_stopped_pausing_one(world):
    """Isolation: giving up events for an SVM that keeps up would not free anything that another one holds."""
    healthy, stopped = world.svm("healthy", "--quiet"), world.svm("stopped", "--quiet")
    world.configure({"healthy": {"address": healthy, "policy": "drop"}, "stopped": {"address": stopped}},
                    rest=SMALL % "8M")
    world.start(up=2)
    stopped.kill(signal.SIGSTOP)
    _, summary = load(world, "--vms", 8, "--events", 10000)
    wait_for("all VMs to be paused", lambda: metric_sum(world.metrics(), "gimux_vm_paused") == 8)
    wait_for("the healthy one to have all", lambda: world.metrics()['gimux_solution_pending{solution="healthy"}'] == 0)
    assert world.metrics()['gimux_solution_gapped_total{solution="healthy"}'] == 0
    stopped.kill(signal.SIGCONT)  # from here on it may be the healthy one that is slower
    sent = summary()
    wait_drained(world)
    assert_all_delivered(sent, stopped)
    for svm in (healthy, stopped):
        assert_polite(svm)


def test_a_healthy_dropping_svm_loses_nothing_to_a_stopped_dropping_one(world):
    healthy, stopped = world.svm("healthy", "--quiet"), world.svm("stopped", "--quiet")
    world.configure({name: {"address": svm, "policy": "drop"}
                     for name, svm in (("healthy", healthy), ("stopped", stopped))}, rest=SMALL % "64M")
    world.start(up=2)
    stopped.kill(signal.SIGSTOP)
    _, summary = load(world, "--vms", 8, "--events", 8000, "--rate", 8000)
    world.wait_metric("gimux_guest_records_total", 8 * 8000)
    stopped.kill(signal.SIGCONT)
    sent = summary()
    wait_drained(world)
    assert_all_delivered(sent, healthy)
    assert counts_of(stopped)[key_of(sent["streams"][0])]["gapped"] > 0
    for svm in (healthy, stopped):
        assert_polite(svm)


def test_vms_go_on_when_silent_ones_hold_all_memory_for_a_dropping_svm(world):
    svm = world.svm("stopped", "--quiet")
    world.configure({"stopped": {"address": svm, "policy": "drop", "window": "64K"}},
                    rest="limits {\n    memory = 5M\n    vm_log = 1M\n    vm_window = 4M\n}\n")
    world.start(up=1)
    svm.kill(signal.SIGSTOP)
    summaries = [load(world, "--vms", 8, "--seed", 1, "--events", 2500)[1]]
    world.wait_metric("gimux_guest_records_total", 8 * 2500)
    summaries.append(load(world, "--vms", 4, "--seed", 2, "--events", 6000)[1])
    world.wait_metric("gimux_guest_records_total", 8 * 2500 + 4 * 6000)
    metrics = world.metrics()
    assert metrics["gimux_log_bytes"] <= metrics["gimux_log_limit_bytes"]
    svm.kill(signal.SIGCONT)
    for summary in summaries:
        sent = summary()
        wait_drained(world)
        assert_table(sent, svm)
    assert_polite(svm)


def test_a_slow_svm_under_pause_loses_nothing(world):
    slow, fast = world.svm("slow", "--quiet", "--slow", 1), world.svm("fast", "--quiet")
    world.configure({"slow": {"address": slow, "heartbeat": "100ms"}, "fast": {"address": fast}},
                    rest=FAST + SMALL % "8M")
    world.start(up=2)
    sent = load(world, "--vms", 1, "--events", 8000)[1]()
    wait_drained(world)
    assert metric_sum(world.metrics(), "gimux_guest_pauses_total") > 0
    for svm in (slow, fast):
        assert_polite(svm)
        assert_all_delivered(sent, svm)


# ---- isolation ----

def test_a_quiet_vm_overtakes_the_backlog_of_a_flooding_one(world):
    """Deficit round robin: of the flooder's backlog only what was on its way already comes before the quiet event."""
    window = 64 * 1024
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm, "window": window, "heartbeat": "60s"}}, rest=SMALL % "8M")
    world.start(up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as flooder, Driver(world.shared) as quiet:
        flooder.say_hello()
        quiet.say_hello()
        flooder.events(1200, path="/tmp/" + 200 * "x" + "-%d")
        world.wait_metric(f'gimux_vm_events_total{{vm="{flooder.vm}"}}', 1200)
        quiet.events(1, path="/tmp/quiet-%d")
        world.wait_metric(f'gimux_vm_events_total{{vm="{quiet.vm}"}}', 1)
        svm.kill(signal.SIGCONT)
        flooder.expect_ack(1200)
        events = svm.wait_events(1201, driver="linux")
    assert [e["sequence"] for e in events if e["vm_uuid"] == flooder.vm] == list(range(1, 1201))
    before = [e["vm_uuid"] for e in events].index(quiet.vm)
    assert before <= (window + 2 * 16384) / 200 < 500, before  # a frame of the flooder's takes at least 200 bytes


def test_many_quiet_vms_are_heard_while_one_floods_without_end(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest=SMALL % "8M")
    world.start(up=1)
    flood, _ = load(world, "--vms", 1, "--seed", 99)
    wait_for("the flood", lambda: svm.delivered("linux") > 5000)
    sent = load(world, "--vms", 16, "--events", 20)[1]()
    assert flood.process.poll() is None
    assert_all_delivered(sent, svm)
    flood.end(signal.SIGINT)


# ---- breaks ----

def sequences(svm):
    """{stream: sequences in the order of arrival}, of an SVM that prints JSON."""
    found = defaultdict(list)
    for event in svm.events():
        found[key_of(event)].append(event["sequence"])
    return found


def test_guest_connections_cut_anywhere(world):
    svms = [world.svm(name, "--json") for name in ("one", "two")]
    world.configure({f"svm{i}": {"address": svm} for i, svm in enumerate(svms)}, rest=SMALL % "16M")
    world.start(up=2)
    with Proxy(f"unix:{world.run}/proxy.sock", world.shared, cuts=60, longest=60000) as proxy:
        sent = load(world, "--vms", 6, "--events", 3000, connect=proxy.address)[1]()
        assert proxy.all_cut
    wait_drained(world)
    assert sent["totals"]["reconnects"] > 20 and sent["totals"]["resent"] > 0
    for svm in svms:
        assert_polite(svm)
        assert_all_delivered(sent, svm)
        svm.end()
        seen = sequences(svm)
        for stream in sent["streams"]:
            assert seen[key_of(stream)] == list(range(1, 3001))


def test_what_was_delivered_while_the_driver_was_away_is_acknowledged_when_it_is_back(world):
    """Or the driver would keep it for ever: nothing else moves in its stream."""
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}})
    world.start(up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as first:
        first.say_hello().events(10)
        world.wait_metric(f'gimux_vm_events_total{{vm="{first.vm}"}}', 10)
    svm.kill(signal.SIGCONT)
    svm.wait_events(10, vm_uuid=first.vm, driver="linux")
    wait_drained(world)
    with Driver(world.shared, vm=first.vm, boot=first.boot) as second:
        second.say_hello()
        assert second.welcome.next_wanted == 11
        second.expect_ack(10)


def test_svm_links_cut_anywhere(world):
    svms = [world.svm(name, "--json", *more) for name, more in (("all", []), ("some", ["--mute", "/home/"]))]
    with Proxy("tcp:127.0.0.1:0", svms[0].address, cuts=25, longest=60000, seed=2) as one, \
            Proxy("tcp:127.0.0.1:0", svms[1].address, cuts=25, longest=60000, seed=3) as two:
        world.configure({f"svm{i}": {"address": proxy.address, "redial_max": "50ms"}
                         for i, proxy in enumerate((one, two))}, rest=FAST + SMALL % "16M")
        world.start()
        sent = load(world, "--vms", 6, "--events", 4000)[1]()
        wait_for("all cuts", lambda: one.all_cut and two.all_cut)
        world.wait_up(2)
        wait_drained(world)
        status = world.status()
        assert world.gimuxd.end() == 0
        for svm in svms:
            svm.wait_err("good-bye|bye")
    for svm in svms:
        assert svm.stats()["totals"]["connections"] > 10
        assert_polite(svm)
        assert_table(sent, svm)
    assert_all_delivered(sent, svms[0])
    assert sum(s["filtered_told"] for s in counts_of(svms[1]).values()) > 0
    assert_own_counters(status, {"svm0": svms[0], "svm1": svms[1]})
    svms[0].end()
    for stream in sent["streams"]:
        assert sequences(svms[0])[key_of(stream)] == list(range(1, 4001))


def test_what_was_filtered_is_told_again_on_a_new_link(world):
    """It may have been lost with the old one; then the SVM's sum would not add up until the stream moves again."""
    svm = world.svm("svm", "--quiet", "--mute", "/tmp/muted")
    world.configure({"svm": {"address": svm, "redial_max": "50ms", "heartbeat": "100ms"}})
    world.start(up=1)
    with Driver(world.shared) as one:
        one.say_hello().events(3).events(7, path="/tmp/muted-%d").expect_ack(10)
        key = one.vm, "linux", one.boot
        wait_for("progress", lambda: counts_of(svm)[key]["filtered_told"] == 7)
        svm.end()
        svm = world.svm("svm", "--quiet", "--mute", "/tmp/muted", listen=svm.address)
        wait_for("progress again", lambda: counts_of(svm).get(key, {}).get("filtered_told") == 7)
        one.events(2).expect_ack(12)
        wait_for("two more", lambda: counts_of(svm)[key]["delivered"] == 2)
    assert_polite(svm)


def test_svm_killed_and_started_without_memory(world):
    """What comes twice then is what was not acknowledged, which the window bounds."""
    window = 64 * 1024
    lives = [world.svm("svm", "--json", "--ack", "explicit")]
    address = lives[0].address
    world.configure({"svm": {"address": address, "redial_max": "50ms", "window": window}}, rest=SMALL % "16M")
    world.start(up=1)
    _, summary = load(world, "--vms", 4, "--events", 4000)
    for _ in range(6):
        before = world.metrics()['gimux_solution_delivered_total{solution="svm"}']
        world.wait_metric('gimux_solution_delivered_total{solution="svm"}', before + 500)
        lives[-1].end(signal.SIGKILL)
        lives.append(world.svm("svm", "--json", "--ack", "explicit", listen=address))
        world.wait_up(1)
    sent = summary()
    wait_drained(world)
    lives[-1].end()
    seen = [sequences(life) for life in lives]
    for stream in sent["streams"]:
        have = 0
        for life in seen:
            told = life[key_of(stream)]
            assert told == list(range(told[0], told[0] + len(told))) if told else True
            if told:
                assert told[0] <= have + 1, "lost"
                assert have - told[0] < window / 60, "more again than a window holds"
                have = max(have, told[-1])
        assert have == stream["sent"] == 4000


def test_gimuxd_killed_under_load(world):
    svms = [world.svm("one", "--json"), world.svm("two", "--json")]
    dropping = world.svm("dropping", "--quiet")
    world.configure({"one": {"address": svms[0], "redial_max": "50ms"},
                     "two": {"address": svms[1], "redial_max": "50ms"},
                     "dropping": {"address": dropping, "redial_max": "50ms", "policy": "drop"}},
                    rest=SMALL % "16M")
    world.start(up=3)
    _, summary = load(world, "--vms", 8, "--events", 4000)
    for _ in range(5):
        before = world.metrics()["gimux_guest_records_total"]
        world.wait_metric("gimux_guest_records_total", before + 1500)
        world.gimuxd.end(signal.SIGKILL)
        world.start()
    sent = summary()
    world.wait_up(3)
    wait_drained(world)
    assert sent["totals"]["reconnects"] >= 8 and sent["totals"]["resent"] > 0
    assert world.gimuxd.end() == 0
    got = counts_of(dropping)
    for stream in sent["streams"]:
        seen = got[key_of(stream)]
        assert seen["delivered"] + seen["gapped"] == stream["sent"] == seen["last"]
    for svm in (*svms, dropping):
        assert_polite(svm)
    for svm in svms:
        assert_all_delivered(sent, svm)
        svm.end()
        seen = sequences(svm)
        for stream in sent["streams"]:
            assert seen[key_of(stream)] == list(range(1, 4001))


def test_what_was_acknowledged_before_a_kill_is_with_every_svm(world):
    """`delivered` means it: the driver dies with gimuxd, and nothing can be sent again."""
    svms = [world.svm("fast", "--json"), world.svm("slow", "--json", "--slow", 1)]
    world.configure({f"svm{i}": {"address": svm} for i, svm in enumerate(svms)}, rest=SMALL % "16M")
    world.start(up=2)
    with Driver(world.shared) as one:
        one.say_hello().events(3000)
        acked = 0
        while acked < 1000:
            acked = one.expect(guest.ACK).sequence
        world.gimuxd.end(signal.SIGKILL)
        while (record := one.receive()) is not None:
            acked = record.sequence if record.type == guest.ACK else acked
    assert acked < 3000
    for svm in svms:
        svm.end()
        seen = [e["sequence"] for e in svm.events(vm_uuid=one.vm, driver="linux")]
        assert seen[:acked] == list(range(1, acked + 1))


# ---- what drivers say ----

def test_lost_becomes_one_gap_for_every_svm(world):
    svms = [world.svm("all", "--quiet"), world.svm("network-only", "--quiet", "--class", "network")]
    world.configure({"all": {"address": svms[0]}, "network-only": {"address": svms[1], "policy": "drop"}}, rest=FAST)
    world.start(up=2)
    with Driver(world.shared) as one:
        one.say_hello().events(3)
        one.send(guest.lost(4, 1000003))
        one.sent = 1000003
        one.events(2)
        one.send(guest.lost(1000006, 1000006))
        one.expect_ack(1000006)
    wait_drained(world)
    status = world.status()
    assert world.gimuxd.end() == 0
    for svm, delivered, filtered in zip(svms, (5, 0), (0, 5)):
        seen = counts_of(svm)[one.vm, "linux", one.boot]
        assert seen["gaps"] == [{"first": 4, "last": 1000003, "reason": "driver"},
                                {"first": 1000006, "last": 1000006, "reason": "driver"}]
        assert (seen["delivered"], seen["filtered_told"], seen["gapped"]) == (delivered, filtered, 1000001)
        assert_polite(svm)
    assert_own_counters(status, {"all": svms[0], "network-only": svms[1]})


def test_lost_from_a_driver_that_cannot_wait_adds_up(world):
    svms = [world.svm("one", "--quiet"), world.svm("two", "--quiet", "--mute", "/home/")]
    world.configure({"one": {"address": svms[0]}, "two": {"address": svms[1]}},
                    rest=FAST + "limits {\n    vm_log = 256K\n    vm_window = 64K\n}")
    world.start(up=2)
    sim, summary = load(world, "--vms", 2, "--rate", 100000, "--no-wait", "--queue", 4096)
    while world.metrics()['gimux_solution_gapped_total{solution="one"}'] < 1000:
        svms[0].kill(signal.SIGSTOP)
        wait_for("drivers to wait", lambda: pending(world, "one") > 500)
        svms[0].kill(signal.SIGCONT)
        wait_for("drivers to go on", lambda: pending(world, "one") < 100)
    sim.kill(signal.SIGINT)
    sent = summary()
    wait_drained(world)
    assert world.gimuxd.end() == 0
    assert sent["totals"]["lost"] >= 1000
    for svm in svms:
        assert_polite(svm)
        assert_table(sent, svm)
        got = counts_of(svm)
        for stream in sent["streams"]:
            assert got[key_of(stream)]["gapped"] == stream["lost"]
            assert {gap["reason"] for gap in got[key_of(stream)]["gaps"]} <= {"driver"}


def test_a_silent_driver_is_reported_lost_and_back(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest="heartbeat = 100ms\nsilence = 400ms\n")
    world.start(up=1)

    def next_lifecycle(number):
        event = svm.wait_events(number, driver="gimuxd")[number - 1]
        assert event["sequence"] == number and event["lifecycle"]["driver"] == "linux"
        return event["activity"], event["lifecycle"].get("reason", "")

    with Driver(world.shared) as one:
        one.say_hello()
        assert next_lifecycle(1) == ("start", "")
        for number in (2, 4):  # it does not answer PINGs
            activity, reason = next_lifecycle(number)
            assert activity == "stop" and "silent" in reason
            assert world.metrics()["gimux_guest_lost_total"] == number // 2
            one.send(guest.ping())
            assert next_lifecycle(number + 1) == ("start", "it is heard again")
        activity, reason = next_lifecycle(6)
        assert activity == "stop" and "silent" in reason
    world.gimuxd.wait_err("disconnected: ")
    world.gimuxd.wait_err(f"warning vm={one.vm} driver=linux lost: ")
    world.gimuxd.wait_err(f"vm={one.vm} driver=linux the driver is back")
    with Driver(world.shared, vm=one.vm, boot=one.boot) as again:
        again.say_hello()
        assert next_lifecycle(7) == ("start", "")  # it was told only once that it was lost
        assert world.metrics()["gimux_guest_lost_total"] == 3
        again.send(guest.bye())
        activity, reason = next_lifecycle(8)
        assert activity == "stop" and "BYE" in reason


def test_a_hung_driver_is_reported_lost_and_goes_on(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest="heartbeat = 100ms\nsilence = 400ms\n")
    world.start(up=1)
    sim, summary = load(world, "--vms", 1, "--rate", 100)
    svm.wait_events(10, driver="linux")
    sim.kill(signal.SIGSTOP)
    svm.wait_events(1, driver="gimuxd", activity="stop")
    sim.kill(signal.SIGCONT)
    svm.wait_events(2, driver="gimuxd", activity="start")
    sim.kill(signal.SIGINT)
    assert_all_delivered(summary(), svm)


def kinds(*types):
    return sum(1 << (kind - guest.FILE) for kind in types)


def test_what_nobody_wants_is_not_sent(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm, "classes": ["file", "lifecycle"]}})
    world.start(up=1)
    with Driver(world.shared) as one:
        one.say_hello()
        assert one.welcome.interest == kinds(guest.FILE)
        sim, summary = load(world, "--vms", 1, "--rate", 2000)
        wait_for("events", lambda: svm.delivered("linux") > 200)
        world.configure({"svm": {"address": svm, "classes": ["network", "file", "lifecycle"]}})
        assert world.reload()
        assert one.expect(guest.INTEREST).kinds == kinds(guest.FILE, guest.NET)
        wait_for("network events", lambda: any(s["by_class"].get("network") for s in svm.stats()["streams"]))
        sim.kill(signal.SIGINT)
        sent = summary()
        assert set(sent["totals"]["by_kind"]) == {"file", "network"}
        assert sent["totals"]["not_wanted"] > 0
        assert_all_delivered(sent, svm)
        with Driver(world.shared) as two:
            assert two.say_hello().welcome.interest == kinds(guest.FILE, guest.NET)


def test_a_drivers_gap_may_begin_before_what_an_svm_has(world):
    """gimuxd is killed, and a driver that has lost its memory first begins anew, then says that it dropped what the SVM
    has long since. The gap is the same for all SVMs; this one takes what is new of it, and does not hang up."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm, "redial_max": "50ms"}}, rest=SMALL % "16M")
    world.start(up=1)
    with Driver(world.shared) as one:
        one.say_hello().events(10).expect_ack(10)
        vm, boot = one.vm, one.boot
    world.gimuxd.end(signal.SIGKILL)
    world.start(up=1)
    with Driver(world.shared, vm, boot) as again:
        again.say_hello().events(1).expect_ack(1)
    with Driver(world.shared, vm, boot) as again:
        again.say_hello(first_held=15).events(1).expect_ack(15)
    stream = svm.streams()[(vm, "linux")]
    assert (stream["delivered"], stream["gapped"], stream["last"]) == (11, 4, 15), stream
    assert svm.stats()["totals"]["connections"] == 2
