"""What `greso check` looks at of who may use the service."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from greso_service.access import key_file, tls
from greso_service.access.endings import SOON, day, named, soon
from greso_service.access.keys import KeysError
from greso_service.errors import StartupError
from greso_service.preflight import Finding
from greso_service.settings import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from greso_service.settings import Settings

IN_THE_CLEAR: Final = "none: keys travel in the clear, for others on the way to read"
WITH_TLS: Final = "give --tls-cert and --tls-key, unless a proxy that speaks HTTPS is all that reaches it"


def look(settings: Settings) -> list[Finding]:
    """Examine the keys and the certificate."""
    local = is_loopback(settings.host)
    if settings.keys_file is not None:
        findings = list(_keys(settings.keys_file))
    elif local:
        findings = [Finding("ok", "keys", "none; only this machine reaches the service")]
    else:
        fix = "make some with `greso keys add` and give --keys-file"
        findings = [Finding("warning", "keys", f"none; whoever reaches {settings.host} may do everything", fix)]
    try:
        tls.require(settings)
    except StartupError as error:
        return [*findings, Finding("error", "tls", str(error))]
    if settings.tls_cert is not None:
        findings.append(_certificate(settings))
    elif keys_in_the_clear(settings):
        findings.append(Finding("warning", "tls", IN_THE_CLEAR, WITH_TLS))
    return findings


def keys_in_the_clear(settings: Settings) -> bool:
    """Whether keys come to this process over a network without TLS."""
    return settings.keys_file is not None and settings.tls_cert is None and not is_loopback(settings.host)


def _certificate(settings: Settings) -> Finding:
    name, ends, now = f"certificate {settings.tls_cert}", tls.ends(settings), datetime.now(UTC)
    if ends is None:
        return Finding("ok", "tls", name)
    fix = "renew it, and start the service again"
    if ends <= now:
        return Finding("error", "tls", f"{name} is over since {day(ends)}", fix)
    if ends <= now + SOON:
        return Finding("warning", "tls", f"{name} ends on {day(ends)}, within {SOON.days} days", fix)
    return Finding("ok", "tls", f"{name}, until {day(ends)}")


def _keys(path: Path) -> Iterator[Finding]:
    try:
        ring, status = key_file.read(path)
    except KeysError as error:
        yield Finding("error", "keys", str(error), "make it with `greso keys add`, or mend it")
        return
    now = datetime.now(UTC)
    over = [key.id for key in ring.keys if key.expired(now)]
    tenants = {key.tenant for key in ring.keys}
    found = f"{len(ring.keys)} of {len(tenants)} tenants in {path}"
    if len(over) == len(ring.keys):
        yield Finding("warning", "keys", f"{found}, none of them valid: nobody can use the service", "`greso keys add`")
    elif over:
        yield Finding("ok", "keys", f"{found}, {len(over)} of them over: {', '.join(over)}")
    else:
        yield Finding("ok", "keys", found)
    if ending := soon(ring, now):
        fix = "`greso keys add` one like it, give it to who uses it, and `greso keys revoke` the old one"
        yield Finding("warning", "keys", f"within {SOON.days} days end: {', '.join(map(named, ending))}", fix)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding("warning", "keys", f"others may write to {path}, and let themselves in", f"chmod go-w {path}")
