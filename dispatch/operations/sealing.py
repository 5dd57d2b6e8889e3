"""Seal an answer so that only who asked can read it again. The one place that knows ciphers.

The key is made of the caller's token and their Idempotency-Key (HKDF-SHA-256), and is stored
nowhere: a copy of the database opens no answer. Fernet (AES-128-CBC, HMAC-SHA-256) is the
`cryptography` package's own recipe.
"""

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"arbe idempotency 1 "
_KEY_BYTES: Final = 32


class Seal:
    """One call's seal. Args: token: the caller's bearer token. salt: the row's reserved id."""

    def __init__(self, *, token: str, key: str, salt: bytes) -> None:
        derived = HKDF(
            hashes.SHA256(), length=_KEY_BYTES, salt=salt, info=_PURPOSE + key.encode()
        ).derive(token.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def close(self, text: bytes) -> bytes:
        """Return the text sealed."""
        return self._fernet.encrypt(text)

    def open(self, sealed: bytes) -> bytes | None:
        """Return what was sealed, or None under another token or another key."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None
