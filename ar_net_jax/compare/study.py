"""What a comparison is: methods on one data set, and what of them varies at test time."""

from dataclasses import dataclass

from ar_net_jax.experiment import Config

COST_PENALTY = "cost_penalty"
"""In place of a field: the offset on the costly choices' logits, see `Method.penalty_offset`."""


@dataclass(frozen=True)
class Varied:
    """A field that may have other values in evaluation than in training.

    Attributes:
        field: of the config, as after `--config.`, or `COST_PENALTY`.
        values: that it takes besides the trained one.
        of_frames: whether the values are shares of the video's frames, so that they fit videos of
            any number; rounded to whole frames, at least one.
    """

    field: str
    values: tuple[float, ...]
    of_frames: bool = False


@dataclass(frozen=True)
class Row:
    """A method of a study.

    Attributes:
        name: told apart by it, in flags, tables and other rows' `start` and `match`.
        variant: of the data's config, such as `scsampler`; variants separated by commas. Empty for
            the config as it is.
        overrides: changes of single fields, such as `--config.stages.train.epochs=80`.
        start: name of the row from whose first stage it goes on, which is trained once for all;
            empty where it begins by itself. A stage of that name of its own is left out.
        varied: at test time; None where it has one setting.
        own_head: whether the method prescribes its head, so that the study's is not asked for.
        published: name of what was published of it, see `compare.published`; empty for nothing.
        match: name of the row to whose cost it is brought, by the weight of its efficiency loss;
            empty where its own weights stand.
    """

    name: str
    variant: str = ""
    overrides: tuple[str, ...] = ()
    start: str = ""
    varied: Varied | None = None
    own_head: bool = False
    published: str = ""
    match: str = ""


@dataclass(frozen=True)
class Study:
    """Methods to be compared.

    Attributes:
        name: as on the command line.
        summary: what it shows, in a line.
        rows: in the order of its tables.
        head: variant that every row without a head of its own takes; empty for the config's.
        embedded: variant that every row takes too on the embedded data; empty for none.
        reference: name of the row that the others are held against at equal cost and equal time.
    """

    name: str
    summary: str
    rows: tuple[Row, ...]
    head: str = ""
    embedded: str = ""
    reference: str = "uniform"

    def row(self, name: str) -> Row:
        """The row of a name; raises KeyError where there is none."""
        return {row.name: row for row in self.rows}[name]


@dataclass(frozen=True)
class Setting:
    """A trained model at test time.

    Attributes:
        label: what differs from training, such as `model.frames=4`; empty for the trained setting.
        overrides: of its config.
        cost_penalty: of the costly choices' logits.
    """

    label: str = ""
    overrides: tuple[str, ...] = ()
    cost_penalty: float = 0.0


def settings_of(varied: Varied | None, config: Config) -> tuple[Setting, ...]:
    """The settings in which a model is evaluated, the trained one first.

    A penalty changes nothing about a method that is not steerable, which has the trained one alone.

    Args:
        varied: of its row.
        config: that it was trained with.
    """
    trained = Setting()
    if varied is None:
        return (trained,)
    if varied.field == COST_PENALTY:
        if not config.build_method().traits.steerable:
            return (trained,)
        others = {value: f"penalty {value:g}" for value in varied.values}
        return (trained, *(Setting(label, (), value) for value, label in others.items()))
    values = varied.values
    if varied.of_frames:
        frames = config.data.num_frames
        values = tuple(max(1, round(share * frames)) for share in values)
    now = _value(config, varied.field)
    settings = [trained]
    for value in dict.fromkeys(values):
        if value != now:
            told = f"{varied.field}={value:g}"
            settings.append(Setting(told, (f"--config.{told}",)))
    return tuple(settings)


def _value(config: Config, field: str) -> object:
    value: object = config
    for name in field.split("."):
        value = getattr(value, name)
    return value
