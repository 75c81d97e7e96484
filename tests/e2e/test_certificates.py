"""What becomes of certificates in time: replaced while frames flow, revoked, running out."""

import re
import signal
import socket
import ssl
import threading

import certs
import pytest
from driver import Driver
from harness import DEADLINE, Program, wait_for

DAYS = 'gimux_solution_certificate_days{solution="av"}'
PEER_DAYS = 'gimux_solution_peer_certificate_days{solution="av"}'
CRL_DAYS = 'gimux_solution_crl_days{solution="av"}'
SERVER = certs.naming(["av"])
CLIENT = certs.NAMES["client"]


@pytest.fixture(name="pki")
def fixture_pki(tmp_path):
    """An authority, a good certificate for each end and an empty list, to be changed by the test."""
    pki = tmp_path / "pki"
    pki.mkdir()
    for name in ("ca", "other-ca"):
        certs.make_authority(pki, name)
    certs.make_leaf(pki, "server", "server", SERVER, ends_in_days=90.5)
    certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=90.5)
    certs.make_crl(pki)
    return pki


def start_svm(world, pki, *args, name="svm", listen="tls:127.0.0.1:0"):
    return world.svm(name, "--json", "--cert", pki / "server.pem", "--key", pki / "server.key", "--ca", pki / "ca.pem",
                     *args, listen=listen)


def solution(pki, svm, **more):
    return {"av": {"address": getattr(svm, "address", svm), "cert": pki / "client.pem", "key": pki / "client.key",
                   "ca": pki / "ca.pem", "redial_max": "100ms", **more}}


def replace(pki, name, source):
    """The pair of that name becomes the one of source."""
    for ending in ("pem", "key"):
        (pki / f"{name}.{ending}").write_bytes((pki / f"{source}.{ending}").read_bytes())


def reload_svm(svm):
    before = svm.err.count("certificates read again")
    svm.kill(signal.SIGHUP)
    wait_for("the SVM's reload", lambda: svm.err.count("certificates read again") > before)


def warnings(world, pattern):
    return re.findall(rf"^\S+ warning solution=av (.*{pattern}.*)$", world.gimuxd.err, re.MULTILINE)


class Flow:
    """A driver that sends without end, a batch when the one before is acknowledged."""

    def __init__(self, door):
        self.driver = Driver(door).say_hello()
        self.acked = 0
        self.ending = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ending:
            self.driver.events(50).expect_ack(self.driver.sent)
            self.acked = self.driver.sent

    def wait_more(self, count=200):
        wanted = self.acked + count
        wait_for(f"{wanted} acknowledged", lambda: self.acked >= wanted)

    def end(self):
        """Returns the last sequence."""
        self.ending = True
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        self.driver.socket.close()
        return self.acked


def assert_each_once(svm, last):
    seen = svm.wait_events(last, driver="linux")
    assert [event["sequence"] for event in seen] == list(range(1, last + 1))
    totals = svm.stats()["totals"]
    assert (totals["gapped"], totals["protocol_errors"]) == (0, 0)
    return totals


# ---- replacing ----

def test_replaced_on_both_sides_while_frames_flow(world, pki):
    """Standing links go on; a link that is cut takes up with the new certificates; nothing is lost or comes twice."""
    svm = start_svm(world, pki, "--crl", pki / "crl.pem")
    world.configure(solution(pki, svm, crl=pki / "crl.pem"))
    world.start(up=1)
    flow = Flow(world.shared)
    made_in, links = 0, 1  # the link
    for name in ("server", "client"):
        replace(pki, f"{name}-0", name)
    for turn in range(1, 11):
        for name, role, names in (("server", "server", SERVER), ("client", "client", CLIENT)):
            certs.make_leaf(pki, f"{name}-{turn}", role, names, ends_in_days=100.5 + turn)
            replace(pki, name, f"{name}-{turn}")
        cut = (None, "server", "client")[turn % 3]
        if cut:  # by revoking what the link was made with
            certs.make_crl(pki, f"{cut}-{made_in}")
            made_in, links = turn, links + 1
        if turn % 2:
            reload_svm(svm)
            assert world.reload()
        else:
            assert world.reload()
            reload_svm(svm)
        flow.wait_more()
        assert world.metrics()[DAYS] == 100 + turn
        if cut:
            wait_for("the new certificate of the SVM", lambda: world.metrics().get(PEER_DAYS) == 100 + turn)
    totals = assert_each_once(svm, flow.end())
    assert totals["connections"] == links


