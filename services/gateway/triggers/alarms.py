"""Alarms of monitors in one form: {name, state, resource, severity, at, starts_at, text, value, labels}.

state: firing, resolved or unknown. Formats: Prometheus Alertmanager's webhook (version 4); Alibaba Cloud CloudMonitor's alert
callback (a form); Amazon CloudWatch's alarm as SNS carries it (JSON in `Message`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from schemas.canonical import JsonObject, canonical, read_json
from schemas.errors import ProtocolError
from services.gateway.triggers.event import LARGEST, Event, digest_of
from services.gateway.triggers.trigger import Alarm

AT_MOST = 50
_REPEATED_S = 3600.0  # an alarm that says not when it began is told again and again while it lasts
_ALIYUN = {"OK": "resolved", "ALERT": "firing", "INSUFFICIENT_DATA": "unknown"}
_AWS = {"OK": "resolved", "ALARM": "firing", "INSUFFICIENT_DATA": "unknown"}


def alarms(source: Alarm, said: JsonObject, now: datetime) -> list[Event]:
    """The alarms that a request tells of, of the states that count. Raises ProtocolError for what is none."""
    read = {"prometheus": _prometheus, "aliyun": _aliyun, "aws": _aws}[source.source]
    found = [alarm for alarm in read(said) if alarm["state"] in source.states]
    return [_event(alarm, now) for alarm in found[:AT_MOST]]


def _event(alarm: JsonObject, now: datetime) -> Event:
    named = [_text(alarm[name]) for name in ("name", "resource", "state", "starts_at")]
    key = f"{named[0]}/{named[1]}/{named[2]}/{digest_of(*named, canonical(alarm['labels']))[:16]}"
    return Event(payload=alarm, key=key, at=now, window_s=None if alarm["starts_at"] else _REPEATED_S)


def _prometheus(said: JsonObject) -> Iterator[JsonObject]:
    told = said.get("alerts")
    if not isinstance(told, list):
        raise ProtocolError("This is no message of an Alertmanager.", why="it has no list of alerts")
    for each in told:
        labels, notes = _object(_object(each).get("labels")), _object(_object(each).get("annotations"))
        resource = next((_text(labels[name]) for name in ("instance", "resource", "pod", "node", "job") if name in labels), "")
        yield {
            "name": _text(labels.get("alertname")), "state": {"firing": "firing", "resolved": "resolved"}.get(
                _text(_object(each).get("status")), "unknown"), "resource": resource, "severity": _text(labels.get("severity")),
            "at": _text(_object(each).get("startsAt")), "starts_at": _text(_object(each).get("startsAt")),
            "text": _text(notes.get("description") or notes.get("summary")), "value": "", "labels": labels,
        }  # fmt: skip


def _aliyun(said: JsonObject) -> Iterator[JsonObject]:
    if "alertName" not in said or "alertState" not in said:
        raise ProtocolError("This is no callback of CloudMonitor.", why="it has no alertName or alertState")
    dimensions = _text(said.get("dimensions"))
    yield {
        "name": _text(said["alertName"]), "state": _ALIYUN.get(_text(said["alertState"]), "unknown"),
        "resource": _dimension(dimensions, "instanceId") or _text(said.get("instanceName")) or dimensions,
        "severity": _text(said.get("triggerLevel") or said.get("preTriggerLevel")).lower(), "at": _text(said.get("timestamp")),
        "starts_at": "", "text": f"{_text(said.get('metricName'))} {_text(said.get('expression'))}".strip(),
        "value": _text(said.get("curValue")),
        "labels": {name: _text(said[name]) for name in ("metricName", "ruleId", "regionId", "userId") if name in said}
        | {"dimensions": dimensions},
    }  # fmt: skip


def _dimension(dimensions: str, name: str) -> str:
    """A value of `{userId=12, instanceId=i-1}`."""
    pairs = (each.partition("=") for each in dimensions.strip("{}[] ").split(","))
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")


def _aws(said: JsonObject) -> Iterator[JsonObject]:
    inner = _object(read_json(_text(said.get("Message")) or "{}", limit=LARGEST))
    if "AlarmName" not in inner:
        raise ProtocolError("This is no alarm of CloudWatch.", why="its message has no AlarmName")
    watched = _object(inner.get("Trigger")).get("Dimensions")
    dimensions = [_object(each) for each in watched] if isinstance(watched, list) else []
    yield {
        "name": _text(inner["AlarmName"]), "state": _AWS.get(_text(inner.get("NewStateValue")), "unknown"),
        "resource": ", ".join(_text(each.get("value")) for each in dimensions[:5]), "severity": "",
        "at": _text(inner.get("StateChangeTime")), "starts_at": _text(inner.get("StateChangeTime")),
        "text": _text(inner.get("AlarmDescription") or inner.get("NewStateReason")), "value": "",
        "labels": {"region": _text(inner.get("Region")), "account": _text(inner.get("AWSAccountId"))},
    }  # fmt: skip


def _object(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value[:4000] if isinstance(value, str) else "" if value is None else str(value)[:4000]
