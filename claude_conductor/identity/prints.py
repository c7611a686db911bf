"""By which short text is a certificate known? Parses no ASN.1 and loads no OpenSSL: it is asked with every call on a network."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from claude_conductor.errors import InvalidArgumentError

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


def thumbprint(pem: bytes) -> str:
    """Return the SHA-256 of the first certificate in hexadecimal (RFC 8705, section 3.1).

    Raises:
        InvalidArgumentError: There is none.
    """
    begin, end = pem.find(_BEGIN), pem.find(_END)
    try:
        if begin < 0 or end < begin:
            raise ValueError("no certificate")  # noqa: TRY301 - the same answer for both
        return hashlib.sha256(base64.b64decode(pem[begin + len(_BEGIN) : end])).hexdigest()
    except (ValueError, binascii.Error) as cause:
        raise InvalidArgumentError("This is no certificate in PEM.") from cause