@pytest.mark.parametrize("days, why", [((-10, -1), "has expired"), ((1, 90), "is not yet valid")])
def test_a_certificate_out_of_date_does_not_replace_a_good_one(world, pki, days, why):
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm))
    world.start(up=1)
    certs.make_leaf(pki, "bad", "client", CLIENT, begins_in_days=days[0], ends_in_days=days[1])
    replace(pki, "client", "bad")
    assert not world.reload()
    world.gimuxd.wait_err(rf"error solution=av certificate {pki}/client.pem: {why}, and the one in force is good")
    svm.end()
    svm = start_svm(world, pki, name="again", listen=svm.address)
    world.wait_up(1)  # with the one in force
    assert world.metrics()[DAYS] == 90


def test_half_replaced_is_refused(world, pki):
    """A reload between the two files of a pair: the old pair stays in force, for new links as well."""
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm))
    world.start(up=1)
    flow = Flow(world.shared)
    certs.make_leaf(pki, "next", "client", CLIENT, ends_in_days=120.5)
    (pki / "client.pem").write_bytes((pki / "next.pem").read_bytes())
    assert not world.reload()
    world.gimuxd.wait_err(rf"error solution=av key {pki}/client.key does not belong to certificate {pki}/client.pem")
    flow.wait_more()
    assert world.metrics()[DAYS] == 90
    (pki / "client.key").write_bytes((pki / "next.key").read_bytes())
    assert world.reload()
    assert world.metrics()[DAYS] == 120
    flow.wait_more()
    assert assert_each_once(svm, flow.end())["connections"] == 1


# ---- revoking ----

def test_an_svm_that_is_revoked(world, pki):
    """Its link ends at the reload and it is refused from then on; its events wait for one that is not."""
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm, crl=pki / "crl.pem"))
    world.start(up=1)
    flow = Flow(world.shared)
    flow.wait_more()
    assert world.reload()  # nothing has changed
    flow.wait_more()
    assert svm.stats()["totals"]["connections"] == 1
    certs.make_crl(pki, "server")
    assert world.reload()
    world.gimuxd.wait_err("warning solution=av revoked: the peer's certificate has been revoked; trying again")
    wait_for("further attempts", lambda: world.metrics()["gimux_svm_tls_failures_total"] >= 4)
    assert svm.stats()["totals"]["connections"] == 1
    status, = world.status()["solutions"]
    assert status["state"] != "up" and status["last_error"].startswith("revoked: ")
    assert status["peer_certificate_days"] is None
    assert PEER_DAYS not in world.metrics()
    svm.wait_err("gimuxd refused the handshake: revoked: ")
    delivered = svm.delivered("linux")
    wait_for("more attempts", lambda: world.metrics()["gimux_svm_tls_failures_total"] >= 8)
    assert svm.delivered("linux") == delivered
    certs.make_leaf(pki, "next", "server", SERVER)
    replace(pki, "server", "next")
    reload_svm(svm)
    flow.wait_more()
    assert_each_once(svm, flow.end())


@pytest.mark.parametrize("lists, text", [
    ({"revoked": ["server"]}, "revoked: the peer's certificate has been revoked"),
    ({"ends_in_days": -1}, "date: the peer's certificate: CRL has expired"),
    ({"authority": "other-ca"}, "chain: the peer's certificate: unable to get certificate CRL"),
])
def test_an_svm_that_the_lists_refuse(world, pki, lists, text):
    certs.make_crl(pki, *lists.pop("revoked", ()), **lists)
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm, crl=pki / "crl.pem"))
    world.start()
    world.gimuxd.wait_err(rf"warning solution=av {text}; trying again")
    assert svm.stats()["totals"]["connections"] == 0


def test_a_ca_between_that_is_revoked(world, pki):
    """Lists of every CA in the chain are asked for, and a certificate is worth no more than the CA that it is from."""
    certs.make_leaf(pki, "between", "server", SERVER, extensions="authority")
    certs.make_leaf(pki, "server", "server", SERVER, authority="between")
    with open(pki / "server.pem", "a") as chain:
        chain.write((pki / "between.pem").read_text())
    certs.make_crl(pki, out="of-between.pem", authority="between")

    def publish(*revoked, lists=("of-ca.pem", "of-between.pem")):
        certs.make_crl(pki, *revoked, out="of-ca.pem")
        (pki / "crl.pem").write_text("".join((pki / name).read_text() for name in lists))
    publish(lists=["of-ca.pem"])
    world.configure(solution(pki, start_svm(world, pki), crl=pki / "crl.pem"))
    world.start()
    world.gimuxd.wait_err("warning solution=av chain: .*unable to get certificate CRL")
    publish()
    assert world.reload()
    world.wait_up(1)
    publish("between")
    assert world.reload()
    world.gimuxd.wait_err("warning solution=av revoked: ")


