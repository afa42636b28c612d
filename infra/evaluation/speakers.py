"""Who is examined: a model, here or behind an endpoint, put as the runtime would put it; or a whole agent, over the bus."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from infra.evaluation.result import How, Who
from runtime.client import Client, TooLate, UnknownRun, Update
from runtime.errors import Retryable
from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN, INSTRUCTIONS, TALKED_MARGIN
from runtime.steps import CALLER_LANE
from schemas.agent import AgentSpec
from schemas.errors import MilepostError
from schemas.events import Generated, RunFailed
from schemas.ids import RunId
from schemas.messages import Generation, Manner, Message, Prompt, Sampling, Usage
from schemas.tools import ToolCall, ToolCard
from services.evaluation.item import Reply
from services.llm.model import TextModel

TRIES = 3
PAUSE_S = 2.0
# What a token holds: no fewer bytes than one on average, and hardly more than these. SLACK: what a template adds.
_FEWEST, _MOST, _SLACK = 1.0, 24.0, 2000
_LATER = 0x2E80  # where scripts begin that have about a token a character

Leans = Callable[[str, Sequence[ToolCard]], Awaitable[float | None]]
"""How a request leans to calling one of these tools, in log-odds; None where nothing is known."""


class Speaker(Protocol):
    """Goes on with a conversation. who: what tells it from others."""

    who: Who

    async def speak(self, messages: Sequence[Message], cards: Sequence[ToolCard], *, parallel: bool = False) -> Reply:
        """What is said to these messages with these tools; never raises but when it is cancelled.

        parallel: several calls may come in one reply.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, read and written."""

    read: Decimal
    written: Decimal
    currency: str

    @classmethod
    def parse(cls, text: str) -> Price:
        """From `0.15/0.60 USD`. Raises MilepostError."""
        amounts, _, currency = text.strip().rpartition(" ")
        read, _, written = amounts.partition("/")
        try:
            price = cls(Decimal(read), Decimal(written), currency.upper())
        except ArithmeticError as error:
            raise _no_price(text) from error
        if len(currency) != 3 or not currency.isalpha() or not _not_negative(price.read) or not _not_negative(price.written):
            raise _no_price(text)
        return price

    def of(self, usage: Usage) -> str:
        """What this much costs, as decimal text."""
        amount = (self.read * usage.prompt_tokens + self.written * usage.completion_tokens) / 1_000_000
        return f"{amount.normalize():f}"


def _not_negative(amount: Decimal) -> bool:
    return amount.is_finite() and amount >= 0


def _no_price(text: str) -> MilepostError:
    return MilepostError(
        f"{text!r} is no price.", why="it is what a million tokens cost, read and written", hint="--price '0.15/0.60 USD'"
    )


# --- models -----------------------------------------------------------------------------------------


@dataclass
class ModelSpeaker:
    """A model, asked as the runtime asks. leans: retrieval's view of a request, where its embedder is at hand.

    price: where it is known. pause_s: before a failed question is put again, PAUSE_S without. done: closes the model.
    """

    who: Who
    model: TextModel
    how: How = field(default_factory=How)
    leans: Leans | None = None
    price: Price | None = None
    pause_s: float | None = None
    done: Callable[[], None] = lambda: None

    async def speak(self, messages: Sequence[Message], cards: Sequence[ToolCard], *, parallel: bool = False) -> Reply:
        """One generation; what may work later is tried again."""
        began = time.perf_counter()
        prompt = prompt_of(messages, cards, self.how, await self._margin(messages, cards), parallel=parallel)
        trouble = ""
        for number in range(1, TRIES + 1):
            try:
                said = await self.model.generate(prompt, on_text=lambda _: None)
                return self._reply(prompt, said, began)
            except Retryable as error:
                trouble = _told(error)
            except MilepostError as error:
                return Reply(item="", trouble=_told(error))
            except Exception as error:  # an endpoint may answer with anything, and the client's library trips over it
                trouble = f"{type(error).__name__}: {error}"[:500]
            if number < TRIES:
                await asyncio.sleep((PAUSE_S if self.pause_s is None else self.pause_s) * 2 ** (number - 1))
        return Reply(item="", trouble=trouble)

    async def close(self) -> None:
        await asyncio.to_thread(self.done)

    async def _margin(self, messages: Sequence[Message], cards: Sequence[ToolCard]) -> float:
        """As runtime.prompt has it."""
        if _since_request(messages):
            return AFTER_RESULT_MARGIN
        place = _request(messages)
        leaning = await self.leans(messages[place].content, cards) if self.leans and place >= 0 else None
        first = FIRST_MARGIN if leaning is None else -leaning
        return first + TALKED_MARGIN if any(each.role != "system" for each in messages[: max(place, 0)]) else first

    def _reply(self, prompt: Prompt, said: Generation, began: float) -> Reply:
        usage, estimated = believable(prompt, said)
        unfinished = said.finish == "length"
        malformed = said.malformed or ("it was cut off" if unfinished and not (said.text or said.calls) else "")
        return Reply(
            item="", calls=said.calls, text=said.text, malformed=malformed, cut=said.cut, unfinished=unfinished,
            model=said.model_hash,
            prompt_tokens=usage.prompt_tokens, cached_tokens=usage.cached_tokens, completion_tokens=usage.completion_tokens,
            estimated=estimated, ms=round((time.perf_counter() - began) * 1000, 1), first_ms=round(said.first_token_ms, 1),
            cost=self.price.of(usage) if self.price else None, currency=self.price.currency if self.price else None,
        )  # fmt: skip


def prompt_of(
    messages: Sequence[Message], cards: Sequence[ToolCard], how: How, margin: float, *, parallel: bool = False
) -> Prompt:
    """A conversation as the runtime puts it: behind its own instructions, with the tools where the manner wants them."""
    told = _with_instructions(messages)
    in_system = how.found == "system"
    return Prompt(
        messages=told if in_system else _beside_request(told, cards), tools=tuple(cards) if in_system else (),
        sampling=Sampling(max_tokens=how.longest, temperature=how.temperature, seed=how.seed), call_margin=margin,
        manner=Manner(
            constrained=how.constrained, calls=how.calls if cards else "auto", parallel=parallel, wire=how.wire
        ),
    )  # fmt: skip


def _with_instructions(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages after the runtime's own system message, into which theirs is taken."""
    system = Message(role="system", content="\n".join(filter(None, (INSTRUCTIONS, _own(messages)))))
    return (system, *(message for message in messages if message.role != "system"))


