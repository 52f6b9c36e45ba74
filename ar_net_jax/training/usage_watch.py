"""Early word on a policy that has come to make one choice only."""

from collections.abc import Mapping

# Choices are drawn in training, so a few others are made long after a policy has settled.
_COLLAPSED = 0.99
# Said once, and again only where the policy had recovered meanwhile.
_RECOVERED = 0.9


class UsageWatch:
    """Says when nearly every frame gets the same choice."""

    def __init__(self) -> None:
        self._told = False

    def look(self, usage: Mapping[str, float]) -> str | None:
        """A line where a policy has collapsed to one choice since the last look, or None.

        Args:
            usage: share of frames by choice; empty where nothing is decided.

        >>> UsageWatch().look({"32px": 0.5, "skip 2": 0.5})
        >>> UsageWatch().look({"32px": 0.0, "skip 2": 1.0}).partition(";")[0]
        "the policy has collapsed: 100% of the frames get 'skip 2'"
        """
        if len(usage) < 2:
            return None
        choice, share = max(usage.items(), key=lambda item: item[1])
        if share < _RECOVERED:
            self._told = False
        if share < _COLLAPSED or self._told:
            return None
        self._told = True
        return (
            f"the policy has collapsed: {share:.0%} of the frames get '{choice}'; a larger weight "
            "of a loss on usage (such as `uniform`), a smaller one of `efficiency`, or a lower "
            "learning rate may help"
        )
