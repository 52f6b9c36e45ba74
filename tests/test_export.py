"""An exported model gives, in a process without this package, what the model itself gives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from exported_models import (
    AR_NET,
    BFLOAT16,
    CLASSES,
    LENGTH,
    LSTM,
    MOBILE,
    RANDOM,
    SIDE,
    colourful,
    random_model,
    save,
)
from jax import export

from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference import export_options
from ar_net_jax.inference.export import describe_export, export_model
from ar_net_jax.inference.export_options import ExportOptions
from ar_net_jax.inference.model import Model

RUN_IT = """
import sys
import jax, numpy as np
exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
call = jax.jit(exported.call)
with np.load(sys.argv[2]) as given:
    answers = {
        f"{name} {output}": np.asarray(value)
        for name in given
        for output, value in call(given[name]).items()
    }
np.savez(sys.argv[3], **answers)
assert not [name for name in sys.modules if name.startswith(("ar_net_jax", "flax"))]
"""


def _assert_same(answer: dict, model: Model, frames: np.ndarray, tolerance: float, **how) -> None:
    expected = model(frames, **how)
    np.testing.assert_array_equal(answer["actions"], expected.actions)
    np.testing.assert_allclose(answer["gflops"], expected.gflops, rtol=1e-6)
    scale = np.abs(expected.logits).max()
    np.testing.assert_allclose(answer["logits"], expected.logits, atol=tolerance * scale)


def test_it_runs_without_this_package_at_any_batch_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = random_model(AR_NET), tmp_path / "model.stablehlo"
    save(model, tmp_path)
    main(["export", f"--workdir={tmp_path}", f"--output={output}"])
    assert "any number of videos of 5 frames" in capsys.readouterr().out
    videos = {str(batch): colourful(batch) for batch in (1, 7)}
    np.savez(tmp_path / "frames.npz", **videos)
    subprocess.run(
        [sys.executable, "-c", RUN_IT, output, tmp_path / "frames.npz", tmp_path / "answers.npz"],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    answers = np.load(tmp_path / "answers.npz")
    for name, frames in videos.items():
        answer = {output: answers[f"{name} {output}"] for output in ("logits", "actions", "gflops")}
        _assert_same(answer, model, frames, 1e-5)
    assert len(np.unique(answers["7 actions"])) > 2, "one action alone would show little"


def test_what_stands_beside_it(tmp_path: Path) -> None:
    output = tmp_path / "m.bin"
    save(random_model(AR_NET), tmp_path)
    main(["export", f"--workdir={tmp_path}", f"--output={output}", "--batch=2", "--num-frames=3"])
    facts = json.loads((tmp_path / "m.bin.json").read_text())
    exported = export.deserialize(output.read_bytes())
    assert facts["platforms"] == list(exported.platforms) == ["cpu", "cuda", "tpu"]
    (frames,) = exported.in_avals
    assert facts["inputs"]["frames"]["shape"] == list(frames.shape) == [2, 3, SIDE, SIDE, 3]
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert facts["outputs"] == {
        name: {"dtype": str(aval.dtype), "shape": list(aval.shape)}
        for name, aval in outputs.items()
    }
    assert facts["actions"] == ["24px", "16px", "skip 1", "skip 2"]
    assert facts["classes"] == [f"class {i}" for i in range(CLASSES)]
    assert facts["gflops_convention"] == "macs" and "jax" in facts["versions"]
    assert Config.from_dict(facts["config"]) == random_model(AR_NET).config


def test_each_platform_gets_its_own_form() -> None:
    model = random_model(MOBILE)

    def grouped(*platforms: str) -> bool:
        chosen = ExportOptions(num_frames=2, batch=1, platforms=platforms, chunks=(2,))
        program = export.deserialize(export_model(model.config, model.variables, chosen))
        groups = re.findall(r"feature_group_count = (\d+)", program.mlir_module())
        return set(groups) != {"1"}

    assert not grouped("cpu") and not grouped("cuda"), "shifted products"
    assert grouped("tpu") and grouped("cpu", "tpu")


def test_each_platform_gets_its_own_chunks() -> None:
    model, options = random_model(AR_NET), ExportOptions(num_frames=LENGTH)
    chunks = describe_export(model.config, options)["chunks"]
    assert chunks["cpu"] != chunks["cuda"] != chunks["tpu"]
    data = export_model(model.config, model.variables, options)
    program = export.deserialize(data).mlir_module()
    for platform in ("cpu", "cuda"):
        for size in chunks[platform]["24px"]:
            assert f"tensor<{size}x{SIDE}x{SIDE}x3xui8>" in program, (platform, size)


@pytest.mark.parametrize(
    ("config", "options", "how"),
    [
        (LSTM, {}, {}),
        (RANDOM, {"seed": 4}, {"seed": 4}),
        (AR_NET, {"policy": "sample", "seed": 5}, {"policy": "sample", "seed": 5}),
        (BFLOAT16, {"batch": 3, "chunks": (4, 1)}, {}),
    ],
)
def test_other_methods_and_choices(config: Config, options: dict, how: dict) -> None:
    model, frames = random_model(config), colourful(3)
    chosen = ExportOptions(
        **{"num_frames": LENGTH, "platforms": ("cpu",), "chunks": (4,)} | options
    )
    data = export_model(model.config, model.variables, chosen)
    answer = jax.jit(export.deserialize(data).call)(frames)
    tolerance = 2e-2 if config is BFLOAT16 else 1e-5
    _assert_same(answer, model, frames, tolerance, routing="masked", **how)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--platforms=cpu,gpu"], "platforms: 'gpu' must be one or several of cpu,cuda,tpu"),
        (["--batch=0"], "batch: must be symbolic or at least 1, got 0"),
        (["--num-frames=0"], "num_frames: must be at least 1, got 0"),
        (["--chunks=2,4"], "chunks: (2, 4) must be whole numbers"),
        (["--output=."], "--output=.: is a folder"),
        (["--output=nowhere/m.stablehlo"], "there is no folder nowhere"),
        (["--config.seed=1"], "a trained model is used as it is"),
        (["--workdir=nowhere"], "no finished model here"),
    ],
)
def test_bad_flags_are_refused_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    save(random_model(AR_NET), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr("ar_net_jax.inference.export.export_model")
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--workdir=.", "--output=m.stablehlo", *flags])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(tmp_path.glob("*m.stablehlo*"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch=some", "must be 'symbolic' or a whole number, got 'some'"),
        ("--chunks=a", "'a' should be whole numbers separated by commas"),
    ],
)
def test_flags_that_are_no_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--workdir=.", "--output=m.stablehlo", flag])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_weights_that_no_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(AR_NET)
    monkeypatch.setattr(export_options, "_MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"0\.00 GiB.*arnet convert"):
        export_model(model.config, model.variables, ExportOptions(num_frames=2))
