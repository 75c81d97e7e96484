"""SIGUSR2: the program that is installed now takes the place of the one that runs, and drivers notice nothing; if it
does not come up, the old one goes on."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import uuid

import driver as d
import pytest
from driver import Driver
from harness import BUILD, DEADLINE, Program, assert_adds_up, children, load_summary, wait_for

VM, OTHER_VM = (f"{n * 8}-0000-4000-8000-000000000000" for n in "12")
OLD = os.environ.get("GIMUX_OLD")  # a gimuxd of another version
QUIET = "heartbeat = 60s\nsilence = 120s"  # a PING is nothing that these tests wait for


def install(world, text=None, program=BUILD / "gimuxd"):
    """Puts a program, gimuxd or this script, where the running gimuxd was started from, as package managers do."""
    new = world.run / "gimuxd.new"
    if text is None:
        shutil.copy(program, new)
    else:
        new.write_text(text)
    new.chmod(0o755)
    new.rename(world.run / "gimuxd")


def start(world, path=None, up=0, program=BUILD / "gimuxd"):
    install(world, program=program)
    world.gimuxd = world.track(Program(world.run / "gimuxd", "-f", "-c", path or world.directory / "gimuxd.conf"))
    world.gimuxd.name = "gimuxd"
    world.gimuxd.wait_err(r"gimuxd \S+: up with")
    world.wait_up(up)


def upgrade(world):
    """SIGUSR2; returns "done" or "failed"."""
    result = world.run / "pid.upgrade"
    result.unlink(missing_ok=True)
    world.gimuxd.kill(signal.SIGUSR2)
    return wait_for("the result of the upgrade", lambda: result.exists() and result.read_text()).strip()


def inode(path):
    return os.stat(path).st_ino


def own_events(svm):
    """The events that gimuxd itself makes: drivers that come and go."""
    return svm.events(driver="gimuxd")


# ---- it works ----

def test_drivers_notice_nothing(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    keeper, workers = world.gimuxd.process.pid, {world.worker()}
    with Driver(world.shared) as driver:
        driver.say_hello().events(10).expect_ack(10)
        for round_ in range(1, 6):
            install(world)
            assert upgrade(world) == "done"
            assert world.worker() not in workers
            workers.add(world.worker())
            assert inode(f"/proc/{world.worker()}/exe") == inode(world.run / "gimuxd")
            driver.events(10).expect_ack(10 * round_ + 10)  # on the same connection, and nothing else came on it
        seen = svm.wait_events(60, driver="linux")
    assert world.gimuxd.process.pid == keeper == int((world.run / "pid").read_text())
    assert [e["sequence"] for e in seen] == list(range(1, 61))
    wait_for("the driver's end", lambda: len(own_events(svm)) == 2)
    assert [e["sequence"] for e in own_events(svm)] == [1, 2]  # it came once, and went once
    assert len({e["boot_id"] for e in own_events(svm)}) == 1
    totals = svm.stats()["totals"]
    assert (totals["connections"], totals["again"], totals["out_of_order"]) == (6, 0, 0)
    assert world.gimuxd.end() == 0


def test_counters_do_not_jump_back(world):
    svm, muted = world.svm("svm", "--quiet"), world.svm("muted", "--quiet", "--mute", "/tmp/")
    world.configure({"svm": {"address": svm}, "muted": {"address": muted}}, rest=QUIET)
    start(world, up=2)
    with Driver(world.shared) as driver:
        driver.say_hello().events(100).expect_ack(100)
        before, status = world.metrics(), world.status()
        assert upgrade(world) == "done"
        world.wait_up(2)
        after, now = world.metrics(), world.status()
        for name, value in before.items():
            if "_total" in name:
                assert after[name] >= value, name
        assert before['gimux_solution_filtered_total{solution="muted"}'] == 100
        assert after["gimux_guest_connections_total"] == 1
        assert (before["gimux_upgrades_total"], after["gimux_upgrades_total"]) == (0, 1)
        assert now["connections"] == status["connections"] == 1

        def counts(status):
            return {(s["driver"], s["boot_id"], c["solution"]): (s["last"], s["accepted"], s["guest_os"], s["connected"],
                                                                 c["delivered"], c["filtered"], c["gapped"])
                    for vm in status["vms"] for s in vm["streams"] for c in s["cursors"]}
        assert counts(now) == counts(status)
        assert [vm["connected"] for vm in now["vms"]] == [True]
        driver.events(50).expect_ack(150)
    assert world.gimuxd.end() == 0
    stream = muted.streams()[(driver.vm, "linux")]
    assert (stream["delivered"], stream["filtered_told"], stream["gapped"]) == (0, 150, 0)


@pytest.mark.parametrize("durability", ["delivered", "process"])
@pytest.mark.parametrize("programs", [
    [BUILD / "gimuxd"],
    pytest.param([OLD, BUILD / "gimuxd"], marks=pytest.mark.skipif(not OLD, reason="GIMUX_OLD names no other version")),
], ids=["same", "other"])
def test_load_over_many_upgrades(world, programs, durability):
    """Nothing is lost, nothing comes twice, and no driver has to connect again; from version to version, and back."""
    svms = {"all": world.svm("all", "--quiet"), "some": world.svm("some", "--quiet", "--mute", "/home/", "--class",
                                                                   "file,process,lifecycle")}
    storage = f'storage {{ dir = "{world.directory}/logs" }}' if durability == "process" else ""
    world.configure({name: {"address": svm, "durability": durability} for name, svm in svms.items()}, rest=storage)
    start(world, up=2, program=programs[0])
    path = world.directory / "summary.json"
    sim = world.sim("load", "--connect", world.shared, "--vms", 8, "--rate", 500, "--verbose", "--summary", path)
    world.wait_metric("gimux_guest_records_total", 1000)
    for round_ in range(15):
        install(world, program=programs[(round_ + 1) % len(programs)])
        assert upgrade(world) == "done", round_
        taken = world.metrics()["gimux_guest_records_total"]
        world.wait_metric("gimux_guest_records_total", taken + 500)
    connections = world.metrics()["gimux_guest_connections_total"]
    sim.kill(signal.SIGINT)
    assert sim.wait() == 0
    summary = load_summary(path)
    assert connections == len(summary["streams"]) == 16
    wait_for("everything to settle", lambda: all(s["pending"] == 0 for s in world.status()["solutions"]))
    streams = [s for vm in world.status()["vms"] for s in vm["streams"] if s["driver"] != "gimuxd"]
    assert sorted(s["last"] for s in streams) == sorted(s["sent"] for s in summary["streams"])
    assert all(c["delivered"] + c["filtered"] + c["gapped"] == s["last"] for s in streams for c in s["cursors"])
    assert world.gimuxd.end() == 0
    for svm in svms.values():
        if svm is svms["all"] or durability == "delivered":  # else its own positions stand for what it was not told
            assert_adds_up(summary, svm, ("vsepflt", "vnetwfp"))
        totals = svm.stats()["totals"]
        assert (totals["again"], totals["out_of_order"], totals["protocol_errors"]) == (0, 0, 0)
        assert all(s["gapped"] == 0 for s in svm.stats()["streams"])
    assert all(svms["all"].streams()[(s["vm_uuid"], s["driver"])]["delivered"] == s["sent"] for s in summary["streams"])


def test_more_connections_than_one_message_takes(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    drivers = [Driver(world.shared) for _ in range(600)]
    for driver in drivers:
        driver.say_hello().events(1)
    for driver in drivers:
        driver.expect_ack(1)
    assert upgrade(world) == "done"
    for driver in drivers:
        driver.events(1)
    for driver in drivers:
        driver.expect_ack(2)
        driver.socket.close()
    assert world.metrics()["gimux_guest_connections_total"] == 600


def test_what_is_half_read_goes_on(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    with Driver(world.shared) as half, Driver(world.shared) as silent, Driver(world.shared) as greeting:
        half.say_hello()
        record = d.file(1, "/" + "long" * 5000)
        half.send(record[:15000])
        hello = d.hello(greeting.vm, greeting.boot)
        greeting.send(hello[:20])
        wait_for("what was sent to be read", lambda: unread(half) == unread(greeting) == 0)
        assert upgrade(world) == "done"
        half.send(record[15000:])
        half.sent = 1
        half.expect_ack(1)
        greeting.send(hello[20:])
        greeting.expect(d.WELCOME)
        silent.say_hello().events(3).expect_ack(3)
    assert svm.wait_events(1, boot_id=half.boot)[0]["file"]["path"] == "/" + "long" * 5000


def unread(driver):
    """Bytes that lie in the kernel and that gimuxd has not read."""
    import array
    import fcntl
    import termios
    size = array.array("i", [0])
    fcntl.ioctl(driver.socket, termios.TIOCOUTQ, size)
    return size[0]


def test_volumes_of_a_windows_driver_are_known_after_it(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    with Driver(world.shared, driver=d.VSEPFLT) as driver:
        driver.say_hello()
        driver.send(d.volumes({"C": "\\Device\\HarddiskVolume2", "E": "\\Device\\HarddiskVolume7"}))
        driver.events(1, "\\Device\\HarddiskVolume7\\before-%d").expect_ack(1)
        assert upgrade(world) == "done"
        driver.events(1, "\\Device\\HarddiskVolume7\\after-%d").expect_ack(2)
        driver.events(1, "\\Device\\HarddiskVolume2\\after-%d").expect_ack(3)
    paths = [e["file"]["path"] for e in svm.wait_events(3, driver="vsepflt")]
    assert paths == ["E:\\before-1", "E:\\after-2", "C:\\after-3"]


def test_doors_follow_the_configuration(world):
    svm = world.svm("svm", "--quiet")
    doors = {"shared": world.shared, "vm_dir": world.vm_dir}

    def configure(vms, **more):
        world.configure({"svm": {"address": svm}}, doors={**doors, **more}, vms={vm: {} for vm in vms}, rest=QUIET)
    first, second = (world.vm_dir / f"{vm}.sock" for vm in (VM, OTHER_VM))
    configure([VM], vmx=world.vmx)
    start(world, up=1)
    kept = inode(world.run / "shared.sock"), inode(world.admin)
    with Driver(f"unix:{first}", vm=VM) as driver, socket.socket(socket.AF_UNIX) as waiting:
        driver.say_hello().events(1).expect_ack(1)
        configure([OTHER_VM])
        assert upgrade(world) == "done"
        assert second.is_socket() and not first.exists() and not (world.run / "vmx.sock").exists()
        assert (inode(world.run / "shared.sock"), inode(world.admin)) == kept
        driver.events(1).expect_ack(2)  # who came in by it stays
        waiting.connect(str(world.run / "shared.sock"))
        with Driver(f"unix:{second}", vm=OTHER_VM) as other:
            other.say_hello()
    assert world.gimuxd.end() == 0
    assert not list(world.run.glob("*.sock")) and not list(world.vm_dir.iterdir())


def test_a_vm_that_gimuxd_has_dialled(world):
    svm = world.svm("svm", "--quiet")
    path = world.run / "chardev.sock"
    world.configure({"svm": {"address": svm}}, doors={"redial": "20ms"}, vms={VM: {"dial": f"unix:{path}"}}, rest=QUIET)
    with socket.socket(socket.AF_UNIX) as chardev:
        chardev.settimeout(DEADLINE)
        chardev.bind(str(path))
        chardev.listen()
        start(world, up=1)
        driver = Driver.__new__(Driver)
        driver.__dict__.update(vm=VM, boot=str(uuid.uuid4()), driver=d.LINUX, sent=0, data=b"", welcome=None,
                               socket=chardev.accept()[0])
        driver.socket.settimeout(DEADLINE)
        driver.say_hello().events(1).expect_ack(1)
        assert upgrade(world) == "done"
        driver.events(1).expect_ack(2)
        chardev.settimeout(0.2)  # many times longer than it would wait before dialling again
        with pytest.raises(TimeoutError):
            chardev.accept()
        driver.socket.close()
        chardev.settimeout(DEADLINE)
        chardev.accept()[0].close()  # now it does


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_new_worker_is_confined_like_the_old_one(world):
    svm = world.svm("svm", "--quiet")
    world.run.chmod(0o755)
    text = world.configure({"svm": {"address": svm}}, rest=f'user = "nobody"\n{QUIET}').read_text()
    (world.run / "gimuxd.conf").write_text(text)
    start(world, world.run / "gimuxd.conf", up=1)
    with Driver(world.shared) as driver:
        driver.say_hello().events(1).expect_ack(1)
        assert upgrade(world) == "done"
        driver.events(1).expect_ack(2)
        (world.run / "gimuxd.conf").write_text(text.replace('user = "nobody"', 'user = "daemon"'))
        assert upgrade(world) == "done"
        driver.events(1).expect_ack(3)
    status = pathlib.Path(f"/proc/{world.worker()}/status").read_text()
    assert "\nUid:\t1\t1\t1\t1\n" in status and "\nSeccomp:\t2\n" in status
    assert world.admin.stat().st_uid == world.admin.stat().st_gid == 1


# ---- it does not, and the old one goes on ----

# What a program that takes the place of gimuxd may do up to a point, and then {end}.
HALF_WAY = """#!/usr/bin/python3
import array, os, socket, struct, sys, time
control, takeover = (int(n) for n in next(a for a in sys.argv if a.startswith("--worker=")).split("=")[1].split(","))
other = socket.socket(fileno=takeover)
other.send(b"t")
data, _, _, _ = other.recvmsg(100, 10000)
count = struct.unpack_from("<I", data, 4)[0]
while count > 0:
    _, rights, _, _ = other.recvmsg(100, 10000)
    count -= len(rights[0][2]) // 4
{end}
"""
HANG = "time.sleep(1000)"

FAILURES = {
    "fails-at-once": ("#!/bin/sh\nexit 3\n", "the new gimuxd has ended with status 3 before it was up"),
    "does-not-know-the-option": ("#!/bin/sh\necho usage >&2\nexit 2\n", "ended with status 2"),
    "is-no-program": ("garbage", "cannot run .*/gimuxd: Exec format error"),
    "is-not-executable": (None, "cannot run .*/gimuxd: Permission denied"),
    "is-gone": (None, "cannot run .*/gimuxd: No such file"),
    "hangs-at-once": ("#!/bin/sh\nexec sleep 1000\n", "the new gimuxd was not up within 10000 ms"),
    "crashes-half-way": (HALF_WAY.format(end="os.kill(os.getpid(), 11)"), "the new gimuxd has ended by signal 11"),
    "hangs-half-way": (HALF_WAY.format(end=HANG), "the new one is not ready in time"),
    "talks-nonsense": (HALF_WAY.format(end="other.send(b'?')\n" + HANG), "the new one says what it should not"),
    "is-early": ("#!/usr/bin/python3\nimport socket, sys, time\n"
                 "socket.socket(fileno=int(sys.argv[3].split(',')[1])).send(b'r')\n" + HANG,
                 "the new one says what it should not"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_new_program_that_does_not_come_up(world, how):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    worker = world.worker()
    program, text = FAILURES[how]
    with Driver(world.shared) as driver:
        driver.say_hello().events(10).expect_ack(10)
        if how == "is-not-executable":
            (world.run / "gimuxd").chmod(0o644)
        elif how == "is-gone":
            (world.run / "gimuxd").unlink()
        else:
            install(world, program)
        assert upgrade(world) == "failed"
        world.gimuxd.wait_err(text)
        world.gimuxd.wait_err("upgrade: this gimuxd goes on: ")
        assert world.worker() == worker
        driver.events(10).expect_ack(20)
        with Driver(world.shared) as other:
            other.say_hello()
        metrics = world.metrics()
        assert (metrics["gimux_upgrades_total"], metrics["gimux_upgrade_failures_total"]) == (0, 1)
        install(world)
        assert upgrade(world) == "done"  # this one does
        driver.events(10).expect_ack(30)
    assert [e["sequence"] for e in svm.wait_events(30, boot_id=driver.boot)] == list(range(1, 31))


def test_a_configuration_that_is_wrong_by_now(world):
    path = world.configure({})
    start(world)
    path.write_text(path.read_text() + "nonsense")
    assert upgrade(world) == "failed"
    world.gimuxd.wait_err("ended with status 1")
    with Driver(world.shared) as driver:
        driver.say_hello()


def test_a_door_that_cannot_be_opened(world):
    """What the new one has opened already is gone again; the doors of the old one stand."""
    first, second = (world.vm_dir / f"{vm}.sock" for vm in (VM, OTHER_VM))
    doors = {"shared": world.shared, "vm_dir": world.vm_dir}
    world.configure({}, doors=doors, vms={VM: {}})
    start(world)
    world.configure({}, doors={**doors, "vmx": f"unix:{world.run}/not/there.sock"}, vms={VM: {}, OTHER_VM: {}})
    assert upgrade(world) == "failed"
    world.gimuxd.wait_err("cannot listen on .*/not/there.sock")
    assert first.is_socket() and not second.exists()
    for door in (f"unix:{first}", world.shared):
        with Driver(door, vm=VM if "vms" in door else None) as driver:
            driver.say_hello()


def test_certificates_that_cannot_be_read(world):
    """That is found after all doors are open; the admin door, like the others, is still the old one's."""
    world.configure({})
    start(world)
    world.configure({"av": {"address": "tls:127.0.0.1:1", **{f: world.run / "none.pem" for f in ("cert", "key", "ca")}}})
    assert upgrade(world) == "failed"
    world.gimuxd.wait_err("error solution=av .*none.pem")
    assert world.metrics()["gimux_upgrade_failures_total"] == 1
    with Driver(world.shared) as driver:
        driver.say_hello()


