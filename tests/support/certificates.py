"""Certificates of a test's own, valid for a day."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def certificate(
    name: str,
    *purposes: x509.ExtensionType,
    issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate and its key: a root's, which signs itself, or one of an issuer. The `purposes` are critical."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for purpose in purposes:
        builder = builder.add_extension(purpose, critical=True)
    if issuer is None:
        return key, builder.sign(key, hashes.SHA256())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[0].public_key())
    signed = builder.add_extension(above, critical=False).sign(issuer[0], hashes.SHA256())
    return key, signed


def self_signed(directory: Path, address: str) -> tuple[Path, Path]:
    """The files of a server's certificate for an address, which is its own root, and of its key."""
    name = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    key, made = certificate("Server", name)
    directory.mkdir(parents=True, exist_ok=True)
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(files[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(plain)
    return files
