import torch

from transforms.demo.train import half_precision, ranking_loss

TRUTH = torch.tensor([[True, False, False], [False, True, True]])


def test_the_loss_vanishes_once_every_true_picture_is_far_above_every_false_one() -> None:
    assert ranking_loss(40.0 * TRUTH, TRUTH).item() < 1e-6
    assert ranking_loss(-40.0 * TRUTH, TRUTH).item() > 30


def test_the_loss_does_not_push_one_true_picture_below_another() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 5.0]], requires_grad=True)
    ranking_loss(scores, TRUTH).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert scores.grad is not None
    assert (scores.grad[TRUTH] < 0).all()
    assert (scores.grad[~TRUTH] > 0).all()


def test_stored_weights_are_half_precision_and_counters_stay_whole() -> None:
    state = half_precision(torch.nn.BatchNorm2d(3))
    assert state["running_mean"].dtype == torch.float16
    assert state["num_batches_tracked"].dtype == torch.int64
