#!/usr/bin/python3
"""Makes a test certificate authority, and certificates for both ends of a TLS link, good ones and bad ones.

As a script: certs.py DIRECTORY. As a module: certs.make(directory). It then holds NAME.pem and NAME.key for

    ca        the authority that both ends trust
    other-ca  one that nobody trusts
    server    what an SVM shows: for localhost, 127.0.0.1 and ::1
    client    what gimuxd shows: for gimuxd

and of server and client also bad variants: NAME-expired (it ended yesterday), NAME-wrong-name (for somebody
else) and NAME-wrong-ca (signed by other-ca).
"""
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

NAMES = {"server": "DNS:localhost,IP:127.0.0.1,IP:::1", "client": "DNS:gimuxd"}
WRONG_NAME = "DNS:somebody-else.example"

CA_CONFIG = """
[ca]
default_ca = test
[test]
database = {index}
new_certs_dir = {scratch}
rand_serial = yes
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
                 "-x509", "-days", "30", "-addext", "keyUsage=critical,keyCertSign")


def make_leaf(directory, name, role, names, authority="ca", ends_in_days=30):
    """NAME.pem and NAME.key for a role, "server" or "client", valid from ten days ago."""
    now = datetime.now(timezone.utc)
    begins, ends = ((now + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ") for days in (-10, ends_in_days))
    with tempfile.TemporaryDirectory() as scratch:
        config, index, request = (Path(scratch, file) for file in ("config", "index", "request"))
        text = CA_CONFIG.format(index=index, scratch=scratch, role=role, names=names)
        config.write_text(text, encoding="utf-8")
        index.touch()
        make_key_and(request, directory / f"{name}.key", name)
        openssl("ca", "-batch", "-notext", "-config", config, "-extensions", "extensions",
                "-startdate", begins, "-enddate", ends, "-in", request, "-out", directory / f"{name}.pem",
                "-cert", directory / f"{authority}.pem", "-keyfile", directory / f"{authority}.key")


def make(directory):
    """Fills the directory, made if it is not there. Returns its path."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "other-ca"):
        make_authority(directory, name)
    for role, names in NAMES.items():
        make_leaf(directory, role, role, names)
        make_leaf(directory, f"{role}-expired", role, names, ends_in_days=-1)
        make_leaf(directory, f"{role}-wrong-name", role, WRONG_NAME)
        make_leaf(directory, f"{role}-wrong-ca", role, names, authority="other-ca")
    return directory


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: certs.py DIRECTORY")
    make(sys.argv[1])
