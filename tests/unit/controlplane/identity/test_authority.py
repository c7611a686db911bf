from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from claude_conductor.errors import CertificateError, InvalidArgumentError
from claude_conductor.identity import keys, names
from claude_conductor.identity.prints import thumbprint
from controlplane.identity import authority as signing
from controlplane.identity.authority import Authority
from controlplane.identity.vault import Vault
from controlplane.service.certificates import Certificates
from tests.contract.samples import HandClock

NOW = 1_800_000_000.0


def leaf(chain: bytes) -> x509.Certificate:
    return keys.read_certificates(chain)[0]


def accepts(trust: bytes, chain: bytes, name: str = "", at: float = NOW + 60) -> bool:
    """Verify by the library's rules of the web, not with our own words for them."""
    certificates = keys.read_certificates(chain)
    store = x509.verification.Store(keys.read_certificates(trust))
    builder = x509.verification.PolicyBuilder().store(store).time(datetime.fromtimestamp(at, UTC))
    try:
        if name:
            builder.build_server_verifier(x509.DNSName(name)).verify(certificates[0], certificates[1:])
        else:
            builder.build_client_verifier().verify(certificates[0], certificates[1:])
    except x509.verification.VerificationError:
        return False
    return True


def test_an_agents_certificate_has_its_spiffe_id_as_its_only_name_and_lives_an_hour():
    own = signing.create(NOW)
    chain = signing.sign_agent(own, keys.request(keys.new_key()), "default", "agent-1", NOW)

    found = leaf(chain)
    san = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [each.value for each in san.value] == ["spiffe://conductor.local/tenant/default/agent/agent-1"]
    assert found.subject.rdns == []
    assert keys.validity(chain).end == NOW + 3600
    assert accepts(own.trust, chain)
    assert not accepts(signing.create(NOW).trust, chain)
    assert not accepts(own.trust, chain, at=NOW + 3601)


@pytest.mark.parametrize("life", [6.0, 600.0, 3600.0])
def test_a_certificate_of_any_life_is_renewed_about_half_way(life: float):
    own = signing.create(NOW)
    chain = signing.sign_agent(own, keys.request(keys.new_key()), "default", "agent-1", NOW, life)

    for jitter in (0.0, 0.5, 1.0):
        assert NOW + 0.25 * life < keys.validity(chain).renewal(jitter) < NOW + 0.6 * life


def test_the_control_planes_certificate_is_good_for_its_name_and_hosts_and_no_agents_is():
    own = signing.create(NOW)
    chain = signing.sign_server(own, keys.new_key(), ["10.0.0.7", "conductor.example"], NOW)
    agent = signing.sign_agent(own, keys.request(keys.new_key()), "default", "a", NOW)

    assert accepts(own.trust, chain, names.SERVER_NAME)
    assert accepts(own.trust, chain, "conductor.example")
    assert not accepts(own.trust, chain)
    assert not accepts(own.trust, agent, names.SERVER_NAME)


def test_after_a_rotation_each_side_accepts_the_other_whichever_root_it_knows():
    old = signing.create(NOW)
    before = signing.sign_agent(old, keys.request(keys.new_key()), "default", "a", NOW)
    new = signing.rotate(old, NOW)
    server = signing.sign_server(new, keys.new_key(), [], NOW)
    newer = signing.rotate(new, NOW)

    assert accepts(old.trust, server, names.SERVER_NAME)
    assert accepts(new.root, server, names.SERVER_NAME)
    assert accepts(new.trust, before)
    assert not accepts(signing.without_old_roots(new).trust, before)
    assert accepts(old.trust, signing.sign_server(newer, keys.new_key(), [], NOW), names.SERVER_NAME)


def test_a_rotation_needs_the_roots_key_and_so_does_an_intermediate_that_has_ended():
    away = replace(signing.create(NOW), root_key=b"")

    with pytest.raises(CertificateError):
        signing.rotate(away, NOW)
    assert signing.renewed(away, NOW + 20 * 86_400) is away
    with pytest.raises(CertificateError):
        signing.renewed(away, NOW + 31 * 86_400)


