"""Parts cut out of images, against SciPy's interpolation and against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ar_net_jax.ops.crop import bilinear_matrix, crop, random_places

RNG = np.random.default_rng(0)
_crop = jax.jit(crop, static_argnums=2)
IMAGES = RNG.normal(size=(3, 11, 9, 2)).astype(np.float32)


def _by_scipy(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Pixels are squares: sample i stands in the middle of the i-th part of the box."""
    places = [box[k] + (np.arange(size) + 0.5) * box[2 + k] / size - 0.5 for k in range(2)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    of_channel = [
        map_coordinates(image[..., c].astype(np.float64), grid, order=1, mode="nearest")
        for c in range(image.shape[-1])
    ]
    return np.stack(of_channel, axis=-1)


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([[0.0, 0.0, 4, 4], [2.3, 4.9, 4, 4], [7.0, 5.0, 4, 4]], 4),
        ([[0.4, 1.2, 8, 6], [0.0, 0.0, 11, 9], [3.1, 2.2, 5, 5]], 3),
        ([[0.0, 0.0, 2, 3], [8.9, 6.3, 2, 2], [1.5, 1.5, 1, 1]], 5),
    ],
    ids=["as it is", "shrunk", "enlarged"],
)
def test_a_part_is_what_scipy_interpolates(boxes: list[list[float]], size: int) -> None:
    found = _crop(IMAGES, np.float32(boxes), size)
    assert (found.shape, found.dtype) == ((3, size, size, 2), jnp.float32)
    for image, box, part in zip(IMAGES, boxes, found):
        np.testing.assert_allclose(part, _by_scipy(image, np.array(box), size), atol=1e-5)


def test_at_whole_pixels_nothing_is_interpolated() -> None:
    found = _crop(IMAGES, np.float32([[1, 2, 5, 5]] * 3), 5)
    np.testing.assert_array_equal(found, IMAGES[:, 1:6, 2:7])


def test_rows_sum_to_one() -> None:
    starts, sides = RNG.uniform(0, 5, 4), RNG.uniform(0.5, 6, 4)
    matrix = bilinear_matrix(np.float32(starts), np.float32(sides), 7, 10)
    np.testing.assert_allclose(matrix.sum(-1), 1, atol=1e-6)


def test_the_gradient_is_that_of_small_shifts_and_growth() -> None:
    """Of place, side and image, in float64; between whole pixels the part is smooth in all."""
    with jax.enable_x64(True):
        weights = jnp.asarray(RNG.normal(size=(1, 4, 4, 2)))
        image, box = jnp.asarray(IMAGES[:1], jnp.float64), jnp.array([[1.3, 2.4, 5.1, 4.3]])

        @jax.jit
        def value(image: jax.Array, box: jax.Array) -> jax.Array:
            return jnp.sum(weights * crop(image, box, 4))

        of_image, of_box = jax.jit(jax.grad(value, argnums=(0, 1)))(image, box)
        for index in range(4):
            step = 1e-3 * np.eye(4)[[index]]
            slope = (value(image, box + step) - value(image, box - step)) / 2e-3
            assert float(of_box[0, index]) == pytest.approx(float(slope), abs=2e-4, rel=2e-4)
        shift = jnp.asarray(RNG.normal(size=image.shape))
        change = value(image + shift, box) - value(image, box)
        assert float(jnp.sum(of_image * shift)) == pytest.approx(float(change), rel=1e-5)


def test_random_places_belong_to_their_video_and_fill_the_frame() -> None:
    keys = jax.random.split(jax.random.key(0), 6)
    drawn = random_places(keys, 400, 2)
    np.testing.assert_array_equal(drawn[2], random_places(keys[2:3], 400, 2)[0])
    assert drawn.shape == (6, 400, 2) and 0 <= drawn.min() and drawn.max() < 1
    counts = np.histogram(np.asarray(drawn).ravel(), bins=4, range=(0, 1))[0] / drawn.size
    np.testing.assert_allclose(counts, 0.25, atol=0.03)
