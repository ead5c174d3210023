"""How a client is set up: arguments, the environment, defaults, and their checks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from greso_client import _tls as tls
from greso_client._errors import SettingsError
from greso_client._io import LONGEST_SECONDS
from greso_client._spool import Spool

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Options:
    """Checked settings of a client; see `Client` for their meaning."""

    url: str
    api_key: str | None
    strict: bool
    budget: float
    spool: Spool | None  # a strict client has none

    @classmethod
    def make(  # noqa: PLR0917 - the constructor of a client, argument by argument
        cls,
        url: str | None,
        run: str,
        api_key: str | None,
        strict: bool,
        budget: float,
        spool: Path | str | Literal[False] | None,
        spool_bytes: int,
    ) -> Options:
        """Fill in what was not given (GRESO_URL, GRESO_API_KEY, the state directory) and refuse what can't work."""
        url = url or os.environ.get("GRESO_URL") or DEFAULT_URL
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(
                f"url {url!r} must begin with http:// or https:// and name a host, such as {DEFAULT_URL}"
            )
        api_key = api_key or os.environ.get("GRESO_API_KEY") or None
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise SettingsError("api_key must be visible ASCII characters: was a line end copied with it?")
        if not 0 < budget <= LONGEST_SECONDS:  # nor a NaN
            raise SettingsError(f"budget {budget} must be more than 0 and at most {LONGEST_SECONDS:.0f} seconds: a day")
        if spool_bytes < 1:
            raise SettingsError(f"spool_bytes {spool_bytes} must be 1 or more; spool=False turns the spool off")
        without = strict or spool is False
        kept = None if without else Spool(Path(spool) if spool else default_spool(url, run), spool_bytes)
        return cls(url.rstrip("/"), api_key, strict, budget, kept)

    def http(self, version: str) -> dict[str, Any]:
        """Arguments of the httpx client. A proxy of the environment does not lead to this machine's loopback.

        Raises `SettingsError` when the environment names certificates that can't be read.
        """
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        loopback = host in {"localhost", "::1"} or host.startswith("127.")
        return {
            "base_url": self.url,
            "headers": self._headers(version),
            "trust_env": not loopback,
            "verify": tls.trusted(parts.scheme),
            # Unbounded: attempts that hang, left behind by calls whose time was up, must not use up the connections.
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def _headers(self, version: str) -> dict[str, str]:
        """What each request carries."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"greso-client/{version}"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def default_spool(url: str, run: str) -> Path:
    """The spool of a run of a service, in the user's state directory (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path(os.path.expanduser("~/.local/state"))  # noqa: PTH111 - Path.expanduser raises without a home
    parts = urlsplit(url)
    place = f"{parts.hostname}_{parts.port}" if parts.port else str(parts.hostname)
    return base / "greso" / "spool" / place.replace(":", ".") / f"{run}.jsonl"