def test_a_handshake_that_began_before_the_reload(world, pki):
    """It goes by the old lists; the new ones have the last word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        world.configure(solution(pki, f"tls:127.0.0.1:{server.getsockname()[1]}", crl=pki / "crl.pem"))
        world.start()
        with server.accept()[0] as link:
            assert link.recv(1, socket.MSG_PEEK)  # its ClientHello
            certs.make_crl(pki, "server")
            assert world.reload()
            with context.wrap_socket(link, server_side=True) as inside:
                inside.settimeout(DEADLINE)
                assert inside.recv(1) == b""  # no MuxHello
    world.gimuxd.wait_err("warning solution=av revoked: ")


def test_a_gimuxd_that_is_revoked(world, pki):
    svm = start_svm(world, pki, "--crl", pki / "crl.pem")
    world.configure(solution(pki, svm))
    world.start(up=1)
    flow = Flow(world.shared)
    flow.wait_more()
    reload_svm(svm)
    flow.wait_more()
    assert svm.stats()["totals"]["connections"] == 1
    certs.make_crl(pki, "client")
    reload_svm(svm)
    svm.wait_err("disconnected: tls: gimuxd's certificate is refused: revoked: certificate revoked")
    svm.wait_err("refused: tls: gimuxd's certificate is refused: revoked: certificate revoked")
    world.gimuxd.wait_err("warning solution=av the peer refused us: .*certificate revoked; trying again")
    certs.make_leaf(pki, "next", "client", CLIENT)
    replace(pki, "client", "next")
    assert world.reload()
    flow.wait_more()
    assert assert_each_once(svm, flow.end())["connections"] == 2


def test_an_idle_link_ends_at_once(world, pki):
    """On either side, without waiting for something to come by it."""
    for side, name in (("svm", "client"), ("gimuxd", "server")):
        certs.make_crl(pki)
        svm = start_svm(world, pki, "--crl", pki / "crl.pem", name=side)
        world.configure(solution(pki, svm, crl=pki / "crl.pem", heartbeat="1000s"))
        if world.gimuxd:
            assert world.reload()
            world.wait_up(1)
        else:
            world.start(up=1)
        certs.make_crl(pki, name)
        if side == "svm":
            reload_svm(svm)
            svm.wait_err("disconnected: tls: gimuxd's certificate is refused: revoked: ")
        else:
            assert world.reload()
            svm.wait_err("disconnected: ")


def test_a_gimuxd_whose_handshake_began_before_the_reload(world, pki):
    svm = start_svm(world, pki, "--crl", pki / "crl.pem")
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    context.load_cert_chain(pki / "client.pem", pki / "client.key")
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = context.wrap_bio(received, to_send, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", svm.port), DEADLINE) as link:
        while True:
            try:
                inside.do_handshake()
                break
            except ssl.SSLWantReadError:
                if to_send.pending:
                    link.sendall(to_send.read())
                received.write(link.recv(65536))  # so it was accepted, with the old lists
        certs.make_crl(pki, "client")
        reload_svm(svm)
        link.sendall(to_send.read())  # our certificate
        svm.wait_err("refused: tls: gimuxd's certificate is refused: revoked: ")
    assert svm.stats()["totals"]["connections"] == 0


def test_bad_lists_of_the_svm_are_not_taken(world, pki):
    svm = start_svm(world, pki, "--crl", pki / "crl.pem")
    (pki / "crl.pem").write_text("nothing")
    svm.kill(signal.SIGHUP)
    svm.wait_err(rf"certificates kept: cannot use {pki}/crl.pem: ")
    command = Program("svm-tail", "--listen", "tls:127.0.0.1:0", "--cert", pki / "server.pem", "--key",
                      pki / "server.key", "--ca", pki / "ca.pem", "--crl", pki / "none")
    assert world.track(command).wait() == 2
    assert f"cannot use {pki}/none" in command.err


# ---- running out ----

def test_days_are_metrics(world, pki):
    certs.make_leaf(pki, "server", "server", SERVER, ends_in_days=59.5)
    certs.make_crl(pki, ends_in_days=2.5)
    svm = start_svm(world, pki)
    plain = world.svm("plain", "--json")
    world.configure({**solution(pki, svm, crl=pki / "crl.pem"), "plain": {"address": plain}})
    world.start(up=2)
    days = {name: value for name, value in world.metrics().items() if "_days{" in name}
    assert days == {DAYS: 90, PEER_DAYS: 59, CRL_DAYS: 2}
    status = {one["solution"]: one for one in world.status()["solutions"]}
    names = ("certificate_days", "peer_certificate_days", "crl_days")
    assert [status["av"][name] for name in names] == [90, 59, 2]
    assert [status["plain"][name] for name in names] == [None, None, None]
    assert not warnings(world, "expire")
    svm.end()
    wait_for("the end of the link", lambda: PEER_DAYS not in world.metrics())


@pytest.mark.parametrize("days, said", [(30.5, None), (29.5, "expires in 29 days: "), (7.5, "expires in 7 days: "),
                                        (1.5, "expires in 1 day: "), (0.5, "expires in less than a day: "),
                                        (-0.5, "has expired: ")])
def test_a_warning_before_the_end(world, pki, days, said):
    """Of our certificate and of the SVM's, once, whatever is read again or connects again."""
    certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=days)
    if days > 0:
        certs.make_leaf(pki, "server", "server", SERVER, ends_in_days=days)
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm))
    world.start(up=1 if days > 0 else 0)
    assert world.metrics()[DAYS] == days // 1
    assert world.reload()
    if days > 0:
        svm.end()
        start_svm(world, pki, name="again", listen=svm.address)
        world.gimuxd.wait_err(r"solution=av up: (?s:.*)solution=av up: ")  # what is said again, is said by then
    world.gimuxd.wait_err("reload: .* is in force")
    ours, theirs = warnings(world, "our certificate"), warnings(world, "the SVM's certificate")
    if said is None:
        assert not ours and not theirs
    else:
        assert [len(ours), len(theirs)] == [1, 1 if days > 0 else 0], (ours, theirs)
        assert ours[0].startswith(f"our certificate {pki}/client.pem {said}20")
        assert not theirs or theirs[0].startswith(f"the SVM's certificate {said}20")


