"""Speech by eSpeak NG, without a network: this file is also the program that speaks, in a process of its own.

    python espeak.py VOICE RATE < text > speech.wav

The library is the machine's, or the one that the extra `speech` brings. API: espeak-ng's speak_lib.h, 1.52.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import sys
import wave

RETRIEVAL = 1
CHARACTERS = 1
UTF8 = 1
MONO, BYTES = 1, 2

NO_LIBRARY, NO_VOICE, NO_SPEECH = 3, 4, 5


def library() -> tuple[str, str | None] | None:
    """Where the library is, and its data if that is not where the library looks; None without one."""
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError):
        found = ctypes.util.find_library("espeak-ng")
        return (found, None) if found else None


def speak(text: str, voice: str, rate: int) -> bytes:
    """The text as WAV: mono, 16 bits, 22,050 a second. Exits with the reason in its status where it cannot be spoken."""
    found = library()
    if found is None:
        sys.exit(NO_LIBRARY)
    path, data = found
    espeak = ctypes.CDLL(path)
    samples = espeak.espeak_Initialize(RETRIEVAL, 0, data.encode() if data else None, 0)
    if samples <= 0:
        sys.exit(NO_LIBRARY)
    heard = bytearray()

    def hear(wav: ctypes._Pointer[ctypes.c_short], count: int, events: object) -> int:
        if wav:
            heard.extend(ctypes.string_at(wav, count * BYTES))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(hear)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(NO_VOICE)
    espeak.espeak_SetParameter(1, rate, 0)
    raw = text.encode() + b"\0"
    if espeak.espeak_Synth(raw, len(raw), 0, CHARACTERS, 0, UTF8, None, None) != 0 or espeak.espeak_Synchronize() != 0:
        sys.exit(NO_SPEECH)
    return _wav(bytes(heard), samples)


def _wav(frames: bytes, rate: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(MONO)
        file.setsampwidth(BYTES)
        file.setframerate(rate)
        file.writeframes(frames)
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(speak(sys.stdin.buffer.read().decode(), sys.argv[1], int(sys.argv[2])))
