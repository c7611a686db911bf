"""Keys, requests and certificates as PEM: made, read, named. P-256 throughout; nothing here touches a disk or a clock."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from claude_conductor.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is valid, in seconds since the epoch."""

    begin: float
    end: float

    def renewal(self, jitter: float) -> float:
        """Return when it should be renewed: at half its life, up to a tenth of it earlier.

        Args:
            jitter: From 0 up to 1, so that a fleet that joined together does not renew together.
        """
        life = self.end - self.begin
        return self.begin + life * (0.5 - 0.1 * jitter)


def new_key() -> bytes:
    """Return a new private key, unencrypted PKCS#8."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the private key.

    Raises:
        InvalidArgumentError: It is no P-256 key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as cause:
        raise InvalidArgumentError("This is no private key in PEM.") from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgumentError("Keys are P-256 here.")
    return key


def request(key: bytes) -> bytes:
    """Return a certificate signing request: proof of the key, and no name, which whoever signs decides."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key whose owner made this request.

    Raises:
        InvalidArgumentError: It is no request, is not signed by its key, or its key is not P-256.
    """
    try:
        asked = x509.load_pem_x509_csr(csr)
        signed, key = asked.is_signature_valid, asked.public_key()
    except (ValueError, TypeError, InvalidSignature) as cause:
        raise InvalidArgumentError("This is no certificate signing request in PEM.") from cause
    if not signed:
        raise InvalidArgumentError("The request is not signed by the key it names.")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgumentError("Keys are P-256 here.")
    return key


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, in its order.

    Raises:
        InvalidArgumentError: There is none, or one that cannot be read.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as cause:
        raise InvalidArgumentError("This is no certificate in PEM.") from cause


def write_certificates(*certificates: x509.Certificate) -> bytes:
    """Return certificates as PEM, one after the other."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def validity(pem: bytes) -> Validity:
    """Return when the first certificate of a chain is valid.

    Raises:
        InvalidArgumentError: There is none.
    """
    first = read_certificates(pem)[0]
    return Validity(first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp())
