"""Everything a run is determined by: a method, its model, its stages, the data, the seed.

`Config.from_dict` refuses unknown fields, wrong types and impossible values with an error that
names the field by its full path, before anything is compiled or read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ml_collections import ConfigDict

from ar_net_jax import methods
from ar_net_jax.config.data import DataConfig
from ar_net_jax.config.files import config_path, evaluate, load_module, override
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.config.schema import build, check_names, convert_fields, require, to_plain
from ar_net_jax.errors import first_few
from ar_net_jax.methods import Method, StageConfig
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.methods.legacy import upgrade
from ar_net_jax.methods.user_code import CodeRecord, check_record, record_of, register_module

VERSION = 2
"""Of the config as it is saved; 1 knew `model.approach` and one group of fields for all methods."""


@dataclass(frozen=True)
class Config:
    """Everything a run is determined by.

    Attributes:
        method: name of the method, see `ar_net_jax.methods`.
        seed: of initialisation, order, augmentation, dropout and sampling.
        init_from: a model whose matching variables start the run: its directory, that of its
            training, or a `.safetensors` file of `arnet convert`; empty for none.
        pretrained: ImageNet weights that backbones start from where nothing else is given.
        model: what is computed; the fields are the method's.
        data: what it is computed on.
        optimizer: how losses are minimised.
        stage_order: names of the stages, in the order in which they run.
        stages: the stages by name; the fields are the method's.
        log_every: training steps between two lines of metrics.
        evaluate_every: epochs between two evaluations on the validation videos, among which the
            best epoch is chosen; a stage's last epoch is always evaluated.
        checkpoint_every: epochs between two checkpoints.
        checkpoint_every_steps: steps between two checkpoints within an epoch; 0 for none.
        class_names: of the model's classes, in the order of its outputs; filled in from the data
            that it is trained on, or by `arnet convert --classes`. Empty where they are not known.
        code: the user's file that defines the method or a backbone, filled in when it is loaded.
    """

    method: str = ARNet.name
    seed: int = 0
    init_from: str = ""
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    model: ModelConfig = field(default_factory=ARNet.Config)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stage_order: tuple[str, ...] = ()
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    log_every: int = 20
    evaluate_every: int = 1
    checkpoint_every: int = 1
    checkpoint_every_steps: int = 0
    class_names: tuple[str, ...] = ()
    code: CodeRecord = field(default_factory=CodeRecord)

    def __post_init__(self) -> None:
        for name in ("model", "data", "optimizer"):
            getattr(self, name).validate(name)
        for name, stage in self.stages.items():
            stage.validate(f"stages.{name}")
        self._validate_stage_order()
        self.build_method().validate_stages(self.stage_order, self.stages)
        self._validate_pretrained()
        require(
            self.data.batch_size % self.optimizer.micro_batches == 0,
            "optimizer.micro_batches",
            f"{self.optimizer.micro_batches} equal parts cannot be made of "
            f"data.batch_size={self.data.batch_size}",
        )
        require(self.seed >= 0, "seed", "must not be negative")
        for name in ("log_every", "evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        require(self.checkpoint_every_steps >= 0, "checkpoint_every_steps", "must not be negative")
        self._validate_class_names()

    def _validate_class_names(self) -> None:
        names, outputs = self.class_names, self.model.num_classes
        require(all(names), "class_names", "a class has an empty name")
        twice = [name for name, count in Counter(names).items() if count > 1]
        require(not twice, "class_names", f"names a class twice: {first_few(twice)}")
        require(
            not names or len(names) == outputs,
            "class_names",
            f"{len(names)} names, but config.model.num_classes is {outputs}",
        )

    def _validate_stage_order(self) -> None:
        order, known = self.stage_order, ", ".join(self.stages) or "none"
        for name in order:
            require(name in self.stages, "stage_order", f"no stage named '{name}' (known: {known})")
            require(order.count(name) == 1, "stage_order", f"names the stage '{name}' twice")

    def _validate_pretrained(self) -> None:
        known = self.build_method().backbone_modules()
        for name, source in self.pretrained.weights.items():
            require(
                name in known or not source,
                f"pretrained.weights.{name}",
                f"the model has no such backbone; it has {', '.join(known)} (give the variant "
                "`imagenet` after all others)",
            )

    def build_method(self) -> Method[Any, Any]:
        """The method under this configuration."""
        return methods.build(self.method, self.model)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Builds and validates a config.

        Args:
            values: an `ml_collections.ConfigDict` or a plain nested mapping, of this version or of
                an earlier one. Missing fields take their defaults.

        Raises:
            UserError: an unknown method or field, a value of the wrong type, or an impossible
                value; the message names the field.
        """
        return cls(**_parts(values))

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dictionaries and lists that JSON can hold."""
        return {"version": VERSION, **to_plain(self)}


def complete(values: Mapping[str, Any]) -> ConfigDict:
    """A config with every field that it leaves out at its default, to be changed further.

    Args:
        values: as for `Config.from_dict`.

    Raises:
        UserError: an unknown method or field, a value of the wrong type, or an impossible model.
    """
    parts = _parts(values)
    defaults = Config(method=parts["method"], model=parts["model"])
    parts["model"].validate("model")
    plain: dict[str, Any] = to_plain({f.name: getattr(defaults, f.name) for f in fields(Config)})
    plain |= to_plain(parts)
    given = {name: source for name, source in plain["pretrained"]["weights"].items() if source}
    sources = dict.fromkeys(defaults.build_method().backbone_modules(), "")
    plain["pretrained"]["weights"] = {**sources, **given}
    return ConfigDict(with_tuples(plain))


def load_config(spec: str, overrides: Sequence[str] = ()) -> Config:
    """From `--config=NAME[:variant]` and overrides to a validated config.

    Args:
        spec: `NAME[:variant]` or `path/to/file.py[:variant]`; the file may define the method and
            the backbones that its config uses.
        overrides: such as `--config.data.batch_size=8`.

    Raises:
        UserError: an unknown file, variant or field, or an impossible value.
    """
    name, _, variants = spec.partition(":")
    path = config_path(name)
    module = load_module(path, "--config")
    register_module(module, path)
    values = complete(evaluate(module, spec, variants))
    return with_code(Config.from_dict(override(values, overrides)))


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A config with single fields changed, such as by `--config.data.num_frames=8`.

    Raises:
        UserError: an unknown field or an impossible value.
    """
    if not overrides:
        return config
    return Config.from_dict(override(complete(config.to_dict()), overrides))


