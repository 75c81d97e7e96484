"""TLS between gimuxd and SVMs: what is good works, and each thing that an administrator can get wrong is one log line
that names the solution and says what to mend: chain, name, solution or date. What becomes of certificates in time is
in test_certificates.py.
"""

import socket
import ssl
import threading

import certs
import pytest
from driver import Driver
from harness import Program, wait_for


@pytest.fixture(name="pki", scope="session")
def fixture_pki(tmp_path_factory):
    return certs.make(tmp_path_factory.mktemp("pki"), ["av", "by-host"])


def tls_svm(world, pki, server="server", ca="ca", *args):
    return world.svm("svm", "--json", "--cert", pki / f"{server}.pem", "--key", pki / f"{server}.key",
                     "--ca", pki / f"{ca}.pem", *args, listen="tls:127.0.0.1:0")


def solution(pki, address, client="client", ca="ca", **more):
    return {"address": address, "cert": pki / f"{client}.pem", "key": pki / f"{client}.key", "ca": pki / f"{ca}.pem",
            "redial_max": "100ms", **more}


def wait_failure(world, text):
    """The one line about the failure: of which solution, and what is wrong. Later attempts do not repeat it."""
    line = rf"^\S+ warning solution=av .*{text}.*; trying again in \d+ ms$"
    world.gimuxd.wait_err(line)
    wait_for("the next attempts", lambda: world.gimuxd.err.count("waiting -> connecting") >= 4)
    warnings = [said for said in world.gimuxd.lines["err"] if " warning " in said]
    assert len(warnings) == 1, warnings
    status, = world.status()["solutions"]
    assert status["state"] != "up" and text.replace("\\", "") in status["last_error"]
    return warnings[0]


def test_events_over_tls_both_ways(world, pki):
    svm = tls_svm(world, pki, "server", "ca", "--peer-name", "gimuxd")
    world.configure({"av": solution(pki, svm.address)})
    world.start(up=1)
    with Driver(world.shared) as one:
        one.say_hello().events(20000, path="/srv/" + 80 * "x" + "-%d")
        one.expect_ack(20000)
    seen = svm.wait_events(20000, driver="linux")
    assert [e["sequence"] for e in seen] == list(range(1, 20001))
    totals = svm.stats()["totals"]
    assert (totals["connections"], totals["refused"], totals["protocol_errors"]) == (1, 0, 0)


def test_tls_by_name(world, pki):
    svm = tls_svm(world, pki)
    world.configure({"av": solution(pki, svm.address, tls_name="localhost"),
                     "by-host": solution(pki, f"tls:localhost:{svm.port}")})
    world.start(up=2)


@pytest.mark.parametrize("server, more, text", [
    ("server-wrong-ca", {}, r"chain: the peer's certificate: "),
    ("server-wrong-name", {}, r"name: the peer's certificate does not bear 127\.0\.0\.1"),
    ("server", {"tls_name": "av.example"}, r"name: the peer's certificate does not bear av\.example"),
    ("server-wrong-solution", {}, r"solution: the peer's certificate does not name solution av"),
    ("server-expired", {}, r"date: the peer's certificate: certificate has expired"),
    ("client", {}, r"chain: the peer's certificate: unsuitable certificate purpose"),
])
def test_a_bad_certificate_of_the_svm(world, pki, server, more, text):
    svm = tls_svm(world, pki, server)
    world.configure({"av": solution(pki, svm.address, **more)})
    world.start()
    wait_failure(world, text)
    assert world.metrics()["gimux_svm_tls_failures_total"] >= 3
    assert svm.stats()["totals"]["connections"] == 0


@pytest.mark.parametrize("client, text", [("client-expired", "certificate expired"),
                                          ("client-wrong-ca", "unknown ca")])
def test_a_bad_certificate_of_ours_is_refused(world, pki, client, text):
    svm = tls_svm(world, pki)
    world.configure({"av": solution(pki, svm.address, client=client)})
    world.start()
    line = world.gimuxd.wait_err(r"^.* warning solution=av .*; trying again.*$").group(0)
    assert "the peer refused us" in line and text in line.lower()
    world.wait_metric("gimux_svm_tls_failures_total", 1)
    assert svm.stats()["totals"]["connections"] == 0


def test_a_name_of_ours_that_the_svm_does_not_expect(world, pki):
    svm = tls_svm(world, pki, "server", "ca", "--peer-name", "another-host")
    world.configure({"av": solution(pki, svm.address)})
    world.start()
    line = world.gimuxd.wait_err(r"^.* warning solution=av .*; trying again.*$").group(0)
    assert "the peer refused us" in line


