#!/usr/bin/python3
"""Makes a test certificate authority, and certificates for both ends of a TLS link, good ones and bad ones.

As a script: certs.py DIRECTORY [SOLUTION]... (without any: antivirus). As a module: certs.make(directory, solutions).
The directory then holds NAME.pem and NAME.key for

    ca        the authority that both ends trust
    other-ca  one that nobody trusts
    server    what an SVM shows: for localhost, 127.0.0.1 and ::1, and for the solutions
    client    what gimuxd shows: for gimuxd

and of server and client also bad variants: NAME-expired (it ended yesterday), NAME-wrong-name (for somebody
else) and NAME-wrong-ca (signed by other-ca); server-wrong-solution names another solution. crl.pem is a revocation
list of ca with nothing on it.
"""
import contextlib
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

SOLUTIONS = ("antivirus",)
NAMES = {"server": "DNS:localhost,IP:127.0.0.1,IP:::1", "client": "DNS:gimuxd"}
WRONG_NAME = "DNS:somebody-else.example"

CA_CONFIG = """
[ca]
default_ca = test
[test]
database = {index}
new_certs_dir = {scratch}
rand_serial = yes
default_crl_days = 30
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = {role}Auth
subjectAltName = {names}
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed:\n{done.stderr}")


def make_key_and(out, key, common_name, *more):
    """A new P-256 key, and a request for it, or with -x509 in more a self-signed certificate, in out."""
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={common_name}", "-keyout", key, "-out", out, *more)


def make_authority(directory, name):
    make_key_and(directory / f"{name}.pem", directory / f"{name}.key", f"gimux test {name}",
                 "-x509", "-days", "90", "-addext", "keyUsage=critical,keyCertSign,cRLSign")


@contextlib.contextmanager
def authority_of(directory, authority, role="server", names=WRONG_NAME):
    """The options of "openssl ca" for one use of it; what it keeps about certificates is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        config, index = (Path(scratch, file) for file in ("config", "index"))
        config.write_text(CA_CONFIG.format(index=index, scratch=scratch, role=role, names=names), encoding="utf-8")
        index.touch()
        yield ("ca", "-batch", "-config", config, "-cert", directory / f"{authority}.pem",
               "-keyfile", directory / f"{authority}.key")


def in_days(days):
    """A date as openssl takes it; days may be a fraction, or negative."""
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


def naming(solutions, names=NAMES["server"]):
    """The names of an SVM's certificate: its hosts and its solutions."""
    return ",".join([names, *(f"URI:gimux:solution:{quote(name, safe='')}" for name in solutions)])


def make_leaf(directory, name, role, names, authority="ca", ends_in_days=90, begins_in_days=-10,
              extensions="extensions"):
    """NAME.pem and NAME.key for a role, "server" or "client"; with extensions "authority", for one below another."""
    with authority_of(directory, authority, role, names) as ca, tempfile.TemporaryDirectory() as scratch:
        request = Path(scratch, "request")
        make_key_and(request, directory / f"{name}.key", name)
        openssl(*ca, "-notext", "-extensions", extensions, "-startdate", in_days(begins_in_days),
                "-enddate", in_days(ends_in_days), "-in", request, "-out", directory / f"{name}.pem")


def make_crl(directory, *revoked, out="crl.pem", authority="ca", ends_in_days=30):
    """A list of the authority that revokes the certificates of those names, in place of the former one."""
    with authority_of(directory, authority) as ca:
        for name in revoked:
            openssl(*ca, "-revoke", directory / f"{name}.pem")
        openssl(*ca, "-gencrl", "-crl_lastupdate", in_days(-10), "-crl_nextupdate", in_days(ends_in_days),
                "-out", directory / out)


def make(directory, solutions=SOLUTIONS):
    """Fills the directory, made if it is not there. Returns its path."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "other-ca"):
        make_authority(directory, name)
    for role, names in {"server": naming(solutions), "client": NAMES["client"]}.items():
        make_leaf(directory, role, role, names)
        make_leaf(directory, f"{role}-expired", role, names, ends_in_days=-1)
        make_leaf(directory, f"{role}-wrong-name", role, naming(solutions, WRONG_NAME))
        make_leaf(directory, f"{role}-wrong-ca", role, names, authority="other-ca")
    make_leaf(directory, "server-wrong-solution", "server", naming(["somebody-else"]))
    make_crl(directory)
    return directory


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: certs.py DIRECTORY [SOLUTION]...")
    make(sys.argv[1], sys.argv[2:] or SOLUTIONS)
