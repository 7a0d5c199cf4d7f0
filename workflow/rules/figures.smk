# Tables and figures, from the tidy metrics alone.


PUBLISHED = {
    "1": "workflow/resources/paper/table1_reconstruction_monosemanticity.csv",
    "2": "workflow/resources/paper/table2_class_purity.csv",
}


rule table:
    input:
        metrics="results/{experiment}/metrics.parquet",
        published=lambda w: PUBLISHED[w.number],
    output:
        expand("results/{{experiment}}/tables/table{{number}}.{suffix}", suffix=("csv", "md", "tex")),
    log:
        "results/{experiment}/logs/table{number}.log",
    conda:
        ENVIRONMENT
    params:
        code=code_hash("sae.tables"),
    shell:
        "python -m sae table --number {wildcards.number} --metrics {input.metrics} --published {input.published}"
        " --out results/{wildcards.experiment}/tables --log {log}"


rule plot:
    input:
        "results/{experiment}/metrics.parquet",
        "results/{experiment}/curves.parquet",
    output:
        expand("results/{{experiment}}/figures/{{figure}}.{suffix}", suffix=("png", "pdf")),
    log:
        "results/{experiment}/logs/plot/{figure}.log",
    conda:
        ENVIRONMENT
    params:
        code=lambda w: code_hash(FIGURES[w.figure]),
        results=lambda w, input: Path(input[0]).parent,
    shell:
        "python -m sae plot --figure {wildcards.figure} --results {params.results}"
        " --out {params.results}/figures --log {log}"
