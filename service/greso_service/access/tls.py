"""The certificate and key of HTTPS, tried before the service starts."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from greso_service.errors import StartupError

if TYPE_CHECKING:
    from pathlib import Path

    from greso_service.settings import Settings

_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h
_FLIGHTS: Final = 3  # messages from each side until both are done, in TLS 1.2; in 1.3 fewer


def require(settings: Settings) -> None:
    """Raise `StartupError` if HTTPS is asked for and can't be served with the files given."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    for option, path in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartupError(f"{option} {path} can't be read: {error.strerror}; correct it") from None
    try:
        _serving(settings.tls_cert, settings.tls_key)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise StartupError(
            f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} are no certificate (PEM) and the key that"
            f" goes with it, without a passphrase: {reason}"
        ) from None


def ends(settings: Settings) -> datetime | None:
    """When the certificate ends; None if there is none, or its time can't be told. Files as `require` accepts them.

    Python shows the fields only of a certificate that another side has sent and that was verified, so it is shown to
    ourselves, in memory, and trusted for what it is, whoever signed it and whether it is over or not.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(settings.tls_cert)
        asking = client.wrap_bio(back, there)
        answering = _serving(settings.tls_cert, settings.tls_key).wrap_bio(there, back, server_side=True)
        for side in (asking, answering) * _FLIGHTS:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        shown = asking.getpeercert() or {}
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    except (ssl.SSLError, OSError, ValueError, KeyError):
        return None


def _serving(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's side. The empty passphrase: a key that has one is refused, and not asked for at a terminal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, b"")
    return context
