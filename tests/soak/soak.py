#!/usr/bin/python3
"""An hour of a full host: 1,024 VMs connect, all SVMs go away and come back, everything is delivered, memory stays flat.

Sampled every second: the resident memory of gimuxd and its children, against the bound that it printed at start. When
the SVMs are back and everything has settled, the slope of that memory is a line by least squares over the rest of the
time. Ends with 1 if something is not as it should be; prints a table, and writes all numbers to build/soak.json.

    SOAK_SECONDS (3600)  the whole     SOAK_AWAY (600)     how long the SVMs are away
    SOAK_VMS (1024)                    SOAK_DURABLE (0)    1: VM logs in files, durability = process, and a spilling SVM
"""
import json
import os
import pathlib
import shutil
import signal
import sys
import time
import uuid

os.environ.setdefault("GIMUX_DEADLINE", "120")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import driver as guest  # noqa: E402
from harness import BUILD, World, load_summary, wait_for  # noqa: E402

SECONDS = int(os.environ.get("SOAK_SECONDS", "3600"))
AWAY = int(os.environ.get("SOAK_AWAY", "600"))
VMS = int(os.environ.get("SOAK_VMS", "1024"))
DURABLE = os.environ.get("SOAK_DURABLE", "0") != "0"

MIB = 1 << 20
HOLDERS = 256  # drivers that hold as much as one may: nearly all of the longest record
FLOODERS = 8  # VMs that fill their own logs; the others fill the memory of all
CHURN = 16  # VMs that come and go all the time
LOG_MEMORY = 96 * MIB
EVENT = 400  # bytes of an event in a log, about
CONNECT_SECONDS = 30  # "within seconds", on a machine that does other things too
MARGIN = 0.02  # of the bound: the allocator, which the bound does not count
# Flat: less than one percent of the bound an hour, which is some bytes per event of this load: a leak of one small
# object per event would be steeper. Over less than ten minutes, what ten minutes may bring: else it measures noise.
FLAT = 0.01

CONF = f"""limits {{
    memory = {LOG_MEMORY}
    vm_log = 1M
    vm_window = 4M
    vms = {VMS + HOLDERS + FLOODERS + CHURN}
    connections = {VMS + HOLDERS + FLOODERS + 2 * CHURN}
}}
"""


# ---- memory ----

def family(pid):
    """A process and all that it has started."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(pathlib.Path("/proc", name, "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass  # has ended
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def field(path, name):
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def memory(pid):
    """(VmRSS, PSS) in bytes, of the process and its children. RSS counts shared pages for each."""
    rss = pss = 0
    for each in family(pid):
        try:
            rss += field(pathlib.Path(f"/proc/{each}/status"), "VmRSS")
            pss += field(pathlib.Path(f"/proc/{each}/smaps_rollup"), "Pss")
        except OSError:
            pass  # a child that has ended
    return rss, pss


def slope(samples):
    """Bytes per second of a line through (second, bytes), by least squares."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    width = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / width


# ---- the soak ----