def test_key_and_certificate_that_do_not_belong_together(world, pki):
    svm = tls_svm(world, pki)
    world.configure({"av": solution(pki, svm.address, key=pki / "server.key")})
    gimuxd = world.track(Program("gimuxd", "-f", "-c", world.directory / "gimuxd.conf"))
    assert gimuxd.wait() == 1
    line = next(said for said in gimuxd.lines["err"] if " error " in said)
    assert "solution=av" in line and str(pki / "server.key") in line and str(pki / "client.pem") in line


def test_a_reload_with_files_that_are_wrong_changes_nothing(world, pki):
    svm = tls_svm(world, pki)
    world.configure({"av": solution(pki, svm.address)})
    world.start(up=1)
    for bad in (solution(pki, svm.address, key=pki / "server.key"),
                solution(pki, svm.address, cert=pki / "nobody.pem"),
                solution(pki, svm.address, ca=pki / "nobody.pem")):
        world.configure({"av": bad})
        assert not world.reload()
    for path in (pki / "server.key", pki / "nobody.pem"):
        world.gimuxd.wait_err(rf"error solution=av .*{path}")
    with Driver(world.shared) as one:
        one.say_hello().events(10).expect_ack(10)
    assert svm.stats()["totals"]["connections"] == 1


def test_a_plain_svm_behind_a_tls_address(world, pki):
    svm = world.svm("svm", "--quiet")
    world.configure({"av": solution(pki, svm.address.replace("tcp:", "tls:"))})
    world.start()
    line = world.gimuxd.wait_err(r"^.* warning solution=av .*; trying again.*$").group(0)
    assert "TLS" in line
    world.wait_metric("gimux_svm_tls_failures_total", 1)


def test_a_tls_svm_behind_a_plain_address(world, pki):
    svm = tls_svm(world, pki)
    world.configure({"av": {"address": svm.address.replace("tls:", "tcp:"), "redial_max": "100ms"}})
    world.start()
    world.gimuxd.wait_err(r"warning solution=av .*; trying again")
    assert svm.stats()["totals"]["connections"] == 0


def test_a_server_that_speaks_tls_1_2_only(world, pki):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        world.configure({"av": solution(pki, f"tls:127.0.0.1:{server.getsockname()[1]}")})
        world.start()

        def serve():
            while True:
                try:
                    context.wrap_socket(server.accept()[0], server_side=True)
                except ssl.SSLError:
                    continue
                except OSError:
                    return
        threading.Thread(target=serve, daemon=True).start()
        line = wait_failure(world, "the peer refused us: ")
        assert "protocol version" in line
        server.shutdown(socket.SHUT_RDWR)


def test_certificates_replaced_on_disk(world, pki, tmp_path):
    """After SIGHUP the next connection shows the new ones; the one that stands goes on."""
    files = tmp_path / "files"
    files.mkdir()

    def install(client, ca="ca"):
        for name, source in (("client.pem", f"{client}.pem"), ("client.key", f"{client}.key"), ("ca.pem", f"{ca}.pem")):
            (files / name).write_bytes((pki / source).read_bytes())
    install("client")
    svm = tls_svm(world, pki)
    world.configure({"av": solution(files, svm.address)}, rest="drain = 50ms")
    world.start(up=1)
    install("client-wrong-ca")
    assert world.reload()
    with Driver(world.shared) as one:
        one.say_hello().events(10).expect_ack(10)
        assert svm.stats()["totals"]["connections"] == 1
        svm.end()
        svm = tls_svm_at(world, pki, svm.address)
        world.gimuxd.wait_err(r"warning solution=av .*the peer refused us")
        assert svm.stats()["totals"]["connections"] == 0
        install("client")
        assert world.reload()
        world.wait_up(1)
        one.events(10).expect_ack(20)


def tls_svm_at(world, pki, address):
    return world.svm("again", "--quiet", "--cert", pki / "server.pem", "--key", pki / "server.key",
                     "--ca", pki / "ca.pem", listen=address)


def test_check_loads_what_the_configuration_names(world, pki):
    good = world.configure({"av": solution(pki, "tls:localhost:1")})
    assert world.track(Program("gimuxd", "--check", "-c", good)).wait() == 0
    bad = world.configure({"av": {**solution(pki, "tls:localhost:1"), "cert": pki / "nobody.pem"}})
    check = world.track(Program("gimuxd", "--check", "-c", bad))
    assert check.wait() == 1
    assert "solution=av" in check.err and "nobody.pem: No such file" in check.err
