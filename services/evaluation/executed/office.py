"""The simulated account of ToolTalk: its databases, and the 28 tools that work on them.

Written from the set's data and the tools' descriptions, none of it the set's own code. Two results are not ours to make: the
code that is sent to whoever forgot a password is the one of the recorded conversation, and new things get the ids that they
have there, as far as it has any, so that what is said later still fits. The recorded conversations write to people who have
no account and invite them, so that neither fails here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.evaluation.executed.records import Tables
from services.evaluation.executed.world import Failed, World

FILES = {
    "accounts": "Account", "alarms": "Alarm", "events": "Calendar", "emails": "Email", "messages": "Message",
    "reminders": "Reminder", "weather": "Weather", "climate": "HistoricWeather",
}  # fmt: skip
_SHOWN = ("username", "email", "phone", "name")
_DONE: JsonObject = {"status": "success"}


def tables_of(databases: Mapping[str, Mapping[str, JsonObject]]) -> Tables:
    """The set's databases, by the names of FILES, as tables: what belongs to a user has the id USER/ID."""
    found: dict[str, Mapping[str, JsonObject]] = {}
    for table in FILES:
        of = databases[table]
        whole = table in ("accounts", "weather", "climate")
        found[table] = of if whole else {
            f"{user}/{id}": cast("JsonObject", each) for user, records in of.items() for id, each in records.items()
        }  # fmt: skip
    return found


