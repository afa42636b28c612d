"""Who asks at the door, and what they may: roles are a person's or a program's, rights are what a route needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from runtime.errors import Permanent

DoorRole: TypeAlias = Literal["viewer", "operator", "approver", "builder", "admin"]
Right: TypeAlias = Literal["read", "ask", "approve", "build", "manage"]

DOOR_ROLES: tuple[DoorRole, ...] = get_args(DoorRole)
RIGHTS: Mapping[DoorRole, frozenset[Right]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "ask"}),
    "approver": frozenset({"read", "approve"}),
    "builder": frozenset({"read", "ask", "build"}),
    "admin": frozenset({"read", "ask", "approve", "build", "manage"}),
}
"""read: see runs, tools, knowledge, agents. ask: begin, cancel and fork runs, put in documents. approve: answer what runs ask
a person. build: agents, tools, triggers, rules. manage: keys, forgetting, dead letters."""


class NotSignedIn(Permanent):
    """Nobody is known by what came with the request."""

    def __init__(self, why: str = "") -> None:
        super().__init__(
            "You are not signed in.", why=why or "no key, token or session came with the request",
            hint="send Authorization: Bearer KEY; milepost door key prints the local one, milepost open signs a browser in",
        )  # fmt: skip


class NotPermitted(Permanent):
    """Somebody known asked for what their roles do not let them."""

    def __init__(self, who: Principal, right: Right) -> None:
        may = [role for role, rights in RIGHTS.items() if right in rights]
        super().__init__(
            f"{who.user} may not do this.",
            why=f"it needs one of the roles {', '.join(may)}; {who.user} is {who.said}",
            hint="an administrator: milepost door keys add --role ROLE",
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of a tenant, as the door knows them. via: how; key: the id of their key, or the issuer's name for them."""

    tenant: str
    user: str
    roles: tuple[DoorRole, ...]
    via: Literal["local", "key", "oidc", "channel", "trigger"] = "key"
    key: str = ""

    @property
    def rights(self) -> frozenset[Right]:
        """All that the roles let them."""
        return rights_of(self.roles)

    @property
    def said(self) -> str:
        """The roles in words."""
        return ", ".join(self.roles) or "without a role"

    def must(self, right: Right) -> None:
        """Raises NotPermitted."""
        if right not in self.rights:
            raise NotPermitted(self, right)


def rights_of(roles: Iterable[DoorRole]) -> frozenset[Right]:
    """What these roles let somebody do."""
    return frozenset(right for role in roles for right in RIGHTS[role])
