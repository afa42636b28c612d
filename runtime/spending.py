"""What a run may still spend on writes: how many, and how much money by currency."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from runtime.state import OpenCall, RunState, changed
from runtime.steps import request_of


def price_of(open_call: OpenCall) -> tuple[str, str | None]:
    """What a planned write costs, and the currency: as its plan says, or else its card; an empty text if neither does."""
    preview = open_call.plan.planned.preview if open_call.plan else None
    if preview and preview.price:
        return preview.price, preview.currency
    cost = open_call.card.cost
    return (f"{cost.amount:.12g}", cost.currency) if cost else ("", None)


def beyond(state: RunState, open_call: OpenCall) -> str:
    """Why the budget does not allow this write; empty if it does.

    A price that cannot be compared with the budget of money is beyond it; a write without a price costs nothing.
    """
    budget = request_of(state).agent.budget
    if budget.writes is not None and state.writes >= budget.writes:
        return f"the run may change something {budget.writes} times, and has"
    price, currency = price_of(open_call)
    if not budget.money or not price:
        return ""
    amount = _amount(price)
    if amount is None or currency is None:
        return f"its price of {price} {currency or 'in no currency'} cannot be compared with the budget"
    limit = budget.money.get(currency)
    spent = state.spent.get(currency, Decimal(0))
    if limit is None or spent + amount <= Decimal(str(limit)):
        return ""
    return f"it costs {amount:f} {currency}, and {spent:f} of {limit:.12g} {currency} are spent"


def counted(state: RunState, open_call: OpenCall, times: int = 1) -> RunState:
    """The state after a write was committed. times: -1 if it turned out that nothing was changed."""
    price, currency = price_of(open_call)
    amount = _amount(price)
    spent = state.spent
    if amount and currency:
        spent = {**spent, currency: spent.get(currency, Decimal(0)) + times * amount}
    return changed(state, writes=state.writes + times, spent=spent)


def _amount(price: str) -> Decimal | None:
    try:
        amount = Decimal(price.strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
