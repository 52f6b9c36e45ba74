"""A row of a comparison: a method's title, what it is in the comparison, its figures."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ar_net_jax.evaluation.evaluate import Figures, Speed
from ar_net_jax.methods import Method

Role = Literal["adaptive", "reference", "other"]


@dataclass(frozen=True)
class Row:
    """A model in a comparison.

    Attributes:
        method: the row's title.
        role: tables and plots show `adaptive` rows in bold; plots join the `reference` ones.
        figures: what it scores and costs.
        speed: in all rows of a comparison or in none.
    """

    method: str
    role: Role
    figures: Figures
    speed: Speed | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat mapping."""
        speed = {} if self.speed is None else asdict(self.speed)
        return {"method": self.method, "role": self.role, **asdict(self.figures), **speed}


def role_of(method: Method[Any, Any]) -> Role:
    """The role of a method at its full number of frames: adaptive where it learns what to do."""
    if method.traits.reference:
        return "reference"
    return "adaptive" if method.traits.adaptive and not method.traits.draws else "other"
