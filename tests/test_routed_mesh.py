"""Routed inference over four devices against one; in a process of its own, for its XLA flags."""

import json
import subprocess
import sys

from cpu_devices import with_devices

SCRIPT = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ar_net_jax.inference.step import Request, make_inference, make_predict_step
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh, put_batch, replicated

model = ARNet(ARNetConfig(
    num_classes=5, resolutions=(24, 16), backbones=("resnet8_tiny",), skips=(1, 2),
    policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
))
variables = jax.jit(model.initial_variables)(jax.random.key(0))
frames = np.random.default_rng(0).integers(0, 256, (8, 6, 24, 24, 3), np.uint8)
ids = np.arange(8, dtype=np.int32)
batch = {"frames": frames, "example_id": ids}
variables = jax.tree.map(np.asarray, variables)
# Random draws make the devices' shares of work differ.
mesh = make_mesh()
one = make_inference(model, policy="sample", chunks=(4, 1))
four = make_inference(model, policy="sample", chunks=(4, 1), mesh=mesh)
keys = example_keys(3, np.zeros(8, np.int32), ids)
alone = one(variables, Request(jnp.asarray(frames), keys), jnp.float32(0))
spread = put_batch({"frames": frames}, mesh)["frames"]
split_keys = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data")))
sharded = four(
    jax.device_put(variables, replicated(mesh)), Request(spread, split_keys), jnp.float32(0)
)
step = make_predict_step(model, 0, mesh=mesh)(
    jax.device_put(variables, replicated(mesh)), put_batch(batch, mesh)
)
plain = make_predict_step(model, 0)(variables, jax.tree.map(jnp.asarray, batch))


# Frames that each network computed on each device.
def computed(result):
    by_network = [result.executed[name] for name in ("24px", "policy")]
    return np.stack(by_network, axis=-1).tolist()


print(json.dumps({
    "devices": jax.device_count(),
    "difference": float(np.abs(sharded.logits - alone.logits).max() / np.abs(alone.logits).max()),
    "same_actions": bool((sharded.actions == alone.actions).all()),
    "alone": computed(alone),
    "sharded": computed(sharded),
    "by_device": [
        int((np.asarray(alone.actions)[2 * d : 2 * d + 2] == 0).sum()) for d in range(4)
    ],
    "step_difference": float(np.abs(step.logits - plain.logits).max()),
}))
"""


def test_four_devices_route_their_own_videos_and_agree_with_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=with_devices(4),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4
    assert found["same_actions"] and found["difference"] < 1e-5
    assert found["step_difference"] < 1e-5
    assert len(found["alone"]) == 1 and len(found["sharded"]) == 4
    # With a smallest chunk of one nothing is wasted, so each device computed just its own frames.
    assert [row[0] for row in found["sharded"]] == found["by_device"]
    assert [row[1] for row in found["sharded"]] == [12] * 4
