"""Self-supervised pretraining in Keras by ranking (S2R2), beside SimCLR and SwAV, on any of Keras' backends."""