def _own(messages: Sequence[Message]) -> str:
    """What an item says to the system beside the runtime's own instructions, which it may begin with."""
    own = "\n".join(message.content for message in messages if message.role == "system")
    return own.removeprefix(INSTRUCTIONS).lstrip("\n")


def _beside_request(messages: tuple[Message, ...], cards: Sequence[ToolCard]) -> tuple[Message, ...]:
    """With the cards before the words of the last request, as runtime.opening puts what was found."""
    place = max(_request(messages), 0)
    found = (Message(role="user", content="", name="tools", part="tools", tools=(card,)) for card in cards)
    return (*messages[:place], *found, *messages[place:])


def _request(messages: Sequence[Message]) -> int:
    """Where the last request stands; -1 where nobody asks."""
    return max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)


def _since_request(messages: Sequence[Message]) -> bool:
    """Whether a tool has answered since the last request."""
    return any(message.role == "tool" for message in messages[_request(messages) + 1 :])


def _told(error: MilepostError) -> str:
    return " ".join(filter(None, (error.what, error.why)))[:500]


# --- tokens -----------------------------------------------------------------------------------------


def believable(prompt: Prompt, said: Generation) -> tuple[Usage, bool]:
    """The tokens that were told, and False; or where they cannot be right, an estimate from the characters, and True."""
    asked = "".join(each.content + "".join(json.dumps(call.arguments) for call in each.calls) for each in prompt.messages)
    asked += "".join(card.written.decode() for card in prompt.offered)
    answer = said.text + "".join(call.name + json.dumps(call.arguments, ensure_ascii=False) for call in said.calls)
    told = said.usage
    fine = (
        _may_be(told.prompt_tokens, asked) and 0 <= told.cached_tokens <= told.prompt_tokens
        and len(answer.encode()) / _MOST <= told.completion_tokens <= max(prompt.sampling.max_tokens, len(answer.encode())) + 64
    )  # fmt: skip
    if fine:
        return told, False
    return Usage(prompt_tokens=estimate(asked), completion_tokens=estimate(answer)), True


def _may_be(tokens: int, text: str) -> bool:
    size = len(text.encode())
    return size / _MOST <= tokens <= size * _FEWEST + _SLACK and tokens > 0


