"""ToolTalk (arXiv 2311.10775): conversations in which an assistant works with 28 tools on a simulated account.

The set's calls and results are read as they are; what the tools are stands in the set's code and not in its data, so that it is
said here in our words. Session tokens are none of the model's: who runs a call adds them. Calls of one turn follow each other,
each after the result of the one before. All tools are offered; the system message tells where, when and who, as the set does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from runtime.prompt import INSTRUCTIONS
from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.rows import Unusable, list_of, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/microsoft/ToolTalk"
FOLDERS = {"easy": "easy", "hard": "tooltalk"}
TOKEN = "session_token"  # the name of an argument
_TIME, _DAY = "YYYY-MM-DD HH:MM:SS", "YYYY-MM-DD"


@dataclass(frozen=True)
class _Tool:
    """A tool of the set. arguments: what each is, required ones first, which are `needed`. acts: it changes something."""

    description: str
    arguments: dict[str, str]
    needed: int = 0
    acts: bool = True


_FOUND_BY = {
    "query": "Words to look for.", "match_type": "Whether any word is enough or all must be there.",
    "sender": "Who sent it.", "start_date": f"The earliest, {_TIME}.", "end_date": f"The latest, {_TIME}.",
}  # fmt: skip
TOOLS = {
    "UserLogin": _Tool("Logs a user in.", {"username": "", "password": ""}, 2),
    "LogoutUser": _Tool("Logs the user out.", {}),
    "RegisterUser": _Tool(
        "Makes a new account.", {"username": "", "password": "", "email": "", "name": "Full name.", "phone": "xxx-xxx-xxxx."}, 3
    ),
    "GetAccountInformation": _Tool("Tells what is stored about the user's own account.", {}, acts=False),
    "UpdateAccountInformation": _Tool(
        "Changes the user's account.", {"password": "", "new_email": "", "new_phone_number": "xxx-xxx-xxxx.", "new_name": ""}, 1
    ),
    "ChangePassword": _Tool("Changes the password of the user.", {"old_password": "", "new_password": ""}, 2),
    "ResetPassword": _Tool(
        "Sets a new password by a code that was sent to the user.",
        {"username": "", "verification_code": "The six digits that were sent.", "new_password": ""}, 3,
    ),
    "SendVerificationCode": _Tool(
        "Sends a code by e-mail to a user who forgot the password.", {"username": "", "email": "The user's own."}, 2
    ),
    "DeleteAccount": _Tool("Deletes the user's account.", {"password": ""}, 1),
    "QueryUser": _Tool("Finds users by user name or e-mail address.", {"username": "", "email": ""}, acts=False),
    "AddAlarm": _Tool("Sets an alarm.", {"time": "HH:MM:SS."}, 1),
    "DeleteAlarm": _Tool("Deletes an alarm.", {"alarm_id": "Such as 1234-abcd."}, 1),
    "FindAlarms": _Tool(
        "Finds the user's alarms; all, without a range.", {"start_range": "From HH:MM:SS.", "end_range": "To HH:MM:SS."},
        acts=False,
    ),
    "CreateEvent": _Tool(
        "Puts an event into the calendar.",
        {
            "name": "", "event_type": "Meetings have attendees.", "start_time": f"{_TIME}.", "end_time": f"{_TIME}.",
            "description": "", "location": "", "attendees": "User names.",
        },
        4,
    ),
    "ModifyEvent": _Tool(
        "Changes an event of the calendar.",
        {
            "event_id": "", "new_name": "", "new_start_time": f"{_TIME}.", "new_end_time": f"{_TIME}.",
            "new_description": "", "new_location": "", "new_attendees": "User names.",
        },
        1,
    ),
    "DeleteEvent": _Tool("Takes an event out of the calendar.", {"event_id": ""}, 1),
    "QueryCalendar": _Tool(
        "Finds the events within a time.", {"start_time": f"{_TIME}.", "end_time": f"{_TIME}."}, 2, acts=False
    ),
    "SendEmail": _Tool("Sends an e-mail.", {"to": "E-mail addresses.", "subject": "", "body": ""}, 3),
    "SearchInbox": _Tool("Finds e-mails of the inbox.", _FOUND_BY, acts=False),
    "SendMessage": _Tool("Sends a message to another user.", {"receiver": "The user name.", "message": ""}, 2),
    "SearchMessages": _Tool("Finds messages.", _FOUND_BY, acts=False),
    "AddReminder": _Tool("Adds a reminder of something to do.", {"task": "", "due_date": f"{_TIME}."}, 1),
    "GetReminders": _Tool("Lists all reminders.", {}, acts=False),
    "CompleteReminder": _Tool("Marks a reminder as done.", {"reminder_id": "Such as 1234-abcd."}, 1),
    "DeleteReminder": _Tool("Deletes a reminder.", {"reminder_id": "Such as 1234-abcd."}, 1),
    "CurrentWeather": _Tool("Tells the weather of now.", {"location": "City and state or country."}, 1, acts=False),
    "ForecastWeather": _Tool(
        "Tells the weather of the next three days.", {"location": "City and state or country."}, 1, acts=False
    ),
    "HistoricWeather": _Tool(
        "Tells the usual weather of a month.", {"location": "City and state or country.", "month": "Its name."}, 2, acts=False
    ),
}  # fmt: skip
_LISTS = frozenset({"attendees", "new_attendees", "to"})
_CHOICES = {"event_type": ["meeting", "event"], "match_type": ["any", "all"]}


def _card(name: str, tool: _Tool) -> ToolCard:
    properties: dict[str, object] = {}
    for argument, text in tool.arguments.items():
        kind: dict[str, object] = {"type": "array", "items": {"type": "string"}} if argument in _LISTS else {"type": "string"}
        choices = {"enum": _CHOICES[argument]} if argument in _CHOICES else {}
        properties[argument] = {**kind, **choices, **({"description": text} if text else {})}
    parameters = {"type": "object", "properties": properties, "required": [*properties][: tool.needed]}
    made = card({"name": name, "description": tool.description, "parameters": parameters})
    return made.model_copy(update={"effect": "write" if tool.acts else "read"})


CARDS = tuple(_card(name, tool) for name, tool in TOOLS.items())


def read(folder: Path, part: str) -> Iterator[Row]:
    """The conversations of a part, one a file, in the order of their names."""
    files = folder / "data" / FOLDERS[part]
    if not files.is_dir():
        raise SetMissing("tooltalk", files, HOME)
    for path in sorted(files.glob("*.json")):
        yield row(f"{part}-{path.stem}", partial(_example, f"{part}-{path.stem}", part, path))


def _example(id: str, part: str, path: Path) -> Example:
    whole = object_of(orjson.loads(path.read_bytes()), "the conversation")
    said, asked = Conversation(), list[str]()
    for turn in list_of(whole["conversation"], "the conversation"):
        if turn["role"] == "user":
            asked.append(str(turn["text"]))
            continue
        if asked:
            said.user("\n".join(asked))
            asked = []
        for made in list_of(turn.get("apis", []), "apis"):
            _called(made, said)
        said.answer(str(turn["text"]))
    if not any(message.calls for message in said.messages):
        raise Unusable("nothing is called in it")
    return Example(id, (), _system(whole), CARDS, tuple(said.messages), "tooltalk", part, "en")


def _called(made: JsonObject, said: Conversation) -> None:
    request = object_of(made["request"], "the request")
    name, given = str(request["api_name"]), object_of(request["parameters"], "the parameters")
    said.call([(name, {argument: value for argument, value in given.items() if argument != TOKEN})])
    told = made["response"] if made.get("exception") is None else {"error": made["exception"]}
    said.result(name, orjson.dumps(told).decode())


def _system(whole: JsonObject) -> str:
    told = object_of(whole["metadata"], "metadata")
    who = f"The user is logged in as {told['username']}." if told.get("username") else "Nobody is logged in."
    return f"{INSTRUCTIONS}\nIt is {told['timestamp']} in {told['location']}. {who}"


SET = DataSet(
    name="tooltalk", title="ToolTalk", licence="MIT", languages=("en",), home=HOME,
    parts=dict.fromkeys(FOLDERS, "evaluation"), read=read,
)  # fmt: skip
