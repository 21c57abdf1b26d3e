"""An authority, and certificates that it signed, for tests of TLS."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
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
    files = Files(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(each)) for each in addresses])
    root = _builder("authority", authority).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), False)
    signs = x509.KeyUsage(*map(bool, (0, 0, 0, 0, 0, 1, 1, 0, 0)))  # certificates and lists of revoked ones
    root = root.add_extension(signs, True)
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # Python 3.13 asks for it
    leaf = _builder("part of the cluster", own).add_extension(names, False).add_extension(issued_by, False)
    for path, builder in ((files.ca_file, root), (files.cert, leaf)):
        path.write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    subject_, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, "authority"))
    builder = x509.CertificateBuilder(issuer, subject_, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - day).not_valid_after(now + day)