def test_what_is_in_memory_alone_is_not_given_up(world):
    svm = world.svm("svm", "--json")
    world.configure({"svm": {"address": svm}}, rest=QUIET)
    start(world, up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello().events(100)
        world.wait_metric("gimux_guest_records_total", 100)
        assert upgrade(world) == "failed"
        world.gimuxd.wait_err(r"this gimuxd goes on: \d+ events, or gaps, wait for SVMs")
        svm.kill(signal.SIGCONT)
        driver.expect_ack(100)
        assert upgrade(world) == "done"
        driver.events(100).expect_ack(200)
    assert [e["sequence"] for e in svm.wait_events(200, boot_id=driver.boot)] == list(range(1, 201))


# ---- at the same time ----

def test_sigterm_and_sighup_wait_for_the_end_of_the_upgrade(world):
    world.configure({}, rest=QUIET)
    start(world)
    install(world, "#!/bin/sh\nexec sleep 1000\n")
    world.gimuxd.kill(signal.SIGUSR2)
    world.gimuxd.wait_err("upgrade: starting")
    new, = wait_for("the new one", lambda: [p for p in children(world.gimuxd.process.pid) if is_sleep(p)])
    world.gimuxd.kill(signal.SIGUSR2)
    world.gimuxd.wait_err("upgrade: not now, gimuxd is being upgraded already")
    world.gimuxd.kill(signal.SIGHUP)
    world.gimuxd.kill(signal.SIGTERM)
    os.kill(new, signal.SIGKILL)
    assert world.gimuxd.wait() == 0
    assert "reload: " in world.gimuxd.err and "ending: " in world.gimuxd.err


def is_sleep(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def test_not_while_ending(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest="drain = 60s")
    start(world, up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello().events(10)
        world.wait_metric("gimux_guest_records_total", 10)
        world.gimuxd.kill(signal.SIGTERM)
        world.gimuxd.wait_err("ending: ")
        world.gimuxd.kill(signal.SIGUSR2)
        world.gimuxd.wait_err("upgrade: not now, gimuxd is ending")
        svm.kill(signal.SIGCONT)
        assert world.gimuxd.wait() == 0


def test_in_the_background(world):
    svm = world.svm("svm", "--quiet")
    path = world.configure({"svm": {"address": svm}}, rest=QUIET)
    install(world)
    assert subprocess.run([world.run / "gimuxd", "-c", path], check=False, timeout=DEADLINE).returncode == 0
    pid = int((world.run / "pid").read_text())
    try:
        with Driver(world.shared) as driver:
            driver.say_hello().events(1).expect_ack(1)
            os.kill(pid, signal.SIGUSR2)
            result = world.run / "pid.upgrade"
            assert wait_for("the result", lambda: result.exists() and result.read_text()).strip() == "done"
            worker, = wait_for("one worker", lambda: len(found := children(pid)) == 1 and found)
            assert all(os.readlink(f"/proc/{worker}/fd/{fd}") == "/dev/null" for fd in (0, 1, 2))
            driver.events(1).expect_ack(2)
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for("its end", lambda: not (world.run / "pid").exists())


def test_what_is_in_files_is_taken_over(world):
    """With VM logs in files nobody has to wait for an SVM: it comes after the upgrade, and has everything once."""
    svm = world.svm("svm")
    port = svm.port
    world.configure({"s": {"address": svm, "durability": "process", "redial_max": "100ms"}},
                    rest=QUIET + f'\nstorage {{ dir = "{world.directory}/logs" }}')
    start(world, up=1)
    with Driver(world.shared, VM) as driver:
        driver.say_hello().events(100)
        driver.expect_ack(100)
        wait_for("the SVM to have it", lambda: world.status()["solutions"][0]["pending"] == 0)
        svm.end()
        driver.events(900)
        driver.expect_ack(1000)
        assert upgrade(world) == "done"
        driver.events(500)
        driver.expect_ack(1500)
        assert upgrade(world) == "done"
        svm = world.svm("svm", "--json", listen=f"tcp:127.0.0.1:{port}")
        events = svm.wait_events(1400, driver="linux")
        assert [e["sequence"] for e in events] == list(range(101, 1501))
        driver.events(10)
        driver.expect_ack(1510)
    assert len(own_events(svm)) <= 2


def test_files_that_nobody_needs_any_more(world):
    """A reload has left a VM with files that no solution relies on: they say in an upgrade how far its streams are."""
    svm = world.svm("svm")
    files = QUIET + f'\nstorage {{ dir = "{world.directory}/logs" }}'
    world.configure({"s": {"address": svm, "durability": "process"}}, rest=files)
    start(world, up=1)
    with Driver(world.shared, VM) as driver:
        driver.say_hello().events(100).expect_ack(100)
        world.configure({"s": {"address": svm, "durability": "delivered"}}, rest=files)
        world.gimuxd.kill(signal.SIGHUP)
        world.gimuxd.wait_err("reload: .* is in force")
        world.wait_up(1)
        for count in range(200, 1100, 100):
            driver.events(100)
            driver.expect_ack(count)
            assert upgrade(world) == "done"
            world.wait_up(1)


def test_files_elsewhere_are_not_taken_over(world):
    """A new configuration that looks for VM logs elsewhere would leave them behind: the old one goes on."""
    svm = world.svm("svm")
    solution = {"s": {"address": svm, "durability": "process"}}
    world.configure(solution, rest=QUIET + f'\nstorage {{ dir = "{world.directory}/logs" }}')
    start(world, up=1)
    with Driver(world.shared, VM) as driver:
        driver.say_hello().events(100)
        driver.expect_ack(100)
        world.configure(solution, rest=QUIET + f'\nstorage {{ dir = "{world.directory}/other" }}')
        assert upgrade(world) == "failed"
        world.gimuxd.wait_err("expected .*/logs, where VM logs are")
        driver.events(100)
        driver.expect_ack(200)
