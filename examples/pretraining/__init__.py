"""What the pretraining examples share, whatever the framework: options, data sets, progress, evaluation."""
