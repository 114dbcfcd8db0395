"""A pretraining run in PyTorch from data to results: `train(options)`, for the command line and other programs."""

from functools import partial

from pretraining.datasets import PretrainingData
from pretraining.journal import Journal
from pretraining.runs import Run, RunError, TrainingResult, open_run
from torch_s2r2.candidates import untrained
from torch_s2r2.checkpoints import load_checkpoint, save_checkpoint
from torch_s2r2.devices import choose_device
from torch_s2r2.encoders import ENCODER_FILE, encode_with, snapshot_file, write_encoder
from torch_s2r2.feeding import feed
from torch_s2r2.learner import Learner, views_average_precision
from torch_s2r2.options import TorchOptions


def train(
    options: TorchOptions, *, data: PretrainingData | None = None, show_progress: bool = True
) -> TrainingResult:
    """Pretrain as the options say: see `pretraining.trainers.Trainer`."""
    device = choose_device(options.device)
    run = open_run(options, data)
    size, channels = run.data.image_size, run.data.channels
    found = load_checkpoint(run)
    learner = Learner(options, size, channels, device, run.labels)
    last_step = 0
    if found is not None:
        last_step, state = found
        try:
            learner.restore(state)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise RunError(
                f"the checkpoint in {run.folder} does not fit the model of these options"
            ) from error
    if last_step < options.steps:
        _learn(learner, run, last_step + 1, show_progress)
    write_encoder(run.folder / ENCODER_FILE, learner.encoder)
    encode = encode_with(learner.encoder, options.encoder, size, device)
    return run.conclude(encode, partial(untrained, options, run.data))


def _learn(learner: Learner, run: Run, first_step: int, shown: bool) -> None:
    """Take the steps from `first_step` to the last, recording and saving on the way."""
    batches = feed(run.images, run.batches(first_step), learner.options.workers, learner.device)

    def save(step: int) -> None:
        save_checkpoint(run, step, learner.state())

    with Journal(run, first_step, save=save, is_finite=learner.is_finite, shown=shown) as journal:
        for step, pictures in enumerate(batches, first_step):
            loss, embeddings = learner.step(pictures, step)
            if (every := learner.options.snapshot_every) and step % every == 0:
                write_encoder(run.folder / snapshot_file(step), learner.encoder)
            journal.after_step(step, float(loss), partial(views_average_precision, embeddings))
