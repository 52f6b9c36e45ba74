"""Metrics against scikit-learn, the stored golden values and direct counts."""

import pathlib

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from ar_net_jax.evaluation import metrics

GOLDEN = pathlib.Path(__file__).parent / "golden" / "mean_average_precision.npz"


@pytest.mark.parametrize("case", ["case0", "case1"])
def test_agrees_with_the_released_metrics(case: str) -> None:
    golden = np.load(GOLDEN)
    scores = metrics.softmax_scores(golden[f"{case}_out"])
    labels = golden[f"{case}_y"]
    positives = (labels[:, :, None] == np.arange(scores.shape[1])).any(axis=1)
    per_class = [
        100 * metrics.average_precision(scores[:, c], positives[:, c])
        for c in range(scores.shape[1])
    ]
    np.testing.assert_allclose(per_class, golden[f"{case}_ap"], rtol=1e-5)
    found = metrics.mean_average_precision(scores, labels)
    np.testing.assert_allclose(found, golden[f"{case}_map"], rtol=1e-5)
    first = metrics.mean_average_precision(scores, labels, first_label_only=True)
    np.testing.assert_allclose(first, golden[f"{case}_map_first_label"], rtol=1e-5)
    for k in (1, 5):
        top_k = metrics.top_k_accuracy(scores, labels, k)
        np.testing.assert_allclose(top_k, golden[f"{case}_prec{k}"], rtol=1e-5)


# Few distinct scores, so that ties are common.
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])),
            hnp.arrays(bool, n),
        )
    )
)
def test_average_precision_agrees_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positives = case
    found = metrics.average_precision(scores, positives)
    if positives.any():
        expected = sklearn_metrics.average_precision_score(positives, scores)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        assert np.isnan(found)


def test_a_class_without_positives_is_left_out() -> None:
    scores = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    labels = np.array([[0, -1], [2, -1]])
    assert metrics.mean_average_precision(scores, labels) == 100.0


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 7))
def test_top_k_agrees_with_scikit_learn(seed: int, k: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((20, num_classes))
    labels = rng.integers(num_classes, size=(20, 1))
    found = metrics.top_k_accuracy(scores, labels, k)
    ranked = np.argsort(-scores, axis=1)[:, :k]
    assert found == pytest.approx(100 * np.mean([y in r for y, r in zip(labels[:, 0], ranked)]))
    if k == 1 or k < num_classes > 2:
        expected = (
            sklearn_metrics.top_k_accuracy_score(
                labels[:, 0], scores, k=k, labels=np.arange(num_classes)
            )
            if num_classes > 2
            else sklearn_metrics.accuracy_score(labels[:, 0], ranked[:, 0])
        )
        assert found == pytest.approx(100 * expected)


def test_action_usage_counts_only_unmasked_frames() -> None:
    actions = np.array([[0, 1, 1, 2], [3, 3, 3, 3]])
    np.testing.assert_allclose(
        metrics.action_usage(actions, 4, np.array([True, False])), [0.25, 0.5, 0.25, 0]
    )
    frames = np.array([[True, True, False, False], [True, False, False, False]])
    np.testing.assert_allclose(metrics.action_usage(actions, 4, frames), [1 / 3, 1 / 3, 0, 1 / 3])
    with pytest.raises(ValueError, match=r"0\.\.2"):
        metrics.action_usage(actions, 3)


def test_chance_level_is_the_mean_over_random_rankings() -> None:
    labels = np.array([[0, 1]] * 3 + [[1, -1]] * 4 + [[2, -1]] * 5)
    rng = np.random.default_rng(0)
    simulated = np.mean(
        [metrics.mean_average_precision(rng.random((12, 3)), labels) for _ in range(4000)]
    )
    level = metrics.chance_level(labels, num_classes=4)
    assert level["mAP"] == pytest.approx(simulated, abs=0.5)
    assert level["top1"] == 25.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 3)), np.array([[3], [0]]), r"0\.\.2"),
        (np.zeros((2, 3)), np.array([[-1], [-1]]), "no video carries a label"),
        (np.zeros((2, 3)), np.zeros((3, 1), int), r"\(2, 3\) and \(3, 1\)"),
        (np.full((2, 3), np.nan), np.array([[1], [0]]), "NaN"),
    ],
)
def test_bad_input_is_named(
    scores: np.ndarray, labels: np.ndarray, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As users call it, whose shapes nobody has checked before.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        metrics.mean_average_precision(scores, labels)


def _log(num_examples: int, ids: list[int], mask: list[bool]) -> metrics.PredictionLog:
    """A log of 3 classes to which one batch of these examples was added."""
    log = metrics.PredictionLog(num_examples)
    logits = np.eye(3)[np.array(ids) % 3]
    log.add(
        logits=logits,
        labels=np.array(ids)[:, None] % 3,
        example_id=np.array(ids),
        mask=np.array(mask),
        actions=np.array(ids)[:, None],
    )
    return log


def test_log_orders_examples_and_drops_padding() -> None:
    log = _log(5, [3, 1, 0, 0], [True, True, True, False])
    log.add(
        logits=np.eye(3)[[1, 2]],
        labels=np.array([[1], [2]]),
        example_id=np.array([4, 2]),
        mask=np.array([True, True]),
        actions=np.array([[4], [2]]),
    )
    found = log.finish()
    np.testing.assert_array_equal(found.example_id, np.arange(5))
    np.testing.assert_array_equal(found.actions[:, 0], np.arange(5))
    assert found.metrics() == {"mAP": 100, "mAP_first_label": 100, "top1": 100, "top5": 100}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1], r"missing: \[2\]"),
        ([0, 1, 2, 1], r"repeated: \[1\]"),
        ([0, 1, 2, 7], r"outside the split: \[7\]"),
    ],
)
def test_log_wants_every_example_once(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _log(3, ids, [True] * len(ids)).finish()


def test_log_without_batches_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batch"):
        metrics.PredictionLog(3).finish()
