"""The figures: a file is a figure, and everything that knows of it.

A file has `READS` (the tables that it reads, below the experiment's folder; with those
in gallery/ it shows images), `CAPTION`, and `draw(results, names)`: from that folder
and the labels and looks of `sae.report.names` to a matplotlib figure. Draw through
`sae.report.curves` and `sae.report.style`, and a method looks the same in all of them.
Text is printed as it is, whatever `$` it has; mathematics needs `parse_math=True`.
"""
