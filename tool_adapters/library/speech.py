"""Text to speech: ModelScope's model where it can be had, eSpeak NG without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from tool_adapters.builtin import espeak
from tool_adapters.library.pipelines import ModelscopePipelineTool
from tool_adapters.library.remote import at
from tool_adapters.modelscope import AudioWrapper
from tool_adapters.tool import InvalidArguments, ToolRefused, ToolUnavailable

LONGEST = 5_000
RATE = 165
SPEAKING_S = 60

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_VOICES = {("zh", "man"): "cmn", ("zh", "woman"): "cmn+f3", ("en", "man"): "en-us", ("en", "woman"): "en-us+f3"}
_STATUS = {
    espeak.NO_LIBRARY: "eSpeak NG is not installed", espeak.NO_VOICE: "it has no such voice",
    espeak.NO_SPEECH: "it could not speak the text",
}  # fmt: skip


class SpeechGeneration(ModelscopePipelineTool):
    """Words as sound. gender: man or woman."""

    name = "speech-generation"
    title = "Text to speech"
    description = "Read a text aloud and give back the sound, in a man's or a woman's voice. 文字转语音，可选男声或女声。"
    parameters: ClassVar = [
        {"name": "input", "description": "The text to read. 要转成语音的文本"},
        {"name": "gender", "required": False, "enum": ("man", "woman"), "description": "Whose voice. 男声 man，女声 woman"},
    ]
    examples = (
        "Read this sentence aloud",
        "Turn the text into speech with a woman's voice",
        "把这段话读出来",
        "用女声朗读：欢迎光临",
    )
    tags = ("modelscope", "audio")
    default_model = "damo/speech_sambert-hifigan_tts_zh-cn_16k"
    task = "text-to-speech"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        voice = "zhizhe_emo" if kwargs.get("gender") == "man" else "zhiyan_emo"
        return {"input": kwargs["input"], "parameters": {"voice": voice}}

    def _local_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"input": kwargs["input"], "voice": "zhizhe_emo" if kwargs.get("gender") == "man" else "zhiyan_emo"}

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        return {"result": AudioWrapper(self._media(at(origin_result, "output_wav")), media_type="audio/wav", name="speech.wav")}

    def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        if find_spec("modelscope") is not None:
            return super()._local_call(*args, **kwargs)
        text, gender = str(kwargs["input"]), str(kwargs.get("gender") or "woman")
        return {"result": AudioWrapper(spoken(text, gender), media_type="audio/wav", name="speech.wav")}


def spoken(text: str, gender: str) -> bytes:
    """The text as WAV, spoken by eSpeak NG in a process of its own. Raises ToolError."""
    if not text.strip() or len(text) > LONGEST:
        raise InvalidArguments(f"A text of 1 to {LONGEST} characters can be read aloud, not of {len(text)}.")
    voice = _VOICES["zh" if _CHINESE.search(text) else "en", gender if gender == "man" else "woman"]
    command = [sys.executable, "-I", str(Path(espeak.__file__)), voice, str(RATE)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SPEAKING_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolUnavailable("The text was not spoken in time.", why=f"it took longer than {SPEAKING_S} s") from error
    if done.returncode == 0 and done.stdout:
        return done.stdout
    raise ToolRefused(
        "Nothing can be read aloud here.", code="NoVoice",
        why=_STATUS.get(done.returncode, done.stderr.decode(errors="replace")[-200:]),
        hint="pip install 'milepost[speech]', install the package espeak-ng, or set MODELSCOPE_API_TOKEN",
    )  # fmt: skip
