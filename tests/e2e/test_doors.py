"""Every way into gimuxd, and who may come in by it."""

import contextlib
import re
import signal
import socket
import uuid

import certs
import driver as d
import pytest
from harness import Program, load_summary, wait_for

VM = "0f5a3c1e-7b2d-4e6f-8a90-b1c2d3e4f506"
OTHER = "aaaa3c1e-7b2d-4e6f-8a90-b1c2d3e4f506"
HOST = "bbbb3c1e-7b2d-4e6f-8a90-b1c2d3e4f506"
BOOT = "6b1e2d3c-0000-4000-8000-00000000002a"
BOOT_2 = "6b1e2d3c-0000-4000-8000-00000000002b"
PORT = 48100


@pytest.fixture(scope="session", name="certificates")
def fixture_certificates(tmp_path_factory):
    return certs.make(tmp_path_factory.mktemp("certs"), ["one", "two"])


def plain(world, _, name="one", *args):
    svm = world.svm(name, *args)
    return svm, {"address": svm}


def tls(world, request, name="one", *args):
    at = request.getfixturevalue("certificates")
    svm = world.svm(name, "--cert", at / "server.pem", "--key", at / "server.key", "--ca", at / "ca.pem",
                    "--peer-name", "gimuxd", *args, listen="tls:127.0.0.1:0")
    return svm, {"address": svm, "cert": at / "client.pem", "key": at / "client.key", "ca": at / "ca.pem"}


@pytest.fixture(name="svm", params=[plain, tls], ids=["plain", "tls"])
def fixture_svm(request, world):
    """(an SVM that prints JSON, how the configuration has it)"""
    return request.param(world, request, "one", "--json")


@pytest.fixture(name="plain_svm")
def fixture_plain_svm(world):
    return plain(world, None, "one", "--json")


def start(world, svm, doors=None, rest="heartbeat = 200ms\nsilence = 5s", **more):
    world.configure({"one": svm[1]}, doors=doors, rest=rest, **more)
    return world.start(up=1)


def load(world, *door, events=100, vm=VM, boot=BOOT, status=0):
    """Runs a simulated Windows VM to its end; returns its summary."""
    summary = world.directory / f"summary-{uuid.uuid4().hex[:8]}.json"
    sim = world.sim("load", *door, "--vm", vm, "--boot-id", boot, "--events", events, "--summary", summary)
    assert sim.wait() == status, sim.err
    return load_summary(summary)


def assert_delivered(svm, summary, door):
    """All of it, by a link whose lifecycle event names the door."""
    sent = {s["driver"]: s["sent"] for s in summary["streams"]}
    total = sum(sent.values())
    events = wait_for(f"{total} events", lambda: len(
        [e for e in svm.events() if e["driver"] != "gimuxd"]) == total and svm.events())
    assert {e["vm_uuid"] for e in events} == {VM}
    for name, count in sent.items():
        assert [e["sequence"] for e in events if e["driver"] == name] == list(range(1, count + 1))
    starts = svm.wait_events(len(sent), activity_id=3, **{"class": "lifecycle"})
    assert {e["lifecycle"]["door"] for e in starts} == {door}
    assert {e["lifecycle"]["driver"] for e in starts} == set(sent)


# ---- doors that listen ----


def test_socket_of_a_vm(world, svm):
    start(world, svm, {"vm_dir": world.vm_dir}, vms={VM: {}, OTHER: {}})
    summary = load(world, "--connect", f"unix:{world.vm_dir}/%u.sock")
    assert summary["totals"]["sent"] == 100
    assert_delivered(svm[0], summary, f"unix:{world.vm_dir}/{VM}.sock")


def test_socket_of_a_vmm(world, svm):
    """<uds_path>_<port>, by which Firecracker and Cloud Hypervisor hand over a guest's vsock connection."""
    start(world, svm, {"port": 1234}, vms={VM: {"uds_path": world.run / "v.sock"}})
    summary = load(world, "--connect", f"unix:{world.run}/v.sock_1234")
    assert_delivered(svm[0], summary, f"unix:{world.run}/v.sock_1234")