def estimate(text: str) -> int:
    """About how many tokens a text has: one for each character of Chinese and its like, one for four of others."""
    wide = sum(ord(character) >= _LATER for character in text)
    return wide + -(-(len(text) - wide) // 4)


# --- agents -----------------------------------------------------------------------------------------


@dataclass
class AgentSpeaker:
    """An agent of a running stack. own_tools: it works with its own tools; else it has the items', which nobody executes.

    What its own tools would change is refused: an examination changes nothing.
    """

    who: Who
    client: Client
    spec: AgentSpec
    own_tools: bool = False
    price: Price | None = None

    async def speak(self, messages: Sequence[Message], cards: Sequence[ToolCard], *, parallel: bool = False) -> Reply:
        """One run, to its first calls or, with its own tools, to its end."""
        began = time.perf_counter()
        place = _request(messages)
        if place < 0:
            return Reply(item="", trouble="nobody asks anything, and an agent has to be asked")
        told = self._told(messages, place)
        manner = self.spec.manner.model_copy(update={"parallel": parallel or self.spec.manner.parallel})
        instructions = "\n\n".join(filter(None, (self.spec.instructions, _own(messages))))
        spec = self.spec.model_copy(update={"instructions": instructions, "manner": manner})
        brought = () if self.own_tools else tuple(card.model_copy(update={"lane": CALLER_LANE}) for card in cards)
        try:
            asked = await self.client.ask(messages[place].content, agent=spec, said=told, brought=brought)
            return await self._heard(asked.run, began)
        except MilepostError as error:
            return Reply(item="", trouble=_told(error))
        except ValueError as error:  # what pydantic says of an item that is no request
            return Reply(item="", trouble=str(error).partition("\n")[0][:500])

    async def close(self) -> None:
        return

    @staticmethod
    def _told(messages: Sequence[Message], place: int) -> tuple[Message, ...]:
        before = (each.model_copy(update={"part": "history"}) for each in messages[:place] if each.role != "system")
        return (*before, *messages[place + 1 :])

    async def _heard(self, run: RunId, began: float) -> Reply:
        """Follow a run to where its reply is known; a run that is left is cancelled."""
        said: list[Generation] = []
        last: Update | None = None
        ended = False
        try:
            async with aclosing(self.client.follow(run)) as updates:  # type: ignore[type-var]  # a generator
                async for update in updates:
                    last = update
                    if isinstance(update.stored.fact.body, Generated):
                        said.append(update.stored.fact.body.generation)
                        if not self.own_tools and said[-1].calls:
                            break
                    await self._refuse_all(run, update)
                else:
                    ended = True
        finally:
            if not ended:
                with suppress(TooLate, UnknownRun):
                    await self.client.cancel(run, reason="it was examined")
        return self._reply(run, said, last, began)

    async def _refuse_all(self, run: RunId, update: Update) -> None:
        for approval in update.state.approvals():
            with suppress(TooLate):
                await self.client.refuse(run, approval, reason="an examination changes nothing")
        for question in update.state.questions():
            with suppress(TooLate):
                await self.client.answer(run, question, None)

    def _reply(self, run: RunId, said: Sequence[Generation], last: Update | None, began: float) -> Reply:
        state = last.state if last else None
        failed = isinstance(last.stored.fact.body, RunFailed) if last else True
        calls: tuple[ToolCall, ...] = tuple(call for each in said for call in each.calls)
        trouble = ""
        if failed or state is None:
            failure = state.failure if state else None
            trouble = f"the run failed: {failure.what} {failure.why}".strip() if failure else "the run failed"
        usage = Usage(
            prompt_tokens=sum(each.usage.prompt_tokens for each in said),
            cached_tokens=sum(each.usage.cached_tokens for each in said),
            completion_tokens=sum(each.usage.completion_tokens for each in said),
        )
        text = (state.answer or "") if state else ""
        return Reply(
            item="", calls=calls, text=text or (said[-1].text if said else ""), trouble=trouble,
            cut=tuple(dict.fromkeys(part for each in said for part in each.cut)),
            unfinished=any(each.finish == "length" for each in said), model=said[-1].model_hash if said else "",
            offered=tuple(card.name for card in state.tools) if state else None,
            prompt_tokens=usage.prompt_tokens, cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens, steps=max(1, len(said)),
            ms=round((time.perf_counter() - began) * 1000, 1), first_ms=round(said[0].first_token_ms, 1) if said else 0.0,
            cost=self.price.of(usage) if self.price else None, currency=self.price.currency if self.price else None,
            extra={"run": str(run)},
        )  # fmt: skip
