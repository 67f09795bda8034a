"""Losses against closed forms, and against loops in float64 written from their docstrings."""

import math

import pytest
import torch
from torch.nn import functional as F

from models import losses
from models.losses import cosine, mask_loss, same_object

LOG_2 = math.log(2)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def rectangle(height: int, width: int, top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.float64)
    mask[top:bottom, left:right] = 1
    return mask


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def pixel_contrast(pixels, centers, masks, temperature):
    return losses.pixel_contrast(cosine(pixels, centers), masks, temperature)


def instance_contrast(pixels, centers, masks, image_ids, temperature):
    return losses.instance_contrast(pixels, centers, cosine(pixels, centers), masks, image_ids, temperature)


def test_cosine_equals_torchs():
    pixels, centers = 3 * unit(2, 4, 5, 6), unit(2, 6, seed=1) / 7
    expected = F.cosine_similarity(pixels, centers[:, None, None], dim=-1)
    torch.testing.assert_close(cosine(pixels, centers), expected)


# The mask loss


def mask_loss_loop(logits, masks, bce_weight, dice_weight, positive_weight) -> float:
    cross_entropies, dices = [], []
    for logit_map, mask in zip(logits.tolist(), masks.tolist(), strict=True):
        product = total = 0.0
        for logit_row, mask_row in zip(logit_map, mask, strict=True):
            for logit, inside in zip(logit_row, mask_row, strict=True):
                cross_entropies.append(positive_weight * softplus(-logit) if inside else softplus(logit))
                probability = 1 / (1 + math.exp(-logit))
                product += probability * inside
                total += probability + inside
        dices.append(1 - (2 * product + 1) / (total + 1))
    return bce_weight * sum(cross_entropies) / len(cross_entropies) + dice_weight * sum(dices) / len(dices)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.1), (1.0, 0.0, 1.0), (0.0, 1.0, 3.0), (0.3, 2.0, 5.0)])
def test_mask_loss_equals_a_loop(weights):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    masks = (torch.rand(3, 4, 5, generator=generator) < 0.4).double()
    masks[1] = 0
    masks[2] = 1
    assert mask_loss(logits, masks, *weights).item() == pytest.approx(mask_loss_loop(logits, masks, *weights))


def test_mask_loss_of_undecided_pixels_in_closed_form():
    """Logit 0 everywhere, a quarter of 8 pixels inside: p = 1/2, so sum(p m) = 1, sum(p) = 4, sum(m) = 2."""
    logits, masks = torch.zeros(1, 2, 4), torch.tensor([[[1.0, 1, 0, 0], [0, 0, 0, 0]]])
    assert mask_loss(logits, masks, 1.0, 0.0, 1.0).item() == pytest.approx(LOG_2)
    assert mask_loss(logits, masks, 1.0, 0.0, 3.0).item() == pytest.approx((2 * 3 + 6) / 8 * LOG_2)
    assert mask_loss(logits, masks, 0.0, 1.0, 1.0).item() == pytest.approx(1 - 3 / 7)


def test_mask_loss_survives_extreme_logits():
    masks = torch.tensor([[[1.0, 0.0]]])
    right, wrong = torch.tensor([[[1e4, -1e4]]]), torch.tensor([[[-1e4, 1e4]]]).requires_grad_()
    assert mask_loss(right, masks, 1.0, 1.0, 1.1).item() == pytest.approx(0, abs=1e-6)
    loss = mask_loss(wrong, masks, 1.0, 1.0, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1e4 + 1 - 1 / 3)
    assert wrong.grad.isfinite().all()


# The pixel contrast


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_pixel_contrast_equals_a_loop(temperature):
    pixels, centers = unit(2, 3, 4, 5), unit(2, 5, seed=1)
    masks = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    masks[0, 0, 0] = 0.5  # counts as inside
    terms = []
    for sample in range(2):
        for row in range(3):
            for column in range(4):
                pixel = pixels[sample, row, column].tolist()
                score = sum(a * b for a, b in zip(pixel, centers[sample].tolist(), strict=True)) / temperature
                terms.append(softplus(-score) if masks[sample, row, column] >= 0.5 else softplus(score))
    assert pixel_contrast(pixels, centers, masks, temperature).item() == pytest.approx(sum(terms) / len(terms))


