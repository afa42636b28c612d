"""Which API shows what another one would change: found by names, since the metadata has no such thing.

DeleteVSwitch(VSwitchId) is looked at by DescribeVSwitchAttributes(VSwitchId); StopInstance(InstanceId) by
DescribeInstances(InstanceIds). A companion fits if it reads, takes the same id, and needs nothing that the write is not given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tool_adapters.described.api import ApiCall, Companion, Form, Give

Parameter: TypeAlias = Mapping[str, object]

WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_VERBS = ("Describe", "Get", "Query", "List", "describe", "get", "query", "list")
_ENDINGS = ("", "Attribute", "Attributes", "Info", "Detail", "Details", "s", "es", "List")
_JOBS = ("Task", "AsyncTask", "Job", "Invocation", "Execution", "Operation", "Activity", "Workflow", "WorkFlow", "PipelineRun")
_JOB_IDS = {"Invocation": "InvokeId", "Activity": "ActivityId"}
_JOB_ENDINGS = ("", "Info", "Detail", "Details", "Status", "Progress", "Attribute", "Result", "s", "List")
_SCOPES = frozenset(
    {"regionid", "zoneid", "resourcegroupid", "clienttoken", "ownerid", "resourceownerid", "tenantid", "project"}
)

PRICES: Mapping[tuple[str, str], str] = {
    ("ecs", "RunInstances"): "DescribePrice",
    ("ecs", "CreateInstance"): "DescribePrice",
    ("ecs", "CreateDisk"): "DescribePrice",
    ("ecs", "ModifyInstanceSpec"): "DescribeInstanceModificationPrice",
    ("ecs", "ModifyPrepayInstanceSpec"): "DescribeInstanceModificationPrice",
    ("rds", "CreateDBInstance"): "DescribePrice",
    ("rds", "RenewInstance"): "DescribeRenewalPrice",
    ("r-kvstore", "CreateInstance"): "DescribePrice",
    ("r-kvstore", "RenewInstance"): "DescribePrice",
    ("dds", "CreateDBInstance"): "DescribePrice",
    ("dds", "RenewDBInstance"): "DescribeRenewalPrice",
}
"""Of these products the price API takes parameters of the same names as the purchase."""


@dataclass(frozen=True, slots=True)
class Known:
    """One API of a product: how it is called, its parameters by name, and whether it only reads."""

    call: ApiCall
    parameters: Mapping[str, Parameter]
    is_read: bool

    def required(self) -> set[str]:
        """What has to be given, other than what the caller fills."""
        pages = self.call.pages
        filled = {self.call.region, pages and pages.number, pages and pages.size}
        return {name for name, said in self.parameters.items() if said.get("required")} - filled


def look_of(write: Known, product: Mapping[str, Known]) -> Companion | None:
    """The API that shows what a write is about."""
    ids = _ids(write)
    for noun in _nouns(write.call.action, ids):
        for verb in _VERBS:
            for ending in _ENDINGS:
                known = product.get(f"{verb}{_plural(noun) if ending == 's' else noun + ending}")
                if known and known.is_read and (found := _fitting(write, known, ids)):
                    return found
    return None


def price_of(product: str, write: Known, known: Mapping[str, Known]) -> Companion | None:
    """The API that tells what a write costs, of the few where that is known."""
    price = known.get(PRICES.get((product, write.call.action), ""))
    if price is None:
        return None
    same = [name for name in price.parameters if name in write.parameters and name != price.call.region]
    give = {name: Give(name=name, form=_form(price.parameters[name])) for name in same}
    unit = (
        {"PriceUnit": Give(name="PeriodUnit")} if "PriceUnit" in price.parameters and "PeriodUnit" in write.parameters else {}
    )
    return Companion(call=_alone(price), give=unit | give)


def jobs_of(product: Mapping[str, Known]) -> dict[str, Companion]:
    """How to ask after what goes on, by the field of an answer that names it: {"TaskId": DescribeTask}."""
    found: dict[str, Companion] = {}
    for stem in _JOBS:
        field = _JOB_IDS.get(stem, f"{stem}Id")
        for verb in _VERBS:
            for ending in _JOB_ENDINGS:
                known = product.get(f"{verb}{_plural(stem) if ending == 's' else stem + ending}")
                if known is None or not known.is_read or field in found:
                    continue
                name = _same(known.parameters, field)
                if name and known.required() <= {name}:
                    give = {name: Give(name=field, form=_form(known.parameters[name], name))}
                    found[field] = Companion(call=_alone(known), give=give, about=field)
    return found


def words_of(api: str) -> list[str]:
    """The words of an API's name: DeleteDBInstance -> Delete, DB, Instance."""
    return WORD.findall(api[:1].upper() + api[1:]) or [api]


