"""The weather of a Chinese city from AMap (https://lbs.amap.com/api/webservice/guide/api/weatherinfo)."""

from __future__ import annotations

from urllib.parse import quote

from tool_adapters.library.access import Access, missing
from tool_adapters.library.remote import Object, Remote, at, text_at
from tool_adapters.python import tool
from tool_adapters.tool import Tool, ToolRefused

KEY_PAGE = "https://lbs.amap.com/api/webservice/create-project-and-key"
TIMEOUT_S = 15.0


def weather(access: Access) -> Tool:
    """The tool amap_weather."""

    @tool(
        name="amap_weather",
        title="Weather",
        examples=(
            "What is the weather in Hangzhou?",
            "Is it raining in Beijing today?",
            "杭州今天天气怎么样？",
            "北京会下雨吗",
        ),
        tags=("weather", "amap"),
        timeout_s=2 * TIMEOUT_S + 5,
    )
    def amap_weather(location: str) -> str:
        """Tell the present weather of a city or district in China. 查询中国城市的实时天气。

        Args:
            location: The city's or district's name, such as 杭州市. 城市名
        """
        if not access.amap_key:
            raise missing("amap_weather", "AMAP_TOKEN", KEY_PAGE)
        remote = Remote("amap_weather", secrets={}, allow=access.allow, timeout_s=TIMEOUT_S)

        def ask(path: str) -> Object:
            answer = remote.get(f"{access.amap_url}/v3/{path}&key={quote(access.amap_key)}")
            if str(answer.get("status")) != "1":
                raise ToolRefused("AMap refused.", code=str(answer.get("infocode", "")), why=str(answer.get("info", "")))
            return answer

        found = ask(f"config/district?subdistrict=0&keywords={quote(location)}")
        if not at(found, "districts", 0, "adcode"):
            raise ToolRefused(f"AMap knows no place {location!r}.", code="UnknownPlace", hint="give a city's Chinese name")
        live = at(
            ask(f"weather/weatherInfo?extensions=base&city={text_at('AMap', found, 'districts', 0, 'adcode')}"), "lives", 0
        )
        said = {name: at(live, name) for name in ("province", "city", "weather", "temperature", "winddirection", "windpower")}
        if not said["weather"]:
            raise ToolRefused(f"AMap says nothing of the weather in {location}.", code="NoWeather")
        wind = f", wind {said['winddirection']} {said['windpower']}" if said["winddirection"] else ""
        at_what = f" at {at(live, 'reporttime')}" if at(live, "reporttime") else ""
        return f"{said['province']} {said['city']}{at_what}: {said['weather']}, {said['temperature']} °C{wind}"

    return amap_weather
