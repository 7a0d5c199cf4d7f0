# Tables and figures, from the tidy metrics alone.


rule table1:
    input:
        metrics="results/{experiment}/metrics.parquet",
        published="workflow/resources/paper/table1_reconstruction_monosemanticity.csv",
    output:
        expand("results/{{experiment}}/tables/table1.{suffix}", suffix=("csv", "md", "tex")),
    log:
        "results/{experiment}/logs/table1.log",
    conda:
        ENVIRONMENT
    params:
        code=code_hash("sae.tables"),
    shell:
        "python -m sae table1 --metrics {input.metrics} --published {input.published}"
        " --out results/{wildcards.experiment}/tables --log {log}"


rule plot_lambda:
    input:
        "results/{experiment}/metrics.parquet",
    output:
        expand("results/{{experiment}}/figures/lambda.{suffix}", suffix=("png", "pdf")),
    log:
        "results/{experiment}/logs/plot_lambda.log",
    conda:
        ENVIRONMENT
    params:
        code=code_hash("sae.plots.lambda_sweep"),
    shell:
        "python -m sae plot-lambda --metrics {input} --out results/{wildcards.experiment}/figures --log {log}"
