"""What is left to gimuxd once its doors are open: a user without rights, and few system calls."""

import grp
import os
import pathlib
import pwd
import re
import shutil
import signal
import stat
import subprocess

import certs
import pytest
from driver import Driver
from harness import BUILD, DEADLINE, ROOT, Program, wait_for

VM, OTHER_VM = (f"{n * 8}-0000-4000-8000-000000000000" for n in "12")
NOBODY = pwd.getpwnam("nobody")
GROUP = "daemon"  # nobody is no member of it

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def process(pid):
    """/proc/PID/status as a dictionary."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def give_run_directory(world):
    """As packages have it: the directory is the user's, and the configuration can be read."""
    os.chown(world.run, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(world.vm_dir, NOBODY.pw_uid, NOBODY.pw_gid)


def configure(world, *args, rest='user = "nobody"', **kwargs):
    """The configuration, where the user can read it."""
    text = world.configure(*args, rest=rest, **kwargs).read_text()
    path = world.run / "gimuxd.conf"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_root_becomes_the_user_and_everything_goes_on(world):
    svm = world.svm("svm", "--quiet")
    give_run_directory(world)
    path = configure(world, {"svm": {"address": svm}})
    world.start(path, up=1)
    pid = world.worker()
    now = process(pid)
    assert now["Uid"] == 4 * [str(NOBODY.pw_uid)] and now["Gid"] == 4 * [str(NOBODY.pw_gid)]
    assert now["Groups"] == [str(NOBODY.pw_gid)]
    assert {now[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {16 * "0"}
    assert now["NoNewPrivs"] == ["1"] and now["Seccomp"] == ["2"]
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0  # not dumpable
    assert process(world.gimuxd.process.pid)["Uid"] == 4 * ["0"]
    with Driver(world.shared) as driver:
        driver.say_hello().events(5).expect_ack(5)
        other = world.svm("other", "--quiet")
        configure(world, {"svm": {"address": svm}, "other": {"address": other}})
        assert world.reload()
        world.wait_up(2)
        driver.events(5).expect_ack(10)
    assert world.gimuxd.end() == 0
    assert "cannot remove" not in world.gimuxd.err and not list(world.run.glob("*.sock"))


def test_both_end_when_the_keeper_is_killed(world):
    """Becoming somebody else cuts the tie to the parent; it is tied again."""
    world.configure({}, rest='user = "nobody"')
    world.start()
    worker = world.worker()
    os.kill(worker, signal.SIGSTOP)
    world.gimuxd.end(signal.SIGKILL)
    wait_for("the end of the worker", lambda: not pathlib.Path(f"/proc/{worker}/environ").exists())


def test_without_a_user_it_says_that_it_stays_root(world):
    world.configure({})
    world.start()
    assert world.gimuxd.err.count("goes on as root: the configuration has no user") == 1
    now = process(world.worker())
    assert now["Uid"] == 4 * ["0"] and now["Seccomp"] == ["2"]


def test_the_filter_can_be_turned_off(world):
    world.configure({}, rest="sandbox = false")
    world.start()
    assert "no filter of system calls: sandbox = false" in world.gimuxd.err
    assert process(world.worker())["Seccomp"] == ["0"]


@pytest.mark.parametrize("user, text", [("no-such-user", 'user = "no-such-user": no such user'),
                                        ("root", 'user = "root": expected one that is not root')])
@pytest.mark.parametrize("words", [["-f"], ["--check"]])
def test_a_user_that_cannot_be(world, user, text, words):
    path = world.configure({}, rest=f'user = "{user}"')
    gimuxd = world.track(Program("gimuxd", *words, "-c", path))
    assert gimuxd.wait() == 1
    assert text in gimuxd.err and not (world.run / "shared.sock").exists()


def test_who_is_not_root_stays_who_he_is(world):
    give_run_directory(world)
    path = configure(world, {}, rest='user = "daemon"')
    program = shutil.copy(BUILD / "gimuxd", world.run)  # what is built may be where only root may go
    with subprocess.Popen([program, "-f", "-c", path], stderr=subprocess.PIPE, text=True, user="nobody",
                          group="nogroup", extra_groups=[]) as gimuxd:
        lines = []
        for line in gimuxd.stderr:
            lines.append(line)
            if "up with" in line:
                gimuxd.terminate()
        assert gimuxd.wait(DEADLINE) == 0, lines
    assert any(f'user = "daemon": not started as root, so goes on as user number {NOBODY.pw_uid}' in line
               for line in lines)


# ---- files ----

def owner(path):
    info = path.lstat()
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


def test_sockets_are_the_users_and_what_is_open_survives_a_reload(world):
    """The run directory is root's: what was opened at start stays, and what cannot be opened is told."""
    doors = {"shared": world.shared, "vm_dir": world.run / "made", "vm_group": GROUP}
    os.chmod(world.run, 0o755)
    path = configure(world, {}, doors=doors, vms={VM: {}})
    world.start(path)
    ours = (NOBODY.pw_uid, NOBODY.pw_gid)
    first, other = (world.run / "made" / f"{vm}.sock" for vm in (VM, OTHER_VM))
    assert owner(world.admin) == owner(world.run / "shared.sock") == (*ours, 0o600)
    assert owner(world.run / "made") == (*ours, 0o755)
    assert owner(first) == (NOBODY.pw_uid, grp.getgrnam(GROUP).gr_gid, 0o660)
    configure(world, {}, doors={**doors, "vmx": world.vmx}, vms={VM: {}, OTHER_VM: {}})
    assert world.reload()
    world.gimuxd.wait_err(rf"error cannot listen on {world.vmx}: Permission denied \(as user nobody\)")
    world.gimuxd.wait_err(rf"error cannot open unix:{other} to group {GROUP}: .*not permitted \(as user nobody\)")
    assert owner(first) == (NOBODY.pw_uid, grp.getgrnam(GROUP).gr_gid, 0o660)
    assert str(first) not in "".join(line for line in world.gimuxd.lines["err"] if " error " in line)
    with Driver(f"unix:{first}", vm=VM) as driver:
        driver.say_hello()
    assert world.gimuxd.end() == 0
    assert f"cannot remove {world.shared}: Permission denied (as user nobody)" in world.gimuxd.err
    world.start(path)  # what was left is no obstacle


def test_a_configuration_that_only_root_can_read(world):
    world.configure({}, rest='user = "nobody"')
    os.chmod(world.directory, 0o700)
    world.start()
    world.gimuxd.wait_err(r"warning \S*gimuxd.conf: Permission denied \(as user nobody\): SIGHUP will change nothing")
    assert not world.reload()
    with Driver(world.shared) as driver:
        driver.say_hello()


@pytest.fixture(scope="module", name="pki")
def fixture_pki(tmp_path_factory):
    return certs.make(tmp_path_factory.mktemp("pki"), ["av"])


def test_keys_are_read_as_the_user_at_start_as_on_reload(world, pki):
    os.chmod(world.run, 0o755)
    files = {}
    for name, source in (("cert", "client.pem"), ("key", "client.key"), ("ca", "ca.pem")):
        files[name] = world.run / source
        files[name].write_bytes((pki / source).read_bytes())
        files[name].chmod(0o644)
    files["key"].chmod(0o600)
    svm = world.svm("svm", "--quiet", "--cert", pki / "server.pem", "--key", pki / "server.key", "--ca", pki / "ca.pem",
                    listen="tls:127.0.0.1:0")
    solution = {"av": {"address": svm, **files}}
    path = configure(world, solution)
    for words in ("-f", "--check"):
        gimuxd = world.track(Program("gimuxd", words, "-c", path))
        assert gimuxd.wait() == 1
        assert re.search(rf"error solution=av .*{files['key']}.*Permission denied", gimuxd.err), gimuxd.err
    os.chown(files["key"], 0, NOBODY.pw_gid)
    files["key"].chmod(0o640)
    assert world.track(Program("gimuxd", "--check", "-c", path)).wait() == 0
    world.start(path, up=1)
    assert world.reload()
    files["key"].chmod(0o600)
    assert not world.reload()
    world.gimuxd.wait_err(r"the old configuration stays in force \(as user nobody\)")
    with Driver(world.shared) as driver:
        driver.say_hello().events(5).expect_ack(5)


def test_check_says_whether_files_can_be_written(world):
    give_run_directory(world)
    files = world.run / "logs"
    path = configure(world, {}, rest=f'user = "nobody"\nstorage {{\n    dir = "{files}"\n}}')

    def check(status, line):
        gimuxd = world.track(Program("gimuxd", "--check", "-c", path))
        assert gimuxd.wait() == status
        assert (gimuxd.lines["err"] == []) if line is None else re.search(line, gimuxd.err), gimuxd.err

    check(0, rf"warning storage: {files} does not exist: it is made at start \(as user nobody\)$")
    assert not files.exists()
    files.mkdir(mode=0o700)
    check(1, rf"error storage: {files}: expected a directory that may be written: Permission denied \(as user nobody\)$")
    os.chown(files, NOBODY.pw_uid, NOBODY.pw_gid)
    check(0, None)
    files.rmdir()
    os.chown(world.run, 0, 0)
    os.chmod(world.run, 0o755)
    check(1, rf"error storage: cannot make the directory {files}: Permission denied \(as user nobody\)$")
    files.write_text("")
    files.chmod(0o666)
    check(1, rf"error storage: {files}: expected a directory that may be written: Not a directory \(as user nobody\)$")


# ---- system calls ----

PROBE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <pthread.h>
#include "mux/process/sandbox.h"

static int go[2];

static void *
other_thread(void *arg)
{
    char byte;

    if (read(go[0], &byte, 1) != 1)
        exit(3);
    *(int *)arg = socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno : 0;
    return NULL;
}

int
main(int argc, char **argv)
{
    int seen = 0;
    pthread_t thread;

    if (argc < 2 || pipe(go) || pthread_create(&thread, NULL, other_thread, &seen))
        return 2;
    sandbox_filter();
    if (strcmp(argv[1], "exec") == 0)
        execl("/bin/true", "true", NULL);
    else if (strcmp(argv[1], "fork") == 0)
        fork();
    else if (strcmp(argv[1], "kill") == 0)
        kill(1, 0);
    else if (strcmp(argv[1], "abort") == 0)
        abort();
    else if (strcmp(argv[1], "kill-thread-of-other") == 0)
        return syscall(SYS_tgkill, getppid(), getppid(), 0) < 0 && errno == ENOSYS ? 0 : 1;
    else if (strcmp(argv[1], "executable") == 0)
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 0 : 1;
    else if (strcmp(argv[1], "packet") == 0)
        return socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == ENOSYS ? 0 : 1;
    else if (strcmp(argv[1], "thread") == 0)
        return write(go[1], "g", 1) == 1 && pthread_join(thread, NULL) == 0 && seen == ENOSYS ? 0 : 1;
    else if (strcmp(argv[1], "files") == 0) {
        char buf[8];
        int fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        return fd >= 0 && pwrite(fd, "gimux", 5, 0) == 5 && fdatasync(fd) == 0 && pread(fd, buf, 8, 0) == 5 &&
               ftruncate(fd, 0) == 0 && fsync(fd) == 0 && unlink(argv[2]) == 0 ? 0 : 1;
    }
    return 1;
}
"""


@pytest.fixture(scope="module", name="probe")
def fixture_probe(tmp_path_factory):
    directory = tmp_path_factory.mktemp("probe")
    (directory / "probe.c").write_text(PROBE)
    made = subprocess.run(["gcc", "-D_GNU_SOURCE", f"-I{ROOT}", "-o", directory / "probe", directory / "probe.c",
                           BUILD / "libmux.a", "-lseccomp", "-pthread"], capture_output=True, text=True, check=False)
    if "asan" in made.stderr:
        pytest.skip("a sanitized build has no filter")
    assert made.returncode == 0, made.stderr
    return directory / "probe"


@pytest.mark.parametrize("what, status", [
    ("exec", -signal.SIGSYS), ("fork", -signal.SIGSYS), ("kill", -signal.SIGSYS), ("abort", -signal.SIGABRT),
    ("executable", 0), ("packet", 0), ("kill-thread-of-other", 0), ("thread", 0), ("files", 0)])
def test_what_the_filter_lets_through(probe, tmp_path, what, status):
    assert subprocess.run([probe, what, tmp_path / "file"], check=False, timeout=DEADLINE).returncode == status
