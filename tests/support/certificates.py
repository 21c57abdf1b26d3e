"""An authority, and certificates that it signed, for tests of TLS."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Files:
    ca_file: Path
    cert: Path
    key: Path

    @property
    def options(self) -> list[str]:
        return ["--tls-ca-file", str(self.ca_file), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]


def made(folder: Path, addresses: Iterable[str] = ("127.0.0.1",)) -> Files:
    """A new authority and one certificate for these addresses; keys that only their user reads."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(each)) for each in addresses])
    issuer = _name("authority")
    root = _builder(issuer, issuer, authority).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    leaf = _builder(_name("part of the cluster"), issuer, own).add_extension(names, False)
    for name, builder in (("ca", root), ("cert", leaf)):
        content = builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(content)
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = folder / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(own.private_bytes(pem, plain, serialization.NoEncryption()))
    return Files(folder / "ca.pem", folder / "cert.pem", key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
