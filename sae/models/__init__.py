"""What a trained SAE is: the coder (one form for all), its sparse codes, its file, its input space.

`apply` uses one on new embeddings or images.
"""
