"""The Keras trainer as the programs that serve several frameworks see it."""

from keras_s2r2.candidates import trained, untrained
from keras_s2r2.encoders import ENCODER_FILE
from keras_s2r2.options import KerasOptions
from keras_s2r2.training import train
from pretraining.trainers import Trainer

TRAINER = Trainer(
    options=KerasOptions, train=train, trained=trained, untrained=untrained, encoder=ENCODER_FILE
)
