"""Keys for tests: a file of them, changed as `greso keys` changes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from greso_service.access import key_file
from greso_service.access.keys import Scope, made

from .servers import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from .servers import Service


def bearer(token: str) -> dict[str, str]:
    """The headers that carry a key."""
    return {"Authorization": f"Bearer {token}"}


class KeyFile:
    """A file of keys."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, tenant: str, *scopes: Scope, name: str | None = None, expires: datetime | None = None) -> str:
        """A new key."""
        key, token = made(tenant=tenant, scopes=scopes, name=name, now=datetime.now(UTC), expires=expires)
        key_file.change(self.path, lambda ring: ring.with_key(key))
        return token

    def revoke(self, name: str) -> None:
        """Take a key away."""
        key_file.change(self.path, lambda ring: ring.without(name)[0])

    def add_and_wait(self, service: Service, tenant: str, *scopes: Scope) -> str:
        """A new key that the running service knows already."""
        token = self.add(tenant, *scopes)
        eventually(lambda: service.http.get("/v1/runs", headers=bearer(token)).status_code == 200)
        return token
