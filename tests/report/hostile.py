"""Labels that matplotlib, HTML, Markdown or TeX would take for more than text, and how
they are printed.
"""

METHODS = {
    "topk": {"label": r"Top $k$ & $m_{$"},
    "reg1": {"label": r"<b>50%</b> \x^~#", "against": "topk"},
    "batch": {"label": "a|b_*c*_`d` &amp;[e](f)", "against": "topk"},
}
LABELS = [method["label"] for method in METHODS.values()]
DATASETS = {"d": "Data for $5\n& <$6>\x07"}
DATASET = "Data for $5 & <$6>"  # The label as it is printed.
CLASS = r"$\frac{a$"
