"""How much a request leans to a call: whether it is nearer to the offered tools than to tools in general.

Cosines of e5 lie close together and shift with the language and the length of a request; what is left when its nearness to
a fixed background of tools is taken off separates requests for a tool from others. How the constants were picked, and on
what, stands in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.tools import ToolCard
from services.retrieval.embedder import E5_SMALL, Embedder
from services.retrieval.words import name_parts

# A lead of NEUTRAL leans nowhere; SLOPE makes log-odds of it, MOST bounds them.
NEUTRAL, SLOPE, MOST = 0.03, 100.0, 4.0

BACKGROUND = (
    "Get the weather forecast for a place.",
    "Send an e-mail or a message to somebody.",
    "Book a hotel room or a restaurant table.",
    "Search for flights and trains.",
    "Play a song, a film or a radio station.",
    "Set an alarm, a timer or a reminder.",
    "Add an event to a calendar.",
    "Convert an amount between currencies or units.",
    "Calculate a mathematical expression.",
    "Get the price of a stock.",
    "Search the web for information.",
    "Translate a text into another language.",
    "Look up a recipe and its ingredients.",
    "Create, read or delete a file.",
    "Query rows of a database.",
    "Start, stop or list virtual machines.",
    "Order food or buy a product.",
    "Pay a bill or transfer money.",
    "Look up a law case or a patent.",
    "Track a parcel.",
    "Find a route between two places.",
    "Record weight, sleep or sport.",
    "Switch a light or a device at home on or off.",
    "Look up a person, a company or an event in history.",
    "查询某地的天气预报。",
    "给某人发送邮件或消息。",
    "预订酒店房间或餐厅座位。",
    "搜索航班和火车票。",
    "播放歌曲、电影或广播。",
    "设置闹钟、计时器或提醒。",
    "在日历中添加日程。",
    "换算货币或单位。",
    "计算数学表达式。",
    "查询股票价格。",
    "在网上搜索信息。",
    "把文字翻译成另一种语言。",
    "查找菜谱和食材。",
    "创建、读取或删除文件。",
    "查询数据库中的记录。",
    "启动、停止或列出云服务器。",
    "点外卖或购买商品。",
    "缴费或转账。",
    "查询法律案件或专利。",
    "查询快递物流。",
    "规划两地之间的路线。",
    "记录体重、睡眠或运动。",
    "打开或关闭家里的灯或设备。",
    "查询历史人物、公司或事件。",
)


class Leaning:
    """The leaning of requests. It is known for multilingual-e5-small alone; other embedders give None."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._background: list[float] | None = None

    async def of(self, request: str, cards: Sequence[ToolCard]) -> float | None:
        """Log-odds in favour of calling one of these tools, None without tools."""
        if self._embedder.name != E5_SMALL.name or not cards:
            return None
        wish = (await self._embedder.embed([request], "query"))[0]
        offered = await self._embedder.embed([_text(card) for card in cards], "passage")
        lead = max(_dot(wish, card) for card in offered) - _dot(wish, await self._mean())
        return max(-MOST, min(MOST, SLOPE * (lead - NEUTRAL)))

    async def _mean(self) -> list[float]:
        """The mean of the background's vectors: its dot product is the mean of theirs."""
        if self._background is None:
            vectors = await self._embedder.embed(list(BACKGROUND), "passage")
            self._background = [sum(values) / len(values) for values in zip(*vectors, strict=True)]
        return self._background


def _text(card: ToolCard) -> str:
    """What NEUTRAL and SLOPE were picked with; the index may embed another text."""
    properties = card.parameters.get("properties")
    parameters = list(properties) if isinstance(properties, dict) else []
    lines = (
        card.title, " ".join(name_parts(card.name)), card.description, *card.examples, *card.tags,
        " ".join(part for name in parameters for part in name_parts(name)),
    )  # fmt: skip
    return "\n".join(filter(None, lines))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))
