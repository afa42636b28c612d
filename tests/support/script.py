"""What the scripted model of the tests' stacks does: the wish is in the words of the request."""

from __future__ import annotations

import json

INSTANCE = r"(?P<instance>i-[a-z0-9]+)"
PERIODS = [(period, unit) for unit in ("month", "week") for period in (1, 2, 3)]


def renewal(period: int, unit: str) -> dict[str, object]:
    """A call that renews the instance of the wish."""
    arguments = {"InstanceId": "{instance}", "Period": period, "PeriodUnit": unit.capitalize()}
    return {"name": "RenewInstance", "arguments": arguments}


def _renewals(period: int, unit: str) -> list[dict[str, object]]:
    call = renewal(period, unit)
    chinese = {"month": "个月", "week": "周"}[unit]
    twice = f"[Tt]wice renew {INSTANCE} for {period} {unit}"
    return [
        {"role": "user", "match": twice, "call": [call, call]},
        {"role": "tool", "asked": twice, "match": "already under way", "call": [call]},
        {"role": "user", "match": f"[Rr]enew (ECS instance )?{INSTANCE} for {period} {unit}", "call": [call]},
        {"role": "user", "match": rf"续费.*?{INSTANCE}.*?{period}\s*{chinese}", "call": [call]},
    ]


def _describe() -> dict[str, object]:
    arguments = {"InstanceId": "{instance}", "Description": "{text}"}
    call = {"name": "ModifyInstanceAttribute", "arguments": arguments}
    return {"role": "user", "match": rf"describe {INSTANCE} as (?P<text>\S+)", "call": [call]}


_PROFILE = {
    "title": "Renewal Desk", "name": "renewal-desk", "description": "Renews ECS instances after naming the price.",
    "instructions": "You are the renewal desk of the ops team. Use metric units.",
}  # fmt: skip
_BUILDER: list[dict[str, object]] = [  # what builds agents by talking asks like this
    {"role": "user", "match": "^Wanted: .*renew", "say": json.dumps(_PROFILE)},
    {"role": "user", "match": "^- [A-Za-z]+: ", "say": '{"tools": ["RenewInstance"]}'},
    {"role": "user", "match": "^Assistant: .* Change: call it (?P<title>[A-Za-z]+)",
     "say": '{"changes": [{"field": "title", "op": "replace", "text": "{title}"}]}'},
    {"role": "user", "match": "^Assistant: .* Change: ", "say": "no JSON at all"},
    {"role": "user", "match": "^Assistant: ", "say": '{"suggestions": ["Renew it.", "I am a desk.", "What does it cost?"]}'},
]  # fmt: skip

RULES: list[dict[str, object]] = [
    *_BUILDER,
    {"role": "user", "match": r"\[1\] (?P<source>[^\n]+)\n> (?P<said>[^\n]+)\n.*[?？]$", "say": "{said} ({source})"},
    *(rule for period, unit in PERIODS for rule in _renewals(period, unit)),
    _describe(),
    {"role": "user", "match": "time", "call": [{"name": "current_time", "arguments": {"timezone": "Asia/Shanghai"}}]},
    {"role": "user", "match": "几点", "call": [{"name": "current_time", "arguments": {"timezone": "Asia/Shanghai"}}]},
    {"role": "user", "match": r"QR code of (?P<text>\S+)", "call": [{"name": "qr_code", "arguments": {"text": "{text}"}}]},
    {"role": "user", "match": "list the instances", "call": [{"name": "DescribeInstances", "arguments": {}}]},
    {"role": "user", "match": "for ever", "call": [{"name": "current_time", "arguments": {"timezone": "Asia/Shanghai"}}]},
    {"role": "tool", "asked": "for ever", "call": [{"name": "current_time", "arguments": {"timezone": "Asia/Shanghai"}}]},
    {"role": "tool", "asked": "[一-鿿]", "match": ".*", "say": "好了：{0}"},
    {"role": "tool", "match": ".*", "say": "Done: {0}"},
    {"role": "user", "match": "[一-鿿]", "say": "你好。"},
    {"role": "user", "match": ".*", "say": "You said: {0}"},
]