def test_pixel_contrast_rewards_alignment():
    centers = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    masks = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    aligned = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0]]]], dtype=torch.float64)
    assert pixel_contrast(aligned, centers, masks, 0.05).item() == pytest.approx(softplus(-20.0))
    assert pixel_contrast(-aligned, centers, masks, 0.05).item() == pytest.approx(softplus(20.0))


# The instance contrast


def instance_contrast_loop(pixels, centers, masks, image_ids, temperature) -> torch.Tensor:
    batch, height, width, _ = pixels.shape
    pixels, centers = (values / values.square().sum(-1, keepdim=True).sqrt() for values in (pixels, centers))
    places = [(row, column) for row in range(height) for column in range(width)]
    instances, own = [], []
    for i in range(batch):

        def mean(weights, i=i):
            total = sum(weights[place] * pixels[i][place] for place in places)
            return total / total.norm()

        instances.append(mean(masks[i]))
        background = mean(1 - masks[i])
        outside = [place for place in places if masks[i][place] == 0]
        outside.sort(key=lambda place: -(pixels[i][place] @ centers[i]).item())
        hard = torch.zeros_like(masks[i])
        for place in outside[: math.ceil(len(places) / 16)]:
            hard[place] = 1
        own.append([centers[i] @ mean(hard) / temperature, centers[i] @ background / temperature])

    def negatives(i):
        def same(j):
            overlap = torch.minimum(masks[i], masks[j]).sum() / torch.minimum(masks[i].sum(), masks[j].sum())
            return image_ids[i] == image_ids[j] and overlap > 0.5

        return [j for j in range(batch) if j != i and not same(j)]

    terms = []
    for i in range(batch):
        positive = centers[i] @ instances[i] / temperature
        rivals = [centers[i] @ instances[j] / temperature for j in negatives(i)]
        terms.append(torch.logsumexp(torch.stack([positive, *rivals, *own[i]]), 0) - positive)
        rivals = [centers[j] @ instances[i] / temperature for j in negatives(i)]
        terms.append(torch.logsumexp(torch.stack([positive, *rivals]), 0) - positive)
    return sum(terms) / len(terms)


@pytest.fixture
def five_instances():
    """Samples 0 and 1 show one annotation; 2 another of the same image; 3 and 4 lie alike in other images."""
    masks = torch.stack(
        [
            rectangle(6, 8, 0, 0, 3, 4),
            rectangle(6, 8, 0, 0, 3, 4),
            rectangle(6, 8, 3, 4, 6, 8),
            rectangle(6, 8, 0, 0, 3, 4),
            rectangle(6, 8, 1, 1, 5, 7),
        ]
    )
    masks[2, :3] = 0.1  # shares of pixels on the boundary: neither inside nor wholly outside
    masks[4, 1] *= 0.5
    return unit(5, 6, 8, 4), unit(5, 4, seed=1), masks, torch.tensor([7, 7, 7, 8, 9])


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_instance_contrast_and_its_gradients_equal_a_loop(five_instances, temperature):
    pixels, centers, masks, image_ids = five_instances
    results = []
    for function in (instance_contrast, instance_contrast_loop):
        leaves = pixels.clone().requires_grad_(), centers.clone().requires_grad_()
        loss = function(*leaves, masks, image_ids, temperature)
        results.append((loss, *torch.autograd.grad(loss, leaves)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_instance_contrast_gradients_equal_finite_differences(five_instances):
    pixels, centers, masks, image_ids = five_instances
    leaves = pixels.requires_grad_(), centers.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, c: instance_contrast(p, c, masks, image_ids, 0.5), leaves, fast_mode=True)


def test_pixel_contrast_gradients_equal_finite_differences(five_instances):
    pixels, centers, masks, _ = five_instances
    leaves = pixels.requires_grad_(), centers.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, c: pixel_contrast(p, c, masks, 0.5), leaves, fast_mode=True)


def test_a_sample_without_mask_is_no_instance_and_no_negative(five_instances):
    pixels, centers, masks, image_ids = five_instances
    others = [0, 1, 3, 4]
    expected = instance_contrast(pixels[others], centers[others], masks[others], image_ids[others], 0.2)
    masks[2] = 0
    leaves = pixels.requires_grad_(), centers.requires_grad_()
    loss = instance_contrast(*leaves, masks, image_ids, 0.2)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (pixels.grad[2] == 0).all() and (centers.grad[2] == 0).all()
    assert pixels.grad.isfinite().all() and centers.grad.isfinite().all()
    assert instance_contrast(*leaves, torch.zeros_like(masks), image_ids, 0.2) == 0