class Office(World):
    """Tables: those of FILES. user: who is logged in; now: the time as `YYYY-MM-DD HH:MM:SS`.

    ids: of new things by the tool that makes them, in their order; codes: verification codes by the user they were sent to.
    """

    def __init__(
        self, tables: Tables, cards: Sequence[ToolCard], user: str | None, now: str,
        ids: Mapping[str, Sequence[str]] | None = None, codes: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tables, cards)
        self._user, self._now = user, now
        self._ids = {tool: list(known) for tool, known in (ids or {}).items()}
        self._codes = dict(codes or {})
        self._made = 0

    def tools(self) -> Mapping[str, Callable[..., object]]:
        return {
            "UserLogin": self._login, "LogoutUser": self._logout, "RegisterUser": self._register,
            "DeleteAccount": self._delete_account, "GetAccountInformation": self._account,
            "UpdateAccountInformation": self._update_account, "ChangePassword": self._change_password,
            "SendVerificationCode": self._send_code, "ResetPassword": self._reset_password, "QueryUser": self._find_users,
            "AddAlarm": self._add_alarm, "DeleteAlarm": lambda alarm_id: self._delete("alarms", alarm_id),
            "FindAlarms": self._find_alarms, "CreateEvent": self._create_event, "ModifyEvent": self._modify_event,
            "DeleteEvent": lambda event_id: self._delete("events", event_id), "QueryCalendar": self._calendar,
            "SendEmail": self._send_email, "SearchInbox": self._search_inbox, "SendMessage": self._send_message,
            "SearchMessages": self._search_messages, "AddReminder": self._add_reminder,
            "GetReminders": lambda: {"reminders": list(self._own("reminders"))},
            "CompleteReminder": self._complete_reminder,
            "DeleteReminder": lambda reminder_id: self._delete("reminders", reminder_id),
            "CurrentWeather": self._weather, "ForecastWeather": self._forecast, "HistoricWeather": self._climate,
        }  # fmt: skip

    # --- accounts --------------------------------------------------------------------------------

    def _login(self, username: str, password: str) -> JsonObject:
        if self._user is not None:
            raise Failed("Somebody is logged in already.")
        if self._account_of(username)["password"] != password:
            raise Failed("The password is incorrect.")
        self._user = username
        return _DONE

    def _logout(self) -> JsonObject:
        self._me()
        self._user = None
        return _DONE

    def _register(self, username: str, password: str, email: str, name: str = "", phone: str = "") -> JsonObject:
        if self._user is not None:
            raise Failed("Somebody is logged in already.")
        if self.records.get("accounts", username) is not None:
            raise Failed("The user name is taken.")
        account: JsonObject = {"username": username, "email": email, "phone": phone, "name": name, "password": password}
        self.records.put("accounts", username, account)
        self._user = username
        return {"user": _shown(account)}

    def _delete_account(self, password: str) -> JsonObject:
        self._check_password(password)
        self.records.drop("accounts", self._me())
        self._user = None
        return _DONE

    def _account(self) -> JsonObject:
        return {"user": _shown(self._account_of(self._me()))}

    def _update_account(
        self, password: str, new_email: str | None = None, new_phone_number: str | None = None, new_name: str | None = None
    ) -> JsonObject:
        self._check_password(password)
        new = {"email": new_email, "phone": new_phone_number, "name": new_name}
        self.records.edit("accounts", self._me()).update({key: value for key, value in new.items() if value})
        return _DONE

    def _change_password(self, old_password: str, new_password: str) -> JsonObject:
        self._check_password(old_password)
        self.records.edit("accounts", self._me())["password"] = new_password
        return _DONE

    def _send_code(self, username: str, email: str) -> JsonObject:
        if self._account_of(username)["email"] != email:
            raise Failed("The e-mail address is not that user's.")
        return _DONE

    def _reset_password(self, username: str, verification_code: str, new_password: str) -> JsonObject:
        self._account_of(username)
        if self._codes.get(username) != verification_code:
            raise Failed("The verification code is incorrect.")
        self.records.edit("accounts", username)["password"] = new_password
        return _DONE

    def _find_users(self, username: str | None = None, email: str | None = None) -> JsonObject:
        self._me()
        if not username and not email:
            raise Failed("A user name or an e-mail address is needed.")
        wanted = {"username": username, "email": email}
        found = [
            _shown(account) for _, account in self.records.all("accounts")
            if all(str(account[key]).lower() == value.lower() for key, value in wanted.items() if value)
        ]  # fmt: skip
        return {"users": found}

    def _me(self) -> str:
        if self._user is None:
            raise Failed("Nobody is logged in.")
        return self._user

    def _account_of(self, username: str) -> JsonObject:
        account = self.records.get("accounts", username)
        if account is None:
            raise Failed("There is no such user.")
        return account

    def _check_password(self, password: str) -> None:
        if self._account_of(self._me())["password"] != password:
            raise Failed("The password is incorrect.")

    # --- what belongs to a user ------------------------------------------------------------------

    def _own(self, table: str) -> Iterator[JsonObject]:
        begin = f"{self._me()}/"
        return (record for id, record in self.records.all(table) if id.startswith(begin))

    def _add(self, table: str, tool: str, key: str, record: JsonObject) -> JsonObject:
        """Put something new of the user's into a table; what the tool gives is its id."""
        known = self._ids.get(tool)
        self._made += 1
        id = known.pop(0) if known else f"new-{self._made:04}"
        self.records.put(table, f"{self._me()}/{id}", {key: id, **record})
        return {key: id}

    def _change(self, table: str, id: str) -> JsonObject:
        if self.records.get(table, f"{self._me()}/{id}") is None:
            raise Failed(f"There is no {id}.")
        return self.records.edit(table, f"{self._me()}/{id}")

    def _delete(self, table: str, id: str) -> JsonObject:
        self._change(table, id)
        self.records.drop(table, f"{self._me()}/{id}")
        return _DONE

    def _add_alarm(self, time: str) -> JsonObject:
        return self._add("alarms", "AddAlarm", "alarm_id", {"time": time})

    def _find_alarms(self, start_range: str = "", end_range: str = "") -> JsonObject:
        last = end_range or "24"
        return {"alarms": [alarm for alarm in self._own("alarms") if start_range <= str(alarm["time"]) <= last]}

    def _add_reminder(self, task: str, due_date: str | None = None) -> JsonObject:
        made: JsonObject = {"task": task, "due_date": due_date, "status": "pending"}
        return self._add("reminders", "AddReminder", "reminder_id", made)

    def _complete_reminder(self, reminder_id: str) -> JsonObject:
        self._change("reminders", reminder_id)["status"] = "complete"
        return _DONE

    # --- the calendar ----------------------------------------------------------------------------

    def _create_event(
        self, name: str, event_type: str, start_time: str, end_time: str, description: str | None = None,
        location: str | None = None, attendees: Sequence[str] | None = None,
    ) -> JsonObject:  # fmt: skip
        if end_time < start_time:
            raise Failed("It ends before it begins.")
        invited = sorted({self._me(), *attendees}) if attendees else None
        return self._add("events", "CreateEvent", "event_id", {
            "name": name, "event_type": event_type, "start_time": start_time, "end_time": end_time, "location": location,
            "description": description, "attendees": invited,
        })  # fmt: skip

    def _modify_event(self, event_id: str, new_attendees: Sequence[str] | None = None, **new: str) -> JsonObject:
        event = self._change("events", event_id)
        if new_attendees:
            event["attendees"] = sorted(new_attendees)
        event.update({name.removeprefix("new_"): value for name, value in new.items() if value})
        if str(event["end_time"]) < str(event["start_time"]):
            raise Failed("It ends before it begins.")
        return _DONE

    def _calendar(self, start_time: str, end_time: str) -> JsonObject:
        found = [
            event for event in self._own("events")
            if start_time <= str(event["start_time"]) <= end_time or start_time <= str(event["end_time"]) <= end_time
        ]  # fmt: skip
        return {"events": found}

    # --- mail and messages -----------------------------------------------------------------------

    def _send_email(self, to: Sequence[str], subject: str, body: str) -> JsonObject:
        if not to:
            raise Failed("Nobody is named to send it to.")
        own = self._account_of(self._me())
        return self._add("sent", "SendEmail", "email_id", {
            "date": self._now, "sender": own["email"], "receivers": sorted(to), "subject": subject, "body": body,
        })  # fmt: skip

    def _send_message(self, receiver: str, message: str) -> JsonObject:
        return self._add("sent", "SendMessage", "message_id", {
            "timestamp": self._now, "sender": self._me(), "receiver": receiver, "message": message,
        })  # fmt: skip

    def _search_inbox(
        self, query: str = "", match_type: str = "any", sender: str = "", start_date: str = "", end_date: str = ""
    ) -> JsonObject:
        found = _found(self._own("emails"), ("subject", "body"), "date", query, match_type, sender, start_date, end_date)
        return {"emails": found}

    def _search_messages(
        self, query: str = "", match_type: str = "any", sender: str = "", start_date: str = "", end_date: str = ""
    ) -> JsonObject:
        found = _found(self._own("messages"), ("message",), "timestamp", query, match_type, sender, start_date, end_date)
        return {"messages": found}

    # --- the weather -----------------------------------------------------------------------------

    def _weather(self, location: str) -> JsonObject:
        return {"weather": self._day(location, 0)}

    def _forecast(self, location: str) -> JsonObject:
        return {"forecast": [self._day(location, ahead) for ahead in (1, 2, 3)]}

    def _climate(self, location: str, month: str) -> JsonObject:
        months = self._place("climate", location)
        if month.lower() not in months:
            raise Failed(f"Nothing is known of {month}.")
        return {"weather": months[month.lower()]}

    def _day(self, location: str, ahead: int) -> object:
        days = self._place("weather", location)
        day = (date.fromisoformat(self._now[:10]) + timedelta(days=ahead)).isoformat()
        if day not in days:
            raise Failed(f"Nothing is known of {day}.")
        return days[day]

    def _place(self, table: str, location: str) -> JsonObject:
        """A place by its name, or by the part of it before a comma."""
        for name in (location, location.partition(",")[0]):
            found = self.records.get(table, name.strip().lower())
            if found is not None:
                return found
        raise Failed(f"Nothing is known of {location}.")


def _shown(account: JsonObject) -> JsonObject:
    return {key: account[key] for key in _SHOWN}


def _found(
    records: Iterable[JsonObject], fields: Sequence[str], when: str, query: str, match_type: str, sender: str, start: str,
    end: str,
) -> list[JsonObject]:  # fmt: skip
    if not (query or sender or start or end):
        raise Failed("Something to look for is needed.")
    words = query.lower().split()
    many = all if match_type == "all" else any
    found = []
    for record in records:
        text = " ".join(str(record[field]) for field in fields).lower()
        fits = (not words or many(word in text for word in words)) and (not sender or record["sender"] == sender)
        if fits and start <= str(record[when]) and (not end or str(record[when]) <= end):
            found.append(record)
    return found
