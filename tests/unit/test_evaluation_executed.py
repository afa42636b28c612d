"""Simulated worlds: what calls change, what they refuse, and episodes in them; on shops, airlines and offices of our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.evaluation.benchmark import Speak
from services.evaluation.executed.airline import Airline
from services.evaluation.executed.office import Office, tables_of
from services.evaluation.executed.records import Records
from services.evaluation.executed.retail import Retail
from services.evaluation.executed.world import World, episode
from services.evaluation.item import Reply

LINES = {"address1": "1 Way", "address2": "", "city": "Bonn", "state": "NW", "country": "Germany", "zip": "53111"}


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


def told(world: World, name: str, **arguments: object) -> Any:
    """What a call that succeeds gives."""
    result = world.execute(call(name, **arguments))
    assert result.done, result.text
    return json.loads(result.text) if result.text[:1] in "[{" else result.text


def refused(world: World, name: str, **arguments: object) -> str:
    """What a call that fails says; it changes nothing."""
    before, result = world.records.state(), world.execute(call(name, **arguments))
    assert not result.done and world.records.state() == before
    return str(json.loads(result.text)["error"])


# --- records ---------------------------------------------------------------------------------------


def test_records_are_shared_until_they_are_changed() -> None:
    tables: dict[str, dict[str, dict[str, object]]] = {"doors": {"a": {"locked": False}, "b": {"locked": True}}}
    records = Records(tables)
    untouched = records.state()
    records.edit("doors", "a")["locked"] = True
    assert records.get("doors", "a") == {"locked": True}
    records.forget()
    assert records.get("doors", "a") == {"locked": False} and records.state() == untouched
    records.edit("doors", "a")["locked"] = True
    records.put("doors", "c", {"locked": False})
    records.drop("doors", "b")
    records.keep()
    assert tables == {"doors": {"a": {"locked": False}, "b": {"locked": True}}}
    assert [id for id, _ in records.all("doors")] == ["a", "c"]
    assert records.differences() == {"doors/a": {"locked": True}, "doors/b": None, "doors/c": {"locked": False}}
    records.edit("doors", "a")["locked"] = False
    records.put("doors", "b", {"locked": True})
    records.drop("doors", "c")
    records.keep()
    assert records.state() == untouched  # what is as it was is no difference
    with pytest.raises(KeyError):
        records.edit("doors", "x")


# --- the shop --------------------------------------------------------------------------------------


def shop() -> Retail:
    def variant(id: str, price: float, available: bool = True) -> dict[str, object]:
        return {"item_id": id, "options": {"size": id}, "available": available, "price": price}

    user: dict[str, object] = {
        "user_id": "u1", "name": {"first_name": "Eva", "last_name": "Roth"}, "address": LINES, "email": "Eva@x.example",
        "payment_methods": {
            "gift": {"source": "gift_card", "id": "gift", "balance": 20.0}, "card": {"source": "credit_card", "id": "card"},
        },
        "orders": ["#1", "#2"],
    }  # fmt: skip
    items = [{"name": "Cup", "product_id": "p", "item_id": id, "price": 10.0, "options": {"size": id}} for id in ("s", "m")]
    paid = [{"transaction_type": "payment", "amount": 20.0, "payment_method_id": "card"}]

    def order(id: str, status: str) -> dict[str, object]:
        return {
            "order_id": id, "user_id": "u1", "address": LINES, "items": items, "status": status, "payment_history": paid
        }  # fmt: skip

    product: dict[str, object] = {"name": "Cup", "product_id": "p", "variants": {
        "s": variant("s", 10.0), "m": variant("m", 10.0), "l": variant("l", 12.5), "xl": variant("xl", 40.0),
        "gone": variant("gone", 1.0, available=False),
    }}  # fmt: skip
    orders = {"#1": order("#1", "pending"), "#2": order("#2", "delivered")}
    return Retail({"users": {"u1": user}, "orders": orders, "products": {"p": product}})


def test_a_shop_finds_its_customers_and_what_it_sells() -> None:
    world = shop()
    assert told(world, "find_user_id_by_email", email="eva@X.example") == "u1"
    assert told(world, "find_user_id_by_name_zip", first_name="eva", last_name="ROTH", zip="53111") == "u1"
    assert told(world, "list_all_product_types") == {"Cup": "p"}
    assert told(world, "calculate", expression="(2 + 3) * 1.5") == "7.5"
    assert refused(world, "find_user_id_by_email", email="no@x.example") == "User not found"
    assert refused(world, "get_order_details", order_id="#9") == "Order not found"
    assert "Invalid" in refused(world, "calculate", expression="__import__('os')")
    assert "no tool" in refused(world, "sell_everything")
    assert "do not fit" in refused(world, "get_order_details", id="#1")
    assert not world.records.differences()


def test_a_cancelled_order_is_paid_back() -> None:
    world = shop()
    assert refused(world, "cancel_pending_order", order_id="#1", reason="bored") == "Invalid reason"
    order = told(world, "cancel_pending_order", order_id="#1", reason="no longer needed")
    assert (order["status"], [each["transaction_type"] for each in order["payment_history"]]) == (
        "cancelled", ["payment", "refund"]
    )  # fmt: skip
    assert "Non-pending" in refused(world, "cancel_pending_order", order_id="#1", reason="no longer needed")


def test_items_of_a_pending_order_are_changed_once_each_at_its_own_price() -> None:
    world = shop()
    more = {"order_id": "#1", "payment_method_id": "gift"}
    assert refused(world, "modify_pending_order_items", item_ids=["s"], new_item_ids=["xl"], **more).startswith("Insufficient")
    assert "available" in refused(world, "modify_pending_order_items", item_ids=["s"], new_item_ids=["gone"], **more)
    assert "different" in refused(world, "modify_pending_order_items", item_ids=["s"], new_item_ids=["s"], **more)
    assert "match" in refused(world, "modify_pending_order_items", item_ids=["s", "m"], new_item_ids=["l"], **more)
    assert "not found" in refused(world, "modify_pending_order_items", item_ids=["s", "s"], new_item_ids=["l", "l"], **more)
    order = told(world, "modify_pending_order_items", item_ids=["s", "m"], new_item_ids=["l", "s"], **more)
    assert [(item["item_id"], item["price"]) for item in order["items"]] == [("l", 12.5), ("s", 10.0)]
    assert order["payment_history"][-1] == {"transaction_type": "payment", "amount": 2.5, "payment_method_id": "gift"}
    assert told(world, "get_user_details", user_id="u1")["payment_methods"]["gift"]["balance"] == 17.5
    assert "Non-pending" in refused(world, "modify_pending_order_items", item_ids=["m"], new_item_ids=["l"], **more)
    told(world, "modify_pending_order_address", order_id="#1", **{**LINES, "city": "Köln"})  # that is still possible


def test_payment_moves_to_another_method() -> None:
    world = shop()
    assert "different" in refused(world, "modify_pending_order_payment", order_id="#1", payment_method_id="card")
    order = told(world, "modify_pending_order_payment", order_id="#1", payment_method_id="gift")
    assert [each["payment_method_id"] for each in order["payment_history"]] == ["card", "gift", "card"]
    assert told(world, "get_user_details", user_id="u1")["payment_methods"]["gift"]["balance"] == 0
    assert "exactly one" in refused(world, "modify_pending_order_payment", order_id="#1", payment_method_id="gift")


def test_delivered_items_go_back_or_are_exchanged() -> None:
    world = shop()
    exchange = {"order_id": "#2", "item_ids": ["s"], "payment_method_id": "gift"}
    assert "Insufficient" in refused(world, "exchange_delivered_order_items", new_item_ids=["xl"], **exchange)
    order = told(world, "exchange_delivered_order_items", new_item_ids=["l"], **exchange)
    assert (order["status"], order["exchange_price_difference"]) == ("exchange requested", 2.5)
    back = {"item_ids": ["s"], "payment_method_id": "card"}
    assert "Non-delivered" in refused(world, "return_delivered_order_items", order_id="#2", **back)
    assert told(shop(), "return_delivered_order_items", order_id="#2", **back)["return_items"] == ["s"]


# --- the airline -----------------------------------------------------------------------------------


def airline() -> Airline:
    def flight(number: str, origin: str, destination: str, leaves: str, arrives: str) -> dict[str, object]:
        there = {"status": "available", "available_seats": {"economy": 2}, "prices": {"economy": 100}}
        return {
            "flight_number": number, "origin": origin, "destination": destination,
            "scheduled_departure_time_est": leaves, "scheduled_arrival_time_est": arrives,
            "dates": {"2024-05-30": there, "2024-05-31": there, "2024-05-10": {"status": "landed"}},
        }  # fmt: skip

    user: dict[str, object] = {
        "user_id": "u1", "reservations": [],
        "payment_methods": {
            "gift": {"source": "gift_card", "id": "gift", "amount": 300}, "card": {"source": "credit_card", "id": "card"},
            "cert": {"source": "certificate", "id": "cert", "amount": 50},
        },
    }  # fmt: skip
    flights = [
        flight("F1", "SFO", "DEN", "08:00:00", "10:00:00"), flight("F2", "DEN", "JFK", "11:00:00", "15:00:00"),
        flight("F3", "DEN", "JFK", "09:00:00", "13:00:00"),
    ]  # fmt: skip
    return Airline(
        {"users": {"u1": user}, "reservations": {}, "flights": {str(each["flight_number"]): each for each in flights}}
    )


PERSON = {"first_name": "Eva", "last_name": "Roth", "dob": "1990-01-01"}


def booking(**change: object) -> dict[str, object]:
    return {
        "user_id": "u1", "origin": "SFO", "destination": "DEN", "flight_type": "one_way", "cabin": "economy",
        "flights": [{"flight_number": "F1", "date": "2024-05-30"}], "passengers": [PERSON],
        "payment_methods": [{"payment_id": "cert", "amount": 50}, {"payment_id": "gift", "amount": 130}],
        "total_baggages": 1, "nonfree_baggages": 1, "insurance": "yes", **change,
    }  # fmt: skip


def test_an_airline_finds_flights() -> None:
    world = airline()
    direct = told(world, "search_direct_flight", origin="DEN", destination="JFK", date="2024-05-30")
    assert [each["flight_number"] for each in direct] == ["F2", "F3"]
    pairs = told(world, "search_onestop_flight", origin="SFO", destination="JFK", date="2024-05-30")
    assert [[leg["flight_number"] for leg in pair] for pair in pairs] == [["F1", "F2"]]  # F3 has left
    assert told(world, "get_flight_status", flight_number="F1", date="2024-05-10") == "landed"
    assert told(world, "search_direct_flight", origin="SFO", destination="DEN", date="2024-05-10") == []
    assert "not found on" in refused(world, "get_flight_status", flight_number="F1", date="2023-01-01")


def test_a_booking_takes_seats_and_money() -> None:
    world = airline()
    assert "total price is 180" in refused(world, "book_reservation", **booking(insurance="yes", payment_methods=[]))
    assert "Not enough seats" in refused(world, "book_reservation", **booking(passengers=[PERSON] * 3))
    landed = [{"flight_number": "F1", "date": "2024-05-10"}]
    assert "not available" in refused(world, "book_reservation", **booking(flights=landed))
    poor = [{"payment_id": "cert", "amount": 180}]
    assert "Not enough balance" in refused(world, "book_reservation", **booking(payment_methods=poor))
    made = told(world, "book_reservation", **booking())
    assert made["reservation_id"] == "HATHAT"
    user = told(world, "get_user_details", user_id="u1")
    assert "cert" not in user["payment_methods"] and user["payment_methods"]["gift"]["amount"] == 170
    (left,) = told(world, "search_direct_flight", origin="SFO", destination="DEN", date="2024-05-30")
    assert left["available_seats"] == {"economy": 1}


def test_a_reservation_is_changed_and_cancelled() -> None:
    world = airline()
    told(world, "book_reservation", **booking())
    more = {"reservation_id": "HATHAT", "cabin": "economy"}
    legs = [{"flight_number": "F1", "date": "2024-05-30"}, {"flight_number": "F2", "date": "2024-05-30"}]
    assert "Payment method" in refused(world, "update_reservation_flights", flights=legs, payment_id="none", **more)
    changed = told(world, "update_reservation_flights", flights=legs, payment_id="gift", **more)
    assert [leg["price"] for leg in changed["flights"]] == [100, 100]
    assert changed["payment_history"][-1] == {"payment_id": "gift", "amount": 100}
    bags = told(
        world, "update_reservation_baggages", reservation_id="HATHAT", total_baggages=3, nonfree_baggages=2, payment_id="card"
    )
    assert bags["payment_history"][-1] == {"payment_id": "card", "amount": 50}
    assert "does not match" in refused(world, "update_reservation_passengers", reservation_id="HATHAT", passengers=[])
    told(world, "update_reservation_passengers", reservation_id="HATHAT", passengers=[{**PERSON, "first_name": "Ida"}])
    cancelled = told(world, "cancel_reservation", reservation_id="HATHAT")
    assert cancelled["status"] == "cancelled" and sum(each["amount"] for each in cancelled["payment_history"]) == 0
    for number in (3221322, 3221323, 3221324):
        assert f"certificate_{number}" in told(world, "send_certificate", user_id="u1", amount=50)
    assert "Too many" in refused(world, "send_certificate", user_id="u1", amount=50)


# --- the office ------------------------------------------------------------------------------------


def office(user: str | None = "eva") -> Office:
    def account(name: str) -> dict[str, object]:
        return {"username": name, "email": f"{name}@x.example", "phone": "1", "name": name.title(), "password": f"{name}-1"}

    databases: dict[str, Any] = {
        "accounts": {"eva": account("eva"), "tom": account("tom")},
        "alarms": {
            "eva": {"a1": {"alarm_id": "a1", "time": "07:00:00"}}, "tom": {"a2": {"alarm_id": "a2", "time": "09:00:00"}},
        },
        "events": {"eva": {"e1": {
            "event_id": "e1", "name": "Talk", "event_type": "meeting", "start_time": "2024-01-01 10:00:00",
            "end_time": "2024-01-01 11:00:00", "location": None, "description": None, "attendees": ["eva", "tom"],
        }}},
        "emails": {"eva": {"m1": {
            "email_id": "m1", "date": "2024-01-01 08:00:00", "sender": "tom@x.example", "receivers": ["eva@x.example"],
            "subject": "Old roof", "body": "It leaks.",
        }}},
        "messages": {},
        "reminders": {"eva": {"r1": {"reminder_id": "r1", "task": "Pay", "due_date": None, "status": "pending"}}},
        "weather": {"bonn": {"2024-01-01": {"date": "2024-01-01", "high": 4}}}, "climate": {"bonn": {"january": {"low": -1}}},
    }  # fmt: skip
    return Office(tables_of(databases), (), user, "2024-01-01 09:00:00", {"AddAlarm": ("known",)}, {"eva": "123456"})


def test_an_account_is_its_owners() -> None:
    world = office(None)
    assert refused(world, "GetReminders") == "Nobody is logged in."
    assert "incorrect" in refused(world, "UserLogin", username="eva", password="x")
    told(world, "UserLogin", username="eva", password="eva-1")
    assert "already" in refused(world, "UserLogin", username="tom", password="tom-1")
    assert told(world, "GetAccountInformation") == {
        "user": {"username": "eva", "email": "eva@x.example", "phone": "1", "name": "Eva"}
    }
    told(world, "UpdateAccountInformation", password="eva-1", new_email="e@y.example")
    assert told(world, "QueryUser", email="E@y.example")["users"][0]["username"] == "eva"
    told(world, "ChangePassword", old_password="eva-1", new_password="eva-2")
    told(world, "LogoutUser")
    assert "incorrect" in refused(world, "ResetPassword", username="eva", verification_code="1", new_password="x")
    told(world, "ResetPassword", username="eva", verification_code="123456", new_password="eva-3")
    told(world, "UserLogin", username="eva", password="eva-3")
    assert "incorrect" in refused(world, "DeleteAccount", password="eva-2")
    told(world, "DeleteAccount", password="eva-3")
    assert "no such user" in refused(world, "UserLogin", username="eva", password="eva-3")
    assert "taken" in refused(world, "RegisterUser", username="tom", password="x", email="x")
    told(world, "RegisterUser", username="ida", password="i", email="i@x.example")
    assert told(world, "GetReminders") == {"reminders": []}


def test_a_day_at_the_office() -> None:
    world = office()
    assert told(world, "AddAlarm", time="08:00:00") == {"alarm_id": "known"}  # as the recorded conversation has it
    assert told(world, "AddAlarm", time="10:00:00")["alarm_id"].startswith("new")
    assert [each["alarm_id"] for each in told(world, "FindAlarms", end_range="09:00:00")["alarms"]] == ["a1", "known"]
    assert "no a2" in refused(world, "DeleteAlarm", alarm_id="a2")  # that is Tom's
    told(world, "ModifyEvent", event_id="e1", new_end_time="2024-01-01 12:00:00", new_location="Room 1")
    (event,) = told(world, "QueryCalendar", start_time="2024-01-01 11:30:00", end_time="2024-01-01 13:00:00")["events"]
    assert (event["location"], event["name"]) == ("Room 1", "Talk")
    assert "before" in refused(world, "ModifyEvent", event_id="e1", new_end_time="2024-01-01 09:00:00")
    told(world, "CompleteReminder", reminder_id="r1")
    assert told(world, "GetReminders")["reminders"][0]["status"] == "complete"
    assert len(told(world, "SearchInbox", query="roof garden")["emails"]) == 1
    assert told(world, "SearchInbox", query="roof garden", match_type="all")["emails"] == []
    assert "Something" in refused(world, "SearchInbox")
    told(world, "SendEmail", to=["tom@x.example"], subject="Hi", body="")
    assert told(world, "CurrentWeather", location="Bonn, Germany") == {"weather": {"date": "2024-01-01", "high": 4}}
    assert "Nothing is known" in refused(world, "ForecastWeather", location="Bonn")
    assert told(world, "HistoricWeather", location="Bonn", month="January") == {"weather": {"low": -1}}


# --- episodes --------------------------------------------------------------------------------------


def speaking(*replies: Reply) -> tuple[Speak, list[list[Message]]]:
    """Says these replies, one after the other, and remembers what it was told."""
    left, heard = list(replies), list[list[Message]]()

    async def speak(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
        heard.append(list(messages))
        return left.pop(0)

    return speak, heard


async def test_an_episode_goes_on_until_words() -> None:
    asks = Reply(item="", calls=(call("AddAlarm", time="08:00:00"),), text="Wait.", prompt_tokens=5, cost="0.1", currency="EUR")
    speak, heard = speaking(asks, Reply(item="", text="Done.", prompt_tokens=7, cost="0.2", currency="EUR"))
    reply = await episode([Message(role="user", content="Wake me.")], (), office(), speak, 5)
    assert (reply.text, reply.steps, reply.prompt_tokens, reply.cost) == ("Done.", 2, 12, "0.3")
    assert reply.extra == {"ended": "answered", "said": "Wait.\nDone."}
    assert [message.role for message in heard[1]] == ["user", "assistant", "tool"]
    assert json.loads(heard[1][-1].content) == {"alarm_id": "known"}


async def test_an_episode_ends_at_its_bound_and_where_nobody_can_read_on() -> None:
    again = Reply(item="", calls=(call("GetReminders"),))
    speak, heard = speaking(*[again] * 9)
    reply = await episode([Message(role="user", content="Go.")], (), office(), speak, 3)
    assert (reply.extra["ended"], len(reply.calls), len(heard)) == ("endless", 3, 4)
    speak, _ = speaking(again, Reply(item="", malformed="half a call"))
    reply = await episode([Message(role="user", content="Go.")], (), office(), speak, 3)
    assert (reply.extra["ended"], reply.malformed, len(reply.calls)) == ("unreadable", "", 1)
    speak, _ = speaking(Reply(item="", malformed="half a call"))
    assert (await episode([Message(role="user", content="Go.")], (), office(), speak, 3)).malformed == "half a call"