class Soak:
    def __init__(self, world):
        self.world = world
        self.began = time.monotonic()
        self.phase = "start"
        self.samples = []  # (second, phase, rss, pss)
        self.rows = []  # (what, measured, limit, whether it is good)
        self.sims = []  # (program, its summary's path)
        self.holders = []
        self.said = 0.0

    def now(self):
        return time.monotonic() - self.began

    def check(self, what, measured, limit, good):
        self.rows.append((what, str(measured), str(limit), bool(good)))

    # -- watching --

    def sample(self):
        rss, pss = memory(self.world.gimuxd.process.pid)
        self.samples.append((round(self.now(), 1), self.phase, rss, pss))
        if self.world.gimuxd.process.poll() is not None:
            raise RuntimeError(f"gimuxd has ended:\n{self.world.gimuxd.err[-2000:]}")
        if sys.stdout.isatty() or self.now() - self.said >= 30:
            self.said = self.now()
            print(f"  {self.now():6.0f} of {SECONDS} s  {self.phase:8}  rss {rss / MIB:7.1f} MiB  pss {pss / MIB:7.1f} MiB",
                  end="\r" if sys.stdout.isatty() else "\n", flush=True)

    def watch(self, phase, until, deadline):
        """Samples every second until `until()` is true or, where that is None, for so long."""
        self.phase = phase
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            self.sample()
            if until and until():
                return True
            self.between()
            time.sleep(max(0.0, 1.0 - time.monotonic() % 1.0))
        return not until

    def between(self):
        """VMs come and go: a round of them begins when the last has ended."""
        churn = [sim for sim, _ in self.sims if "--drain" in sim.process.args]
        if self.phase in ("flat", "filling") and all(sim.process.poll() is not None for sim in churn):
            self.load(CHURN, 5, "--seconds", "5", "--seed", "3", "--drain", "600")

    # -- those that take part --

    def load(self, vms, rate, *more):
        path = self.world.directory / f"summary-{len(self.sims)}.json"
        sim = self.world.sim("load", "--connect", self.world.shared, "--linux", "--vms", vms, "--rate", rate,
                             "--summary", path, *more)
        self.sims.append((sim, path))
        return sim

    def hold(self):
        """Drivers that begin the longest record and do not go on."""
        for _ in range(HOLDERS):
            holder = guest.Driver(self.world.shared)
            holder.say_hello()
            holder.socket.settimeout(60)
            holder.socket.sendall(guest.record(guest.FILE, size=guest.RECORD_MAX, sequence=1) +
                                  bytes(guest.RECORD_MAX - guest.HEADER.size - 100))
            self.holders.append(holder)

    def start(self):
        world = self.world
        self.svms = {name: world.svm(name, "--quiet") for name in ("pausing", "dropping", "leaving")}
        policies = {"pausing": "pause", "dropping": "drop", "leaving": "drop"}
        rest = CONF
        if DURABLE:
            self.svms["spilling"] = world.svm("spilling", "--quiet")
            policies["spilling"] = "spill"
            (world.directory / "store").mkdir()
            rest += f'storage {{\n    dir = "{world.directory}/store"\n    vm = 16M\n    total = 2G\n}}\n'
        options = {"durability": "process"} if DURABLE else {}
        path = world.configure({name: {"address": svm, "policy": policies[name], "redial_max": "2s",
                                       "heartbeat": "5s", **options} for name, svm in self.svms.items()}, rest=rest)
        path.write_text(path.read_text().replace("log_level = debug", "log_level = info"))
        world.start(up=len(self.svms))
        self.bound = int(world.gimuxd.wait_err(r"memory bound (\d+) bytes").group(1))
        self.idle = memory(world.gimuxd.process.pid)

    def connect(self):
        """All VMs, until gimuxd has welcomed the last one."""
        fill = max(10.0, AWAY * 0.5)
        rate = max(0.05, LOG_MEMORY * 1.2 / EVENT / VMS / fill)
        begin = time.monotonic()
        self.load(VMS, f"{rate:.3f}")
        try:
            # by the metrics: a line that would make gimuxd wait is not logged
            wait_for("the WELCOME of every VM",
                     lambda: sum(key.startswith("gimux_vm_paused{") for key in self.world.metrics()) >= VMS,
                     4 * CONNECT_SECONDS)
        except TimeoutError:
            pass
        took = time.monotonic() - begin
        self.check(f"{VMS} VMs welcomed", f"{took:.1f} s", f"{CONNECT_SECONDS} s", took < CONNECT_SECONDS)
        print(f"  {VMS} VMs welcomed in {took:.2f} s; {rate:.2f} events a second of each", flush=True)
        self.load(FLOODERS, max(10, 4 * MIB / EVENT / fill), "--seed", "2")
        self.hold()

    def go_away(self):
        for name, svm in self.svms.items():
            if name == "leaving":
                self.port = svm.port
                svm.end()
            else:
                svm.kill(signal.SIGSTOP)

    def come_back(self):
        for name, svm in self.svms.items():
            if name != "leaving":
                svm.kill(signal.SIGCONT)
        self.left = self.svms["leaving"]
        self.svms["leaving"] = self.world.svm("leaving", "--quiet", listen=f"tcp:127.0.0.1:{self.port}")

    def total(self, name):
        return sum(value for key, value in self.world.metrics().items() if key.split("{")[0] == name)

    # -- the course of it --

    def run(self):
        self.start()
        self.connect()
        self.watch("filling", None, 5)
        self.go_away()
        self.watch("away", None, AWAY)
        paused = self.total("gimux_vm_paused")
        self.check("VMs paused by then", paused, f"more than {FLOODERS - 1}", DURABLE or paused >= FLOODERS)
        gone = self.now()
        self.come_back()
        settled = self.watch("back", self.is_settling, max(60, AWAY))
        self.check("caught up when the SVMs are back", f"{self.now() - gone:.0f} s", f"{max(60, AWAY)} s", settled)
        self.watch("settling", None, min(30, max(5, SECONDS // 60)))
        self.watch("flat", None, max(10, SECONDS - self.now()))
        self.finish()

    def is_settling(self):
        """What waited while they were away is gone: the logs are short again, and nobody is paused."""
        metrics = self.world.metrics()
        return metrics["gimux_log_bytes"] < LOG_MEMORY / 8 and not any(
            value for key, value in metrics.items() if key.startswith("gimux_vm_paused"))

    def finish(self):
        """Drivers end, what is left is delivered, and the sums are compared."""
        self.phase = "end"
        for sim, _ in self.sims:
            if sim.process.poll() is None and "--drain" not in sim.process.args:
                sim.kill(signal.SIGINT)
        bad = [f"{sim.process.args}: {sim.err[-300:]}" for sim, _ in self.sims if sim.wait(700) != 0]
        self.check("loads that ended badly", len(bad), 0, not bad)
        for line in bad[:3]:
            print(line)
        for holder in self.holders:
            holder.socket.close()
        wait_for("every SVM to settle everything", lambda: self.total("gimux_solution_pending") == 0, 120)
        self.sample()
        self.compare()
        self.check_memory()
        status = self.world.gimuxd.end()
        self.check("exit status of gimuxd", status, 0, status == 0)

    def compare(self):
        sent = [stream for _, path in self.sims for stream in load_summary(path)["streams"]]
        total = sum(stream["sent"] for stream in sent)

        def key(stream):
            return stream["vm_uuid"], stream["driver"], stream["boot_id"]
        for name, svm in sorted(self.svms.items()):
            got = {key(stream): stream["delivered"] + stream["gapped"] + stream["filtered_told"]
                   for stream in svm.stats()["streams"]}
            if name == "leaving":  # two lives, of which the second may be told again what the first did not acknowledge
                for stream in self.left.stats()["streams"]:
                    got[key(stream)] = got.get(key(stream), 0) + stream["delivered"] + stream["gapped"]
                wrong = [s for s in sent if got.get(key(s), 0) < s["sent"]]
            else:
                wrong = [s for s in sent if got.get(key(s), 0) != s["sent"]]
            totals = svm.stats()["totals"]
            gaps = sum(stream["gapped"] for stream in svm.stats()["streams"])
            impolite = totals["again"] + totals["out_of_order"] + totals["protocol_errors"]
            self.check(f"{name}: streams that do not add up", f"{len(wrong)} of {len(sent)}", 0, not wrong)
            self.check(f"{name}: twice, out of order, wrong", impolite, 0, impolite == 0)
            if name == "pausing":
                self.check("pausing: events in gaps", gaps, 0, gaps == 0)
        self.check("events sent", total, "more than 0", total > 0)

    def check_memory(self):
        limit = int(self.bound * (1 + MARGIN))
        at, phase, most, _ = max(self.samples, key=lambda sample: sample[2])
        self.check("most resident memory", f"{most / MIB:.1f} MiB ({phase}, {at:.0f} s)", f"{limit / MIB:.1f} MiB",
                   most <= limit)
        flat = [(second, rss) for second, phase, rss, _ in self.samples if phase == "flat"]
        seconds = flat[-1][0] - flat[0][0] if flat else 0
        growth = slope(flat) * seconds
        allowed = FLAT * self.bound * max(seconds, 600) / 3600
        self.slope = slope(flat) * 3600
        self.check("growth when settled, by the slope", f"{growth / MIB:+.2f} MiB in {seconds:.0f} s",
                   f"{allowed / MIB:.2f} MiB", seconds > 0 and growth < allowed)

    def report(self):
        by_phase = {}
        for _, phase, rss, pss in self.samples:
            worst = by_phase.setdefault(phase, [0, 0])
            worst[0], worst[1] = max(worst[0], rss), max(worst[1], pss)
        print(f"\nbound printed at start {self.bound / MIB:.1f} MiB; idle: rss {self.idle[0] / MIB:.1f} MiB")
        for phase, (rss, pss) in by_phase.items():
            print(f"  {phase:9} most rss {rss / MIB:8.1f} MiB  most pss {pss / MIB:8.1f} MiB")
        for what, measured, limit, good in self.rows:
            print(f"  {'ok  ' if good else 'FAIL'}  {what:36} {measured:>28}   limit {limit}")
        (BUILD / "soak.json").write_text(json.dumps({
            "seconds": SECONDS, "away": AWAY, "vms": VMS, "durable": DURABLE, "bound": self.bound, "idle": self.idle,
            "slope_per_hour": getattr(self, "slope", None), "samples": self.samples,
            "checks": [dict(zip(("what", "measured", "limit", "good"), row)) for row in self.rows]}, indent=1) + "\n")
        return all(row[3] for row in self.rows)


def main():
    directory = pathlib.Path("/tmp") / f"gimux-soak-{uuid.uuid4().hex[:8]}"
    directory.mkdir(mode=0o700)
    world = World(directory)
    soak = Soak(world)
    good = False
    try:
        soak.run()
    except (AssertionError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
        soak.check("the course of it", str(error)[:200], "no error", False)
    finally:
        if hasattr(soak, "bound"):
            good = soak.report()
        else:
            print(soak.rows)
        try:
            world.close()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"soak: {'all is well' if good else 'FAILED'}; numbers in {BUILD / 'soak.json'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
