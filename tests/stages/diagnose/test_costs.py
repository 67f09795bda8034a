"""Parameters and FLOPs against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.costs import by_part


class Levels(nn.Module):
    """A part that is no call of its own: its modules are called one by one, one of them inside another."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.block = nn.Sequential(nn.Conv2d(8, 8, kernel_size=5, padding=2, groups=8), nn.Conv2d(8, 6, kernel_size=1))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.levels = Levels()
        self.head = nn.Linear(6, 5, bias=False)
        self.levels.patches.requires_grad_(False)

    def forward(self, pixels):
        maps = self.levels.block(self.levels.patches(pixels))  # (2, 6, 4, 7)
        words = maps.flatten(2).transpose(1, 2)  # (2, 28, 6)
        return self.head(F.scaled_dot_product_attention(words, words, words))


def test_flops_and_parameters_of_a_stack_are_the_closed_form():
    levels, head, rest = by_part(Stack(), {"pixels": torch.zeros(2, 3, 16, 28)})
    grid = 2 * 4 * 7
    convolutions = grid * 8 * (3 * 4 * 4) + grid * 8 * (5 * 5) + grid * 6 * 8
    assert levels == ("levels", 392 + 208 + 54, 208 + 54, 2 * convolutions)
    assert head == ("head", 30, 30, 2 * grid * 6 * 5)
    assert rest == ("rest", 0, 0, 2 * 2 * (2 * 28 * 28 * 6))  # the attention: two products, two images


@pytest.mark.parametrize("variant", [{"vlba": "none", "contrastive": "none"}, {}])
def test_the_parts_are_the_whole_model(squares, variant):
    model = squares.model(**variant)
    model.text.requires_grad_(False)
    inputs = squares.expressions("train")[[0]].inputs(torch.device("cpu"))
    parts = by_part(model, {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask")})
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert sum(part.parameters for part in parts) == sum(parameter.numel() for parameter in model.parameters())
    assert sum(part.trained for part in parts) == sum(trained)
    by_name = {part.name: part for part in parts}
    assert by_name["text"].trained == 0 < by_name["text"].parameters
    assert min(by_name[name].flops for name in ("vision", "text", "pixel_decoder", "center", "grouping")) > 0
    assert (by_name["vlba"].flops > 0) == (model.config.vlba != "none")
    assert "losses" not in by_name
    assert model.training
