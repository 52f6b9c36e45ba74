"""`arnet costs` reproduces the paper's figures, agrees with itself, and refuses bad usages."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax import backbones
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli.main import main
from ar_net_jax.costs import frame_gflops
from ar_net_jax.costs.usage import parse_usage
from ar_net_jax.costs.xla import xla_gmacs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import load_config
from ar_net_jax.reporting.costs import model_costs

GOLDEN = Path(__file__).parent / "golden"
# Per frame as the released code has them: each action's cost, then the policy with its LSTM.
RELEASED = {
    "resnet": (4.1099, 2.2489, 0.4862, 0, 0, 0, 0),
    "efficientnet": (1.80, 0.394, 0.0975, 0, 0, 0, 0),
}
RELEASED_POLICY = 0.0527 + 0.00328
NAMES = ("224px", "168px", "skip 2")


def _figures(tmp_path: Path, *flags: str) -> dict:
    """Runs the job and reads what it wrote."""
    path = tmp_path / "costs.json"
    main(["costs", *flags, f"--json={path}"])
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("variant", "per_video"),
    [
        ("uniform", 65.76),
        ("lstm", 65.89),
        pytest.param("multi_scale", 110.41, marks=pytest.mark.slow),
        ("efficientnet,uniform", 28.80),
        pytest.param("efficientnet,multi_scale", 37.56, marks=pytest.mark.slow),
    ],
)
def test_rows_of_the_papers_tables(tmp_path: Path, variant: str, per_video: float) -> None:
    (video,) = _figures(tmp_path, f"--config=activitynet:{variant}")["videos"]
    assert (video["usage"], video["num_frames"]) == (None, 16)
    assert video["gflops_per_video"]["paper"] == pytest.approx(per_video, abs=0.01)


def test_scsampler_from_the_same_networks(tmp_path: Path) -> None:
    figures = _figures(tmp_path, "--config=activitynet")
    networks = {row["name"]: row for row in figures["networks"]}
    policy, resnet50 = networks["policy"], networks["224px"]
    assert (policy["backbone"], resnet50["backbone"]) == ("mobilenet_v2", "resnet50")
    # Every frame is looked at, ten are classified.
    cost = 16 * policy["gflops"]["paper"] + 10 * resnet50["gflops"]["paper"]
    assert cost == pytest.approx(41.94, abs=0.01)


@pytest.mark.parametrize(
    "backbones", ["resnet", pytest.param("efficientnet", marks=pytest.mark.slow)]
)
def test_cost_of_the_released_models_golden_actions(tmp_path: Path, backbones: str) -> None:
    """By hand: a skip of F frames counts 1 / F of a look for each frame spent in it."""
    looks = (1, 1, 1, 1, 1, 1 / 2, 1 / 4)
    for actions in np.load(GOLDEN / "released_actions.npz")[backbones]:
        expected = sum(RELEASED[backbones][a] + RELEASED_POLICY * looks[a] for a in actions)
        counts = ",".join(map(str, np.bincount(actions, minlength=7)))
        (video,) = _figures(tmp_path, f"--config=activitynet:{backbones}", f"--usage={counts}")[
            "videos"
        ]
        assert video["num_frames"] == 16
        assert video["gflops_per_video"]["paper"] == pytest.approx(expected, abs=0.01)


def test_table_of_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = _figures(tmp_path, "--config=activitynet:efficientnet", "--num-frames=10")
    networks = {row["name"]: row for row in figures["networks"]}
    assert list(networks) == ["224px", "168px", "112px", "policy", "LSTM"]
    second = networks["168px"]
    assert second["backbone"] == "efficientnet_b1" and second["resolution"] == 168
    choices = {row["name"]: row for row in figures["choices"]}
    assert list(choices) == ["224px", "168px", "112px", "84px", "skip 1", "skip 2", "skip 4"]
    assert choices["168px"]["calls"] == {"168px": 1, "policy": 1, "LSTM": 1}
    assert choices["84px"]["calls"] == choices["skip 1"]["calls"] == {"policy": 1, "LSTM": 1}
    assert choices["skip 4"]["calls"] == {"policy": 0.25, "LSTM": 0.25}
    # Each choice on all frames, in both conventions.
    always = {max(v["usage"], key=v["usage"].get): v for v in figures["videos"]}
    assert list(always) == list(choices)
    for convention in ("macs", "paper"):
        looks = sum(networks[name]["gflops"][convention] for name in ("policy", "LSTM"))
        per_video = {name: v["gflops_per_video"][convention] for name, v in always.items()}
        expected = 10 * (networks["224px"]["gflops"][convention] + looks)
        assert per_video["224px"] == pytest.approx(expected)
        assert per_video["skip 4"] == pytest.approx(10 * looks / 4)
        for name, row in choices.items():
            assert per_video[name] == pytest.approx(10 * row["gflops"][convention])
    text = " ".join(capsys.readouterr().out.split())
    assert "macs" in text and "paper" in text and "0.25 policy + 0.25 LSTM" in text
    assert figures["notes"][1:] == [backbones.get("efficientnet_b3").paper_note]


def test_a_trained_model_by_its_folder(tmp_path: Path) -> None:
    config = load_config("demo")
    shapes = config.build_method().variable_shapes()
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    save_model(tmp_path / "model", variables, config.to_dict())
    figures = _figures(tmp_path, f"--workdir={tmp_path}", "--config.data.num_frames=4")
    held = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert figures["parameters"] == held
    assert figures["videos"][0]["num_frames"] == 4


@pytest.mark.parametrize(
    "variant",
    [
        "uniform",
        "lstm",
        *(pytest.param(v, marks=pytest.mark.slow) for v in ("multi_scale", "efficientnet,lstm")),
    ],
)
def test_networks_add_up_to_what_a_frame_costs(variant: str) -> None:
    costs = model_costs(load_config(f"activitynet:{variant}"))
    (choice,) = costs.choices
    for convention, gflops in choice.gflops.items():
        total = sum(network.gflops[convention] for network in costs.networks)
        assert total == pytest.approx(gflops, rel=1e-12)
    assert sum(network.parameters for network in costs.networks) == costs.parameters


def _taps(size: int, kernel: int, stride: int) -> int:
    """Taps of a convolution along one side that fall on the frame, with symmetric padding."""
    first = np.arange(-(-size // stride)) * stride - kernel // 2
    taps = first[:, None] + np.arange(kernel)
    return int(((0 <= taps) & (taps < size)).sum())


def test_xlas_figure_is_taps_on_the_frame_and_elementwise_work() -> None:
    """ResNet-18 written out by hand, its convolutions without the taps on padding."""
    macs = _taps(112, 7, 2) ** 2 * 3 * 64 + 512 * 10
    size, channels = 28, 64
    for width, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        macs += _taps(size, 3, stride) ** 2 * channels * width
        size = -(-size // stride)
        if stride == 2:
            macs += size**2 * channels * width
        macs += 3 * _taps(size, 3, 1) ** 2 * width**2
        channels = width
    xla = xla_gmacs("resnet18", 112, 10) * 1e9
    assert macs < xla < 1.02 * macs
    assert xla < 0.95 * 1e9 * frame_gflops("resnet18", 112, 10, "macs")


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(lambda counts: sum(counts) > 1))
def test_counts_become_shares(counts: list[int]) -> None:
    shares, frames = parse_usage(",".join(map(str, counts)), NAMES)
    assert frames == sum(counts)
    np.testing.assert_allclose(shares * frames, counts, rtol=1e-12, atol=1e-12)


def test_shares_keep_the_number_of_frames_open() -> None:
    shares, frames = parse_usage("0.333,0.333,0.333", NAMES)
    assert frames is None
    np.testing.assert_allclose(shares, 1 / 3)
    assert parse_usage("1, 0, 0", NAMES)[1] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2", r"2 given, but there are 3 actions \(224px, 168px, skip 2\)"),
        ("1,two,3", "'two' of action 168px is not a number"),
        ("0.5,0.8,-0.3", "-0.3 of action skip 2 must be"),
        ("nan,0,1", "nan of action 224px"),
        ("0.5,0.2,0.2", "sum to 0.9, and 0.5 of 224px is no count"),
        ("1,2,1.5", "1.5 of skip 2 is no count"),
        ("0,0,0", "sum to 0; give shares that sum to 1"),
    ],
)
def test_a_bad_usage_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_usage(text, NAMES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--config=activitynet:uniform", "--usage=1"],
            "method 'uniform' treats every frame alike",
        ),
        (["--config=demo", "--num-frames=0"], "--num-frames: must be at least 1"),
        (["--workdir=/nowhere"], "/nowhere: no finished model"),
    ],
)
def test_bad_flags_are_one_line(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["costs", *flags])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
