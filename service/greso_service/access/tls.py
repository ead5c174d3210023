"""The certificate and key of HTTPS, tried before the service starts."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from greso_service.errors import StartupError

if TYPE_CHECKING:
    from greso_service.settings import Settings


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
        # The empty passphrase: a key that has one is refused, and not asked for at a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise StartupError(
            f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} are no certificate (PEM) and the key that"
            f" goes with it, without a passphrase: {reason}"
        ) from None
