"""What every side is asked: a long prompt to read, short ones to write from, and the two prompts of a renewal."""

from __future__ import annotations

from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN, INSTRUCTIONS
from schemas.canonical import JsonObject
from schemas.messages import JsonOutput, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCall, ToolCard
from tool_adapters.aliyun.apis import APIS
from tool_adapters.aliyun.cards import card_of

# With the question and the frame of the chat a prompt of about 470 tokens.
HANDBOOK = """You answer for the operations team of a web platform. These are its rules.
1. Servers. The platform runs on twelve servers in two zones. Four of them serve web pages, four serve the programming
interface, two keep the database and its copy, one keeps the queue, and one is spare. A server that is paid by the month must
be renewed at least five days before it expires, because the supplier stops it on the day itself and frees its disk later.
2. Changes. A change is planned by one person and read by another. It is made between ten and four o'clock, never on a Friday,
and never while an alarm is open. Before a change the snapshot of the day is checked; after it the error rate is watched for
thirty minutes. If the error rate doubles, the change is taken back first and discussed afterwards.
3. Alarms. Whoever is on duty answers an alarm within ten minutes, says so in the channel, and writes down what was seen
before anything is touched. A server may be restarted once without asking. If it does not come back, the spare server takes
its place and the team leader is called. Nobody restarts the database without the team leader.
4. Backups. The database is copied every hour and kept for two days, every night and kept for a month, and every Sunday and
kept for a year. A copy counts only when it has been read back. Reading back is tried on the first Monday of each month, on
the spare server, and the result is sent to the whole team.
5. Costs. A server that was idle for two weeks is reported. Nobody buys, renews or releases a server without an approval,
and the price is shown to the person who approves. Prices are compared once a quarter, and unused disks are listed.
6. Handing over. Whoever leaves at the end of a shift tells the next one what is open, which changes are planned, and which
alarms were false. It is written down in the book of the shift, in full sentences, before anybody goes home."""

SYSTEM = Message(role="system", content="You are a helpful assistant.")
FREE_TEXT = "Write a long story of at least ten paragraphs about {}. Describe every scene in detail."
SUBJECTS = ("a lighthouse", "two brothers", "an old bridge", "a lost letter", "a night train", "the first snow",
            "a small island", "a clockmaker")  # fmt: skip
RENEWAL = "Please help me renew ECS instance {} for 3 months"
RENEWED = "RenewInstance succeeded.\nOrderId: 2100000000001\n{} (web-1) now: expires 2027-02-28T16:00Z."
OFFERED = ("RenewInstance", "DescribeRenewalPrice", "DescribeInstanceAutoRenewAttribute")


def long_prompt(salt: str, question: str, tokens: int) -> Prompt:
    """A prompt of which nothing was read before: the salt stands at its beginning."""
    system = Message(role="system", content=f"Handbook {salt}.\n{HANDBOOK}")
    return Prompt(messages=(system, _asked(question)), sampling=Sampling(max_tokens=tokens))


def story(number: int, tokens: int) -> Prompt:
    """A short prompt that is answered at length."""
    question = FREE_TEXT.format(SUBJECTS[number % len(SUBJECTS)])
    return Prompt(messages=(SYSTEM, _asked(question)), sampling=Sampling(max_tokens=tokens))


def renewal_call(instance: str) -> Prompt:
    """The first prompt of the demo's renewal: the tools that retrieval finds for it are offered."""
    system = Message(role="system", content=INSTRUCTIONS)
    return Prompt(messages=(system, _asked(RENEWAL.format(instance))), tools=_cards(), call_margin=FIRST_MARGIN)


def forced_call(instance: str) -> Prompt:
    """The same call as the only thing that may be written, for a model that would not call."""
    card = _cards()[0]
    name: dict[str, object] = {"type": "string", "enum": [card.name]}
    form: JsonObject = {
        "type": "object",
        "properties": {"name": name, "arguments": dict(card.parameters)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    asked = (SYSTEM, _asked(RENEWAL.format(instance)))
    return Prompt(messages=asked, manner=Manner(output=JsonOutput(json_schema=form)))


def renewal_answer(instance: str) -> Prompt:
    """The second one: the call was made, its result is there."""
    first = renewal_call(instance)
    call = ToolCall(id="call_1", name="RenewInstance", arguments={"InstanceId": instance, "Period": 3, "PeriodUnit": "Month"})
    said = Message(role="assistant", content="", calls=(call,), origin="model")
    result = Message(role="tool", content=RENEWED.format(instance), name="RenewInstance", origin="tool")
    messages = (*first.messages, said, result)
    return Prompt(messages=messages, tools=first.tools, call_margin=AFTER_RESULT_MARGIN)


def _asked(text: str) -> Message:
    return Message(role="user", content=text, origin="user")


def _cards() -> tuple[ToolCard, ...]:
    apis = {api.action: api for api in APIS}
    return tuple(card_of(apis[name]) for name in OFFERED)
