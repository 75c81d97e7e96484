"""VM logs in files: what was accepted outlives gimuxd, and what is damaged is told."""

import os
import signal

import pytest

from driver import ACK, Driver
from harness import wait_for

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
