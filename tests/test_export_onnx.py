"""ONNX Runtime gives for an exported model what the model itself gives."""

import json
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported_models import (
    AR_NET,
    BFLOAT16,
    CLASSES,
    LENGTH,
    MOBILE,
    RANDOM,
    SIDE,
    colourful,
    random_model,
    save,
)
from jax import lax
from jax.extend.core import jaxpr_as_fun

from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference import export_onnx as exporting
from ar_net_jax.inference.export_options import ExportOptions
from ar_net_jax.inference.plain_program import plain_program, primitives
from ar_net_jax.methods.uniform import UniformConfig

RESNET50 = Config(
    method="uniform",
    model=UniformConfig(num_classes=CLASSES, resolution=SIDE, backbone="resnet50"),
)


def _everything(x: jax.Array) -> tuple[jax.Array, ...]:
    """What backbones and loops are made of."""

    def step(state: jax.Array) -> jax.Array:
        return lax.platform_dependent(state, cpu=lambda v: v * 2.0, default=lambda v: v + v + 0.0)

    doubled = lax.while_loop(lambda state: state.sum() < 1e3, step, nn.relu(x) + 1.0)
    _ = jnp.linalg.norm(doubled)  # No output depends on it.
    pooled = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    chosen = lax.cond(x[0, 0, 0, 0] > 0, nn.silu, nn.relu, x)
    return jnp.stack([doubled, x], axis=1), pooled, jax.jit(jnp.argsort)(chosen[0, 0, :, 0])


def test_a_plain_program_computes_the_same_from_fewer_primitives() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype("f")
    program = plain_program(_everything, x)
    for got, expected in zip(jaxpr_as_fun(program)(x), _everything(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    left = primitives(program)
    assert {"while", "cond", "sort"} <= left
    assert not left & {"jit", "platform_index", "stack", "sqrt"}
    assert not [name for name in left if name.startswith("custom")]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (BFLOAT16, {}, "dtype: 'bfloat16' is computed by no .*arnet convert MODEL .*dtype=float32"),
        (AR_NET, {"platforms": ("cpu",)}, "platforms: an ONNX file runs wherever"),
        (AR_NET, {"chunks": (4,)}, "chunks: .* give --batch=N as well"),
        (AR_NET, {"policy": "sample"}, "policy 'sample': decisions are drawn at random"),
        (RANDOM, {}, "method 'random_policy', .* drawn at random .* write a StableHLO file"),
    ],
)
def test_what_onnx_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, config: Config, options: dict, message: str
) -> None:
    monkeypatch.setattr(exporting, "check_extra", lambda: None)
    model = random_model(config)
    with pytest.raises(UserError, match=message):
        exporting.export_onnx(model.config, model.variables, ExportOptions(num_frames=2, **options))


@pytest.mark.parametrize("package", ["jax2onnx", "onnxruntime"])
def test_a_missing_extra_is_told_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", sys)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit):
        main(["export", "--workdir=nowhere", f"--output={tmp_path}/m.onnx"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"writing a .onnx file needs '{package}'" in line
    assert "pip install 'ar_net_jax[onnx]'" in line
    assert not list(tmp_path.iterdir())


def _run(path: Path, frames: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames}), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("config", [AR_NET, MOBILE, RESNET50], ids=["ar_net", "mobile", "resnet50"])
@pytest.mark.parametrize("batch", [None, 3], ids=["masked", "routed"])
def test_onnx_runtime_gives_what_the_model_gives(
    tmp_path: Path, config: Config, batch: int | None
) -> None:
    pytest.importorskip("jax2onnx", reason="needs pip install 'ar_net_jax[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs pip install 'ar_net_jax[onnx]'")
    model, output = random_model(config), tmp_path / "m.onnx"
    save(model, tmp_path)
    fixed = [] if batch is None else [f"--batch={batch}", "--chunks=4,1"]
    main(["export", f"--workdir={tmp_path}", f"--output={output}", *fixed])
    for size in [batch] if batch else [1, 7]:
        frames = colourful(size)
        answer, expected = _run(output, frames), model(frames, routing="masked")
        np.testing.assert_array_equal(answer["actions"], expected.actions)
        np.testing.assert_allclose(answer["gflops"], expected.gflops, rtol=1e-6)
        scale = np.abs(expected.logits).max()
        np.testing.assert_allclose(answer["logits"], expected.logits, atol=1e-5 * scale)
    facts = json.loads((tmp_path / "m.onnx.json").read_text())
    assert facts["format"] == "onnx" and "platforms" not in facts
    assert facts["form"] == ("masked" if batch is None else "routed")
    assert facts["inputs"]["frames"]["shape"] == [batch or "b", LENGTH, SIDE, SIDE, 3]
    if config is AR_NET:
        assert len(np.unique(answer["actions"])) > 2, "one action alone would show little"
