"""The default tool library: what ModelScope-Agent ships, over ModelScope, DashScope and other services, or offline."""

from __future__ import annotations

from collections.abc import Callable

from tool_adapters.library.access import Access
from tool_adapters.library.dashscope import ImageEnhancement, QwenVL, StyleRepaint, TextToImage, WordArt
from tool_adapters.library.pipelines import (
    ImageChat,
    TextAddress,
    TextExtraction,
    TextNer,
    TextToVideo,
    TranslationEn2Zh,
    TranslationZh2En,
)
from tool_adapters.library.speech import SpeechGeneration
from tool_adapters.library.weather import weather
from tool_adapters.library.web_browser import web_browser
from tool_adapters.library.web_search import web_search
from tool_adapters.tool import Tool

CLASSES = (
    TranslationZh2En, TranslationEn2Zh, TextExtraction, TextNer, TextAddress, TextToImage, TextToVideo, ImageChat,
    SpeechGeneration, StyleRepaint, ImageEnhancement, WordArt, QwenVL,
)  # fmt: skip
FUNCTIONS: tuple[Callable[[Access], Tool], ...] = (web_search, web_browser, weather)


def library_tools(access: Access) -> list[Tool]:
    """Every tool of the library; one whose key or extra is missing says so when it is called."""
    return [*(each(access=access) for each in CLASSES), *(each(access) for each in FUNCTIONS)]
