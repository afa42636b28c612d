"""What ends a training run before its time, said so that a person knows what to do."""

from __future__ import annotations


class Refused(Exception):
    """A run that cannot begin or go on. what happened, why, and what to do next."""

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint
