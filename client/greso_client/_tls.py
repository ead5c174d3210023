"""TLS: whom to trust, and what is wrong when it does not come about, in words that say what to change."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator

import httpx

from greso_client._errors import SettingsError, UnavailableError

# What OpenSSL calls an answer in plain HTTP, one version after the other.
_PLAIN = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
# X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH, and those of a certificate before or after its time.
_OF_ANOTHER, _OUT_OF_TIME = {62, 64}, {9, 10}


class NoTlsError(UnavailableError):
    """Somebody is there, but TLS does not come about; the message says what to change."""


def trusted(scheme: str) -> ssl.SSLContext:
    """The authorities to believe at a URL of this scheme: those of SSL_CERT_FILE or SSL_CERT_DIR, else the usual ones.

    They count for this machine's loopback too. Raises `SettingsError` when they can't be read.
    """
    if scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # believes nobody, and is not asked
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        what = (
            "has no certificate in it (PEM)" if isinstance(error, ssl.SSLError) else f"can't be read: {error.strerror}"
        )
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
        where = f"{name}={os.environ[name]}" if name else "the file of trusted authorities"
        raise SettingsError(f"{where} {what}") from None


def mistake(error: httpx.HTTPError) -> str | None:
    """What is wrong with TLS at the other end, and what to change; None when nothing is as far as one can tell."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate can't be verified: {cause.verify_message.rstrip('.')}{_remedy(cause.verify_code)}"
        if isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN:
            return f"it does not speak TLS: should the URL begin with http:// and not https://? ({cause.reason})"
    return None


def with_suspicion(reason: str, error: httpx.HTTPError) -> str:
    """The reason, and behind it what else may be wrong, if anything."""
    if isinstance(error, httpx.RemoteProtocolError) and "without sending a response" in str(error):
        with contextlib.suppress(RuntimeError):  # it is of no request
            if error.request.url.scheme == "http":
                return f"{reason.rstrip('.')}; if it speaks TLS, the URL begins with https://"
    return reason


def _remedy(code: int) -> str:
    if code in _OF_ANOTHER:
        return ": give the URL by a name that the certificate has"
    if code in _OUT_OF_TIME:
        return ""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    now = f"it is {file} now" if file else f"it is not set, SSL_CERT_DIR is {folder}" if folder else "it is not set"
    return f"; SSL_CERT_FILE must name the file with the authority that signed it ({now})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