def test_instance_contrast_of_a_batch_of_one(five_instances):
    """Without another instance, only the two negatives from the image itself remain."""
    one = [values[4:] for values in five_instances]
    loss = instance_contrast(*one, 0.2)
    assert loss.item() == pytest.approx(instance_contrast_loop(*one, 0.2).item())
    assert loss.item() > 0


def test_two_expressions_of_one_annotation_are_no_negatives(five_instances):
    """The loss of a pair that shows one object is the mean of the losses of each sample alone."""
    pixels, centers, masks, image_ids = (values[:2] for values in five_instances)
    alone = [
        instance_contrast(pixels[i : i + 1], centers[i : i + 1], masks[i : i + 1], image_ids[i : i + 1], 0.1)
        for i in range(2)
    ]
    together = instance_contrast(pixels, centers, masks, image_ids, 0.1)
    assert together.item() == pytest.approx(sum(alone).item() / 2)
    apart = instance_contrast(pixels, centers, masks, torch.tensor([1, 2]), 0.1)
    assert apart.item() > together.item()


def test_perfect_alignment_has_a_low_instance_loss_and_a_swap_a_high_one():
    """Pixels inside mask i are e_i, all others e_2; centers are e_0 and e_1."""
    basis = torch.eye(3, dtype=torch.float64)
    masks = torch.stack([rectangle(4, 4, 0, 0, 2, 2), rectangle(4, 4, 2, 2, 4, 4)])
    pixels = torch.stack([torch.where(mask.bool()[..., None], basis[i], basis[2]) for i, mask in enumerate(masks)])
    image_ids, temperature = torch.tensor([1, 2]), 0.05
    aligned = instance_contrast(pixels, basis[:2], masks, image_ids, temperature).item()
    swapped = instance_contrast(pixels, basis[[1, 0]], masks, image_ids, temperature).item()
    rival = math.exp(-1 / temperature)
    assert aligned == pytest.approx((math.log1p(3 * rival) + math.log1p(rival)) / 2)
    assert swapped == pytest.approx(1 / temperature, rel=0.05)


def test_hard_negatives_are_the_pixels_outside_that_the_center_scores_highest():
    """4 x 8 pixels: two are hard. One that looks like the center costs more outside than the mean background does."""
    center = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    masks = rectangle(4, 8, 0, 0, 1, 4)[None]
    pixels = torch.zeros(1, 4, 8, 2, dtype=torch.float64)
    pixels[..., 1] = 1
    pixels[0, 0, :4] = center[0]
    plain = instance_contrast(pixels, center, masks, torch.tensor([0]), 0.1).item()
    assert plain == pytest.approx(math.log1p(2 * math.exp(-10)) / 2)
    pixels[0, 3, 6:] = center[0]
    background = torch.tensor([2.0, 26.0]) / math.hypot(2, 26)
    expected = math.log(1 + math.exp(0) + math.exp((float(background[0]) - 1) / 0.1)) / 2
    assert instance_contrast(pixels, center, masks, torch.tensor([0]), 0.1).item() == pytest.approx(expected)


def test_masks_that_cover_the_whole_image_give_a_finite_loss_and_gradient():
    pixels, centers = unit(2, 4, 4, 3).requires_grad_(), unit(2, 3, seed=1).requires_grad_()
    masks = torch.ones(2, 4, 4, dtype=torch.float64)
    masks[1, 2:] = 0.5  # no pixel is wholly outside, yet there is a background
    loss = instance_contrast(pixels, centers, masks, torch.tensor([0, 1]), 0.05)
    loss.backward()
    assert loss.isfinite()
    assert pixels.grad.isfinite().all()
    assert centers.grad.isfinite().all()


# What counts as the same object


def pair(one: torch.Tensor, other: torch.Tensor, images: tuple[int, int] = (0, 0)) -> torch.Tensor:
    return same_object(torch.stack([one.flatten(), other.flatten()]), torch.tensor(images))


