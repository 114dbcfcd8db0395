"""The PyTorch trainer as the programs that serve several frameworks see it."""

from pretraining.trainers import Trainer
from torch_s2r2.candidates import trained, untrained
from torch_s2r2.encoders import ENCODER_FILE
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train

TRAINER = Trainer(
    options=TorchOptions, train=train, trained=trained, untrained=untrained, encoder=ENCODER_FILE
)
