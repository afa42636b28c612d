"""What the demo cloud sells: regions, zones, instance types and their invented prices."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from infra.demo_cloud.errors import CloudError

REGIONS = {
    "cn-hangzhou": ("华东1（杭州）", ("cn-hangzhou-h", "cn-hangzhou-i", "cn-hangzhou-k")),
    "cn-shanghai": ("华东2（上海）", ("cn-shanghai-l", "cn-shanghai-m")),
    "cn-beijing": ("华北2（北京）", ("cn-beijing-h", "cn-beijing-l")),
    "cn-shenzhen": ("华南1（深圳）", ("cn-shenzhen-e", "cn-shenzhen-f")),
    "cn-hongkong": ("中国香港", ("cn-hongkong-b", "cn-hongkong-d")),
    "ap-southeast-1": ("新加坡", ("ap-southeast-1a", "ap-southeast-1c")),
}
IMAGES = {
    "aliyun_3_x64_20G_alibase_20260101.vhd": ("aliyun-3", "Alibaba Cloud Linux 3"),
    "ubuntu_24_04_x64_20G_alibase_20260101.vhd": ("ubuntu-24.04", "Ubuntu 24.04 64 bit"),
    "debian_13_x64_20G_alibase_20260101.vhd": ("debian-13", "Debian 13 64 bit"),
}
CURRENCY = "CNY"
CHINA = timezone(timedelta(hours=8))
MONTHS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 24, 36, 48, 60})
WEEKS = frozenset({1, 2, 3, 4})
LONGEST = timedelta(days=366 * 5)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """memory: GiB. month and hour: list price in CNY, invented."""

    name: str
    family: str
    cpu: int
    memory: float
    month: float
    hour: float


TYPES = {
    one.name: one
    for one in (
        InstanceType("ecs.t6-c1m1.large", "ecs.t6", 2, 2.0, 63.0, 0.147),
        InstanceType("ecs.e-c1m2.large", "ecs.e", 2, 4.0, 99.0, 0.231),
        InstanceType("ecs.c7.large", "ecs.c7", 2, 4.0, 236.0, 0.492),
        InstanceType("ecs.c7.xlarge", "ecs.c7", 4, 8.0, 472.0, 0.984),
        InstanceType("ecs.g7.large", "ecs.g7", 2, 8.0, 296.0, 0.617),
        InstanceType("ecs.g7.xlarge", "ecs.g7", 4, 16.0, 592.0, 1.234),
        InstanceType("ecs.r7.xlarge", "ecs.r7", 4, 32.0, 768.0, 1.6),
    )
}


def later(moment: datetime, period: int, unit: str) -> datetime:
    """The moment `period` weeks or calendar months of China later; the 31st becomes the last day of a shorter month."""
    if unit == "Week":
        return moment + timedelta(weeks=period)
    moment = moment.astimezone(CHINA)
    index = moment.year * 12 + moment.month - 1 + period
    year, month = divmod(index, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))


def check_period(period: int, unit: str) -> None:
    """Raise what the real service answers to a period it does not sell."""
    if unit not in ("Week", "Month"):
        text = "The specified parameter PeriodUnit is not supported."
        raise CloudError(400, "InvalidPeriodUnit.ValueNotSupported", text)
    if period not in (WEEKS if unit == "Week" else MONTHS):
        raise CloudError(400, "InvalidPeriod", "The specified period is not valid.")


def price(kind: InstanceType, period: int, unit: str) -> dict[str, object]:
    """List and trade price of a period: a full year and more costs 15 % less, a week 10 % more than its share."""
    months = {"Week": period * 7 / 30 * 1.1, "Month": float(period), "Year": period * 12.0}[unit]
    original = round(kind.month * months, 2)
    trade = round(original * (0.85 if months >= 12 else 1.0), 2)
    return {
        "OriginalPrice": original,
        "DiscountPrice": round(original - trade, 2),
        "TradePrice": trade,
        "Currency": CURRENCY,
    }
