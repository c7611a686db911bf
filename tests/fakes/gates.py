"""What stands before the store, wide open."""


class Open:
    """Lets everything through, as directory and as policy."""

    async def admit(self, *_: object) -> None:
        return None

    async def check(self, *_: object) -> None:
        return None


class Unlimited:
    """A rate nobody reaches."""

    def check(self, *_: object) -> None:
        return None
