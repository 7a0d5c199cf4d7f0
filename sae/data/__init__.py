"""Images to embeddings: datasets, backbones and the activation store."""
