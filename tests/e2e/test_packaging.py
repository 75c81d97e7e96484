"""The packages: a VIB, byte by byte, and its init script at work; a Debian package and what it unpacks to."""
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("GIMUX_BUILD", ROOT / "build")).resolve()
CONFIG = ROOT / "packaging" / "gimuxd.conf"
VERSION = "1.2.3"
EPOCH = 1_700_000_000
DEADLINE = 30

# What gimuxd needs to come up by itself, with nothing outside one directory.
SMALL_CONFIG = """
host = "packaging-test"
pid_file = "{run}/gimuxd.pid"
admin = "unix:{run}/admin.sock"
doors {{ shared = "unix:{run}/shared.sock" }}
"""

NO_CONFIGURATION = "this is no configuration {"

DESCRIPTOR_ORDER = [
    "type", "name", "version", "vendor", "summary", "description", "release-date", "urls", "relationships",
    "software-tags", "system-requires", "file-list", "acceptance-level", "live-install-allowed",
    "live-remove-allowed", "cimom-restart", "stateless-ready", "overlay", "payloads"]
RELATIONSHIPS = ["depends", "conflicts", "replaces", "provides", "compatibleWith"]


def built(path):
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return path


def make_vib(output):
    env = dict(os.environ, SOURCE_DATE_EPOCH=str(EPOCH))
    subprocess.run([ROOT / "packaging/mkvib", "--binary", built(BUILD / "gimuxd-static"),
                    "--config", built(CONFIG), "--version", VERSION, "--output", output], env=env, check=True)
    return output


@pytest.fixture(scope="module", name="vib")
def fixture_vib(tmp_path_factory):
    return make_vib(tmp_path_factory.mktemp("vib") / f"gimux-{VERSION}.vib")


def read_ar(content):
    """The members of an ar archive as (name, content); every byte of every header is looked at."""
    assert content[:8] == b"!<arch>\n"
    members, at = [], 8
    while at < len(content):
        header = content[at:at + 60]
        assert len(header) == 60
        name, size = header[:16].rstrip(b" ").decode(), int(header[48:58])
        assert "/" not in name and not name.startswith("#")
        assert header[:16] == name.encode().ljust(16)
        assert header[16:28] == b"0".ljust(12)       # mtime
        assert header[28:34] == b"0".ljust(6)        # uid
        assert header[34:40] == b"0".ljust(6)        # gid
        assert header[40:48] == b"100644".ljust(8)   # mode
        assert header[48:58] == str(size).encode().ljust(10)
        assert header[58:60] == b"`\n"
        at += 60
        assert at + size <= len(content)
        members.append((name, content[at:at + size]))
        at += size
        if size % 2:
            assert content[at:at + 1] == b"\n"
            at += 1
    return members


@pytest.fixture(scope="module", name="members")
def fixture_members(vib):
    return read_ar(vib.read_bytes())


@pytest.fixture(scope="module", name="tar_bytes")
def fixture_tar_bytes(members):
    return zlib.decompress(members[2][1], wbits=31)


def test_vib_has_its_three_members_in_order(members):
    assert [name for name, _ in members] == ["descriptor.xml", "sig.pkcs7", "gimux"]
    assert members[1][1] == b""


def test_descriptor_has_every_element_in_order(members):
    vib = ET.fromstring(members[0][1])
    assert vib.tag == "vib" and vib.get("version") == "5.0"
    assert [child.tag for child in vib] == DESCRIPTOR_ORDER
    assert [child.tag for child in vib.find("relationships")] == RELATIONSHIPS
    assert vib.findtext("type") == "bootbank"
    assert vib.findtext("version") == f"{VERSION}-1"
    assert vib.findtext("acceptance-level") == "community"
    assert vib.findtext("release-date") == "2023-11-14T22:13:20.000000+00:00"
    assert vib.findtext("system-requires/maintenance-mode") == "false"


