"""The language model that runs here: a built folder, ONNX Runtime, and the engine's streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from schemas.canonical import digest
from schemas.messages import Generation, Prompt, Usage
from services.llm.about import TOKENIZER
from services.llm.build import Manifest, read_manifest
from services.llm.certificate import certificate
from services.llm.chat import encode
from services.llm.decoder import Decoder
from services.llm.decoders import open_decoder
from services.llm.engine import Engine, Outcome, PromptTooLong
from services.llm.fitting import fitted
from services.llm.guides import Hear, Turn
from services.llm.interface import FACTS
from services.llm.model import ANYBODY, Terms
from services.llm.sampling import Sampler, Samplers
from services.llm.session import Provider
from services.llm.stream import Guide, Next
from services.llm.tokenizer import Vocabulary
from services.llm.turns import Speech, Turns
from services.llm.wire import WIRES

SLOTS = {"cpu": 4, "cuda": 64}
WAITING = 64
CONTEXT = 4096
# Tokens that an answer must have at the least; where a prompt is cut, it is to have max_tokens or a quarter of the context.
ROOM = 16


@dataclass(frozen=True)
class Spoken:
    """A generation and what it was made of. prompt: its tokens, before any of them was taken back."""

    generation: Generation
    prompt: Sequence[int]
    speech: Speech


class OnnxModel:
    """A TextModel over one decoder. provider: where it runs; load_s: seconds that loading took."""

    def __init__(
        self, manifest: Manifest, vocabulary: Vocabulary, decoder: Decoder, *, max_waiting: int = WAITING,
        speculate: bool = False,
    ) -> None:  # fmt: skip
        self.name = manifest.name
        self.provider = decoder.provider
        self.load_s = 0.0
        self._hash = digest("model", manifest.weights, manifest.builder, manifest.precision, manifest.layout)
        self._tokenizer_hash = manifest.tokenizer_sha256
        self._chat = manifest.chat
        self._wire = manifest.wire
        self.vocabulary = vocabulary
        self._decoder = decoder
        self._turns = Turns(vocabulary, manifest.ends, rows=decoder.vocabulary, decides=manifest.decides)
        self._engine = Engine(decoder, max_waiting=max_waiting, speculate=speculate)

    @classmethod
    def load(
        cls, folder: Path, *, slots: int | None = None, context: int = CONTEXT, threads: int | None = None,
        provider: Provider = "auto", max_waiting: int = WAITING, speculate: bool = False,
    ) -> OnnxModel:  # fmt: skip
        """Load a built folder: three seconds for the default model on two cores, and 0.9 GB of memory.

        slots: streams that run side by side, by default what the device is good for. context: tokens a stream may have,
        at most what the folder was built for. speculate: whether a stream that is alone guesses ahead. Raises
        ModelBroken, RuntimeConflict, ProviderMissing, PrecisionElsewhere, DeviceTooSmall, NotServable.
        """
        began = time.perf_counter()
        manifest = read_manifest(folder)
        capacity = min(context, manifest.context)
        usual = SLOTS["cpu" if manifest.shape is None else FACTS[manifest.precision].device]
        decoder = open_decoder(
            folder,
            manifest.shape,
            manifest.precision,
            slots=slots or usual,
            capacity=capacity,
            threads=threads,
            provider=provider,
        )
        model = cls(manifest, Vocabulary.load(folder / TOKENIZER), decoder, max_waiting=max_waiting, speculate=speculate)
        model.load_s = time.perf_counter() - began
        return model

    def close(self) -> None:
        """Stop the engine and give its memory back; generations under way fail."""
        self._engine.close()
        self._decoder.close()

    def forget(self) -> None:
        """Drop what is kept of earlier prompts."""
        self._engine.forget()

    def stats(self) -> dict[str, object]:
        """How busy the engine is: see Engine.stats."""
        return dict(self._engine.stats())

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the model says. Raises PromptTooLong, ModelBusy, SchemaRefused, OutputRefused, EngineStopped."""
        return (await self.speak(prompt, on_text=on_text, terms=terms)).generation

    async def speak(
        self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY, certified: bool = False,
        samplers: Samplers = Sampler, watched: Callable[[Turn], Guide] | None = None,
    ) -> Spoken:  # fmt: skip
        """As generate, with the tokens. certified: also where the prompt does not ask for it.

        samplers, watched: look on as tokens are chosen, and at the scores that they are chosen by.
        """
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(on_text, text)

        # A thread, for compiling a large schema takes a second, and nobody else should wait for it.
        tokens, cut, speech = await asyncio.to_thread(self._prepare, prompt, tell, samplers)
        certified = certified or prompt.manner.certified
        guide = watched(speech.turn) if watched else speech.turn
        done: Future[Outcome] = self._engine.submit(tokens, guide, terms=terms, certified=certified)
        outcome = await asyncio.wrap_future(done)
        reply = await asyncio.to_thread(speech.reply)
        generation = Generation(
            text=reply.text,
            calls=reply.calls,
            malformed=reply.malformed,
            finish="calls" if reply.calls else speech.turn.chosen.finish,
            usage=Usage(
                prompt_tokens=len(tokens), cached_tokens=outcome.cached_tokens, completion_tokens=len(speech.said)
            ),
            model=self.name,
            model_hash=self._hash,
            tokenizer_hash=self._tokenizer_hash,
            provider=self.provider,
            seed=prompt.sampling.seed,
            cut=cut,
            waited_ms=outcome.waited_s * 1000,
            first_token_ms=outcome.first_token_s * 1000,
            total_ms=outcome.total_s * 1000,
            drafted=outcome.drafted,
            accepted=outcome.accepted,
            certificate=certificate(self._decoder, tokens, speech.said) if certified else None,
        )  # fmt: skip
        return Spoken(generation, tokens, speech)

    async def read(self, tokens: Sequence[int], guide: Guide) -> None:
        """Read tokens as a certified stream does, and go on as a guide says. Raises ModelBusy, PromptTooLong, EngineStopped."""
        await asyncio.wrap_future(self._engine.submit(tokens, guide, certified=True))

    def _prepare(self, prompt: Prompt, on_text: Hear, samplers: Samplers) -> tuple[list[int], tuple[str, ...], Speech]:
        """The prompt's tokens, what was left out of it to make it fit, and the turn that follows it."""
        wire = WIRES[self._wire if prompt.manner.wire == "model" else prompt.manner.wire]
        capacity = self._decoder.capacity
        wanted = max(ROOM, min(prompt.sampling.max_tokens, capacity // 4))

        # By identity, each beside its prompt: most prompts are counted once and fit, and need not be encoded again.
        encoded: dict[int, tuple[Prompt, list[int]]] = {}

        def tokens_of(each: Prompt) -> list[int]:
            if id(each) not in encoded:
                encoded[id(each)] = each, encode(each, self._chat, wire, self.vocabulary)
            return encoded[id(each)][1]

        prompt, cut = fitted(prompt, lambda each: len(tokens_of(each)), capacity - wanted)
        tokens = tokens_of(prompt)
        room = capacity - len(tokens)
        if room < ROOM:
            raise PromptTooLong(tokens=len(tokens), limit=capacity - ROOM)
        longest = min(prompt.sampling.max_tokens, room)

        def again() -> Next:
            """The prompt without its tools, in place of the one with them."""
            return Next(tokens_of(prompt.without_tools()), drop=len(tokens))

        return tokens, cut, self._turns.speech(prompt, wire, longest=longest, on_text=on_text, again=again, samplers=samplers)
