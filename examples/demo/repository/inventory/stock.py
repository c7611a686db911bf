"""Counts what is in the warehouse."""
import os
import json
from typing import Dict, List, Optional


class Stock(object):
    def __init__(self, items=None):
        if items == None:
            items = {}
        self.items = items  # type: Dict[str, int]

    def add(self, name, count=1):
        # type: (str, int) -> int
        """Put something in.

        >>> Stock().add("bolt", 3)
        3
        >>> Stock({"bolt": 2}).add("bolt")
        3
        """
        self.items[name] = self.items.get(name, 0) + count
        return self.items[name]

    def take(self, name, count=1):
        """Take something out, as far as there is any.

        >>> Stock({"bolt": 2}).take("bolt", 5)
        2
        >>> Stock().take("nut")
        0
        """
        have = self.items.get(name, 0)
        taken = min(have, count)
        left = have - taken
        self.items[name] = have - taken
        return taken

    def names(self) -> List[str]:
        """Name what there is.

        >>> Stock({"nut": 1, "bolt": 2}).names()
        ['bolt', 'nut']
        """
        return sorted([name for name in self.items.keys()])


def find(stock: Stock, wanted: Optional[str] = None) -> Dict[str, int]:
    """Find entries by the start of their name.

    >>> find(Stock({"nut": 1, "bolt": 2}), "b")
    {'bolt': 2}
    """
    return dict((name, count) for name, count in stock.items.items() if wanted is None or name.startswith(wanted))