def test_descriptor_sums_are_those_of_the_payload(members, tar_bytes):
    (payload,) = ET.fromstring(members[0][1]).find("payloads")
    content = members[2][1]
    assert payload.attrib == {"name": "gimux", "type": "tgz", "size": str(len(content))}
    sums = [(sum_.get("checksum-type"), sum_.get("verify-process"), sum_.text) for sum_ in payload]
    assert int.from_bytes(content[4:8], "little") == EPOCH  # gzip's own time stamp
    assert sums == [("sha-256", None, hashlib.sha256(content).hexdigest()),
                    ("sha-256", "gunzip", hashlib.sha256(tar_bytes).hexdigest()),
                    ("sha-1", "gunzip", hashlib.sha1(tar_bytes).hexdigest())]


def test_file_list_is_the_payload(members, tar_bytes):
    listed = [file.text for file in ET.fromstring(members[0][1]).find("file-list")]
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        entries = tar.getmembers()
    assert listed == [entry.name for entry in entries if entry.isfile()]
    assert all(entry.isfile() or entry.isdir() for entry in entries)
    assert all(not entry.name.startswith(("/", ".")) for entry in entries)
    assert all((entry.uid, entry.gid, entry.mtime) == (0, 0, EPOCH) for entry in entries)
    modes = {entry.name: entry.mode for entry in entries if entry.isfile()}
    assert modes == {"etc/gimux/gimuxd.conf": 0o1644, "etc/init.d/gimuxd": 0o555,
                     "etc/vmware/firewall/gimux.xml": 0o1644, "opt/gimux/bin/gimuxd": 0o555}


def test_same_input_gives_the_same_vib(vib, tmp_path):
    assert make_vib(tmp_path / "again.vib").read_bytes() == vib.read_bytes()


def test_gnu_ar_reads_the_vib(vib):
    listed = subprocess.run(["ar", "t", vib], capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["descriptor.xml", "sig.pkcs7", "gimux"]


def test_firewall_lets_out_what_the_configuration_dials():
    port = ET.parse(ROOT / "packaging/gimux-firewall.xml").find("service/rule/port")
    begin, end = int(port.findtext("begin")), int(port.findtext("end"))
    config = built(CONFIG).read_text("utf-8")
    dialled = re.findall(r'^[^#]*address\s*=\s*"(?:tcp|tls):.*:(\d+)"', config, re.MULTILINE)
    assert all(begin <= int(port) <= end for port in dialled), f"{dialled} outside {begin}-{end}"


# ---- the init script, out of the unpacked payload ----

# Does what is known of ESXi's watchdog.sh: -s starts a command again and again, -k ends the watchdog itself.
FAKE_WATCHDOG = """#!/bin/sh
case $1 in
-s) echo $$ >{run}/watchdog-$2.pid; while :; do $3; done ;;
-k) kill "$(cat {run}/watchdog-$2.pid)" && rm {run}/watchdog-$2.pid ;;
-r) cat {run}/watchdog-$2.pid ;;
esac
"""


def wait_for(what, condition):
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE} s"
        time.sleep(0.02)
    return value


