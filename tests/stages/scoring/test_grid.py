"""The grid of a protocol: where its values lie, and that they are cut where their probabilities are."""

import numpy as np
import pytest
import torch

from stages.scoring.grid import cuts, on_grid, probabilities
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame

HEIGHT, WIDTH = 30, 44


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.fit])
def test_values_and_true_mask_lie_on_the_same_grid(name):
    protocol = PROTOCOLS[name]
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[5:20, 10:30] = True
    values, mask = on_grid(torch.zeros(protocol.size, protocol.size), truth, frame(protocol), protocol)
    assert values.shape == mask.shape == ((HEIGHT, WIDTH) if protocol.grid == "original" else (protocol.size,) * 2)
    assert mask.dtype == bool and mask.any() and not mask.all()
    inner = probabilities(values, protocol)[5:-5, 5:-5]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_value_exceeds_its_cut_where_its_probability_exceeds_the_threshold(name):
    protocol, thresholds = PROTOCOLS[name], np.array([0.1, 0.35, 0.5, 0.9])
    values = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    values = values if protocol.interpolated == "probabilities" else values.logit()
    exceeded = values.numpy() > cuts(thresholds, protocol)[:, None]
    np.testing.assert_array_equal(exceeded, probabilities(values, protocol).numpy() > thresholds[:, None])
    assert cuts(0.35, protocol).shape == () and cuts(0.35, protocol) == cuts(thresholds, protocol)[1]
