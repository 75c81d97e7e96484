"""The keeper: one process that is gimuxd to everybody, and a worker that lives and ends with it."""

import fcntl
import os
import pathlib
import re
import signal
import socket

import pytest
from driver import Driver
from harness import DEADLINE, Program, children, wait_for


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def test_the_pid_file_names_the_keeper(world):
    world.configure({})
    world.start()
    assert int((world.run / "pid").read_text()) == world.gimuxd.process.pid
    assert children(world.worker()) == []
    assert world.gimuxd.end() == 0
    assert list(world.run.glob("pid*")) == []


def test_both_end_when_the_keeper_is_killed(world):
    world.configure({})
    world.start()
    worker = world.worker()
    os.kill(worker, signal.SIGSTOP)  # one that hangs ends, too
    world.gimuxd.end(signal.SIGKILL)
    wait_for("the end of the worker", lambda: not is_alive(worker))


@pytest.mark.parametrize("number, name", [(signal.SIGABRT, "6"), (signal.SIGKILL, "9"), (signal.SIGTERM, None)])
def test_the_keeper_ends_as_the_worker_does(world, number, name):
    world.configure({})
    world.start()
    os.kill(world.worker(), number)
    assert world.gimuxd.wait() == (1 if name else 0)
    assert bool(re.search(rf"error the worker has ended by signal {name} ", world.gimuxd.err)) == bool(name)
    assert not (world.run / "pid").exists()


def holds_hup(pid):
    """Whether the process has SIGHUP blocked."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^SigBlk:\s*(\S+)", status, re.MULTILINE).group(1), 16) >> (signal.SIGHUP - 1) & 1


def test_a_reload_that_comes_too_early_is_made_later(world):
    """SIGHUP ended a gimuxd that was reading its configuration: here it is a pipe, so that both take their time."""
    path = world.configure({})
    text = path.read_text()
    path.unlink()
    os.mkfifo(path)
    gimuxd = world.gimuxd = world.track(Program("gimuxd", "-f", "-c", path))
    keeper = gimuxd.process.pid
    wait_for("the keeper to hold SIGHUP", lambda: holds_hup(keeper))
    gimuxd.kill(signal.SIGHUP)
    path.write_text(text)
    worker, = wait_for("the worker", lambda: children(keeper))
    wait_for("the worker's program", lambda: b"--worker" in pathlib.Path(f"/proc/{worker}/cmdline").read_bytes())
    assert holds_hup(worker)
    os.kill(worker, signal.SIGHUP)
    pipe = os.open(path, os.O_WRONLY)
    path.unlink()
    path.write_text(text)  # is read by the reload
    os.write(pipe, text.encode())
    os.close(pipe)
    gimuxd.wait_err("up with")
    world.wait_metric("gimux_reloads_total", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_end_reach_the_worker(world, number):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}})
    world.start(up=1)
    with Driver(world.shared) as driver:
        driver.say_hello().events(3).expect_ack(3)
        assert world.gimuxd.end(number) == 0
        assert [r.reason for r in driver.expect_end()] == ["gimuxd ends"]
    world.gimuxd.wait_err("ending: waiting at most 5000 ms")


def test_a_pid_file_that_somebody_keeps(world):
    world.configure({})
    (world.run / "pid").write_text("")
    with open(world.run / "pid", "rb") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        gimuxd = world.track(Program("gimuxd", "-f", "-c", world.directory / "gimuxd.conf"))
        assert gimuxd.wait() == 1
    assert f"another gimuxd, which is not up yet, runs with this pid file: {world.run}/pid" in gimuxd.err


def test_a_restart_waits_for_one_that_is_ending(world):
    world.configure({})
    (world.run / "pid").write_text("4711\n")
    with open(world.run / "pid", "rb") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        gimuxd = world.track(Program("gimuxd", "-f", "-c", world.directory / "gimuxd.conf"))
        gimuxd.wait_err("waiting for the gimuxd that has it")
        assert children(gimuxd.process.pid) == []
    gimuxd.wait_err("up with")


def listener(path):
    """Somebody who has a socket of the configuration; gimuxd is seen to look whether he lives."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(DEADLINE)
    one.bind(str(path))
    one.listen()
    return one


def test_a_start_waits_for_a_socket_of_one_that_is_ending(world):
    path = world.configure({})
    with listener(world.run / "shared.sock") as former:
        gimuxd = world.track(Program("gimuxd", "-f", "-c", path))
        former.accept()[0].close()
    gimuxd.wait_err("up with")


def test_sigterm_during_a_start_leaves_nothing(world):
    path = world.configure({})
    with listener(world.run / "shared.sock") as former:
        gimuxd = world.track(Program("gimuxd", "-f", "-c", path))
        former.accept()[0].close()
        assert gimuxd.end() == 1
    assert not (world.run / "pid").exists() and not world.admin.exists()


@pytest.mark.parametrize("pid_file", [True, False])
def test_a_restart_right_after_a_kill(world, pid_file):
    """What the killed one still holds for a moment, sockets above all, is no reason not to come up."""
    path = world.configure({})
    if not pid_file:
        path.write_text(path.read_text().replace(f"{world.run}/pid", ""))
    for _ in range(20):
        world.start()
        hoard = [Driver(world.shared) for _ in range(50)]
        world.gimuxd.process.kill()
        world.gimuxd.process.wait()  # the keeper, that is
        for driver in hoard:
            driver.socket.close()
    world.start()
    with Driver(world.shared) as driver:
        driver.say_hello()


@pytest.mark.parametrize("trap", ["symlink", "hard link", "fifo"])
def test_a_trap_in_the_place_of_the_pid_file(world, trap):
    precious = world.run / "precious"
    precious.write_text("precious\n")
    path = world.run / "pid"
    if trap == "symlink":
        path.symlink_to(precious)
    elif trap == "hard link":
        path.hardlink_to(precious)
    else:
        os.mkfifo(path)
    world.configure({})
    world.start()
    assert int(path.read_text()) == world.gimuxd.process.pid
    assert precious.read_text() == "precious\n"


def test_the_worker_cannot_write_the_pid_file(world):
    """It holds the lock, no more."""
    world.configure({})
    world.start()
    info = pathlib.Path(f"/proc/{world.worker()}/fdinfo")
    held = [entry.name for entry in pathlib.Path(f"/proc/{world.worker()}/fd").iterdir()
            if os.readlink(entry) == str(world.run / "pid")]
    assert len(held) == 1
    flags = re.search(r"^flags:\s*(\d+)", (info / held[0]).read_text(), re.MULTILINE).group(1)
    assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
