"""A pretraining run in Keras from data to results: `train(options)`, for the command line and other programs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras

from keras_s2r2.candidates import export_encoder, trained, untrained
from keras_s2r2.checkpoints import load_checkpoint, save_checkpoint
from keras_s2r2.devices import device
from keras_s2r2.encoders import ENCODER_FILE
from keras_s2r2.feeding import Batches
from keras_s2r2.model import Pretraining
from keras_s2r2.options import KerasOptions
from pretraining.datasets import PretrainingData
from pretraining.files import write_whole
from pretraining.journal import Journal
from pretraining.runs import Run, RunError, TrainingResult, open_run


def train(
    options: KerasOptions, *, data: PretrainingData | None = None, show_progress: bool = True
) -> TrainingResult:
    """Pretrain as the options say: see `pretraining.trainers.Trainer`."""
    if options.backend != keras.backend.backend():
        raise RunError(
            f"--backend {options.backend}, but Keras runs on {keras.backend.backend()}: set KERAS_BACKEND"
        )
    with device(options.device):
        run = open_run(options, data)
        model = Pretraining(options, run.data.image_size, run.data.channels)
        last_step = load_checkpoint(run, model)
        if last_step < options.steps:
            _fit(model, run, last_step + 1, show_progress)
        exported = export_encoder(model, options, run.data)
        write_whole(run.folder / ENCODER_FILE, lambda file: file.write(exported))
        _, encode = trained(run.folder, options, run.data)
        return run.conclude(encode, partial(untrained, options, run.data))


class AfterStep(keras.callbacks.Callback):
    """Has the run's journal record, measure, save and stop."""

    def __init__(self, journal: Journal, first_step: int) -> None:
        super().__init__()
        self._journal, self.first_step = journal, first_step

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        assert logs is not None
        # Asking for the model makes Keras fetch its state from JAX, so only where it is needed.
        self._journal.after_step(
            self.first_step + batch, float(logs["step_loss"]), lambda: self.model.average_precision()
        )


def _fit(model: Pretraining, run: Run, first_step: int, shown: bool) -> None:
    """Take the steps from `first_step` to the last, as one epoch of `fit`."""
    batches = Batches(run, first_step)
    with Journal(
        run,
        first_step,
        save=lambda step: save_checkpoint(run, step, callback.model),
        is_finite=lambda: callback.model.is_finite(),
        shown=shown,
    ) as journal:
        callback = AfterStep(journal, first_step)
        try:
            model.fit(batches, shuffle=False, verbose=0, callbacks=[callback])
        except Exception:
            if batches.error is not None:
                raise batches.error from None
            raise
