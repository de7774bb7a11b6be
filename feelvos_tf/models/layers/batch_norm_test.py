"""Running averages of several replicas."""

import subprocess
import sys

# Two logical CPUs must be configured before TensorFlow starts, hence a separate process.
_TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from feelvos_tf.models.layers.batch_norm import BatchNorm

images = np.random.default_rng(0).standard_normal([2, 3, 5, 6, 4]).astype(np.float32)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    norm = BatchNorm(epsilon=1e-3, decay=0.9)
    norm.build([None, None, None, 4])


@tf.function
def step():
    def of_replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return norm(tf.gather(images, replica))

    return strategy.run(of_replica)


step()
axes = (1, 2, 3)
for average, before, of_replicas in (
    (norm.moving_mean, 0.0, images.mean(axes)),
    (norm.moving_variance, 1.0, images.var(axes)),
):
    copies = [copy.numpy() for copy in strategy.experimental_local_results(average)]
    assert len(copies) == 2
    for copy in copies:
        expected = 0.9 * before + 0.1 * of_replicas.mean(0)
        np.testing.assert_allclose(copy, expected, atol=1e-5)
"""


def test_the_mean_of_all_replicas_statistics_moves_the_averages():
    done = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
