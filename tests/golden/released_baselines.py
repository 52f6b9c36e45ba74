"""Released checkpoints of the baselines, and what a rebuild in PyTorch computes from them.

The files of Uniform (both forms), LSTM, Multi-Scale and Random are the weights of
`arnet_resnet.npz` under the key names that each of them has. Frames are small, so that running
them is cheap. `released_baselines.npz` holds the outputs; written again (needs the parity extra) by

    python tests/golden/released_baselines.py
"""

from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from golden import recipe
    from golden.libraries import import_torchvision
else:
    import recipe
    from libraries import import_torchvision

RESOLUTIONS = (64, 48, 32, 24)
STORED = Path(__file__).parent / "released_baselines.npz"
_SEED = 5


def frames() -> np.ndarray:
    """Two videos of four frames: uint8 [2, 4, 64, 64, 3]."""
    return recipe.frames(_SEED, batch=2, steps=4, size=RESOLUTIONS[0])


def states() -> dict[str, dict[str, np.ndarray]]:
    """The `state_dict` of each file by its name; what a file may hold unused is in it."""
    ar_net = recipe.state_dict(recipe.load("arnet_resnet"))
    backbone, head = "module.base_model_list.0.", "module.new_fc_list.0."
    lstm_weights = {
        key: recipe.draw(key, shape, _SEED)
        for key, shape in (
            ("module.rnn.weight_ih", (2048, 2048)),
            ("module.rnn.weight_hh", (2048, 512)),
            ("module.rnn.bias_ih", (2048,)),
            ("module.rnn.bias_hh", (2048,)),
        )
    }
    no_actions = {
        "module.linear.weight": np.zeros((0, 2048), np.float32),
        "module.linear.bias": np.zeros(0, np.float32),
    }
    lite = _renamed(ar_net, backbone, "module.lite_backbone.")
    return {
        "uniform_lite": {
            **lite,
            **lstm_weights,
            **no_actions,
            **_renamed(ar_net, head, "module.lite_fc."),
        },
        "uniform_single": {
            **_renamed(ar_net, backbone, "module.base_model."),
            **_renamed(ar_net, head, "module.new_fc."),
        },
        "lstm": {
            **lite,
            **lstm_weights,
            **_first_actions(ar_net, 1),
            **_renamed(ar_net, "module.lite_fc.", "module.lite_fc."),
            **_renamed(ar_net, backbone, backbone),
            **_renamed(ar_net, head, head),
        },
        "multi_scale": {**ar_net, **_first_actions(ar_net, 5)},
        "random_policy": ar_net,
    }


def outputs() -> dict[str, np.ndarray]:
    """PyTorch's outputs: logits [2, 200] by file, and every network's [2, 4, 4, 200]."""
    import torch

    checkpoints = states()
    with torch.no_grad():
        lite = checkpoints["uniform_lite"]
        features = _features(lite, "lite_backbone", "resnet50", RESOLUTIONS[0])
        lstm = checkpoints["lstm"]
        hidden = _unroll(lstm, features)
        ar_net = checkpoints["random_policy"]
        names = ("resnet50", "resnet34", "resnet18")
        predictions = [
            _linear(
                ar_net,
                f"new_fc_list.{i}",
                _features(ar_net, f"base_model_list.{i}", name, RESOLUTIONS[i]),
            )
            for i, name in enumerate(names)
        ]
        policy = _features(ar_net, "lite_backbone", "mobilenet_v2", RESOLUTIONS[3])
        predictions.append(_linear(ar_net, "lite_fc", _unroll(ar_net, policy)))
        every = torch.stack(predictions, 2)
        return {
            "uniform": _linear(lite, "lite_fc", features).mean(1).numpy(),
            "lstm": _linear(lstm, "lite_fc", hidden).mean(1).numpy(),
            "multi_scale": every.mean((1, 2)).numpy(),
            "frame_logits": every.numpy(),
        }


def _renamed(state: dict[str, np.ndarray], old: str, new: str) -> dict[str, np.ndarray]:
    return {new + k.removeprefix(old): v for k, v in state.items() if k.startswith(old)}


def _first_actions(state: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {key: state[key][:count] for key in ("module.linear.weight", "module.linear.bias")}


def _tensors(state: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    import torch

    found = _renamed(state, f"module.{prefix}.", "")
    return {key: torch.from_numpy(np.array(value)) for key, value in found.items()}


def _features(state: dict[str, np.ndarray], prefix: str, name: str, size: int) -> Any:
    """Pooled features [2, 4, D] of all frames, shrunk as the authors' code shrinks them."""
    import torch

    network = getattr(import_torchvision().models, name)(weights=None)
    setattr(network, "classifier" if name == "mobilenet_v2" else "fc", torch.nn.Identity())
    network.load_state_dict(_tensors(state, prefix))
    clips = torch.from_numpy(frames()).float() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((clips - mean) / deviation).flatten(0, 1).permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(x, size=(size, size), mode="nearest")
    return network.eval()(x).unflatten(0, clips.shape[:2])


def _unroll(state: dict[str, np.ndarray], features: Any) -> Any:
    """Hidden states [2, 4, H], none of them restored."""
    import torch

    weights = _tensors(state, "rnn")
    cell = torch.nn.LSTMCell(weights["weight_ih"].shape[1], weights["weight_hh"].shape[1])
    cell.load_state_dict(weights)
    carried, steps = None, []
    for feature in features.unbind(1):
        carried = cell(feature, carried)
        steps.append(carried[0])
    return torch.stack(steps, 1)


def _linear(state: dict[str, np.ndarray], prefix: str, x: Any) -> Any:
    import torch

    return torch.nn.functional.linear(x, **_tensors(state, prefix))


if __name__ == "__main__":
    np.savez_compressed(STORED, **outputs())
