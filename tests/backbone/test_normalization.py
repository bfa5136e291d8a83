import torch

from deeplabx.backbone.normalization import Normalization


def test_what_an_evaluation_kept_is_used_in_training_too() -> None:
    """A tensor that is made in inference mode cannot be part of a graph."""
    normalization = Normalization(mean=(1.5, 2.5, 3.5), std=(2.0, 4.0, 8.0))  # of no other test: it is kept
    images = torch.ones(1, 2, 2, 3)
    with torch.inference_mode():
        evaluated = normalization(images)
    trained = normalization(images.requires_grad_())
    trained.sum().backward()
    assert torch.equal(trained, evaluated)
    assert trained[0, :, 0, 0].tolist() == [-0.25, -0.375, -0.3125]
    assert images.grad is not None
    assert images.grad[0, 0, 0].tolist() == [0.5, 0.25, 0.125]
