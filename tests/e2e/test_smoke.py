"""The main job in small: drivers in several VMs, gimuxd, two SVMs, and a table that adds up."""

from harness import assert_adds_up, load_summary, wait_for


def test_every_event_reaches_every_svm(world):
    one = world.svm("one", "--quiet")
    two = world.svm("two", "--quiet", "--mute", "/home/")
    world.configure({"one": {"address": one}, "two": {"address": two, "classes": ["file", "lifecycle"]}},
                    rest="heartbeat = 200ms\nsilence = 2s")
    world.start(up=2)
    summary = world.directory / "summary.json"
    assert world.sim("load", "--connect", world.shared, "--vms", 4, "--events", 1000, "--linux",
                     "--summary", summary).wait() == 0
    assert world.gimuxd.end() == 0
    sent = load_summary(summary)
    assert sent["totals"]["sent"] == 4000
    wait_for("all events at one", lambda: one.delivered("linux") == 4000)
    assert_adds_up(sent, one)
    assert_adds_up(sent, two)
    assert 0 < two.delivered("linux") < sent["totals"]["by_kind"]["file"]