def test_an_intermediate_is_renewed_at_half_its_life():
    own = signing.create(NOW)

    assert signing.renewed(own, NOW + 14 * 86_400) is own
    later = signing.renewed(own, NOW + 16 * 86_400)
    assert later.root == own.root
    assert later.intermediate != own.intermediate


def test_requests_that_prove_no_p256_key_are_refused():
    own = signing.create(NOW)
    weak = rsa.generate_private_key(65537, 2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(weak, hashes.SHA256())
    good = keys.request(keys.new_key())
    for bad in (b"", b"rubbish", csr.public_bytes(serialization.Encoding.PEM), good[:200], own.root):
        with pytest.raises(InvalidArgumentError):
            signing.sign_agent(own, bad, "default", "a", NOW)


def test_a_name_in_a_request_is_not_looked_at():
    key = keys.read_key(keys.new_key())
    wish = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(names.agent_uri("default", "admin"))])
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(wish, critical=False)
    pem = csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    chain = signing.sign_agent(signing.create(NOW), pem, "default", "agent-1", NOW)

    san = leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [each.value for each in san.value] == [names.agent_uri("default", "agent-1")]


def test_a_vault_gives_back_what_it_keeps_readable_by_nobody_else(tmp_path: Path):
    vault = Vault(tmp_path / "authority")
    assert vault.read() is None
    first = signing.create(NOW)
    vault.write(first)
    assert vault.read() == first
    second = signing.rotate(first, NOW)
    vault.write(second)
    vault.write(replace(second, root_key=b""))

    assert vault.read() == replace(second, root_key=b"")
    assert sorted(each.name for each in (tmp_path / "authority").iterdir()) == ["generation-2", "generation-3", "present"]
    assert {oct(each.stat().st_mode & 0o777) for each in (tmp_path / "authority").rglob("*.*")} == {"0o600"}
    assert (tmp_path / "authority").stat().st_mode & 0o777 == 0o700


def test_a_vault_that_others_can_read_or_that_lacks_a_file_is_refused(tmp_path: Path):
    vault = Vault(tmp_path)
    vault.write(signing.create(NOW))
    key = tmp_path / "present" / "intermediate.key"
    key.chmod(0o640)
    with pytest.raises(CertificateError, match="Others"):
        vault.read()
    key.unlink()
    with pytest.raises(CertificateError, match="missing"):
        vault.read()


class Kept:
    def __init__(self) -> None:
        self.authority: Authority | None = None

    def read(self) -> Authority | None:
        return self.authority

    def write(self, authority: Authority) -> None:
        self.authority = authority


def test_the_server_certificate_is_renewed_at_half_its_life_and_the_authority_is_kept():
    clock, kept = HandClock(), Kept()
    certificates = Certificates(kept, ["localhost"], clock)
    first = certificates.served
    certificates.renew()
    assert certificates.served is first
    clock.pass_(1801)
    certificates.renew()
    assert certificates.served.version == first.version + 1
    assert Certificates(kept, [], clock).authority == certificates.authority


def test_old_roots_are_forgotten_once_their_leaves_have_ended():
    clock, kept = HandClock(), Kept()
    certificates = Certificates(kept, [], clock)
    old = certificates.authority.root
    certificates.rotate()
    clock.pass_(3600)
    certificates.renew()
    assert old in certificates.served.trust
    clock.pass_(3700)
    certificates.renew()
    assert old not in certificates.served.trust
    assert accepts(old, certificates.served.chain, names.SERVER_NAME, clock.now())


def test_an_agents_name_is_read_back_and_others_are_refused():
    assert names.parse_agent_uri(names.agent_uri("t", "a")) == ("t", "a")
    for bad in (
        "",
        names.CONTROL_PLANE,
        "spiffe://other/tenant/t/agent/a",
        names.agent_uri("t", "a") + "/x",
        names.agent_uri("", "a"),
    ):
        with pytest.raises(Exception, match="no agent's"):
            names.parse_agent_uri(bad)


def test_a_thumbprint_is_the_sha256_of_the_certificate():
    chain = signing.create(NOW).root
    assert thumbprint(chain) == leaf(chain).fingerprint(hashes.SHA256()).hex()
    assert ssl.PEM_cert_to_DER_cert(chain.decode())
    with pytest.raises(InvalidArgumentError):
        thumbprint(b"-----BEGIN CERTIFICATE-----")