def with_classes(config: Config, names: Sequence[str]) -> Config:
    """A config of a model whose outputs are these classes, in this order.

    Raises:
        UserError: fewer than two, or one is empty or comes twice.
    """
    model = replace(config.model, num_classes=len(names))
    return replace(config, model=model, class_names=tuple(names))


def with_outputs(config: Config, number: int) -> Config:
    """A config whose number of classes is settled: the one it gives, or else this one."""
    if config.model.num_classes:
        return config
    return replace(config, model=replace(config.model, num_classes=number))


def with_code(config: Config) -> Config:
    """A config that records which user's file its method or a backbone is defined in, if any."""
    networks = config.build_method().networks().values()
    return replace(config, code=record_of(config.method, *(n.backbone for n in networks)))


def _parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config's fields as they were given, each built as the class that the method asks for."""
    given = upgrade(values)
    version = given.pop("version", VERSION)
    require(
        isinstance(version, int) and version <= VERSION,
        "version",
        f"{version!r} is not known here (up to {VERSION}); upgrade ar_net_jax",
    )
    check_names(Config, given)
    code = build(CodeRecord, given.get("code", {}), "code")
    check_record(code)
    name = given.get("method", ARNet.name)
    method = methods.get(name)
    built: dict[str, Any] = {
        "method": name,
        "model": build(method.Config, given.get("model", {}), "model"),
        "stages": {
            key: _stage(method, stage, f"stages.{key}")
            for key, stage in given.get("stages", {}).items()
        },
    }
    others = {key: value for key, value in given.items() if key not in built}
    parts = {**built, **convert_fields(Config, others)}
    if "pretrained" in parts:
        # An empty source says no more than a missing one, so that configs with either are equal.
        used = {name: source for name, source in parts["pretrained"].weights.items() if source}
        parts["pretrained"] = replace(parts["pretrained"], weights=used)
    return parts


def _stage(method: type[Method[Any, Any]], values: Mapping[str, Any], path: str) -> StageConfig:
    """A stage, which minimises the method's usual losses where it names none."""
    stage: StageConfig = build(method.Stage, values, path)
    if "losses" in values:
        return stage
    return replace(stage, losses=method.usual_losses(stage.objective))


def with_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that config fields are."""
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(with_tuples(item) for item in value) if isinstance(value, list) else value
