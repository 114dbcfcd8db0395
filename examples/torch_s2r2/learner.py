"""What learns: encoder, head, method and optimiser; one training step; the state that a checkpoint holds."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import rankloss.torch as rl
from pretraining.sampling import step_seed
from torch_s2r2.encoders import build_encoder, encoder_input, feature_size
from torch_s2r2.methods import build_method
from torch_s2r2.optimizers import build_optimizer, set_learning_rate
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import Views

PRECISIONS = {"off": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def projection_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The head that the loss sees in place of the features, and that is thrown away after pretraining."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


class Learner:
    """A model in training.

    The encoder's first weights depend on the seed alone, so that runs of all methods start from the same one.
    `labels` are those of all pictures, for the method that learns them.
    """

    def __init__(
        self,
        options: TorchOptions,
        image_size: int,
        channels: int,
        device: torch.device,
        labels: NDArray[Any] | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.device = options, device
        self.encoder = build_encoder(options.encoder, image_size, channels)
        self.head = projection_head(feature_size(options.encoder), options.head_hidden, options.head_dim)
        self.method: Any = build_method(options, labels)
        for module in self._modules().values():
            module.to(device).train()
        self.memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
        network = nn.Sequential(self.encoder, self.head).to(memory_format=self.memory_format)
        self.network = torch.compile(network) if options.compile else network
        self.views = Views(options, image_size, channels)
        fused = device.type in ("cpu", "cuda")
        self.optimizer = build_optimizer(options, list(self._modules().values()), fused=fused)
        # bfloat16 has float32's range, so only float16 needs its loss scaled.
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.amp == "float16")

    def _modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head, "method": self.method}

    def step(self, pictures: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Take a step with uint8 pictures; return the loss before it and the embeddings `[b, views, d]`."""
        torch.manual_seed(step_seed(self.options.seed, step))
        set_learning_rate(self.optimizer, self.options.learning_rate_at(step))
        self.method.before_step(step)
        precision = PRECISIONS[self.options.amp]
        with torch.no_grad():
            views = self.views(pictures)
        with torch.autocast(self.device.type, precision, enabled=precision is not torch.float32):
            embeddings = [self._embed(kind, len(pictures)) for kind in views]
            loss = self.method(embeddings, step)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), torch.cat([kind.detach().float() for kind in embeddings], dim=1)

    def _embed(self, views: Tensor, pictures: int) -> Tensor:
        images = encoder_input(self.options.encoder, views).contiguous(memory_format=self.memory_format)
        embeddings: Tensor = self.network(images)
        return embeddings.reshape(pictures, -1, embeddings.shape[1])

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are finite numbers."""
        values = [
            t for m in self._modules().values() for t in m.state_dict().values() if t.is_floating_point()
        ]
        return bool(torch.stack([value.isfinite().all() for value in values]).all())

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, besides the options and the step."""
        states = {name: module.state_dict() for name, module in self._modules().items()}
        return states | {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned.

        Raises:
            KeyError, RuntimeError, ValueError: it is not the state of such a learner.
        """
        for name, module in self._modules().items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


def views_average_precision(embeddings: Tensor) -> float:
    """The exact mean average precision with which the views [pictures, views, d] find their own picture's."""
    return float(rl.embedding_metric(rl.AveragePrecision(), embeddings))
