"""A pretraining run in JAX from data to results: `train(options)`, for the command line and other programs."""

from functools import partial

from jax_s2r2.candidates import untrained
from jax_s2r2.checkpoints import Checkpoints
from jax_s2r2.devices import check_batch, choose_mesh, spread
from jax_s2r2.encoders import encode_with, save_encoder
from jax_s2r2.feeding import feed
from jax_s2r2.learner import Learner, views_average_precision
from jax_s2r2.options import JaxOptions
from pretraining.datasets import PretrainingData
from pretraining.journal import Journal
from pretraining.runs import Run, TrainingResult, open_run


def train(
    options: JaxOptions, *, data: PretrainingData | None = None, show_progress: bool = True
) -> TrainingResult:
    """Pretrain as the options say: see `pretraining.trainers.Trainer`."""
    mesh = choose_mesh(options.device)
    check_batch(options, mesh)
    run = open_run(options, data)
    learner = Learner(options, run.data.image_size, run.data.channels, mesh)
    with Checkpoints(run) as checkpoints:
        last_step, learner.state = checkpoints.load(learner.state) or (0, learner.state)
        if last_step < options.steps:
            _learn(learner, run, checkpoints, last_step + 1, show_progress)
    save_encoder(run.folder, learner.state["encoder"])
    return run.conclude(
        encode_with(learner.state["encoder"], options, run.data), partial(untrained, options, run.data)
    )


def _learn(learner: Learner, run: Run, checkpoints: Checkpoints, first_step: int, shown: bool) -> None:
    """Take the steps from `first_step` to the last, recording and saving on the way."""
    batches = feed(run.images, run.batches(first_step), run.options.workers, spread(learner.mesh))

    def save(step: int) -> None:
        checkpoints.save(step, learner.state)

    with Journal(run, first_step, save=save, is_finite=learner.is_finite, shown=shown) as journal:
        for step, pictures in enumerate(batches, first_step):
            loss, embeddings = learner.step(pictures, step)
            journal.after_step(step, float(loss), partial(views_average_precision, embeddings))
