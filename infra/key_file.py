"""A secret of 32 bytes in a file that only its owner may read, or given as text in its place."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import Permanent

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One such secret. name: what it is called in errors; setting: its dotted key in the settings; error: what is raised."""

    name: str
    setting: str
    error: type[Permanent]

    def read(self, given: str | None, file: Path) -> bytes:
        """The secret that was given (base64), or that stands in the file. Raises the error of this kind of key."""
        if given is not None:
            return self._bytes(given, self.setting)
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            text = file.read_text()
        except OSError as error:
            variable = f"MILEPOST_{self.setting.replace('.', '_').upper()}"
            raise self.error(
                f"There is no {self.name}.", why=f"{file}: {error.strerror}",
                hint=f"set {variable}, or name the file with {variable.rpartition('_')[0]}_FILE",
            ) from error  # fmt: skip
        if mode & 0o077:
            raise self.error(f"Others may read the {self.name} in {file}.", why=f"mode {mode:o}", hint=f"chmod 600 {file}")
        return self._bytes(text.strip(), str(file))

    def make(self, file: Path) -> None:
        """Make the file with a new secret if there is none; of several that try at once one wins."""
        if file.exists():
            return
        scratch = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
        try:
            handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(new_key() + b"\n")
                out.flush()
                os.fsync(out.fileno())  # what is made with it is of no use without it
            try:
                os.link(scratch, file)
            except FileExistsError:
                pass
            finally:
                scratch.unlink()
        except OSError as error:
            raise self.error(f"The {self.name} cannot be written to {file}.", why=error.strerror or str(error)) from error

    def _bytes(self, text: str, where: str) -> bytes:
        try:
            secret = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise self.error(
                f"The {self.name} in {where} is malformed.", why=f"it is {KEY_BYTES} bytes in base64",
                hint=f"head -c {KEY_BYTES} /dev/urandom | base64",
            )  # fmt: skip
        return secret


def new_key() -> bytes:
    """32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES))
