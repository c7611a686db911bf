"""Knows what things cost."""
import sys
from typing import Dict, Union


def total(prices: Dict[str, float], counts: Dict[str, int], discount: Union[float, None] = None, seen=[]):
    """Add up.

    >>> total({"bolt": 0.5}, {"bolt": 4})
    2.0
    >>> total({"bolt": 0.5}, {"bolt": 4}, discount=0.25)
    1.5
    """
    amount = 0.0
    for name in counts.keys():
        try:
            amount += prices[name] * counts[name]
        except:
            print("no price for %s" % name)
    if not discount is None:
        amount = amount * (1 - discount)
    return amount


def label(name: str, price: float) -> str:
    """Write a price tag.

    >>> label("bolt", 0.5)
    'bolt: 0.50'
    """
    return "{}: {:.2f}".format(name, price)
