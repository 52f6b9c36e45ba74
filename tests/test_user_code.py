"""A user's file with a method or a backbone: registered, recorded, and never run from a run."""

import hashlib
import types
import warnings
from pathlib import Path

import pytest

from ar_net_jax import backbones, methods
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.methods import user_code
from ar_net_jax.methods.user_code import CodeRecord, check_record, load_user_code, record_of

FILE = '''
from dataclasses import dataclass

import flax.linen as nn

from ar_net_jax.methods import Method, ModelConfig, Network


@dataclass(frozen=True)
class OwnConfig(ModelConfig):
    """Fields of a method of one's own."""

    side: int = 16


class Own(Method[OwnConfig]):
    """A method of one's own."""

    name, title, Config = "own", "Own", OwnConfig

    def module(self) -> nn.Module:
        return nn.Module()

    def networks(self) -> dict[str, Network]:
        side = self.config.side
        return {f"{side}px": Network(("net",), backbone="resnet8_tiny", resolution=side)}


def get_config():
    return {"method": "own", "stage_order": ("train",), "stages": {"train": {}}}
'''


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is forgotten after it."""
    for module, name in (
        (methods.registry, "_METHODS"),
        (backbones, "_REGISTERED"),
        (user_code, "_LOADED"),
    ):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return path


def test_a_file_registers_its_method_and_is_recorded(file: Path) -> None:
    record = load_user_code(str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record == CodeRecord(str(file.resolve()), digest, ("own",))
    assert methods.get("own").title == "Own"
    assert record_of("own") == record and record_of("ar_net") == CodeRecord()


def test_a_config_file_may_define_the_method_that_it_uses(file: Path) -> None:
    config = load_config(str(file), ["--config.model.side=24"])
    assert (config.method, config.model.side) == ("own", 24)
    assert config.code.names == ("own",)
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.py", "--method=.*missing.py: no such Python file"),
        ("own.txt", "--method=.*own.txt: no such Python file"),
        ("", "no such Python file"),
    ],
)
def test_what_is_no_file_of_python_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "own.txt").write_text(FILE)
    with pytest.raises(UserError, match=message):
        load_user_code(str(tmp_path / path))


@pytest.mark.parametrize("path", ["gs://bucket/own.py", "https://example.org/own.py"])
def test_code_that_lies_elsewhere_is_never_run(path: str) -> None:
    with pytest.raises(UserError, match="code is run from local files only"):
        load_user_code(path)


def test_a_file_that_defines_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    # What it imports is not its own.
    path.write_text("from ar_net_jax.methods.ar_net import ARNet\n")
    with pytest.raises(UserError, match="defines neither a method nor a backbone"):
        load_user_code(str(path))


def test_a_shipped_methods_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taken.py"
    path.write_text(FILE.replace('"own", "Own"', '"ar_net", "Own"'))
    with pytest.raises(UserError, match="'ar_net' ships with ar_net_jax"):
        load_user_code(str(path))


@pytest.mark.parametrize("mark", ["checkpoints", "stages", "history", "model", "variables"])
@pytest.mark.parametrize("below", ["", "code/deep"])
def test_a_file_in_the_directory_of_a_run_is_refused(tmp_path: Path, mark: str, below: str) -> None:
    (tmp_path / mark).mkdir()
    (tmp_path / "config.json").write_text("{}")
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    path, ran = folder / "own.py", tmp_path / "ran"
    path.write_text(f"open({str(ran)!r}, 'w').close()\n{FILE}")
    for use in (load_user_code, load_config):
        with pytest.raises(UserError, match="lies in the directory of a run"):
            use(str(path))
    assert not ran.exists(), "nothing of it is run before it is refused"


def test_a_file_that_has_changed_is_warned_of(file: Path) -> None:
    record = load_user_code(str(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_record(record)
    file.write_text(FILE + "\n# Changed.\n")
    load_user_code(str(file))
    with pytest.warns(UserWarning, match=f"not the file that .* sha256 {record.sha256[:12]}"):
        check_record(record)


def test_code_that_is_missing_is_named_by_its_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = load_config(str(file)).to_dict()
    monkeypatch.setattr(user_code, "_LOADED", {})
    known = {name: cls for name, cls in methods.registry._METHODS.items() if name != "own"}
    monkeypatch.setattr(methods.registry, "_METHODS", known)
    with pytest.raises(UserError) as error:
        Config.from_dict(values)
    message = str(error.value)
    assert message.startswith("this model uses 'own'")
    assert f"--method={file.resolve()}" in message and "\n" not in message


def test_nothing_is_registered_by_a_module_without_methods(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("X = 1\n")
    record = user_code.register_module(types.ModuleType("plain"), path)
    assert record == CodeRecord()
