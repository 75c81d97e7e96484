#!/usr/bin/python3
"""The main job for some seconds, for people to watch: "make demo".

Starts gimuxd, two SVMs, eight VMs that replay a recorded trace and, as root, a watcher on a directory in which
something really happens. Prints some of the events as they arrive, and at the end a table: for each VM and SVM, what
the driver has sent is what the SVM was delivered, plus what its subscription left out, plus what gaps name. Exits 0
only if all of that adds up. All files are in one directory under /tmp; that and all processes are gone afterwards.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent / "e2e"))
import certs  # noqa: E402 (found by the line above)
from harness import BUILD, ROOT, Program, World, load_summary, wait_for  # noqa: E402

TRACE = ROOT / "tests/data/build-hello.pcap"
COPIES = 8
ROUNDS = 6  # of the trace; it was recorded in a tenth of a second, so it is played slowly
SPEED = 0.12
MUTED = "/srv/demo/obj/"  # in the trace
WAIT = 10  # seconds that one step may take
TOTAL = 60  # seconds that all may take

# What happens in the watched directory. The sleeps are only there for people to follow it.
WORK = """
pause() { sleep 0.4; }
echo 'int main(void) { return 0; }' > hello.c; pause
mkdir obj src; pause
mv hello.c src/hello.c; pause
if command -v gcc > /dev/null; then gcc -c -o obj/hello.o src/hello.c && gcc -o hello obj/hello.o; fi; pause
tar -cf src.tar src; mkdir copy; tar -xf src.tar -C copy; pause
printf 'name with an escape' > "$(printf 'odd\\033[31mname')"; pause
chmod 600 src.tar; pause
rm -r obj copy; pause
rm src.tar
"""


class Screen:
    """What the reader sees."""

    colours = {"green": 32, "red": 31, "grey": 90, "bold": 1}

    def __init__(self):
        self.begin = time.monotonic()
        self.colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.due = {}  # (svm, "vm" or "live"): when an event of that may be printed again
        self.turns = {}  # the same: how many were
        self.shown = self.events = 0

    def paint(self, colour, text):
        return f"\033[{self.colours[colour]}m{text}\033[0m" if self.colourful else text

    def say(self, text=""):
        print(text, flush=True)

    def event(self, svm, vm, event):
        """Prints some of the events: of the VMs, who all do the same, in turns."""
        now = time.monotonic()
        self.events += 1
        who = "live" if vm == "live" else "vm"
        turn = self.turns.get((svm, who), 0)
        if now < self.due.get((svm, who), 0) or vm not in ("live", f"vm {turn % COPIES + 1}"):
            return
        self.due[(svm, who)] = now + 0.4
        self.turns[(svm, who)] = turn + 1
        self.shown += 1
        stamp = self.paint("grey", f"{now - self.begin:4.1f} s")
        self.say(f"{stamp}  {svm:9}  {vm:4}  {describe(event)}")


def printable(text):
    """A guest chose this text: nothing of it may steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def printable_lines(text, last=20):
    return "\n".join(printable(line) for line in text.splitlines()[-last:])


def describe(event):
    """One event in some 80 columns; paths of the watched directory without what all of them begin with."""
    what = f"{event['class']} {event['activity']}"
    detail = ""
    if "file" in event:
        detail = event["file"]["path"]
        if event["file"].get("target_path"):
            detail += " -> " + event["file"]["target_path"]
    elif "lifecycle" in event:
        detail = f"driver {event['lifecycle']['driver']}  {event['lifecycle'].get('reason', '')}"
    process = event.get("actor", {}).get("process_path", "")
    if process:
        detail += f"  ({process.rsplit('/', 1)[-1]})"
    detail = re.sub(r"/tmp/gimux-[0-9a-f]+/live/", "", detail)
    return f"{what:19} {printable(detail)[:60]}".rstrip()


def make_world():
    """A private directory, and in it what tests use."""
    world = World("/nonexistent")  # a test has a directory of its own; here the one of the sockets does
    world.directory = world.run
    return world


