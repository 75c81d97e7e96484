"""Starts the real programs in a private directory and waits for what they say, never for a time.

Every wait has a deadline; what a program wrote is printed when a wait fails. `World` is the fixture: it ends whatever a
test has started, and fails the test if gimuxd ended badly (a crash, a sanitizer's report).
"""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GIMUX_BUILD", ROOT / "build")).resolve()
DEADLINE = int(os.environ.get("GIMUX_DEADLINE", "60"))  # seconds that any single wait may take; far more than it should


def wait_for(what, condition, deadline=DEADLINE):
    """Returns condition()'s first true value."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline} s: {what}")
        time.sleep(0.01)


def children(pid):
    """The processes that this one has started and that have not ended."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rsplit(") ", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(entry.name))
    return found


class Program:
    """A process with its two outputs kept as text."""

    def __init__(self, name, *args, stdin=subprocess.DEVNULL, cwd=None):
        self.name = name
        self.lines = {"out": [], "err": []}
        self.process = subprocess.Popen(
            [str(BUILD / name), *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=cwd, text=True, errors="replace")
        self.readers = [threading.Thread(target=self._read, args=(stream, key), daemon=True)
                        for stream, key in ((self.process.stdout, "out"), (self.process.stderr, "err"))]
        for reader in self.readers:
            reader.start()

    def _read(self, stream, key):
        for line in stream:
            self.lines[key].append(line.rstrip("\n"))

    @property
    def err(self):
        return "\n".join(self.lines["err"])

    @property
    def out(self):
        return "\n".join(self.lines["out"])

    def wait_err(self, pattern, deadline=DEADLINE):
        """The first match of the pattern in stderr."""
        return self._wait(pattern, "err", deadline)

    def wait_out(self, pattern, deadline=DEADLINE):
        return self._wait(pattern, "out", deadline)

    def _wait(self, pattern, key, deadline):
        def look():
            found = re.search(pattern, "\n".join(self.lines[key]), re.MULTILINE)
            if not found and self.process.poll() is not None:
                self._join()
                found = re.search(pattern, "\n".join(self.lines[key]), re.MULTILINE)
                if not found:
                    raise AssertionError(f"{self.name} ended ({self.process.returncode}) without {pattern!r}:\n{self.err}")
            return found
        try:
            return wait_for(f"{pattern!r} from {self.name}", look, deadline)
        except TimeoutError as late:
            raise AssertionError(f"{late}\n{self.name} said:\n{self.err}\n{self.out}") from late

    def _join(self):
        for reader in self.readers:
            reader.join(timeout=5)

    def kill(self, number):
        self.process.send_signal(number)

    def wait(self, deadline=DEADLINE):
        """Its exit status."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end; it said:\n{self.err}") from None
        self._join()
        return status

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.kill(number)
        return self.wait()


class Svm(Program):
    """svm-tail; its counts come by SIGUSR1 and at its end."""

    def __init__(self, directory, name, *args, listen="tcp:127.0.0.1:0"):
        self.stats_file = directory / f"{name}-{uuid.uuid4().hex[:8]}.json"
        super().__init__("svm-tail", "--listen", listen, "--stats", self.stats_file, *args)
        self.address = self.wait_err(r"^listening on (\S+)").group(1)

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def stats(self):
        """Fresh counts: asks for them while it runs."""
        if self.process.poll() is None:
            before = self.stats_file.stat().st_mtime_ns if self.stats_file.exists() else 0
            self.kill(signal.SIGUSR1)
            wait_for("svm-tail's counts", lambda: self.process.poll() is not None or (
                self.stats_file.exists() and self.stats_file.stat().st_mtime_ns > before))
        return json.loads(self.stats_file.read_text())

    def streams(self):
        """{(vm, driver): stream's counts}; the last boot wins."""
        return {(s["vm_uuid"], s["driver"]): s for s in self.stats()["streams"]}

    def delivered(self, driver=None):
        return sum(s["delivered"] for s in self.stats()["streams"] if driver in (None, s["driver"]))

    def events(self, **match):
        """What --json has printed so far, as dictionaries: the events whose fields are those of match."""
        events = [json.loads(line) for line in list(self.lines["out"]) if line.startswith('{"kind":"event"')]
        return [event for event in events if all(event.get(k) == v for k, v in match.items())]

    def wait_events(self, count, **match):
        """The same, when there are so many."""
        wait_for(f"{count} events {match} at {self.address}", lambda: len(self.events(**match)) >= count)
        return self.events(**match)


class World:
    """A private directory, a gimuxd in it, and all that a test starts."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.programs = []
        self.gimuxd = None
        # a UNIX socket's path is at most 107 bytes, pytest's directories are long
        self.run = pathlib.Path("/tmp") / f"gimux-{uuid.uuid4().hex[:12]}"
        self.run.mkdir(mode=0o700)
        self.admin = self.run / "admin.sock"
        self.shared = f"unix:{self.run}/shared.sock"
        self.vmx = f"unix:{self.run}/vmx.sock"
        self.vm_dir = self.run / "vms"
        self.vm_dir.mkdir()

    def track(self, program):
        self.programs.append(program)
        return program

    def svm(self, name, *args, **kwargs):
        return self.track(Svm(self.directory, name, *args, **kwargs))

    def sim(self, *args):
        return self.track(Program("thinagent-sim", *args))

    def configure(self, solutions, doors=None, rest="", vms=None):
        """Writes gimuxd.conf. solutions: {name: {option: value}} (address may be an Svm); rest: more text;
        vms: {uuid: {option: value}}."""
        doors = {"shared": self.shared, "vmx": self.vmx} if doors is None else doors
        text = [f'pid_file = "{self.run}/pid"', f'admin = "unix:{self.admin}"', "log_level = debug", rest,
                "doors {", *(f"    {k} = {self.value(v)}" for k, v in doors.items()), "}"]
        for name, options in (vms or {}).items():
            text += [f'vm "{name}" {{', *(f"    {k} = {self.value(v)}" for k, v in options.items()), "}"]
        for name, options in solutions.items():
            options = dict(options)
            if isinstance(options.get("address"), Svm):
                options["address"] = options["address"].address
            if str(options["address"]).startswith("tcp:"):
                options.setdefault("plain", "true")
            text += [f'solution "{name}" {{', *(f"    {k} = {self.value(v)}" for k, v in options.items()), "}"]
        path = self.directory / "gimuxd.conf"
        path.write_text("\n".join(text) + "\n")
        return path

    @staticmethod
    def value(value):
        if isinstance(value, (list, tuple)):
            return "{" + ", ".join(World.value(v) for v in value) + "}"
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    def start(self, path=None, up=0):
        """gimuxd in the foreground; waits until its doors are open and `up` SVMs are."""
        self.gimuxd = self.track(Program("gimuxd", "-f", "-c", path or self.directory / "gimuxd.conf"))
        self.gimuxd.wait_err(r"gimuxd \S+: up with")
        self.wait_up(up)
        return self.gimuxd

    def worker(self):
        """The process that does gimuxd's work; self.gimuxd is its keeper."""
        pid, = wait_for("one worker", lambda: len(found := children(self.gimuxd.process.pid)) == 1 and found)
        return pid

    def wait_up(self, count):
        wait_for(f"{count} SVMs to be up", lambda: sum(
            s["state"] == "up" for s in self.status()["solutions"]) >= count)

    def reload(self):
        """SIGHUP; returns whether the new configuration is in force."""
        before = self.metrics()
        self.gimuxd.kill(signal.SIGHUP)

        def done():
            after = self.metrics()
            good = after["gimux_reloads_total"] > before["gimux_reloads_total"]
            bad = after["gimux_reload_failures_total"] > before["gimux_reload_failures_total"]
            return (good or bad) and (1 if good else 2)
        return wait_for("the reload", done) == 1

    def get(self, path):
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(str(self.admin))
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        assert response.status == 200, f"GET {path}: {response.status}"
        return body

    def status(self):
        return json.loads(self.get("/v1/status"))

    def metrics(self):
        """{name, labels as written: value}"""
        def number(text):
            return float(text) if "." in text else int(text)
        return {line.rsplit(" ", 1)[0]: number(line.rsplit(" ", 1)[1])
                for line in self.get("/metrics").splitlines() if line and not line.startswith("#")}

    def wait_metric(self, name, at_least, deadline=DEADLINE):
        return wait_for(f"{name} >= {at_least}", lambda: self.metrics().get(name, 0) >= at_least, deadline)

    def close(self):
        failures = []
        for program in reversed(self.programs):
            running = program.process.poll() is None
            if running:
                program.kill(signal.SIGCONT)
            try:
                status = program.end()
            except AssertionError as stuck:  # the others must end, too
                status = program.end(signal.SIGKILL)
                failures.append(str(stuck))
            if program.name == "gimuxd" and running and status != 0:
                failures.append(f"gimuxd ended with {status}:\n{program.err[-4000:]}")
            if "Sanitizer" in program.err or "runtime error:" in program.err:
                failures.append(f"{program.name}:\n{program.err[-8000:]}")
        subprocess.run(["rm", "-rf", str(self.run)], check=False)
        assert not failures, failures[0]


def load_summary(path):
    """What thinagent-sim's --summary FILE says."""
    return json.loads(pathlib.Path(path).read_text())


def assert_adds_up(summary, svm, drivers=("linux", "vsepflt", "vnetwfp")):
    """DESIGN.md's equation, from the driver's numbers and the SVM's: sent = delivered + filtered + in gaps."""
    seen = svm.streams()
    for sent in summary["streams"]:
        if sent["driver"] not in drivers or sent["sent"] == 0:
            continue
        got = seen[(sent["vm_uuid"], sent["driver"])]
        filtered = got["filtered_told"]
        assert got["delivered"] + filtered + got["gapped"] == sent["sent"], (sent, got)
