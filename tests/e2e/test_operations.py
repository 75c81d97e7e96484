"""What an administrator does: reload, stop, start in the background, look at status and metrics."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import threading

import pytest
from driver import Driver
from harness import BUILD, DEADLINE, Program, wait_for

FIRST_VM, SECOND_VM = (f"{n * 8}-0000-4000-8000-000000000000" for n in "12")


def connections(svm):
    return svm.stats()["totals"]["connections"]


def solutions(world):
    return {s["solution"]: s for s in world.status()["solutions"]}


# ---- reload ----

def test_a_solution_is_added_and_removed(world):
    one, two = world.svm("one", "--json"), world.svm("two", "--json")
    world.configure({"one": {"address": one}})
    world.start(up=1)
    with Driver(world.shared) as driver:
        driver.say_hello().events(10).expect_ack(10)
        world.configure({"one": {"address": one}, "two": {"address": two}})
        assert world.reload()
        world.wait_up(2)
        driver.events(10).expect_ack(20)
        assert [e["sequence"] for e in two.wait_events(10, driver="linux")] == list(range(11, 21))
        world.configure({"one": {"address": one}})
        assert world.reload()
        assert set(solutions(world)) == {"one"}
        driver.events(10).expect_ack(30)
        two.wait_err("disconnected|bye")
    assert len(one.wait_events(30, driver="linux")) == 30
    assert connections(one) == connections(two) == 1
    assert len(two.events(driver="linux")) == 10


@pytest.mark.parametrize("durability", ("process", "delivered"))
def test_a_fifth_and_a_ninth_solution_are_added(world, durability):
    """They get what comes from then on; the others, one of which acknowledges nothing meanwhile, lose nothing."""
    svms = {f"s{n}": world.svm(f"s{n}", "--json") for n in range(1, 10)}

    def configure(count):
        world.configure({name: {"address": svms[name], "durability": durability} for name in list(svms)[:count]},
                        rest=f'storage {{ dir = "{world.run}/storage" }}' if durability == "process" else "")
    configure(4)
    world.start(up=4)
    with Driver(world.shared, vm=FIRST_VM) as one, Driver(world.shared, vm=SECOND_VM) as two:
        for driver in (one, two):
            driver.say_hello().events(10).expect_ack(10)
        svms["s2"].kill(signal.SIGSTOP)
        for driver in (one, two):
            driver.events(10)
        for count, already in ((5, 20), (9, 30)):
            for name in ("s1", "s3", "s4"):
                svms[name].wait_events(2 * already, driver="linux")
            configure(count)
            assert world.reload()
            world.wait_up(count)
            for driver in (one, two):
                driver.events(10)
        svms["s2"].kill(signal.SIGCONT)
        for driver in (one, two):
            driver.expect_ack(40)
    for number, svm in enumerate(svms.values(), 1):
        first = 1 if number <= 4 else 21 if number == 5 else 31
        svm.wait_events(2 * (41 - first), driver="linux")
        for vm in (FIRST_VM, SECOND_VM):
            assert [e["sequence"] for e in svm.events(driver="linux", vm_uuid=vm)] == list(range(first, 41)), number
        assert connections(svm) == 1
    assert not [name for name, value in world.metrics().items() if "gapped" in name and value]


def test_a_removed_solution_no_longer_holds_guests_back(world):
    healthy, stopped = world.svm("healthy", "--quiet"), world.svm("stopped", "--quiet")
    world.configure({"healthy": {"address": healthy}, "stopped": {"address": stopped}})
    world.start(up=2)
    stopped.kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello().events(100)
        wait_for("the healthy SVM", lambda: healthy.delivered("linux") == 100)
        world.configure({"healthy": {"address": healthy}})
        assert world.reload()
        driver.expect_ack(100)


def test_a_changed_solution_leaves_the_others_alone(world):
    """Subscription, policy and address: only its own link is made anew, and no event is lost by that."""
    svms = {name: world.svm(name, "--json") for name in ("changed", "new", "other")}
    world.configure({name: {"address": svms[name]} for name in ("changed", "other")})
    world.start(up=2)

    def change(**options):
        world.configure({"changed": {"address": svms["changed"], **options}, "other": {"address": svms["other"]}})
        assert world.reload()
        world.wait_up(2)
    with Driver(world.shared) as driver:
        driver.say_hello().events(10).expect_ack(10)
        change(policy="drop")
        assert solutions(world)["changed"]["policy"] == "drop"
        driver.events(10).expect_ack(20)
        change(mute=["/tmp/muted"])
        driver.events(10, path="/tmp/muted-%d").events(10).expect_ack(40)
        change(address=svms["new"].address)
        driver.events(10, path="/tmp/muted-%d").expect_ack(50)
        assert solutions(world)["changed"]["address"] == svms["new"].address
    for svm, wanted in (("changed", [*range(1, 21), *range(31, 41)]), ("new", range(41, 51)), ("other", range(1, 51))):
        seen = svms[svm].wait_events(len(wanted), driver="linux")
        assert [e["sequence"] for e in seen] == list(wanted), svm
    assert connections(svms["other"]) == 1
    assert connections(svms["changed"]) == 3


def test_a_reload_that_changes_nothing_touches_nothing(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm, "classes": ["file", "lifecycle"], "mute": ["/a", "/b"]}},
                    vms={FIRST_VM: {}}, doors={"shared": world.shared, "vm_dir": world.vm_dir})
    world.start(up=1)
    door = world.vm_dir / f"{FIRST_VM}.sock"
    before = door.stat()
    with Driver(f"unix:{door}", vm=FIRST_VM) as driver:
        driver.say_hello()
        for _ in range(3):
            assert world.reload()
        driver.events(5).expect_ack(5)
    assert door.stat().st_ino == before.st_ino
    assert connections(svm) == 1


def test_an_address_that_was_wrong_is_mended_while_it_is_tried(world):
    """A link that waits for its next attempt takes the new address; that it does so at once is not timed here."""
    svm = world.svm("svm", "--quiet")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        world.configure({"svm": {"address": f"tcp:127.0.0.1:{nobody.getsockname()[1]}", "redial_max": "1000s"}})
        world.start()
        wait_for("several attempts", lambda: world.gimuxd.err.count("waiting -> connecting") >= 4)
    world.configure({"svm": {"address": svm, "redial_max": "1000s"}})
    assert world.reload()
    world.wait_up(1)
    assert svm.stats()["totals"]["connections"] == 1


def test_doors_of_vm_sections_appear_and_vanish(world):
    svm = world.svm("svm", "--quiet")
    doors = {"shared": world.shared, "vm_dir": world.vm_dir}
    uds = world.run / "fc.sock"

    def configure(*vms):
        world.configure({"svm": {"address": svm}}, doors=doors, vms={vm: {"uds_path": uds} if vm == SECOND_VM else {}
                                                                     for vm in vms})
    configure(FIRST_VM)
    world.start(up=1)
    first = world.vm_dir / f"{FIRST_VM}.sock"
    second = (world.vm_dir / f"{SECOND_VM}.sock", world.run / "fc.sock_48100")
    assert first.is_socket() and not any(path.exists() for path in second)
    with Driver(f"unix:{first}", vm=FIRST_VM) as driver:
        driver.say_hello()
        configure(FIRST_VM, SECOND_VM)
        assert world.reload()
        for path in second:
            assert path.is_socket() and stat.S_IMODE(path.stat().st_mode) == 0o600
            with Driver(f"unix:{path}", vm=SECOND_VM) as other:
                other.say_hello().send_hello()
        configure(SECOND_VM)
        assert world.reload()
        assert not first.exists() and all(path.is_socket() for path in second)
        driver.events(5).expect_ack(5)  # who came in by it stays
    assert world.gimuxd.end() == 0
    assert not any(path.exists() for path in (first, *second, world.admin, world.run / "pid"))


@pytest.mark.parametrize("text, line, expected", [
    ("heartbeat = 1x", 4, "heartbeat"),
    ("no_such_option = 1", 4, "no such option"),
    ("limits {\n    vms = 0\n}", 5, "vms"),
    ("limits {", None, ""),
])
def test_a_bad_configuration_is_refused_on_reload(world, text, line, expected):
    svm = world.svm("svm", "--quiet")
    path = world.configure({"svm": {"address": svm}})
    world.start(up=1)
    good = path.read_text()
    before = world.status()["solutions"]
    world.configure({}, rest=text)
    assert not world.reload()
    where = line if line else r"\d+"
    world.gimuxd.wait_err(rf"error {path}:{where}: .*{expected}")
    world.gimuxd.wait_err("the old configuration stays in force")
    assert world.status()["solutions"] == before
    with Driver(world.shared) as driver:
        driver.say_hello().events(5).expect_ack(5)
    path.write_text(good)
    assert world.reload()
    assert connections(svm) == 1


def test_a_configuration_that_is_gone_is_refused_on_reload(world):
    path = world.configure({})
    world.start()
    path.unlink()
    assert not world.reload()
    world.gimuxd.wait_err(rf"error {path}: ")


# ---- the end ----

def test_sigterm_delivers_what_is_queued(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest="drain = 60s")
    world.start(up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello().events(2000)
        world.wait_metric("gimux_guest_records_total", 2000)
        world.gimuxd.kill(signal.SIGTERM)
        world.gimuxd.wait_err("ending: waiting at most 60000 ms")
        svm.kill(signal.SIGCONT)
        assert world.gimuxd.wait() == 0
        driver.expect_ack(2000)
        assert any(record.type == 0xc for record in driver.expect_end())  # BYE
    assert svm.delivered("linux") == 2000
    assert "not delivered" not in world.gimuxd.err


def test_sigterm_says_what_it_could_not_deliver(world):
    svms = {name: world.svm(name, "--quiet") for name in ("healthy", "stopped")}
    world.configure({name: {"address": svm} for name, svm in svms.items()}, rest="drain = 300ms")
    world.start(up=2)
    svms["stopped"].kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello().events(50)
        wait_for("the healthy SVM", lambda: svms["healthy"].delivered("linux") == 50)
        assert world.gimuxd.end() == 0
    told = [line for line in world.gimuxd.lines["err"] if "not delivered" in line]
    assert len(told) == 1 and " solution=stopped ending with 51 events not delivered" in told[0]  # one is lifecycle


def send_all(driver, count):
    try:
        driver.events(count, path="/tmp/" + 50 * "x" + "-%d")
    except (BrokenPipeError, ConnectionResetError):
        pass


def test_sigterm_does_not_let_paused_guests_go_on(world):
    """What is read while gimuxd ends could only add to what it has to deliver."""
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}}, rest="drain = 60s\nlimits {\n    vm_log = 256K\n    vm_window = 4M\n}")
    world.start(up=1)
    svm.kill(signal.SIGSTOP)
    with Driver(world.shared) as driver:
        driver.say_hello()
        sender = threading.Thread(target=send_all, args=(driver, 3000))
        sender.start()
        wait_for("the pause", lambda: world.metrics()[f'gimux_vm_paused{{vm="{driver.vm}"}}'] == 1)
        taken = world.metrics()["gimux_guest_records_total"]
        assert taken < 3000
        world.gimuxd.kill(signal.SIGTERM)
        world.gimuxd.wait_err("ending: ")
        svm.kill(signal.SIGCONT)
        assert world.gimuxd.wait() == 0
        sender.join()
    assert svm.delivered("linux") == taken


# ---- the beginning ----

def test_a_second_gimuxd_fails_and_harms_nothing(world):
    svm = world.svm("svm", "--quiet")
    path = world.configure({"svm": {"address": svm}})
    world.start(up=1)
    pid = (world.run / "pid").read_text()
    second = world.track(Program("gimuxd", "-f", "-c", path))
    assert second.wait() == 1
    assert re.search(rf"error another gimuxd \(pid {pid.strip()}\) runs with this pid file: {world.run}/pid", second.err)
    assert (world.run / "pid").read_text() == pid
    with Driver(world.shared) as driver:
        driver.say_hello().events(5).expect_ack(5)
    assert world.status()["connections"] >= 0


def test_leftovers_of_a_killed_gimuxd_are_replaced(world):
    world.configure({})
    world.start().end(signal.SIGKILL)
    assert world.admin.is_socket() and (world.run / "shared.sock").is_socket()
    world.start()
    with Driver(world.shared) as driver:
        driver.say_hello()


def run_daemon(path):
    return subprocess.run([BUILD / "gimuxd", "-c", path], capture_output=True, text=True, check=False, timeout=DEADLINE)


@pytest.fixture(name="background")
def fixture_background(world):
    """Ends whatever gimuxd the test has put into the background, known by its configuration."""
    yield world

    def running():
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"gimuxd") and any(w.startswith(bytes(world.directory)) for w in words):
                found.append(int(entry.name))
        return found
    for pid in running():
        with contextlib.suppress(ProcessLookupError):  # a worker that its keeper has told already
            os.kill(pid, signal.SIGTERM)
    wait_for("the end of what runs in the background", lambda: not running())
    assert not (world.run / "pid").exists()


def test_a_daemon_is_ready_when_its_parent_ends(background):
    svm = background.svm("svm", "--quiet")
    path = background.configure({"svm": {"address": svm}})
    done = run_daemon(path)
    assert done.returncode == 0, done.stderr
    with Driver(background.shared) as driver:  # no wait: the doors are open
        driver.say_hello()
    assert background.status()["build"].startswith("gimuxd ")
    pid = int((background.run / "pid").read_text())
    assert os.readlink(f"/proc/{pid}/exe") == str(BUILD / "gimuxd")
    assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
    assert all(os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null" for fd in (0, 1, 2))
    again = run_daemon(path)
    assert again.returncode == 1 and "another gimuxd" in again.stderr
    assert int((background.run / "pid").read_text()) == pid


def test_a_daemon_that_cannot_start_says_so(background):
    path = background.configure({}, rest="heartbeat = 1x")
    done = run_daemon(path)
    assert done.returncode == 1 and f"{path}:4: " in done.stderr
    path = background.configure({}, doors={"shared": f"unix:{background.run}/not/there.sock"})
    done = run_daemon(path)
    assert done.returncode == 1 and "cannot listen on" in done.stderr
    assert not (background.run / "pid").exists()
    assert run_daemon(background.directory / "none.conf").returncode == 1


def test_a_pid_file_that_cannot_be_written_is_an_error(background):
    path = background.configure({})
    path.write_text(path.read_text().replace(f"{background.run}/pid", f"{background.run}/not/there"))
    done = run_daemon(path)
    assert done.returncode == 1 and "pid file" in done.stderr


# ---- looking in ----

METRIC = re.compile(r'(gimux_[a-z_]+)(?:\{([a-z]+)="([^"\\]*)"\})? (\d+)')
OF_HISTOGRAM = re.compile(r'(gimux_[a-z_]+)_(?:bucket\{(?:[a-z]+="[^"\\]*",)?le="[^"]+"\}|(?:sum|count)(?:\{[a-z]+="[^"\\]*"\})?) [\d.]+')


def test_metrics_are_prometheus_text(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm}, "down": {"address": "tcp:127.0.0.1:1", "policy": "drop"}},
                    rest="drain = 50ms")
    world.start(up=1)
    with Driver(world.shared) as driver:
        driver.say_hello().events(7)
        world.wait_metric('gimux_solution_delivered_total{solution="svm"}', 7)
        text = world.get("/metrics")
    helped, typed, order = set(), {}, []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, told = line[7:].split(" ", 1)
            assert name not in helped and told
            helped.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name in helped and name not in typed and kind in ("counter", "gauge", "histogram")
            typed[name] = kind
        elif part := OF_HISTOGRAM.fullmatch(line):  # see test_histograms.py
            assert typed[part.group(1)] == "histogram"
        else:
            name, label, value, _ = METRIC.fullmatch(line).groups()
            assert name in typed, line
            assert name.endswith("_total") == (typed[name] == "counter"), line
            assert label in (None, "vm", "solution"), line
            assert (name, label, value) not in order
            order.append((name, label, value))
    assert text.endswith("\n") and set(typed) == helped
    names = [name for name, _, _ in order]
    assert sorted(range(len(names)), key=lambda i: names.index(names[i])) == list(range(len(names)))  # in groups
    assert ("gimux_vm_events_total", "vm", driver.vm) in order
    assert {("gimux_solution_up", "solution", name) for name in ("svm", "down")} <= set(order)


def test_status_tells_of_vms_streams_solutions_cursors_and_gaps(world):
    svm = world.svm("svm", "--quiet")
    world.configure({"svm": {"address": svm, "altitude": 100},
                     "down": {"address": "tcp:127.0.0.1:1", "altitude": 200, "policy": "drop"}},
                    rest='host = "test-host"\ndrain = 50ms\nlimits {\n    vm_window = 64K\n}')
    world.start(up=1)
    with Driver(world.shared) as driver:
        driver.say_hello().events(1000)
        driver.expect_ack(500)
        wait_for("delivery", lambda: svm.delivered("linux") == 1000)
        status = world.status()
        assert status["host"] == "test-host" and status["connections"] == 1
        assert [s["solution"] for s in status["solutions"]] == ["down", "svm"]  # by altitude
        down, up = status["solutions"]
        assert (up["state"], up["policy"], up["altitude"]) == ("up", "pause", 100)
        assert down["state"] in ("waiting", "connecting") and down["policy"] == "drop" and down["last_error"]
        assert down["gapped"] > 0 and down["skips"] > 0
        vm, = status["vms"]
        assert vm["vm"] == driver.vm and vm["connected"] and vm["events"] == 1000
        stream = next(s for s in vm["streams"] if s["driver"] == "linux")
        assert (stream["boot_id"], stream["last"], stream["connected"]) == (driver.boot, 1000, True)
        cursors = {c["solution"]: c for c in stream["cursors"]}
        assert cursors["svm"]["delivered"] == 1000 and cursors["svm"]["open_gap"] is None
        assert cursors["down"]["open_gap"]["first"] == 1
        assert cursors["down"]["open_gap"]["last"] == cursors["down"]["gapped"]
    wait_for("the end of the connection", lambda: not world.status()["vms"][0]["connected"])


def test_the_admin_door_is_for_root_and_takes_no_more_than_get(world):
    world.configure({})
    world.start()
    assert stat.S_IMODE(world.admin.stat().st_mode) == 0o600
    for path in (world.run / "shared.sock", world.run / "vmx.sock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for request, expected in ((b"GET /nothing HTTP/1.0\r\n\r\n", b" 404 "),
                              (b"DELETE /metrics HTTP/1.0\r\n\r\n", b" 501 "),
                              (b"GET /metrics HTTP/1.0\r\nX: " + 100000 * b"x" + b"\r\n\r\n", b" 4")):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(DEADLINE)
            door.connect(str(world.admin))
            try:
                door.sendall(request)
                said = door.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                said = b""
            assert expected in said or (said == b"" and len(request) > 50000), said
    assert json.loads(world.get("/v1/status"))["vms"] == []


def test_print_config_gives_what_is_in_force(world):
    def printed(path):
        return subprocess.run([BUILD / "gimuxd", "-c", path, "--print-config"], capture_output=True, text=True,
                              check=True).stdout
    first = printed(world.configure({"a": {"address": "tcp:127.0.0.1:1", "classes": ["file"], "mute": ['/x "y" \\z']}},
                                    vms={FIRST_VM: {"cid": 77}}))
    again = world.directory / "again.conf"
    again.write_text(first)
    assert printed(again) == first and "cid = 77" in first
