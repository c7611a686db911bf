"""Which certificate does the control plane show, whom does it trust, and what does it sign? Kept up to date while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError
from claude_conductor.identity.keys import Validity, new_key, read_certificates, requested_key, validity, write_certificates
from claude_conductor.identity.prints import thumbprint
from controlplane.identity import authority as signing
from controlplane.identity.authority import Authority

_log = logging.getLogger(__name__)
_CHECK_SECONDS: Final = 30.0


class Keeper(Protocol):
    """Where the authority is kept."""

    def read(self) -> Authority | None:
        """Return what is there; None: nothing yet."""

    def write(self, authority: Authority) -> None:
        """Put this in the place of what is there; durable when it returns."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a handshake needs. Replaced as a whole, since handshakes look at it from other threads."""

    version: int
    key: bytes
    chain: bytes
    trust: bytes


class Certificates:
    """The authority in use, and the control plane's own certificate."""

    def __init__(self, keeper: Keeper, hosts: Sequence[str], clock: Clock, life: float = signing.LEAF_LIFE) -> None:
        """Open the authority, or make one where there is none.

        Args:
            keeper: Where it is kept.
            hosts: Names and addresses under which the control plane is reached.
            clock: Tells the time.
            life: Seconds a leaf is valid.

        Raises:
            ConductorError: It cannot be read or written.
        """
        self._keeper = keeper
        self._hosts = tuple(hosts)
        self._clock = clock
        self.life = life
        kept = keeper.read()
        if kept is None:
            kept = signing.create(clock.now())
            keeper.write(kept)
        self._authority = kept
        self.served = Served(0, b"", b"", b"")
        self.renew(force=True)

    @property
    def authority(self) -> Authority:
        """What is in use now."""
        return self._authority

    @property
    def trust_text(self) -> str:
        """Every root that is trusted, PEM."""
        return self._authority.trust.decode()

    @property
    def pin(self) -> bytes:
        """SHA-256 of the root certificate, by which somebody who joins knows it."""
        return bytes.fromhex(thumbprint(self._authority.root))

    def sign_agent(self, csr: bytes, tenant_id: str, agent_id: str) -> bytes:
        """Return the chain of an agent's new certificate.

        Raises:
            InvalidArgumentError: The request cannot be used.
        """
        return signing.sign_agent(self._authority, csr, tenant_id, agent_id, self._clock.now(), self.life)

    def check(self, csr: bytes) -> None:
        """Refuse a request that cannot be signed.

        Raises:
            InvalidArgumentError: It proves no P-256 key.
        """
        requested_key(csr)

    def end_of(self, chain: bytes) -> float:
        """Return when a certificate ends, in seconds since the epoch."""
        return validity(chain).end

    def rotate(self) -> None:
        """Replace root, intermediate and the control plane's certificate. What the old root signed goes on until it ends.

        Raises:
            CertificateError: The root's key is not here.
            HomeUnusableError: The new authority cannot be kept; the old one stays in use.
        """
        self._use(signing.rotate(self._authority, self._clock.now()))
        self.renew(force=True)

    def renew(self, *, force: bool = False) -> None:
        """Renew what is due: the intermediate, the control plane's certificate; and forget old roots whose leaves have ended.

        Raises:
            CertificateError: The intermediate has ended and cannot be renewed here.
            HomeUnusableError: A new one cannot be kept.
        """
        now = self._clock.now()
        authority = signing.renewed(self._authority, now)
        if authority.old_roots and now > validity(authority.root).begin + 2 * self.life:  # its last leaf has ended long ago
            authority = signing.without_old_roots(authority)
        changed = authority is not self._authority
        if changed:
            self._use(authority)
        if force or changed or now >= validity(self.served.chain).renewal(0.0):
            key = new_key()
            chain = signing.sign_server(authority, key, self._hosts, now, self.life)
            self.served = Served(self.served.version + 1, key, chain, authority.trust)

    async def keep(self) -> None:
        """Renew what is due, for ever."""
        while True:
            await asyncio.sleep(min(_CHECK_SECONDS, self.life / 10))
            try:
                self.renew()
            except ConductorError as error:
                _log.error("certificates cannot be renewed", extra={"cause": str(error)})

    def described(self) -> Sequence[tuple[str, str, Validity]]:
        """Return what there is: kind, SHA-256 in hexadecimal, and its time."""
        authority = self._authority
        parts = [("root", authority.root), ("intermediate", authority.intermediate), ("server", self.served.chain)]
        parts += [("old root", each) for each in _apart(authority.old_roots)]
        return [(kind, thumbprint(pem), validity(pem)) for kind, pem in parts]

    def _use(self, authority: Authority) -> None:
        self._keeper.write(authority)
        self._authority = authority


def _apart(pem: bytes) -> list[bytes]:
    return [write_certificates(each) for each in read_certificates(pem)] if pem else []