class Host:
    """A host with the payload unpacked into a directory, and its init script."""

    def __init__(self, shell, tar_bytes, with_watchdog):
        self.directory = Path(tempfile.mkdtemp(prefix="gimux-"))  # short: it holds UNIX sockets
        with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
            tar.extractall(self.directory / "root")
        self.run = self.directory / "run"
        self.run.mkdir()
        self.config = self.directory / "gimuxd.conf"
        self.config.write_text(SMALL_CONFIG.format(run=self.run), encoding="utf-8")
        self.pid_file = self.run / "gimuxd.pid"
        self.shell = shell
        self.said = ""
        watchdog = self.directory / "watchdog.sh"
        if with_watchdog:
            watchdog.write_text(FAKE_WATCHDOG.format(run=self.run), encoding="utf-8")
            watchdog.chmod(0o755)
        self.env = dict(os.environ, GIMUXD=str(self.directory / "root/opt/gimux/bin/gimuxd"),
                        GIMUX_CONF=str(self.config), WATCHDOG=str(watchdog), GIMUX_WAIT=str(DEADLINE))
        self.env.pop("GIMUX_PIDFILE", None)

    def init(self, *verbs):
        """The exit status of the init script."""
        script = self.directory / "root/etc/init.d/gimuxd"
        with tempfile.TemporaryFile("w+") as said:  # no pipe: what stays running must not hold it open
            done = subprocess.run([*self.shell, script, *verbs], env=self.env, check=False,
                                  timeout=2 * DEADLINE, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            said.seek(0)
            self.said = said.read()
        print(verbs, done.returncode, self.said)
        return done.returncode

    def spoil(self):
        """Makes the configuration wrong; what must be said of it."""
        text = self.config.read_text("utf-8")
        self.config.write_text(text + NO_CONFIGURATION, encoding="utf-8")
        return f"{self.config}:{text.count(chr(10)) + 1}: "

    def pid(self):
        return int(self.pid_file.read_text("ascii"))

    def processes(self):
        """Every live process that belongs to this host: its program, or its watchdog."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if str(self.directory).encode() in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def clean_up(self):
        for pid in sorted(self.processes(), reverse=True):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory)


SHELLS = [pytest.param(["dash"], id="dash"), pytest.param(["busybox", "ash"], id="busybox")]


@pytest.fixture(name="host", params=SHELLS)
def fixture_host(request, tar_bytes):
    if not shutil.which(request.param[0]):
        pytest.skip(f"no {request.param[0]} here")
    host = Host(request.param, tar_bytes, with_watchdog="watchdog" in request.node.name)
    yield host
    host.clean_up()


def test_init_verbs(host):
    assert host.init("status") == 3
    assert host.init("stop") == 0
    assert host.init("reload") == 7
    assert host.init("start") == 0
    assert host.init("status") == 0
    first = host.pid()
    assert host.init("start") == 0 and host.pid() == first
    assert host.init("reload") == 0 and host.init("status") == 0 and host.pid() == first
    assert host.init("restart") == 0 and host.init("status") == 0 and host.pid() != first
    assert host.init("upgrade") == 0 and host.init("status") == 0
    assert host.init("stop") == 0
    assert host.processes() == []
    assert host.init("status") == 3
    assert host.init("install") == 0
    assert host.init("stop", "remove") == 0
    assert host.init("what-is-this") == 2
    assert host.init() == 2


def children(pid):
    """The live processes that this one has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text("ascii").rsplit(") ", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(entry.name))
    return found


def test_init_upgrade(host):
    """The process that the pid file names stays, its worker is another; what goes wrong is told."""
    program, good = Path(host.env["GIMUXD"]), host.config.read_text("utf-8")
    assert host.init("upgrade") == 0  # nothing runs
    assert host.init("start") == 0
    keeper, before = host.pid(), children(host.pid())
    assert host.init("upgrade") == 0 and host.pid() == keeper
    wait_for("the end of the old worker", lambda: len(children(keeper)) == 1)
    worker = children(keeper)
    assert worker != before
    host.config.write_text(good + NO_CONFIGURATION, encoding="utf-8")
    assert host.init("upgrade") == 6
    host.config.write_text(good, encoding="utf-8")
    program.rename(program.with_name("kept"))
    program.write_text(f'#!/bin/sh\ncase $* in *--check*) exec "{program.with_name("kept")}" "$@" ;; esac\nexit 1\n')
    program.chmod(0o755)
    assert host.init("upgrade") == 1
    assert host.pid() == keeper and children(keeper) == worker
    program.with_name("kept").rename(program)
    assert host.init("stop") == 0 and host.processes() == []


def test_init_start_fails_on_what_is_missing(host):
    host.env["GIMUX_PIDFILE"] = str(host.pid_file)
    host.config.write_text(host.config.read_text("utf-8") + NO_CONFIGURATION, encoding="utf-8")
    assert host.init("start") == 1
    host.config.unlink()
    assert host.init("start") == 6
    host.env["GIMUXD"] += "-not-there"
    assert host.init("start") == 5
    assert host.processes() == []


def test_init_reload_refuses_a_bad_configuration(host):
    assert host.init("start") == 0
    good, pid = host.config.read_text("utf-8"), host.pid()
    host.config.write_text(good + NO_CONFIGURATION, encoding="utf-8")
    assert host.init("reload") == 6
    assert host.init("status") == 0 and host.pid() == pid
    assert host.init("stop") == 0 and host.processes() == []


RESTARTS = pytest.mark.parametrize("verb", ["restart", "force-reload", "try-restart"])


def restart_is_refused(host, verb, line):
    """What runs goes on, and one line says why."""
    pid, before = host.pid(), host.processes()
    assert host.init(verb) == 6
    assert host.said.startswith(f"gimuxd: not restarted, process {pid} goes on as it was: ") and line in host.said
    assert host.said.count("\n") == 1
    assert host.init("status") == 0 and host.pid() == pid and host.processes() == before


@RESTARTS
def test_init_restart_refuses_a_bad_configuration(host, verb):
    assert host.init("start") == 0
    good = host.config.read_text("utf-8")
    restart_is_refused(host, verb, host.spoil())
    host.config.unlink()
    host.env["GIMUX_PIDFILE"] = str(host.pid_file)
    restart_is_refused(host, verb, f"no configuration at {host.config}")
    host.config.write_text(f"{good}log = \"syslog\"\nstorage {{ dir = \"/proc/no/such\" }}\n", encoding="utf-8")
    restart_is_refused(host, verb, f"{host.config} is not right: storage: ")
    host.config.write_text(good, encoding="utf-8")
    pid = host.pid()
    assert host.init(verb) == 0 and host.init("status") == 0 and host.pid() != pid
    assert host.init("stop") == 0 and host.processes() == []


def test_init_restart_of_nothing_with_a_bad_configuration(host):
    host.env["GIMUX_PIDFILE"] = str(host.pid_file)
    line = host.spoil()
    assert host.init("try-restart") == 0 and host.said == ""
    assert host.init("restart") == 6
    assert host.said.startswith("gimuxd: not restarted: ") and line in host.said
    assert host.processes() == []


@RESTARTS
def test_init_restart_is_checked_before_systemctl_takes_over(host, verb):
    """It does as soon as the functions of the Linux Standard Base are read; systemctl would stop first."""
    script, functions = host.directory / "root/etc/init.d/gimuxd", host.directory / "init-functions"
    text = script.read_text("utf-8")
    assert text.count("/lib/lsb/init-functions") == 2
    script.chmod(0o755)
    script.write_text(text.replace("/lib/lsb/init-functions", str(functions)), encoding="utf-8")
    assert host.init("start") == 0
    functions.write_text('echo "systemctl $1"; exit 0\n', encoding="ascii")
    assert host.init(verb) == 0 and host.said == f"systemctl {verb}\n"
    restart = host.spoil()
    assert host.init(verb) == 6
    assert restart in host.said and "systemctl" not in host.said


def test_init_after_a_kill(host):
    assert host.init("start") == 0
    killed = host.pid()
    os.kill(killed, signal.SIGKILL)
    wait_for("end of the killed process", lambda: killed not in host.processes())
    assert host.init("status") == 1
    assert host.init("start") == 0 and host.init("status") == 0 and host.pid() != killed
    assert host.init("stop") == 0 and host.processes() == []


def test_init_never_touches_a_process_that_is_not_gimuxd(host):
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            host.pid_file.write_text(f"{other.pid}\n", encoding="ascii")
            assert host.init("status") == 1
            assert host.init("reload") == 7
            assert host.init("stop") == 0
            assert other.poll() is None
        finally:
            other.kill()


def test_init_with_watchdog(host):
    assert host.init("start") == 0
    assert host.init("status") == 0
    first = host.pid()
    os.kill(first, signal.SIGKILL)
    wait_for("start by the watchdog", lambda: host.init("status") == 0 and host.pid() != first)
    assert host.init("reload") == 0
    good = host.config.read_text("utf-8")
    restart_is_refused(host, "restart", host.spoil())
    host.config.write_text(good, encoding="utf-8")
    assert host.init("restart") == 0
    assert host.init("status") == 0
    assert host.init("stop") == 0
    assert host.processes() == []
    assert host.init("status") == 3


# ---- make and make install ----

def dry_run(tmp_path, *words, **env):
    """What make would do to compile one file."""
    target = tmp_path / "obj/mux/base/log.o"
    done = subprocess.run(["make", "-n", "V=1", f"BUILD={tmp_path}", *words, target], cwd=ROOT, capture_output=True,
                          text=True, env={**clean_environment(), **env}, check=True, timeout=DEADLINE)
    (line,) = (line for line in done.stdout.splitlines() if line.endswith("mux/base/log.c"))
    return line.split()


def clean_environment():
    """Without what a make that runs these tests has told its children."""
    mine = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    return {name: value for name, value in os.environ.items() if name not in mine}


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_make_takes_a_compiler_and_flags_and_keeps_its_own(tmp_path, given):
    own = dry_run(tmp_path)
    assert own[0] == "gcc" and "-O2" in own
    more = {"CC": "clang", "CFLAGS": "-O3", "CPPFLAGS": "-DMORE"}
    words = dry_run(tmp_path, *map("=".join, more.items())) if given == "argument" else dry_run(tmp_path, **more)
    assert words[0] == "clang" and "-DMORE" in words
    assert any(word.startswith("-DGIMUX_VERSION=") for word in words)
    assert "-Werror" in own and set(own[1:]) - set(words) == {"-Werror"}
    assert [word for word in words if word.startswith("-O")][-1] == "-O3"


def test_a_failing_pkg_config_leaves_nothing_behind(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/pkg-config").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    (tmp_path / "tools/pkg-config").chmod(0o755)
    env = {**clean_environment(), "PATH": f"{tmp_path}/tools:{os.environ['PATH']}"}
    done = subprocess.run(["make", "-n", f"BUILD={tmp_path}", "all"], cwd=ROOT, capture_output=True, check=False,
                          env=env, timeout=DEADLINE)
    assert not (tmp_path / "config.mk").exists() and done.returncode != 0
    assert dry_run(tmp_path) and "-levent" in (tmp_path / "config.mk").read_text("utf-8")


def anchors(path):
    """Of a Markdown document: what its headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_of_installed_documents_lead_somewhere(tree):
    documents = tree / "usr/share/doc/gimux"
    assert {path.name for path in documents.glob("docs/*.md")} == {path.name for path in ROOT.glob("docs/*.md")}
    followed, broken = 0, []
    for path in documents.rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            followed += 1
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            if not target.is_relative_to(documents) or not target.is_file() or anchor and anchor not in anchors(target):
                broken.append(f"{path.relative_to(documents)}: {link}")
    assert not broken and followed > 50


# ---- the Debian package ----

@pytest.fixture(scope="module", name="tree")
def fixture_tree(tmp_path_factory):
    """What make install makes."""
    built(BUILD / "gimuxd")
    tree = tmp_path_factory.mktemp("install")
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", f"DESTDIR={tree}", "PREFIX=/usr", "install"],
                   check=True, stdout=subprocess.DEVNULL)
    return tree


@pytest.fixture(scope="module", name="deb")
def fixture_deb(tmp_path_factory, tree):
    for tool in ("dpkg-deb", "dpkg-shlibdeps"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} here: packaging/deps package")
    directory = tmp_path_factory.mktemp("deb")
    output = directory / f"gimux_{VERSION}_amd64.deb"
    subprocess.run([ROOT / "packaging/mkdeb", "--tree", tree, "--config", built(CONFIG),
                    "--version", VERSION, "--output", output], check=True)
    return output


def test_deb_lists_what_it_should(deb):
    listed = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    assert all(line.split()[1] == "root/root" for line in lines)
    paths = {line.split()[5] for line in lines}
    wanted = {"usr/sbin/gimuxd", "usr/bin/svm-tail", "usr/bin/thinagent-sim", "usr/lib/libgimux_client.so.1",
              "usr/lib/libgimux_client.a", "usr/include/gimux_client.h", "usr/lib/pkgconfig/gimux_client.pc",
              "etc/gimux/gimuxd.conf", "etc/init.d/gimuxd", "lib/systemd/system/gimuxd.service",
              "usr/share/doc/gimux/copyright"}
    service = (ROOT / "packaging/gimuxd.service").read_text("utf-8")
    wanted.add(re.search(r"^Documentation=file:///(.*)$", service, re.MULTILINE)[1])
    assert {f"./{path}" for path in wanted} <= paths


def test_deb_control(deb, tmp_path):
    subprocess.run(["dpkg-deb", "-e", deb, tmp_path], check=True)
    control = (tmp_path / "control").read_text("utf-8")
    assert f"\nVersion: {VERSION}\n" in control
    assert re.search(r"^Depends: .*\blibc6 \(>= ", control, re.MULTILINE)
    conffiles = (tmp_path / "conffiles").read_text("utf-8").split()
    assert conffiles == ["/etc/gimux/gimuxd.conf", "/etc/init.d/gimuxd"]
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", tmp_path / script], check=True)


def test_deb_unpacks_into_a_gimuxd_that_takes_its_configuration(deb, tmp_path):
    subprocess.run(["dpkg", "-x", deb, tmp_path], check=True)
    program, config = tmp_path / "usr/sbin/gimuxd", tmp_path / "etc/gimux/gimuxd.conf"
    text = config.read_text("utf-8")
    assert text.count('\nuser = "gimux"\n') == 1  # whom the package makes, and this host may not have
    config.write_text(text.replace('"gimux"', '"nobody"'), encoding="utf-8")
    subprocess.run([program, "-c", config, "--check"], check=True, timeout=DEADLINE)


class Upgrade:
    """The package's postinst beside a host's gimuxd, as dpkg runs it after it has unpacked a newer version."""

    def __init__(self, host, deb, directory, with_systemd):
        self.host, self.said = host, ""
        self.script, self.systemctl = directory / "control/postinst", directory / "systemctl.log"
        tools, run = directory / "tools", directory / "systemd"
        tools.mkdir()
        subprocess.run(["dpkg-deb", "-e", deb, directory / "control"], check=True)
        text = self.script.read_text("utf-8").replace("/run/systemd/system", str(run))
        init = host.directory / "root/etc/init.d/gimuxd"
        self.script.write_text(text.replace("/etc/init.d/gimuxd", str(init)), encoding="utf-8")
        # Who the user is and what systemd does is not this machine's.
        for tool in ("getent", "useradd", "install", "systemctl"):
            (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>{self.systemctl}\n', encoding="ascii")
            (tools / tool).chmod(0o755)
        if with_systemd:
            run.mkdir()
        self.env = dict(host.env, PATH=f"{tools}:{os.environ['PATH']}")

    def run(self):
        """What it did to the worker; it never fails, and never stops what runs."""
        keeper, before = self.host.pid(), children(self.host.pid())
        with tempfile.TemporaryFile("w+") as said:
            subprocess.run(["sh", self.script, "configure", "0.0.1"], env=self.env, check=True, timeout=2 * DEADLINE,
                           stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            said.seek(0)
            self.said = said.read()
        assert "restart" not in self.systemctl.read_text("utf-8")
        assert self.host.init("status") == 0 and self.host.pid() == keeper
        wait_for("one worker", lambda: len(children(keeper)) == 1)
        return "stays" if children(keeper) == before else "another"


@pytest.fixture(name="upgrade", params=[False, True], ids=["init", "systemd"])
def fixture_upgrade(request, host, deb, tmp_path):
    return Upgrade(host, deb, tmp_path, request.param)


def test_deb_upgrade_goes_on_with_a_bad_configuration(host, upgrade):
    """The package is installed, what runs goes on, and one line says why; once that is mended, upgrade does it."""
    assert host.init("start") == 0
    good, line = host.config.read_text("utf-8"), host.spoil()
    assert upgrade.run() == "stays"
    assert upgrade.said.startswith(f"gimuxd: not upgraded, process {host.pid()} goes on as it was: ")
    assert line in upgrade.said and upgrade.said.count("\n") == 1
    host.config.write_text(good, encoding="utf-8")
    assert upgrade.run() == "another"
    assert host.init("stop") == 0 and host.processes() == []


def test_deb_upgrade_goes_on_when_the_new_program_does_not_come_up(host, upgrade):
    assert host.init("start") == 0
    program = Path(host.env["GIMUXD"])
    kept = program.rename(program.with_name("kept"))
    program.write_text(f'#!/bin/sh\ncase $* in *--check*) exec "{kept}" "$@" ;; esac\nexit 1\n')
    program.chmod(0o755)
    assert upgrade.run() == "stays"
    assert f"gimuxd: not upgraded, process {host.pid()} goes on as it was: its log says why" in upgrade.said
    kept.rename(program)
    assert host.init("stop") == 0 and host.processes() == []