def test_shared_socket(world, svm):
    start(world, svm, {"shared": world.shared})
    assert_delivered(svm[0], load(world, "--connect", world.shared), world.shared)


LIFE = ["on:%s:web", "off:%s:web", "suspend:%s", "resume:%s", "migrate=host-2:%s:web"]
ACTIVITIES = [1, 2, 3, 6, 99]


def tell_lives(world):
    """Five events of each of two VMs, one after the other in turns."""
    arguments = [word for event in LIFE for vm in (VM, OTHER) for word in ("--event", event % vm)]
    assert world.sim("vmx", "--connect", world.vmx, "--vm", HOST, *arguments).wait() == 0


def powers(svm, count):
    return [(e["power"]["vm_uuid"], e["activity_id"]) for e in svm.wait_events(count, **{"class": "power"})]


def test_power_events(world, svm):
    start(world, svm, {"vmx": world.vmx})
    tell_lives(world)
    assert powers(svm[0], 10) == [(vm, activity) for activity in ACTIVITIES for vm in (VM, OTHER)]
    events = svm[0].events(driver="vmx")
    assert {e["vm_uuid"] for e in events} == {HOST}
    assert events[0]["power"]["vm_name"] == "web"
    assert [e["power"].get("target_host") for e in events[-2:]] == ["host-2"] * 2
    assert all(e["status_id"] == 1 for e in events)


def test_power_events_are_filtered_by_the_vm_that_they_are_about(world):
    """The stream is the host's; who subscribes to a VM wants that VM's events out of it, and nothing else."""
    asks, granted, everything = (world.svm(name, "--json", *args) for name, args in (
        ("asks", ["--vm", VM]), ("granted", []), ("everything", [])))
    world.configure({"asks": {"address": asks}, "granted": {"address": granted, "vms": [OTHER]},
                     "everything": {"address": everything}})
    world.start(up=3)
    tell_lives(world)
    assert len(powers(everything, 10)) == 10
    assert powers(asks, 5) == [(VM, activity) for activity in ACTIVITIES]
    assert powers(granted, 5) == [(OTHER, activity) for activity in ACTIVITIES]
    assert world.gimuxd.end() == 0  # all is delivered then
    assert len(powers(asks, 5)) == len(powers(granted, 5)) == 5
    assert {e["vm_uuid"] for e in asks.events()} == {HOST}, "nothing but power events of the host's log"
    assert asks.events(**{"class": "lifecycle"}) == []


def test_vsock_door_listens(world, plain_svm, tmp_path):
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError as why:
        pytest.skip(f"no AF_VSOCK here: {why}")
    door = f"vsock:any:{uuid.uuid4().int % 1000000 + 2000000}"
    start(world, plain_svm, {"vsock": door}, vms={VM: {"cid": 7}})
    assert f"listening on {door}" in world.gimuxd.err
    first = world.gimuxd
    config = (world.directory / "gimuxd.conf").read_text().replace(str(world.run), str(tmp_path))
    (tmp_path / "second.conf").write_text(config)
    second = world.track(Program("gimuxd", "-f", "-c", tmp_path / "second.conf"))
    assert second.wait() == 1
    assert f"cannot listen on {door}: Address already in use" in second.err
    assert first.process.poll() is None


# ---- doors that are dialled ----


def dialled(world, vm_options, *door):
    """A simulated VM that waits to be dialled."""
    path = world.run / "chardev.sock"
    return {VM: {"dial": f"unix:{path}", **vm_options}}, ("--listen", f"unix:{path}", *door)


DIALLED = pytest.mark.parametrize(("options", "more"), [({}, []), ({"dial_connect": "true"}, ["--firecracker"])],
                                  ids=["chardev", "firecracker"])


@DIALLED
def test_dialled_vm(world, svm, options, more):
    vms, door = dialled(world, options, *more)
    start(world, svm, {"redial": "20ms"}, vms=vms)
    # one driver a socket: a character device has one user
    summary = world.directory / "summary.json"
    assert world.sim("load", *door, "--vm", VM, "--linux", "--events", 100, "--summary", summary).wait() == 0
    assert_delivered(svm[0], load_summary(summary), vms[VM]["dial"])


