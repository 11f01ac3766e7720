"""How far two models are apart."""

import math

import numpy as np
import pytest

from appliance.aggregation.difference import Distance, difference


def test_each_tensor_and_the_whole() -> None:
    a = {"w": np.array([[3.0, 4.0]], np.float32), "b": np.array([0.0], np.float32)}
    b = {"w": np.array([[3.0, 5.0]], np.float32), "b": np.array([-2.0], np.float32)}
    found = difference(a, b)
    assert found.tensors == {"w": Distance(1.0, 0.2, 1.0), "b": Distance(2.0, math.inf, 2.0)}
    assert found.whole == Distance(math.sqrt(5), math.sqrt(5) / 5, 2.0)
    assert found.cosine == pytest.approx((9 + 20) / (5 * math.sqrt(38)))


def test_a_model_is_not_apart_from_itself() -> None:
    a = {"w": np.full((2, 2), 3e38, np.float32), "none": np.zeros(0, np.float32)}
    found = difference(a, a)
    assert found.whole == Distance(0.0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0), "squares of great numbers do not overflow"


def test_zeros_have_no_direction() -> None:
    zeros = {"w": np.zeros(3, np.float32)}
    assert math.isnan(difference(zeros, zeros).cosine)
    assert difference(zeros, zeros).whole.relative == 0.0


@pytest.mark.parametrize("other", [{}, {"w": np.zeros((3, 1), np.float32)}, {"v": np.zeros(3, np.float32)}])
def test_models_of_other_tensors_are_refused(other: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="not the same tensors"):
        difference({"w": np.zeros(3, np.float32)}, other)
