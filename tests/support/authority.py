"""A time-stamp authority (RFC 3161) on loopback, with a root and a certificate of its own."""

import hashlib
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from opskit.postgres.server import free_port
from tests.support.certificates import certificate
from tests.support.loopback import OnLoopback


class Authority(OnLoopback):
    """Answers ``POST`` inside ``with``. `behaviour` is ``stamps``, ``refuses``, ``lies`` or ``sleeps``."""

    def __init__(self, directory: Path) -> None:
        self.behaviour = "stamps"
        self.root = directory / "root.pem"
        issuer = certificate("Root")
        stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        self._key, self._leaf = certificate("Stamps", stamping, issuer=issuer)
        self.root.write_bytes(issuer[1].public_bytes(Encoding.PEM))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/stamp"
        super().__init__(HTTPServer(("127.0.0.1", port), self._handler()))

    def answer(self, request: bytes) -> bytes:
        """What the authority says to a query."""
        if self.behaviour == "refuses":
            return bytes.fromhex("3005300302") + b"\x01\x02"  # a status of rejection, and no token
        query = tsp.TimeStampReq.load(request)
        imprint = query["message_imprint"]
        if self.behaviour == "lies":
            imprint["hashed_message"] = hashlib.sha256(b"something else").digest()
        stamped = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": "1.2.3.4.1",
                "message_imprint": imprint,
                "serial_number": 1,
                "gen_time": datetime.now(UTC).replace(microsecond=0),
                "nonce": query["nonce"].native,
            }
        )
        token = cms.ContentInfo({"content_type": "signed_data", "content": self._signed(stamped)})
        granted = {"status": {"status": "granted"}, "time_stamp_token": token}
        return tsp.TimeStampResp(granted).dump()  # type: ignore[no-any-return]

    def _signed(self, stamped: tsp.TSTInfo) -> cms.SignedData:
        leaf = asn1_x509.Certificate.load(self._leaf.public_bytes(Encoding.DER))
        content = stamped.dump()
        essential = tsp.SigningCertificateV2(
            {"certs": [{"cert_hash": hashlib.sha256(leaf.dump()).digest()}]}
        )
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
                {"type": "signing_certificate_v2", "values": [essential]},
            ]
        )
        signature = self._key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        identifier = {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
        return cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [{"algorithm": "sha256"}],
                "encap_content_info": {"content_type": "tst_info", "content": stamped},
                "certificates": [leaf],
                "signer_infos": [
                    {
                        "version": "v1",
                        "sid": {"issuer_and_serial_number": identifier},
                        "digest_algorithm": {"algorithm": "sha256"},
                        "signed_attrs": attributes,
                        "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                        "signature": signature,
                    }
                ],
            }
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"]))
                if authority.behaviour == "sleeps":
                    time.sleep(1)
                content = authority.answer(request)
                if authority.behaviour == "sleeps":
                    return  # whoever asked has gone
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        return Handler