def start_svms(world, screen):
    """antivirus wants everything, over TLS; forensics, over plain TCP, mutes what compilers leave behind."""
    keys = certs.make(world.directory / "certs")
    live = world.directory / "live"
    svms = {
        "antivirus": world.svm("antivirus", "--json", "--cert", keys / "server.pem", "--key", keys / "server.key",
                               "--ca", keys / "ca.pem", "--peer-name", "gimuxd", listen="tls:127.0.0.1:0"),
        "forensics": world.svm("forensics", "--json", "--mute", MUTED, "--mute", f"{live}/obj/"),
    }
    world.configure({
        "antivirus": {"altitude": 200, "address": svms["antivirus"], "cert": keys / "client.pem",
                      "key": keys / "client.key", "ca": keys / "ca.pem"},
        "forensics": {"altitude": 100, "address": svms["forensics"]},
    })
    screen.say(f"antivirus  SVM, {svms['antivirus'].address}: TLS 1.3, certificates on both sides, wants everything")
    screen.say(f"forensics  SVM, {svms['forensics'].address}: plain TCP, mutes {MUTED} and {live}/obj/")
    return svms


def start_live(world, screen):
    """A watcher on a directory, as one more VM. Returns it and its summary file, or twice None where it cannot be."""
    directory = world.directory / "live"
    directory.mkdir()
    summary = world.directory / "live.json"
    if os.geteuid() != 0:
        screen.say("live       left out: watching a directory (fanotify) needs root")
        return None, None
    live = world.sim("live", "--watch", directory, "--vm", uuid.uuid4(), "--connect", world.shared,
                     "--summary", summary, "--json")
    wait_for("the watcher to watch", lambda: "watching " in live.err or live.process.poll() is not None, WAIT)
    if live.process.poll() is not None:
        screen.say(f"live       left out: {printable_lines(live.err)}")
        return None, None
    screen.say(f"live       one more VM: files in {directory}, really touched, as fanotify sees them")
    return live, summary


def name_vm(names, vm):
    """VMs are called by the order in which they come; live was named before."""
    if vm not in names:
        names[vm] = f"vm {sum(name != 'live' for name in names.values()) + 1}"
    return names[vm]


class Reader:
    """Takes the lines of one svm-tail, and counts file events that its neighbour mutes."""

    def __init__(self, name, svm, muted):
        self.name, self.svm, self.muted = name, svm, tuple(muted)
        self.taken = 0
        self.under_muted = {}  # vm uuid: how many events

    def take(self, screen, names):
        """Returns whether there was something new."""
        lines = self.svm.lines["out"][self.taken:]
        for line in lines:
            event = json.loads(line)
            if event["kind"] != "event":
                continue
            vm = event["vm_uuid"]
            if event.get("file", {}).get("path", "").startswith(self.muted):
                self.under_muted[vm] = self.under_muted.get(vm, 0) + 1
            screen.event(self.name, name_vm(names, vm), event)
        self.taken += len(lines)
        return bool(lines)


def must_end(program):
    """Waits for its end; anything but success is an error, with what it said."""
    status = program.wait(WAIT)
    if status != 0:
        raise RuntimeError(f"{program.name} ended with {status}:\n{printable_lines(program.err)}")


def follow(until, meanwhile, readers, screen, names):
    """Prints what arrives until some programs have ended. The others must not end meanwhile."""
    end = time.monotonic() + 2 * WAIT
    while running := [program for program in until if program.process.poll() is None]:
        for program in meanwhile:
            if program.process.poll() is not None:
                must_end(program)
                raise RuntimeError(f"{program.name} ended too early:\n{printable_lines(program.err)}")
        if time.monotonic() > end:
            raise TimeoutError(f"not ended in {2 * WAIT} s: {', '.join(program.name for program in running)}")
        if not any([reader.take(screen, names) for reader in readers]):
            time.sleep(0.05)


def run_job(world, svms, live, screen):
    """Lets everything run to its end. Returns ({vm uuid: its name}, the reader of the SVM that gets all)."""
    names = {live.process.args[live.process.args.index("--vm") + 1]: "live"} if live else {}
    readers = [Reader(name, svm, [MUTED, f"{world.directory}/live/obj/"]) for name, svm in svms.items()]
    replay = world.sim("replay", TRACE, "--copies", COPIES, "--loop", ROUNDS, "--speed", SPEED,
                       "--connect", world.shared, "--summary", world.directory / "replay.json", "--json")
    work = world.track(Program("/bin/sh", "-ec", WORK, cwd=world.directory / "live")) if live else None
    follow([replay, work] if work else [replay], [world.gimuxd, *svms.values()], readers, screen, names)
    must_end(replay)
    if live:
        must_end(work)
        live.kill(signal.SIGTERM)
        must_end(live)
    world.gimuxd.kill(signal.SIGTERM)  # it delivers what is left and says good-bye
    must_end(world.gimuxd)
    for svm in svms.values():
        svm.wait_err(r"disconnected", WAIT)
        svm.kill(signal.SIGTERM)
        must_end(svm)
    for reader in readers:
        reader.take(screen, names)
    return names, readers[0]