def test_a_new_certificate_is_warned_of_afresh(world, pki):
    svm = start_svm(world, pki)
    certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=5.5)
    world.configure(solution(pki, svm))
    world.start(up=1)
    for days, count in ((90, 1), (5.7, 2), (29.5, 3)):
        certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=days)
        assert world.reload()
        wait_for(f"{count} warnings", lambda: len(warnings(world, "our certificate")) == count)
    assert svm.stats()["totals"]["connections"] == 1


def test_time_passes(world, pki):
    """Marks that come while gimuxd runs are told of when they come; a link outlives its certificates."""
    second = 1 / 86400
    certs.make_leaf(pki, "server", "server", SERVER, ends_in_days=6 * second)
    certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=1 + 6 * second)
    certs.make_crl(pki, ends_in_days=6 * second)
    svm = start_svm(world, pki)
    world.configure(solution(pki, svm, crl=pki / "crl.pem"))
    world.start(up=1)
    assert not warnings(world, "has expired")
    wait_for("the mark of 1 day", lambda: len(warnings(world, "our certificate .* expires in 1 day: ")) == 2)
    world.gimuxd.wait_err("the SVM's certificate expires in less than a day: ")
    world.gimuxd.wait_err("the SVM's certificate has expired: ")
    world.gimuxd.wait_err(rf"the revocation list in {pki}/crl.pem has expired: ")
    assert (world.metrics()[PEER_DAYS], world.metrics()[CRL_DAYS]) == (-1, -1)
    with Driver(world.shared) as one:
        one.say_hello().events(10).expect_ack(10)
    assert world.reload()
    assert svm.stats()["totals"]["connections"] == 1
    world.gimuxd.wait_err("reload: .* is in force")
    assert len(warnings(world, "expire")) == 5


def test_check_says_what_ends(world, pki):
    certs.make_leaf(pki, "client", "client", CLIENT, ends_in_days=5.5)
    path = world.configure(solution(pki, "tls:localhost:1", crl=pki / "crl.pem"))
    check = world.track(Program("gimuxd", "--check", "-c", path))
    assert check.wait() == 0
    assert f"warning solution=av our certificate {pki}/client.pem expires in 5 days: " in check.err
    printed = world.track(Program("gimuxd", "--print-config", "-c", path))
    assert printed.wait() == 0 and f'crl = "{pki}/crl.pem"' in printed.out
    (pki / "crl.pem").unlink()
    check = world.track(Program("gimuxd", "--check", "-c", path))
    assert check.wait() == 1
    assert f"error solution=av revocation lists {pki}/crl.pem: No such file" in check.err