@DIALLED
def test_dialled_again_when_the_driver_restarts(world, plain_svm, options, more):
    vms, door = dialled(world, options, *more)
    start(world, plain_svm, {"redial": "20ms"}, vms=vms)
    for boot in (BOOT, BOOT, BOOT_2):
        assert world.sim("load", *door, "--vm", VM, "--linux", "--events", 50, "--boot-id", boot).wait() == 0
    svm = plain_svm[0]
    svm.wait_events(150, driver="linux")
    assert [e["sequence"] for e in svm.events(boot_id=BOOT)] == list(range(1, 101)), "the same boot is numbered on"
    assert [e["sequence"] for e in svm.events(boot_id=BOOT_2)] == list(range(1, 51)), "a new boot is a new stream"


def test_vmm_that_refuses_is_dialled_again(world, plain_svm):
    """Firecracker closes when nobody listens in the guest; anything but OK ends the attempt, not gimuxd."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as vmm:
        vmm.settimeout(60)
        vmm.bind(str(world.run / "v.sock"))
        vmm.listen()
        start(world, plain_svm, {"redial": "20ms", "port": 77},
              vms={VM: {"dial": f"unix:{world.run}/v.sock", "dial_connect": "true"}})
        for answer in (b"", b"NO\n", b"x" * 100, b"OK"):
            guest = vmm.accept()[0]
            assert guest.recv(100) == b"CONNECT 77\n"
            guest.sendall(answer)
            if answer in (b"", b"OK"):
                guest.close()
            else:
                assert guest.recv(100) == b""
        with vmm.accept()[0] as guest:
            assert guest.recv(100) == b"CONNECT 77\n"
            guest.sendall(b"OK 1073741824\n" + d.hello(VM, BOOT) + d.file(1, "/a"))  # in one piece
            assert plain_svm[0].wait_events(1, driver="linux")[0]["file"]["path"] == "/a"


# ---- socket files ----


def test_leftovers_of_a_killed_gimuxd_are_replaced(world, plain_svm):
    doors = {"shared": world.shared, "vmx": world.vmx, "vm_dir": world.vm_dir}
    start(world, plain_svm, doors, vms={VM: {"uds_path": world.run / "v"}})
    world.gimuxd.kill(signal.SIGKILL)
    assert world.gimuxd.wait() == -signal.SIGKILL
    sockets = [world.run / "shared.sock", world.vm_dir / f"{VM}.sock", world.run / f"v_{PORT}", world.run / "vmx.sock"]
    assert all(path.is_socket() for path in [*sockets, world.admin])
    world.start(up=1)
    load(world, "--connect", f"unix:{world.vm_dir}/%u.sock")
    load(world, "--connect", f"unix:{world.run}/v_{PORT}")
    load(world, "--connect", world.shared, vm=OTHER)
    assert world.gimuxd.end() == 0
    assert not any(path.exists() for path in [*sockets, world.admin]), "an orderly end leaves none"


def test_socket_of_a_living_gimuxd_is_left_alone(world, plain_svm):
    start(world, plain_svm)
    first = world.gimuxd
    second = world.track(Program("gimuxd", "-f", "-c", world.directory / "gimuxd.conf"))
    assert second.wait() == 1
    assert f"cannot listen on {world.shared}: Address already in use" in second.err
    assert world.status()["solutions"][0]["state"] == "up"
    load(world, "--connect", world.shared)


def test_file_that_is_no_socket_is_left_alone(world, plain_svm):
    path = world.run / "shared.sock"
    path.write_text("precious")
    world.configure({"one": plain_svm[1]})
    gimuxd = world.track(Program("gimuxd", "-f", "-c", world.directory / "gimuxd.conf"))
    assert gimuxd.wait() == 1
    assert f"cannot listen on unix:{path}" in gimuxd.err
    assert path.read_text() == "precious"


def test_sockets_are_for_their_owner_only(world, plain_svm):
    start(world, plain_svm, {"shared": world.shared, "vmx": world.vmx, "vm_dir": world.vm_dir}, vms={VM: {}})
    for path in (world.run / "shared.sock", world.run / "vmx.sock", world.vm_dir / f"{VM}.sock", world.admin):
        assert path.stat().st_mode & 0o077 == 0, path


# ---- who may come in ----


def rejected(world, door, code, pattern, **who):
    """Says hello at a door that does not like it; the answer and the log say why, and nothing else is closed."""
    before = world.metrics()
    lines = len(world.gimuxd.lines["err"])
    with d.Driver(door, **who) as guest:
        (answer,) = guest.send_hello().expect_end()
    assert answer.type == d.REJECT and answer.code == code, answer
    assert re.search(pattern, answer.reason)
    world.gimuxd.wait_err(f"warning .*hello rejected: .*{pattern}")
    told = [line for line in world.gimuxd.lines["err"][lines:] if re.search("Z (warning|error) ", line)]
    assert len(told) == 1 and str(door) in told[0], told
    after = world.metrics()
    assert after["gimux_guest_rejects_total"] == before["gimux_guest_rejects_total"] + 1
    assert after["gimux_guest_errors_total"] == before["gimux_guest_errors_total"]


@pytest.fixture(name="doors")
def fixture_doors(world, plain_svm):
    """A gimuxd with every kind of door; VM and OTHER have theirs."""
    start(world, plain_svm, {"shared": world.shared, "vmx": world.vmx, "vm_dir": world.vm_dir}, vms={VM: {}, OTHER: {}})
    return world


def test_vm_is_who_its_door_says(doors):
    door = f"unix:{doors.vm_dir}/{VM}.sock"
    with d.Driver(door, vm=VM) as own:
        own.say_hello().events(1)
        rejected(doors, door, d.REJECT_IDENTITY, f"says VM {OTHER}, but this is the door of VM {VM}", vm=OTHER)
        own.events(1).expect_ack(2)


def test_configured_vm_does_not_come_by_the_shared_door(doors):
    rejected(doors, doors.shared, d.REJECT_IDENTITY, f"VM {VM} has a door of its own", vm=VM)


def test_clone_is_rejected_while_the_vm_is_connected(doors):
    with d.Driver(doors.shared, boot=BOOT) as first:
        first.say_hello()
        rejected(doors, doors.shared, d.REJECT_CLONE, "another VM with this UUID", vm=first.vm, boot=BOOT_2)
        first.events(3).expect_ack(3)
        vm = first.vm
    wait_for("the first to be gone", lambda: doors.metrics()["gimux_vms_connected"] == 0)
    with d.Driver(doors.shared, vm=vm, boot=BOOT_2) as later:
        assert later.say_hello().welcome.next_wanted == 1


def test_reboot_at_the_vms_own_door_is_no_clone(doors, plain_svm):
    """The socket proves who it is, and the old connection may not have ended yet."""
    door = f"unix:{doors.vm_dir}/{VM}.sock"
    with d.Driver(door, vm=VM, boot=BOOT) as first, d.Driver(door, vm=VM, boot=BOOT_2) as later:
        first.say_hello().events(2).expect_ack(2)
        later.say_hello().events(1).expect_ack(1)
        assert first.expect_end() == []
    assert len(plain_svm[0].wait_events(3, driver="linux")) == 3


def test_same_boot_takes_over(doors):
    with d.Driver(doors.shared) as first:
        first.say_hello().events(5).expect_ack(5)
        with d.Driver(doors.shared, first.vm, first.boot) as second:
            assert second.say_hello(first_held=6).welcome.next_wanted == 6
            assert first.expect_end() == []
            second.events(5).expect_ack(10)
    doors.gimuxd.wait_err("info .*closed: the driver has connected again")


def test_second_driver_of_the_same_vm_and_boot_is_welcome(doors):
    with d.Driver(doors.shared, driver=d.VSEPFLT) as files:
        files.say_hello()
        with d.Driver(doors.shared, files.vm, files.boot, driver=d.VNETWFP) as network:
            network.say_hello()
            files.events(1).expect_ack(1)
            network.send(d.net(1))
            network.expect_ack(1)


@pytest.mark.parametrize(("door", "driver", "expected"), [
    ("shared", d.VMX, "vmx.*expected vsepflt, vnetflt, vnetwfp or linux"),
    ("vmx", d.LINUX, "linux.*expected vmx"),
    ("vmx", d.VSEPFLT, "vsepflt.*expected vmx"),
    ("shared", 6, "driver 6"),
    ("shared", 0, "driver 0"),
    ("shared", 65535, "driver 65535"),
], ids=lambda value: str(value)[:12])
def test_driver_that_is_not_for_this_door(doors, door, driver, expected):
    rejected(doors, getattr(doors, door), d.REJECT_DRIVER, expected, driver=driver)


@pytest.mark.parametrize("versions", [(2, 5), (9, 2), (65535, 65535)])
def test_version_that_is_too_new(doors, versions):
    with d.Driver(doors.shared) as guest:
        (answer,) = guest.send_hello(versions=versions).expect_end()
    assert (answer.type, answer.code) == (d.REJECT, d.REJECT_VERSION)
    assert f"{versions[0]} to {versions[1]}" in answer.reason


def test_range_with_our_version_is_taken(doors):
    with d.Driver(doors.shared) as guest:
        assert guest.say_hello(versions=(1, 9)).welcome.version == 1


def test_limit_of_vms(world, plain_svm):
    start(world, plain_svm, rest="limits {\n vms = 2\n}")
    with d.Driver(world.shared) as one, d.Driver(world.shared) as two:
        one.say_hello()
        two.say_hello()
        rejected(world, world.shared, d.REJECT_LIMIT, "limits.vms")
        one.events(1).expect_ack(1)


# ---- one connection, several lives ----


def test_serial_port_is_opened_again(doors, plain_svm):
    """A virtio-serial port has no connections: the guest reboots, and a HELLO comes amid the old conversation."""
    with d.Driver(f"unix:{doors.vm_dir}/{VM}.sock", vm=VM, boot=BOOT, driver=d.VSEPFLT) as guest:
        guest.say_hello()
        guest.send(d.volumes({"C": r"\Device\HarddiskVolume2"}))
        guest.events(9, path=r"\Device\HarddiskVolume2\f%d").expect_ack(9)
        guest.boot = BOOT_2
        guest.say_hello()
        guest.events(3, path=r"\Device\HarddiskVolume2\g%d").expect_ack(3)
    assert [e["file"]["path"] for e in plain_svm[0].wait_events(9, boot_id=BOOT)] == [rf"C:\f{n}" for n in range(1, 10)]
    paths = [e["file"]["path"] for e in plain_svm[0].wait_events(3, boot_id=BOOT_2)]
    assert paths == [rf"\Device\HarddiskVolume2\g{n}" for n in range(1, 4)], "VOLUMES of the former boot are forgotten"


def test_acknowledgement_that_came_while_the_driver_was_away(world, plain_svm):
    """What the SVM took after the driver's connection broke is acknowledged when it comes back."""
    svm = plain_svm[0]
    start(world, plain_svm)
    with d.Driver(world.shared) as first:
        first.say_hello()
        svm.kill(signal.SIGSTOP)
        first.events(5)
        world.wait_metric("gimux_guest_records_total", 5)
    wait_for("the driver to be gone", lambda: world.metrics()["gimux_vms_connected"] == 0)
    svm.kill(signal.SIGCONT)
    wait_for("the SVM to have it", lambda: world.metrics()['gimux_solution_pending{solution="one"}'] == 0)
    with d.Driver(world.shared, first.vm, first.boot) as again:
        assert again.say_hello(first_held=1).welcome.next_wanted == 6
        again.expect_ack(5)


def test_a_vms_own_channel_waits_for_its_driver(world):
    """A hypervisor opens it when the VM starts, long before the driver in it does; who comes to the shared door speaks
    at once or is sent away. That one's end says that the time has passed."""
    svm = world.svm("svm", "--quiet")
    start(world, ("plain", {"address": svm}), {"vm_dir": world.vm_dir, "shared": world.shared}, vms={VM: {}},
          rest="heartbeat = 100ms\nsilence = 300ms")
    with d.Driver(f"unix:{world.vm_dir}/{VM}.sock", VM) as late, d.Driver(world.shared) as mute:
        mute.expect_end()
        late.say_hello().events(3).expect_ack(3)
    assert world.gimuxd.err.count("no HELLO within") == 1
