"""What calls cost. Decimal inside, because prices are; a JSON number outside."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

MILLIONTH = Decimal("0.000001")


def cost_of(calls: int, price_per_1000: str | None) -> float | None:
    """Return the cost in the currency of the price, rounded half up to a millionth; None without a price."""
    if price_per_1000 is None:
        return None
    return float((calls * Decimal(price_per_1000) / 1000).quantize(MILLIONTH, ROUND_HALF_UP))


def calls_for(cost: str, price_per_1000: str) -> int:
    """Return how many calls cost no more than that."""
    return int(Decimal(cost) * 1000 // Decimal(price_per_1000))
