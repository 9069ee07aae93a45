"""Ed25519 keys: made, read, and used to sign and to check DSSE envelopes.

A private key never leaves this module: it is not printed, logged, or part of an error. Keys are PEM files, PKCS #8 and
SubjectPublicKeyInfo, so that OpenSSL reads them too.
"""

import base64
import os
import stat
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, SSlibKey
from securesystemslib.signer import Signature as SslibSignature

from opskit.errors import ConflictError, ErrorKind, InputError, StoreError
from opskit.model.audit import Signature, SignatureState


def init_key(path: Path) -> Path:
    """Make a key pair: the private key at `path`, mode 0600, the public one beside it, ending in ``.pub``.

    Returns
    -------
    Path
        Where the public key is.

    Raises
    ------
    ConflictError
        There is a file of either name already; nothing was written.
    StoreError
        They cannot be written.
    """
    public_path = path.with_name(f"{path.stem}.pub")
    signer = CryptoSigner.generate_ed25519()
    public = signer.public_key.keyval["public"]
    pem = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    for taken in (path, public_path):
        if path == public_path or taken.exists() or taken.is_symlink():
            raise _taken(taken)
    _write_new(path, signer.private_bytes, 0o600)
    _write_new(public_path, pem, 0o644)
    return public_path


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise StoreError(
            f"the key cannot be written to {str(path)!r}: {(error.strerror or '').lower()}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Name another place for it.",
        ) from None


def _taken(path: Path) -> ConflictError:
    return ConflictError(
        f"there is a file {str(path)!r} already",
        ErrorKind.NAME_TAKEN,
        "A key is never overwritten, because what it signed could not be checked any more; name another file.",
    )


class KeyFile:
    """The private key in a file, read when it is first used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sign(self, payload: bytes, payload_type: str) -> Signature:
        """The signature of a DSSE envelope around `payload`.

        Raises
        ------
        InputError
            The key cannot be read or is none; or others than its owner may read it.
        """
        made = Envelope(payload, payload_type, {}).sign(self._signer)
        sig = base64.b64encode(bytes.fromhex(made.signature)).decode()
        return Signature(keyid=made.keyid, sig=sig)

    @property
    def public_key(self) -> SSlibKey:
        """The public half; errors as `sign`."""
        return self._signer.public_key

    @cached_property
    def _signer(self) -> CryptoSigner:
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                content = file.read()
        except OSError as error:
            raise _unusable(
                self.path, f"it cannot be read: {(error.strerror or '').lower()}"
            ) from (None)
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise InputError(
                f"the key {str(self.path)!r} may be read by others: its mode is {stat.S_IMODE(found.st_mode):04o}",
                ErrorKind.KEY_NOT_USABLE,
                f"Make it private again, 'chmod 600 {self.path}', or make a new one if somebody may have read it.",
            )
        try:
            key = load_pem_private_key(content, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _unusable(self.path, "it is no private key without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(self.path, "it is no Ed25519 key")
        return CryptoSigner(key)


class KeyRing:
    """Public keys that are trusted."""

    def __init__(self, keys: Iterable[SSlibKey]) -> None:
        self._keys = {key.keyid: key for key in keys}

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "KeyRing":
        """The public keys in those files.

        Raises
        ------
        InputError
            One cannot be read, or is none.
        """
        return cls(_public_key(path) for path in paths)

    @property
    def keys(self) -> tuple[SSlibKey, ...]:
        """The keys, each once."""
        return tuple(self._keys.values())

    def check(self, payload: bytes, payload_type: str, signature: Signature) -> SignatureState:
        """What one signature of an envelope is worth."""
        key = self._keys.get(signature.keyid)
        if key is None:
            return SignatureState.UNKNOWN_KEY
        try:
            sig = base64.b64decode(signature.sig, validate=True).hex()
            pae = Envelope(payload, payload_type, {}).pae()
            key.verify_signature(SslibSignature(signature.keyid, sig), pae)
        except (UnverifiedSignatureError, FormatError, ValueError):
            return SignatureState.WRONG
        return SignatureState.VALID

    def check_envelope(self, envelope: Mapping[str, Any]) -> SignatureState:
        """What an envelope is worth: one valid signature by one of these keys makes it valid."""
        try:
            payload = base64.b64decode(envelope["payload"], validate=True)
            states = {
                self.check(
                    payload,
                    envelope["payloadType"],
                    Signature(keyid=one["keyid"], sig=one["sig"]),
                )
                for one in envelope["signatures"]
            }
        except (LookupError, TypeError, ValueError, AttributeError):
            return SignatureState.WRONG
        for state in (SignatureState.VALID, SignatureState.WRONG):
            if state in states:
                return state
        return SignatureState.UNKNOWN_KEY if states else SignatureState.WRONG


def make_envelope(payload: bytes, payload_type: str, signature: Signature) -> dict[str, Any]:
    """A DSSE envelope as plain data."""
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": signature.keyid, "sig": signature.sig}],
    }


def _public_key(path: Path) -> SSlibKey:
    try:
        content = path.read_bytes()
        key = load_pem_public_key(content)
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {(error.strerror or '').lower()}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(path, "it is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable(path, "it is no Ed25519 key")
    return SSlibKey.from_crypto(key)


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"the key {str(path)!r} cannot be used: {why}",
        ErrorKind.KEY_NOT_USABLE,
        "Make one by 'opskit audit init-key', and name it as audit.key in opskit.toml.",
    )
