"""What an EC2 instance costs an hour, where AWS's price list can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tool_adapters.aws.client import Aws
from tool_adapters.cloud import at
from tool_adapters.tool import ToolError

PATIENCE_S = 3.0
"""A price is a comfort of the plan: it is not waited for."""


async def hourly(aws: Aws, kind: str, timeout_s: float) -> str | None:
    """US dollars an hour for Linux on demand in the client's region; None where it is not told."""
    wanted = {
        "instanceType": kind, "regionCode": aws.region, "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }  # fmt: skip
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    asked = {"ServiceCode": "AmazonEC2", "Filters": filters, "MaxResults": 1}
    try:
        answer = await aws.ask("pricing", "GetProducts", asked, timeout_s=min(PATIENCE_S, timeout_s))
    except ToolError:
        return None
    return next(_prices(answer.get("PriceList")), None)


def _prices(listed: object) -> Iterator[str]:
    """The prices above zero of a price list, whose products are JSON in text."""
    for text in listed if isinstance(listed, list) else ():
        try:
            product = json.loads(str(text))
        except ValueError:
            continue
        for term in _values(at(product, "terms.OnDemand")):
            for dimension in _values(at(term, "priceDimensions")):
                amount = at(dimension, "pricePerUnit.USD")
                if amount is not None and float(str(amount)) > 0:
                    yield f"{float(str(amount)):.4f}"


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else []
