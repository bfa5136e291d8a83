"""Names of values as a tracker's package allows them."""

import re

LONGEST = 200  # characters


class Names:
    """Gives each name one that has an underscore for what is refused, and that no other name has.

    Only what is after the first slash is changed: in iou/a/b the name of a class. allowed: the characters
    that are, as inside the brackets of a regular expression.
    """

    def __init__(self, allowed: str) -> None:
        self.refused = re.compile(f"[^{allowed}]")
        self.given: dict[str, str] = {}

    def of(self, name: str) -> str:
        if name not in self.given:
            head, slash, rest = name.partition("/")
            plain = self.refused.sub("_", rest)[:LONGEST]
            plain = plain if plain.strip(". ") or not slash else "_"
            found, number, taken = f"{head}{slash}{plain}", 1, set(self.given.values())
            while found in taken:
                number += 1
                found = f"{head}{slash}{plain}_{number}"
            self.given[name] = found
        return self.given[name]
