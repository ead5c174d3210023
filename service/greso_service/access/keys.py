"""Keys: whose they are, what they allow, how they are written down. No files and no clock here.

Of a key only its SHA-256 is kept. Keys are 256 random bits, so there is nothing to guess from a digest and no need of a
slow password hash, which would cost each request what it is meant to cost a guesser.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from greso_service.errors import GresoError

Scope = Literal["read", "write", "admin"]

SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "admin")
"""Each includes those before it."""

TENANT_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""As a run's name, shorter: no slash, colon or brace, by which the names of keys in Redis are put together."""

KEY_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"

PREFIX: Final = "greso_"
"""Begins each key, so that one that has leaked into a repository or a log is recognised."""

_SECRET_BYTES = 32
_ID_BYTES = 4
_ID = r"^[0-9a-f]{8}$"


class KeysError(GresoError):
    """The keys can't be read or changed as asked; the message says what and where."""


def _once_each(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("name a scope twice")
    return scopes


class Key(BaseModel):
    """A key as it is kept. `sha256`: of the key itself, 64 hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=_ID)
    name: str = Field(pattern=KEY_NAME)
    tenant: str = Field(pattern=TENANT_NAME)
    scopes: Annotated[list[Scope], Field(min_length=1), AfterValidator(_once_each)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @property
    def scope(self) -> Scope:
        """The widest of its scopes."""
        return max(self.scopes, key=SCOPES.index)

    def expired(self, now: datetime) -> bool:
        """Whether it has had its time."""
        return self.expires is not None and now >= self.expires


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    keys: list[Key]


class Keyring:
    """Keys, found by what a request carries."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self.keys: tuple[Key, ...] = tuple(keys)
        self._by_digest: Mapping[str, Key] = MappingProxyType({key.sha256: key for key in keys})

    def find(self, token: str) -> Key | None:
        """The key that a request's token is.

        Looked up by its digest. How long that takes may tell how much of the digest is that of a key, which helps
        nobody: the digest of a guess can't be chosen, and a digest does not lead back to a key.
        """
        return self._by_digest.get(digest(token))

    def with_key(self, key: Key) -> Keyring:
        """These keys and one more."""
        return Keyring([*self.keys, key])

    def without(self, name: str, tenant: str | None = None) -> tuple[Keyring, Key]:
        """These keys without the one of this id, else of this name, and that one.

        Raises `KeysError` unless there is just one.
        """
        asked = [key for key in self.keys if tenant in {None, key.tenant}]
        found = [key for key in asked if key.id == name] or [key for key in asked if key.name == name]
        if not found:
            raise KeysError(f"there is no key {name!r}; `greso keys list` shows all")
        if len(found) > 1:
            ids = ", ".join(key.id for key in found)
            raise KeysError(f"{len(found)} keys are named {name!r}; give the id of one: {ids}")
        return Keyring([key for key in self.keys if key is not found[0]]), found[0]

    def dumps(self) -> str:
        """The text of a keys file, a line for each key."""
        lines = ",\n".join(f"  {key.model_dump_json()}" for key in self.keys)
        return f'{{"version": 1, "keys": [\n{lines}\n]}}\n' if lines else '{"version": 1, "keys": []}\n'


def loads(text: str | bytes) -> Keyring:
    """The keys in the text of a keys file. Raises `KeysError` that names the place of what is wrong."""
    try:
        keys = _File.model_validate_json(text).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]  # whatever was put there stays there
        place = "/" + "/".join(map(str, first["loc"])) if first["loc"] else "the whole"
        raise KeysError(f"{place}: {first['msg']}") from None
    for what in ("id", "sha256"):
        values = [getattr(key, what) for key in keys]
        for number, value in enumerate(values):
            if value in values[:number]:
                raise KeysError(f"/keys/{number}/{what}: is that of /keys/{values.index(value)}, too")
    return Keyring(keys)


def digest(token: str) -> str:
    """The SHA-256 of a key, as it is kept: hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def made(
    *, tenant: str, scopes: Sequence[Scope], name: str | None, now: datetime, expires: datetime | None
) -> tuple[Key, str]:
    """A new key as it is kept, and the key itself, which nobody can tell again. `name`: None names it by its id.

    Raises:
        KeysError: what is given breaks a rule.
    """
    token = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    number = secrets.token_hex(_ID_BYTES)
    if name is not None and re.fullmatch(_ID, name):
        raise KeysError(f"name is {name!r}, which looks like the id of a key; give another")
    try:
        key = Key(
            id=number,
            name=name if name is not None else number,
            tenant=tenant,
            scopes=list(scopes),
            sha256=digest(token),
            created=now.astimezone(UTC).replace(microsecond=0),
            expires=None if expires is None else expires.astimezone(UTC).replace(microsecond=0),
        )
    except OverflowError:
        raise KeysError(f"expires is {expires}, which is past the end of all calendars; leave it out") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first["loc"][0])
        rule = _RULES.get(what, first["msg"])
        raise KeysError(f"{what} is {first['input']!r}; {rule}") from None
    return key, token


_RULES: Final = {
    "tenant": "give 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit",
    "name": "give 1 to 64 letters, digits, '.', '_', '@' or '-', the first a letter or digit",
    "scopes": f"give one or more of {', '.join(SCOPES)}, each once",
}
