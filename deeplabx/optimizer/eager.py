"""An optimizer of torch whose methods do not import torch's compiler."""

import inspect

from torch.optim import Optimizer


class Eager(Optimizer):
    """Goes before a class of torch.optim, as in `class SGD(Eager, torch.optim.SGD)`.

    torch wraps these methods so that its compiler leaves them alone. The wrapper imports the compiler
    (torch._dynamo) when it is first called, which takes more than a second; no optimizer is compiled here.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
