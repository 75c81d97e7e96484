"""Numbers that a peer or a file chose: nobody counts, waits or allocates by them.

A guest that said sequence 2^64 - 1 once had gimuxd count from there for ever, at every start again.
"""

import os
import signal

import pytest
from driver import Driver, file, lost
from test_storage import storage
from test_upgrade import upgrade

VM, OTHER = "0c6e1d3a-8f3c-4a53-9d0e-000000000001", "0c6e1d3a-8f3c-4a53-9d0e-000000000002"
BOOT = "6b1e2d3c-0000-4000-8000-000000000001"
LAST = 2**63 - 1  # the last sequence that there is
BEYOND = [2**63, 2**64 - 2, 2**64 - 1]


@pytest.fixture
def gimuxd(world):
    """One with files and a solution whose SVM is away, so that all that is accepted goes there."""
    away = world.svm("away")
    away.end()
    world.away = away.address
    world.configure({"s": {"address": away.address, "durability": "process", "policy": "spill",
                           "redial_max": "100ms"}},
                    rest='drain = "0s"\n' + storage(world))
    world.start()
    return world


def is_served(world, vm=OTHER, boot=BOOT):
    """Another VM is welcomed, and its event goes into a file."""
    with Driver(world.shared, vm, boot) as driver:
        driver.say_hello().events(1).expect_ack(driver.sent)


@pytest.mark.parametrize("number", BEYOND)
def test_a_hello_beyond_the_last_sequence(gimuxd, number):
    with Driver(gimuxd.shared, VM, BOOT) as driver:
        driver.send_hello(first_held=number)
        driver.expect_end()
    gimuxd.gimuxd.wait_err(f"closed: HELLO record: first sequence held is {number}, expected 1 to {LAST}")
    is_served(gimuxd)


@pytest.mark.parametrize("number", BEYOND)
def test_an_event_and_a_loss_beyond_the_last_sequence(gimuxd, number):
    with Driver(gimuxd.shared, VM, BOOT) as driver:
        driver.say_hello().send(file(number, "/x"))
        driver.expect_end()
    gimuxd.gimuxd.wait_err(f"closed: FILE record: sequence {number}, expected 1 to {LAST}")
    with Driver(gimuxd.shared, VM, BOOT) as driver:
        driver.say_hello().send(lost(1, number))
        driver.expect_end()
    gimuxd.gimuxd.wait_err(f"closed: LOST record: last sequence is {number}, expected 1 to {LAST}")
    is_served(gimuxd)


def test_the_last_sequence_there_is(gimuxd):
    """It is taken, goes into a file, is read back from there, and vetoes no upgrade."""
    with Driver(gimuxd.shared, VM, BOOT) as driver:
        driver.say_hello(first_held=LAST).events(1).expect_ack(LAST)
        driver.send(file(LAST + 1, "/x"))
        driver.expect_end()
    for _ in range(2):
        gimuxd.gimuxd.end(signal.SIGKILL)
        gimuxd.start()
        with Driver(gimuxd.shared, VM, BOOT) as driver:
            assert driver.say_hello(first_held=LAST).welcome.next_wanted == LAST + 1
        is_served(gimuxd)
    assert upgrade(gimuxd) == "done"
    is_served(gimuxd)
    svm = gimuxd.svm("back", "--json", listen=gimuxd.away)
    assert [e["sequence"] for e in svm.wait_events(1, driver="linux", vm_uuid=VM)] == [LAST]


def test_a_fifo_in_place_of_a_segment(gimuxd):
    """Whoever opens it for reading waits for a writer who never comes."""
    is_served(gimuxd)
    gimuxd.gimuxd.end(signal.SIGKILL)
    logs = gimuxd.directory / "logs"
    segment, = logs.glob("*.vmlog")
    segment.unlink()
    os.mkfifo(segment)
    gimuxd.start()
    gimuxd.gimuxd.wait_err(f"storage: {segment.name}: cannot be taken up, and is left alone")
    is_served(gimuxd, VM)
