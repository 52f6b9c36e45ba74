"""Training steps over four devices: sharded momentum, micro-batches, and the routed form."""

import json
import subprocess
import sys

import pytest
from cpu_devices import with_devices

SCRIPT = """
import dataclasses, functools, json
import jax, jax.numpy as jnp, numpy as np, optax
from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.backbones import folded_norm
from ar_net_jax.backbones import resnet
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState, state_shardings
from ar_net_jax.training.steps import make_train_step

METHOD = ARNet(ARNetConfig(
    num_classes=3, resolutions=(24, 16), backbones=("resnet8_tiny",), skips=(1, 2),
    policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
))
# Of one network, which is the policy's.
SMALLER = ARNet(dataclasses.replace(METHOD.config, resolutions=(16,), backbones=()))
JOINT = ARNetStage(
    "joint", ARNet.usual_losses("joint"), learning_rate=0.05, tau_start=2.0, tau_decay=0.0
)
ROUTED = dataclasses.replace(JOINT, freeze_policy="all", routing="routed", routed_chunk=3)
MESH = devices.make_mesh()

def batch(step):
    rng = np.random.default_rng(step)
    return {
        "frames": rng.integers(0, 256, (8, 4, 24, 24, 3), np.uint8),
        "labels": rng.integers(0, 3, (8, 1)).astype(np.int32),
        "example_id": np.arange(8, dtype=np.int32) + 8 * step,
        "epoch": np.zeros(8, np.int32),
    }

@functools.cache
def drawn(method):
    return jax.device_get(jax.jit(method.initial_variables)(jax.random.key(0)))

def train(method, stage, mesh, steps=3, **fields):
    variables = drawn(method)
    config = OptimizerConfig(**fields)
    optimizer = make_optimizer(
        config, optax.constant_schedule(0.05), variables["params"],
        part_of=lambda path: method.part_of(stage, path), heads=method.head_names(),
    )
    step = make_train_step(
        StageLoss(method, stage, 1, mesh), optimizer, mesh, steps_per_epoch=4,
        micro_batches=config.micro_batches, shard_state=config.shard_state,
    )
    state = TrainState.create(jax.tree.map(jnp.array, variables), optimizer)
    if mesh is not None:
        shard = config.shard_state
        state = jax.device_put(state, state_shardings(state, mesh, shard_optimizer=shard))
    losses = []
    for index in range(steps):
        rows = batch(index)
        rows = devices.put_batch(rows, mesh) if mesh is not None else rows
        state, metrics = step(state, rows)
        losses.append(float(metrics["loss"]))
    return state, losses, step._cache_size()

def difference(a, b):
    return max(
        float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-2))
        for x, y in zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)))
    )

found = {"devices": jax.device_count()}
whole = train(SMALLER, JOINT, MESH)
split = train(SMALLER, JOINT, MESH, shard_state=True)
found["sharded"] = difference(split[0], whole[0])
found["losses"] = [whole[1], split[1]]
found["compiled"] = [whole[2], split[2]]
found["shares"] = [
    (x.size, x.addressable_shards[0].data.size) for x in jax.tree.leaves(split[0].opt_state)
]
found["parameters_whole"] = all(x.is_fully_replicated for x in jax.tree.leaves(split[0].params))
# Statistics are those of a chunk or of a part, so the forms agree only without them.
resnet.conv_norm = lambda *a, train, **options: folded_norm.conv_norm(*a, train=False, **options)
masked = train(METHOD, dataclasses.replace(ROUTED, routing="masked"), None)
routed = train(METHOD, ROUTED, MESH, micro_batches=2)
found["routed"] = difference(routed[0].params, masked[0].params)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=with_devices(4),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4
    return found


def test_sharded_momentum_changes_no_number(found: dict) -> None:
    assert found["sharded"] < 1e-5
    whole, split = found["losses"]
    assert split == pytest.approx(whole, rel=1e-5)


def test_each_device_keeps_a_quarter_of_the_momentum(found: dict) -> None:
    large = [(size, share) for size, share in found["shares"] if size >= 1024]
    assert large
    assert all(share * 4 == size for size, share in large)
    assert found["parameters_whole"]


def test_steps_are_compiled_once(found: dict) -> None:
    assert found["compiled"] == [1, 1]


def test_each_device_routes_its_share_of_each_micro_batch(found: dict) -> None:
    """As one device that runs every network on every frame of the whole batch."""
    assert found["routed"] < 1e-5
