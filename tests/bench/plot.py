#!/usr/bin/python3
"""Draws what the benchmark has measured, with gnuplot: how the cost of a delivery grows with VMs, SVMs and the size of events,
and how systems compare.

    tests/bench/plot.py BENCH.json DIRECTORY
"""
import json
import pathlib
import subprocess
import sys

HEAD = """set terminal svg size 640,400 background rgb 'white' font 'sans,12'
set output '{path}'
set title '{title}'
set ylabel 'CPU seconds per million deliveries'
set grid
set key left top
set yrange [0:*]
"""
LINES = (  # file, scenarios that begin so, what is on the x axis, its name, scale
    ("vms", "vms-", "vms", "VMs, 50,000 events/s in all", "set logscale x 2"),
    ("svms", "svms-", "svms", "SVMs, saturated", "set logscale x 2"),
    ("size", "size-", "event_bytes", "bytes of a record, saturated", "set logscale x 2"),
)
BARS = ("batch", "single", "paced")


def block(name, lines):
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


def lines_of(rows, prefix, axis):
    """For each system, its points: x, median, least, most."""
    systems = {}
    for row in rows:
        if row["scenario"].startswith(prefix) and row["cpu_s_per_million"] is not None:
            point = [row[axis]] + [row["cpu_s_per_million" + end] for end in ("", "_min", "_max")]
            systems.setdefault(row["system"], []).append(point)
    return systems


def draw_lines(rows, path, prefix, axis, label, scale):
    systems = lines_of(rows, prefix, axis)
    script = HEAD.format(path=path, title=f"Cost against {label.split(',')[0]}") + f"{scale}\nset xlabel '{label}'\n"
    plots = []
    for index, (system, points) in enumerate(systems.items()):
        script += block(f"d{index}", (" ".join(map(str, point)) for point in sorted(points)))
        plots.append(f"$d{index} using 1:2:3:4 with yerrorlines title '{system}' pointtype 7 pointsize 0.5")
    return script + "plot " + ", ".join(plots) + "\n" if plots else None


def draw_bars(rows, path, scenario):
    found = [row for row in rows if row["scenario"] == scenario and row["cpu_s_per_million"] is not None]
    if not found:
        return None
    script = HEAD.format(path=path, title=found[0]["text"]) + "set style fill solid 0.6\nset boxwidth 0.6\nunset key\n"
    script += "set logscale y\nset yrange [*:*]\nset xtics rotate by -25\n"
    script += block("d", (f"{index} {row['system']} " + " ".join(str(row["cpu_s_per_million" + end]) for end in ("", "_min", "_max"))
                          for index, row in enumerate(found)))
    return script + "plot $d using 1:3:xtic(2) with boxes, $d using 1:3:4:5 with yerrorbars linecolor 'black'\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = json.loads(pathlib.Path(sys.argv[1]).read_text())
    directory = pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    scripts = {}
    for name, prefix, axis, label, scale in LINES:
        path = directory / f"{name}.svg"
        scripts[path] = draw_lines(rows, path, prefix, axis, label, scale)
    for name in BARS:
        path = directory / f"{name}.svg"
        scripts[path] = draw_bars(rows, path, name)
    for path, script in scripts.items():
        if script:
            subprocess.run(["gnuplot"], input=script, text=True, check=True)
            print(path)


if __name__ == "__main__":
    main()
