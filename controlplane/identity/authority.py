"""Which certificates does the authority sign? Values in, values out: the time is an argument, and no file is touched.

A root signs an intermediate, which signs leaves. A root that replaces another one is also signed by it ("new with old", RFC 4210,
section 4.4), and that certificate is sent along: who trusts the old root only accepts what the new one signed, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from claude_conductor.errors import CertificateError
from claude_conductor.identity import names
from claude_conductor.identity.keys import new_key, read_certificates, read_key, requested_key, write_certificates

ROOT_LIFE: Final = 10 * 365 * 86_400.0
INTERMEDIATE_LIFE: Final = 30 * 86_400.0
LEAF_LIFE: Final = 3600.0
MOST_CROSSED: Final = 8
_SKEW: Final = 60.0
"""A certificate is valid from a minute before it was made (a tenth of its life, if that is less), for peers whose clocks are
behind."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Keys and certificates, PEM. What a file of it may be missing is said with it."""

    root: bytes
    root_key: bytes
    """Empty where it is kept elsewhere: then the intermediate cannot be renewed here."""
    intermediate: bytes
    intermediate_key: bytes
    old_roots: bytes = b""
    """Roots before this one, whose leaves are still accepted."""
    cross: bytes = b""
    """The root, signed by the one before it, and that one by the one before, up to `MOST_CROSSED`: who knows only an old root
    accepts what comes from the new one, also when its leaves are no longer accepted here."""

    @property
    def trust(self) -> bytes:
        """Every root that a peer's certificate may come from."""
        return self.root + self.old_roots

    @property
    def chain(self) -> bytes:
        """What is sent after a leaf."""
        return self.intermediate + self.cross


def create(now: float) -> Authority:
    """Return a new root with an intermediate."""
    key = new_key()
    root = _root(key, now)
    return _with_intermediate(Authority(root, key, b"", b""), now)


def rotate(old: Authority, now: float) -> Authority:
    """Return an authority with a new root, signed by the old one, which stays trusted.

    Raises:
        CertificateError: The old root's key is not here, so it cannot sign.
    """
    if not old.root_key:
        raise CertificateError("The root's key is not here, and a new root has to be signed by it.")
    key = new_key()
    root = _root(key, now)
    (certificate,), (issuer,) = read_certificates(root), read_certificates(old.root)
    cross = _ca(_cn(certificate), read_key(key).public_key(), issuer, read_key(old.root_key), now, ROOT_LIFE, None)
    earlier = read_certificates(old.cross)[: MOST_CROSSED - 1] if old.cross else []
    return _with_intermediate(Authority(root, key, b"", b"", old.trust, write_certificates(cross, *earlier)), now)


def without_old_roots(authority: Authority) -> Authority:
    """Return it without the roots before its own: what they signed is no longer accepted."""
    return replace(authority, old_roots=b"")


def renewed(authority: Authority, now: float) -> Authority:
    """Return it with a new intermediate if the present one has less than half of its life left.

    Raises:
        CertificateError: The present one has ended, and the root's key is not here.
    """
    (present,) = read_certificates(authority.intermediate)
    left = present.not_valid_after_utc.timestamp() - now
    if left > INTERMEDIATE_LIFE / 2:
        return authority
    if authority.root_key:
        return _with_intermediate(authority, now)
    if left <= 0:
        raise CertificateError("The intermediate has ended, and the root's key is not here to sign another one.")
    return authority


def sign_agent(authority: Authority, csr: bytes, tenant_id: str, agent_id: str, now: float, life: float = LEAF_LIFE) -> bytes:
    """Return a chain for an agent: its leaf, then what leads to a root. The SPIFFE id is its only name.

    Args:
        authority: Signs.
        csr: Proof of the key; a name in it is not looked at.
        tenant_id: Whose agent.
        agent_id: Its id.
        now: Seconds since the epoch.
        life: Seconds.

    Raises:
        InvalidArgumentError: The request cannot be used.
    """
    uri = x509.UniformResourceIdentifier(names.agent_uri(tenant_id, agent_id))
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return _leaf(authority, requested_key(csr), [uri], usage, now, life)


def sign_server(authority: Authority, key: bytes, hosts: Sequence[str], now: float, life: float = LEAF_LIFE) -> bytes:
    """Return a chain for the control plane itself, good for its own name and for `hosts` (names and addresses)."""
    known: list[x509.GeneralName] = [x509.UniformResourceIdentifier(names.CONTROL_PLANE), x509.DNSName(names.SERVER_NAME)]
    known += [_host(host) for host in dict.fromkeys(hosts)]
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return _leaf(authority, read_key(key).public_key(), known, usage, now, life)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _root(key: bytes, now: float) -> bytes:
    private = read_key(key)
    name = f"Claude Conductor root {x509.SubjectKeyIdentifier.from_public_key(private.public_key()).digest.hex()[:16]}"
    return write_certificates(_ca(name, private.public_key(), None, private, now, ROOT_LIFE, None))


def _with_intermediate(authority: Authority, now: float) -> Authority:
    key = new_key()
    public = read_key(key).public_key()
    (root,) = read_certificates(authority.root)
    name = f"Claude Conductor authority {x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:16]}"
    signed = _ca(name, public, root, read_key(authority.root_key), now, INTERMEDIATE_LIFE, 0)
    return replace(authority, intermediate=write_certificates(signed), intermediate_key=key)


def _cn(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _ca(
    name: str,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey,
    now: float,
    life: float,
    path_length: int | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject if issuer is None else issuer.subject, public, key, now, life)
    signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # noqa: FBT003 - RFC 5280, 4.2.1.3
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(signs, critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    authority: Authority,
    public: ec.EllipticCurvePublicKey,
    known: Sequence[x509.GeneralName],
    usage: x509.ExtendedKeyUsage,
    now: float,
    life: float,
) -> bytes:
    (issuer,) = read_certificates(authority.intermediate)
    end = min(now + life, issuer.not_valid_after_utc.timestamp())
    key = read_key(authority.intermediate_key)
    builder = _builder(x509.Name([]), issuer.subject, public, key, now, end - now)
    signs = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # noqa: FBT003 - as above
    leaf = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName(known), critical=True)  # the subject is empty: RFC 5280, 4.2.1.6
        .sign(key, hashes.SHA256())
    )
    return write_certificates(leaf) + authority.chain


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    key: ec.EllipticCurvePrivateKey,
    now: float,
    life: float,
) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(seconds=min(_SKEW, life / 10)))
        .not_valid_after(begin + timedelta(seconds=life))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