def add_up(names, sent, svms, all_seen):
    """Rows of (vm, svm, sent, delivered, filtered, in gaps, whether it adds up), by the drivers' and the SVMs' counts.

    What forensics was told it mutes must also be what antivirus, who gets everything, has seen there.
    """
    rows = []
    for svm, program in svms.items():
        got = program.streams()
        for stream in sent:
            vm = stream["vm_uuid"]
            told = got.get((vm, stream["driver"]), {"delivered": 0, "filtered_told": 0, "gapped": 0})
            delivered, filtered, gapped = told["delivered"], told["filtered_told"], told["gapped"]
            muted = all_seen.under_muted.get(vm, 0) if svm == "forensics" else 0
            good = delivered + filtered + gapped == stream["sent"] and (filtered == muted or gapped > 0)
            rows.append((names.get(vm, vm[:8]), svm, stream["sent"], delivered, filtered, gapped, good))
    return sorted(rows, key=lambda row: (row[0] == "live", row))


def print_table(rows, screen):
    def line(vm, svm, sent, delivered, filtered, gapped):
        return f"{vm:5} {svm:10} {sent:>8} = {delivered:>9} + {filtered:>8} + {gapped:>7}"

    screen.say(screen.paint("bold", line("VM", "SVM", "sent", "delivered", "filtered", "in gaps")))
    for *numbers, good in rows:
        verdict = screen.paint("green", "adds up") if good else screen.paint("red", "DOES NOT ADD UP")
        screen.say(f"{line(*numbers)}   {verdict}")
    for svm in sorted({row[1] for row in rows}):
        screen.say(line("all", svm, *(sum(row[i] for row in rows if row[1] == svm) for i in range(2, 6))))
    screen.say("sent: counted by the drivers; the rest: counted by the SVMs\n")


def demo(world, screen):
    """Returns whether everything adds up."""
    screen.say(f"gimuxd     the one of {BUILD}; its sockets and all files are in {world.directory}")
    svms = start_svms(world, screen)
    world.start(up=len(svms))
    screen.say(f"vm 1-{COPIES}     each replays {TRACE.relative_to(ROOT)} (a small compilation), {ROUNDS} times over")
    live, live_summary = start_live(world, screen)
    screen.say("\nA few of the events, as they arrive at the SVMs:")
    names, all_seen = run_job(world, svms, live, screen)
    screen.say(f"That was {screen.shown} of {screen.events}.\n")
    sent = load_summary(world.directory / "replay.json")["streams"]
    if live:
        sent += load_summary(live_summary)["streams"]
    rows = add_up(names, sent, svms, all_seen)
    print_table(rows, screen)
    complete = len(rows) == (COPIES + bool(live)) * len(svms)
    good = complete and all(row[-1] and row[2] > 0 for row in rows)
    if good:
        screen.say(screen.paint("green", f"All {len(rows)} rows add up."))
    else:
        screen.say(screen.paint("red", "It does not add up." if complete else "There are rows missing."))
        screen.say(f"gimuxd said last:\n{printable_lines(world.gimuxd.err)}")
    return good


def kill_all(mark):
    """Ends every process that has the mark in its environment, whoever has started it, and waits for that."""
    def marked():
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in entry.read_bytes().split(b"\0"):
                    yield int(entry.parent.name)
            except OSError:
                pass  # ended, or not ours
    end = time.monotonic() + WAIT
    while (pids := [pid for pid in marked() if pid != os.getpid()]) and time.monotonic() < end:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def too_late(_number, _frame):
    raise TimeoutError(f"not done in {TOTAL} s")


def interrupted(_number, _frame):
    raise KeyboardInterrupt


def main():
    os.environ["GIMUX_DEMO"] = mark = str(uuid.uuid4())
    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    signal.alarm(TOTAL)
    world = make_world()
    try:
        return 0 if demo(world, Screen()) else 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130
    except (AssertionError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        kill_all(f"GIMUX_DEMO={mark}".encode())
        shutil.rmtree(world.directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
