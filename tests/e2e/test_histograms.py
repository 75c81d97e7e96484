"""How long the loop's turns and deliveries take, as /metrics tells it. No time is assumed but what a test has waited itself."""

import re
import time

import fake_svm
import pytest
from driver import Driver
from harness import wait_for

BOUNDS = [digit * 10 ** power / 1e6 for power in range(1, 7) for digit in (1, 2, 5)] + [10.0]  # seconds
HOUR = "60m"


@pytest.fixture
def pb():
    return fake_svm.load_pb()


class Histogram:
    """One histogram of /metrics; `label` is as in solution="av"."""

    def __init__(self, text, name, label=""):
        with_label, all_labels = (label + ",", "{" + label + "}") if label else ("", "")
        bucket = re.compile(rf'^gimux_{name}_bucket{{{re.escape(with_label)}le="([^"]+)"}} (\d+)$', re.MULTILINE)
        self.buckets = [(float(bound), int(count)) for bound, count in bucket.findall(text)]
        self.sum, = (float(s) for s in re.findall(rf"^gimux_{name}_sum{re.escape(all_labels)} (\d+\.\d+)$", text, re.MULTILINE))
        self.count, = (int(c) for c in re.findall(rf"^gimux_{name}_count{re.escape(all_labels)} (\d+)$", text, re.MULTILINE))

    def check(self):
        """What holds of every histogram."""
        bounds, counts = zip(*self.buckets)
        assert list(bounds[:-1]) == pytest.approx(BOUNDS) and bounds[-1] == float("inf")
        assert list(counts) == sorted(counts) and counts[-1] == self.count
        alone = [high - low for low, high in zip((0, *counts), counts)]
        assert sum(n * low for n, low in zip(alone, (0, *bounds))) <= self.sum
        if alone[-1] == 0:
            assert self.sum <= sum(n * high for n, high in zip(alone[:-1], bounds))
        return self

    def above(self, seconds):
        """How many certainly took longer than the largest bound that is at most this."""
        return self.count - max(([count for bound, count in self.buckets if bound <= seconds]), default=0)


def test_events_are_timed_on_their_way(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}, "down": {"address": "tcp:127.0.0.1:1", "policy": "drop"}},
                    rest="drain = 50ms")
    started = time.monotonic()
    world.start(up=1)
    before = Histogram(world.get("/metrics"), "loop_busy_seconds").check()
    with Driver(world.shared) as driver:
        driver.say_hello()
        for sent in range(10, 101, 10):
            driver.events(10)
            wait_for("delivery", lambda sent=sent: svm.delivered("linux") == sent)
        text = world.get("/metrics")
    after = Histogram(text, "loop_busy_seconds").check()
    assert after.count >= before.count + 10 and before.sum < after.sum <= time.monotonic() - started
    delivery = Histogram(text, "delivery_seconds", 'solution="svm"').check()
    assert 1 <= delivery.count <= 110 and delivery.sum > 0
    assert Histogram(text, "delivery_seconds", 'solution="down"').check().count == 0


class LateSvm:
    """A connection that takes what comes and acknowledges it only when it is told to."""

    def __init__(self, link):
        self.link = link
        self.last = {}  # of each stream, sequences

    def next_is(self, kind):
        frame = self.link.receive()
        assert frame is not None, f"the connection ended, expected {kind}"
        if frame.WhichOneof("body") == "event":
            self.last[frame.event.stream] = frame.event.sequence
        return frame.WhichOneof("body") == kind

    def await_ping(self):
        wait_for("a ping", lambda: self.next_is("ping"))
        self.link.send(pong={})

    def await_event(self, sequence):
        """Acknowledges everything until that one is there."""
        def is_there():
            for stream, last in self.last.items():
                self.link.ack(stream, last)
            return sequence in self.last.values() or (self.next_is("event") and False)
        wait_for(f"event {sequence}", is_there)


def test_an_svm_that_acknowledges_late_is_sent_late(world, pb):
    """What its window holds back is written when it acknowledges, and was on its way for so long."""
    def delivery():
        return Histogram(world.get("/metrics"), "delivery_seconds", 'solution="late"').check()

    def send(driver, count):
        driver.events(count, path="/" + 1000 * "x" + "%d")
        metric = f'gimux_vm_events_total{{vm="{driver.vm}"}}'
        wait_for("gimuxd to take them", lambda: world.metrics()[metric] == driver.sent)

    with fake_svm.FakeSvm(pb) as svm:
        world.configure({"late": {"address": svm.address, "window": 4096, "heartbeat": "500ms"}})
        world.start()
        with svm.accept() as link, Driver(world.shared) as driver:
            late = LateSvm(link.greet())
            world.wait_up(1)
            driver.say_hello()
            send(driver, 20)
            late.await_ping()  # more than a millisecond passes: what comes now is timed, or something is
            send(driver, 1)
            since = time.monotonic()
            late.await_ping()
            late.await_ping()
            held, before = time.monotonic() - since, delivery()
            assert 21 not in late.last.values()
            late.await_event(21)
            wait_for("the delivery to be timed", lambda: delivery().above(held) > before.above(held))
            assert held > 0.1 and delivery().sum - before.sum >= held