def test_same_object_needs_one_image_and_overlap_above_half_of_the_smaller_mask():
    four = rectangle(4, 8, 0, 0, 1, 4)
    assert pair(four, four)[0, 1]
    assert not pair(four, four, images=(0, 1)).any()
    assert not pair(four, rectangle(4, 8, 0, 2, 1, 6))[0, 1]  # exactly half
    assert pair(four, rectangle(4, 8, 0, 1, 1, 5))[0, 1]  # three of four
    assert pair(four, rectangle(4, 8, 0, 0, 4, 8))[0, 1]  # a part of the other
    assert not pair(four, rectangle(4, 8, 2, 0, 4, 8)).any()


def test_same_object_is_symmetric_and_never_oneself():
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(8, 12, generator=generator) < 0.6).double()
    found = same_object(masks, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    assert found.any()
    assert torch.equal(found, found.T)
    assert not found.diagonal().any()


def test_one_annotation_is_the_same_object_where_no_pixel_is_wholly_inside():
    """A thin or small object: every pixel of the coarse grid has less than half of its area inside."""
    thin = 0.25 * rectangle(4, 4, 1, 0, 2, 4)
    assert pair(thin, thin)[0, 1]


# What the contrasts leave out


def kept_loop(masks, border):
    """From the docstring of `away_from_edge`, cell by cell."""
    found = torch.zeros(masks.shape, dtype=torch.bool)
    for mask, kept in zip(masks, found, strict=True):
        inside, (height, width) = mask >= 0.5, mask.shape
        for y in range(height):
            for x in range(width):
                around = inside[max(y - border, 0) : y + border + 1, max(x - border, 0) : x + border + 1]
                kept[y, x] = bool((around == inside[y, x]).all())
        if not (kept & inside).any():
            kept |= inside
    return found


@pytest.mark.parametrize("border", [1, 2])
def test_pixels_near_the_edge_are_left_out(five_instances, border):
    """The second object is one cell, the third a thin one of which no cell is half inside: both keep what is inside."""
    pixels, centers, masks, image_ids = five_instances
    masks[1] = rectangle(6, 8, 2, 2, 3, 3)
    masks[2] = 0.3 * rectangle(6, 8, 4, 0, 5, 8)
    kept = losses.away_from_edge(masks, border)
    assert torch.equal(kept, kept_loop(masks, border))
    assert kept[1, 2, 2] and kept[2].all() and not kept[0].all()

    similarity = cosine(pixels, centers)
    terms = [
        [softplus(-s) if m >= 0.5 else softplus(s) for s, m, k in zip(*of, strict=True) if k]
        for of in zip(
            (similarity / 0.1).flatten(1).tolist(), masks.flatten(1).tolist(), kept.flatten(1).tolist(), strict=True
        )
    ]
    expected = sum(sum(of) / len(of) for of in terms) / len(terms)
    assert losses.pixel_contrast(similarity, masks, 0.1, kept=kept).item() == pytest.approx(expected)

    # What is left out has no influence: other pixels there change nothing and have no gradient.
    other = torch.where(kept[..., None], pixels, unit(5, 6, 8, 4, seed=5)).requires_grad_()
    found = [
        losses.instance_contrast(p, centers, cosine(p, centers), masks, image_ids, 0.1, kept=kept)
        for p in (pixels, other)
    ]
    torch.testing.assert_close(found[0], found[1])
    (gradient,) = torch.autograd.grad(found[1], other)
    assert (gradient[~kept] == 0).all() and gradient[kept].abs().max() > 0


def test_samples_with_the_same_words_are_no_negatives(five_instances):
    """As if they were one object of one image, which the loop leaves out."""
    pixels, centers, masks, _ = five_instances
    masks[:] = masks[0]
    ids, text_ids = torch.arange(5), torch.tensor([0, 1, 2, 0, 1])
    found = losses.instance_contrast(pixels, centers, cosine(pixels, centers), masks, ids, 0.2, text_ids=text_ids)
    torch.testing.assert_close(found, instance_contrast_loop(pixels, centers, masks, text_ids, 0.2))
    assert found < instance_contrast(pixels, centers, masks, ids, 0.2)


def test_words_are_told_apart_whatever_their_padding():
    """Short and long, with token 0 in them, in another order; what lies in the padding is not read."""
    generator = torch.Generator().manual_seed(0)
    words = [(0,), (0, 0), (1, 0), (0, 1), (1, 2), (2, 1), tuple(range(12)), *zip(range(9), range(1, 10), strict=True)]
    ids = torch.randint(30_000, (len(words), 16), generator=generator)
    lengths = torch.tensor([len(each) for each in words])
    for row, each in zip(ids, words, strict=True):
        row[: len(each)] = torch.tensor(each)
    attention = (torch.arange(16) < lengths[:, None]).long()
    found = losses.hashed_words(ids, attention)
    alone = {each: torch.tensor([each]) for each in words}
    distinct = {each: losses.hashed_words(ids, torch.ones_like(ids)).item() for each, ids in alone.items()}
    assert found.tolist() == [distinct[each] for each in words]
    assert len(set(distinct.values())) == len(distinct)
    assert losses.hashed_words(ids, attention, torch.tensor([3, 3, 0])).tolist() == found[[3, 3, 0]].tolist()


# Negatives of earlier batches


def memory_loop(batches, size, temperature):
    """The loss of each batch in turn, with the last `size` samples of earlier ones, from equation and exceptions."""
    losses_of, past = [], []
    for pixels, centers, masks, image_ids, text_ids in batches:
        pixels, centers = (values / values.norm(dim=-1, keepdim=True) for values in (pixels, centers))
        now, terms = [], []
        for i in range(len(centers)):
            instance, background = ((w[..., None] * pixels[i]).sum((0, 1)) for w in (masks[i], 1 - masks[i]))
            outside = [pixels[i][place] for place in (masks[i] == 0).nonzero().unbind() for place in [tuple(place)]]
            outside.sort(key=lambda pixel, i=i: -(pixel @ centers[i]).item())
            ambiguous = sum(outside[: math.ceil(masks[i].numel() / 16)])
            own = [centers[i] @ vector / vector.norm() for vector in (ambiguous, background)]
            instance = instance / instance.norm() if masks[i].sum() else None
            now.append((centers[i], instance, image_ids[i].item(), text_ids[i].item(), own))
        for i, (center, instance, image, text, own) in enumerate(now):
            if instance is None:
                continue
            others = [
                each for j, each in enumerate(now) if j != i and not (each[2] == image and masks_overlap(masks, i, j))
            ]
            others += [each for each in past if each[2] != image]
            others = [each for each in others if each[1] is not None and each[3] != text]
            positive = center @ instance
            for rivals in ([center @ each[1] for each in others] + own, [each[0] @ instance for each in others]):
                scores = torch.stack([positive, *rivals]) / temperature
                terms.append(torch.logsumexp(scores, 0) - positive / temperature)
        losses_of.append(sum(terms) / len(terms))
        past = ([(c.detach(), f if f is None else f.detach(), *rest) for c, f, *rest in now] + past)[:size]
    return losses_of


def masks_overlap(masks, i, j) -> bool:
    return bool((masks[i] * masks[j]).sum() > 0.5 * min((masks[i] ** 2).sum(), (masks[j] ** 2).sum()))


@pytest.mark.parametrize("size", [3, 7, 100])
def test_a_memory_holds_the_last_samples_as_negatives(size):
    """Three batches of 4, 4 and 2. Images and words come again; one sample has no mask. Gradients reach one batch."""
    generator = torch.Generator().manual_seed(3)
    batches, leaves = [], []
    for number, count in enumerate((4, 4, 2)):
        masks = (torch.rand(count, 4, 5, generator=generator) < 0.4).double()
        masks[1] = 0 if number == 0 else masks[1]
        image_ids, text_ids = torch.tensor([[0, 0, 1, 2], [2, 3, 3, 4], [1, 5]][number]), torch.arange(count) % 3
        vectors = [unit(count, 4, 5, 6, seed=10 + number), 2 * unit(count, 6, seed=20 + number)]
        leaves.append([each.requires_grad_() for each in vectors])
        batches.append((*leaves[-1], masks, image_ids, text_ids))
    memory = losses.Memory(size)
    expected = memory_loop(batches, size, 0.3)
    for number, (pixels, centers, masks, image_ids, text_ids) in enumerate(batches):
        loss = losses.instance_contrast(
            pixels, centers, cosine(pixels, centers), masks, image_ids, 0.3, text_ids=text_ids, memory=memory
        )
        torch.testing.assert_close(loss, expected[number])
        for found, right in zip(
            torch.autograd.grad(loss, leaves[number], retain_graph=True),
            torch.autograd.grad(expected[number], leaves[number], retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(found, right)
    assert {len(values) for values in memory.rows.values()} == {min(size, 10)}
    assert not any(values.requires_grad for values in memory.rows.values())
