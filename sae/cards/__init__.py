"""A card of anyone's SAE: is it any good?

`images` splits one set of embeddings; `references` trains Top-k and controls on them;
`make` scores all of them and reads the SAE beside them (`sae.comparison.card`).
"""