def _alone(known: Known) -> ApiCall:
    return known.call.model_copy(update={"look": None, "price": None, "pages": None})


def _ids(write: Known) -> list[str]:
    """The parameters that may name a resource, needed ones first, then those whose name is in the API's."""
    action = write.call.action.lower()

    def rank(name: str) -> tuple[bool, bool]:
        return not write.parameters[name].get("required"), _stem(name).lower() not in action

    named = [name for name in write.parameters if _stem(name) and name.lower() not in _SCOPES]
    return sorted(named, key=rank)


def _stem(name: str) -> str:
    """InstanceIds -> Instance; empty for what names nothing."""
    match = re.fullmatch(r"([A-Za-z]\w*?)_?(?:Ids?|IDs?|ids?|Names?|names?|Identifiers?|Url|No|Arn)(?:\.N)?", name)
    return match[1] if match else ""


def _nouns(action: str, ids: Sequence[str]) -> Iterator[str]:
    """What the action is about, from the longest: ModifyInstanceAttribute -> InstanceAttribute, Instance; then its ids' own."""
    words = words_of(action)[1:]
    words = words[1:] if words[:1] in (["Delete"], ["Create"], ["Modify"], ["Update"], ["Set"]) else words
    for end in range(len(words), 0, -1):
        noun = "".join(words[:end])
        yield noun
        if noun.endswith("s"):
            yield noun.removesuffix("ies") + "y" if noun.endswith("ies") else noun.removesuffix("s")
    for name in ids:
        stem = _stem(name)
        yield stem[:1].upper() + stem[1:]


def _plural(noun: str) -> str:
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"


def _same(parameters: Mapping[str, Parameter], name: str) -> str | None:
    """The parameter that takes such an id: of the same name, or its plural, however it is written."""
    plain = {_plain(each): each for each in parameters}
    stem = _plain(name).removesuffix("s")
    return plain.get(stem) or plain.get(f"{stem}s") or plain.get(f"{stem}list")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.removesuffix(".N").lower())


def _fitting(write: Known, look: Known, ids: Sequence[str]) -> Companion | None:
    given = {_plain(name): name for name, said in write.parameters.items() if said.get("required") or name in ids}
    for about in ids:
        name = _same(look.parameters, about)
        if name is None:
            continue
        others = {each: given.get(_plain(each)) for each in look.required() - {name}}
        if any(other is None for other in others.values()):
            continue
        form = _form(look.parameters[name], name)
        if form == "one" and about.endswith("s") and name != about:
            continue  # one of several would be shown
        give = {name: Give(name=about, form=form)}
        give |= {each: Give(name=str(other), form=_form(look.parameters[each], each)) for each, other in others.items()}
        exact = _stem(about).lower() == "".join(words_of(write.call.action)[1:]).lower().removesuffix("s")
        return Companion(call=_alone(look), give=give, about=about, exact=exact)
    return None


def _form(said: Parameter, name: str = "") -> Form:
    if said.get("type") in ("RepeatList", "Array", "Json"):
        return "list"
    many = name.endswith(("s", "List")) and "JSON" in str(said.get("description", ""))
    return "json" if many else "one"
