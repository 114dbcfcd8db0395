"""The JAX trainer as the programs that serve several frameworks see it."""

from jax_s2r2.candidates import trained, untrained
from jax_s2r2.encoders import ENCODER_FOLDER
from jax_s2r2.options import JaxOptions
from jax_s2r2.training import train
from pretraining.trainers import Trainer

TRAINER = Trainer(
    options=JaxOptions, train=train, trained=trained, untrained=untrained, encoder=ENCODER_FOLDER
)
