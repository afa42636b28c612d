"""The language model that runs here: a built folder, ONNX Runtime, and the engine's streams."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from schemas.canonical import digest
from schemas.messages import Generation, Prompt, Usage
from schemas.tools import ToolCall
from services.llm.build import TOKENIZER, Manifest, read_manifest
from services.llm.calls import read_call
from services.llm.chat import FORMATS, encode
from services.llm.cpu_decoder import CpuDecoder
from services.llm.decoder import Decoder
from services.llm.engine import Engine, Outcome, PromptTooLong
from services.llm.grammar import Grammars
from services.llm.guides import Alphabet, Answer, Call, Turn
from services.llm.model import ANYBODY, Terms
from services.llm.sampling import Sampler
from services.llm.session import Provider
from services.llm.tokenizer import Vocabulary

SLOTS = 4
CONTEXT = 4096
ROOM = 16


class OnnxModel:
    """A TextModel over one decoder. provider: where it runs; load_s: seconds that loading took."""

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary, decoder: Decoder, *, max_waiting: int = 64) -> None:
        self.name = manifest.name
        self.provider = decoder.provider
        self.load_s = 0.0
        self._hash = digest("model", manifest.weights, manifest.builder)
        self._chat = FORMATS[manifest.chat]
        self._vocabulary = vocabulary
        self._capacity = decoder.capacity
        self._alphabet = Alphabet(vocabulary, manifest.ends)
        self._grammars = Grammars(vocabulary, vocabulary.special(self._chat.end) or manifest.ends[0])
        self._engine = Engine(decoder, max_waiting=max_waiting)

    @classmethod
    def load(
        cls, folder: Path, *, slots: int = SLOTS, context: int = CONTEXT, threads: int | None = None,
        provider: Provider = "auto", max_waiting: int = 64,
    ) -> OnnxModel:  # fmt: skip
        """Load a built folder: three seconds for the default model on two cores, and 0.9 GB of memory.

        context: tokens a stream may have, at most what the folder was built for. Raises ModelBroken,
        RuntimeConflict, ProviderMissing.
        """
        began = time.perf_counter()
        manifest = read_manifest(folder)
        decoder = CpuDecoder(
            folder, manifest.shape, slots=slots, capacity=min(context, manifest.context),
            threads=threads or os.cpu_count() or 1, provider=provider,
        )  # fmt: skip
        model = cls(manifest, Vocabulary.load(folder / TOKENIZER), decoder, max_waiting=max_waiting)
        model.load_s = time.perf_counter() - began
        return model

    def close(self) -> None:
        """Stop the engine; generations under way fail."""
        self._engine.close()

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the model says. Raises PromptTooLong, ModelBusy, SchemaRefused, EngineStopped."""
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(on_text, text)

        tokens, turn = await asyncio.to_thread(self._prepare, prompt, tell)
        done: Future[Outcome] = self._engine.submit(tokens, turn, terms=terms, certified=prompt.manner.certified)
        return self._generation(tokens, turn, await asyncio.wrap_future(done))

    def _prepare(self, prompt: Prompt, on_text: Callable[[str], None]) -> tuple[list[int], Turn]:
        tokens = encode(prompt, self._chat, self._vocabulary)
        room = self._capacity - len(tokens)
        if room < ROOM:
            raise PromptTooLong(tokens=len(tokens), limit=self._capacity - ROOM)
        longest = min(prompt.sampling.max_tokens, room)
        sampler = Sampler(prompt.sampling)
        # Where tools are about, a text that begins as markup is a call gone wrong or an echo of a result.
        plain = bool(prompt.tools) or any(message.role == "tool" for message in prompt.messages)
        answer = Answer(self._alphabet, sampler, plain=plain, max_tokens=longest, on_text=on_text)
        call = None
        if prompt.tools:
            call = Call(self._alphabet, sampler, self._grammars.call_of(prompt.tools), max_tokens=longest)
        return tokens, Turn(self._alphabet, answer, call, prompt.call_margin)

    def _generation(self, tokens: list[int], turn: Turn, outcome: Outcome) -> Generation:
        chosen = turn.chosen
        calls: tuple[ToolCall, ...] = ()
        if isinstance(chosen, Call) and chosen.finish == "calls":
            # The same line in another step is another call: its id is made from all that came before it, too.
            calls = (read_call(chosen.line, id=f"call_{digest('call', str(tokens), chosen.line)[:16]}"),)
        return Generation(
            text=chosen.text if isinstance(chosen, Answer) else "",
            calls=calls,
            finish=chosen.finish,
            usage=Usage(
                prompt_tokens=len(tokens), cached_tokens=outcome.cached_tokens, completion_tokens=len(chosen.said)
            ),
            model=self.name,
            model_hash=self._hash,
            provider=self.provider,
            first_token_ms=outcome.first_token_s * 1000,
            total_ms=outcome.total_s * 1000,
        )  # fmt: skip
