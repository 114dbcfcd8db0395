"""A study: which method learns better features, on which data, over many seeds, with everything fixed in advance."""
