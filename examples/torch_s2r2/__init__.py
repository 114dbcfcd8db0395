"""Self-supervised pretraining in PyTorch by ranking (S2R2), beside SimCLR and SwAV."""
