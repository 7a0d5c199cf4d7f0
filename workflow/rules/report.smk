# The experiment as one self-contained page.


rule page:
    input:
        expand("results/{{experiment}}/tables/table{number}.csv", number=TABLES),
        lambda w: expand(
            "results/{experiment}/figures/{figure}.png",
            experiment=w.experiment,
            figure=settings.figures(config, w.experiment),
        ),
        "results/{experiment}/claims.csv",
        activations=lambda w: of_banks(w.experiment, "results/activations/{dataset}/{backbone}/train/manifest.json"),
        published=PUBLISHED,
        template="sae/report/page.html",
    output:
        report("results/{experiment}/report/index.html", category="Report", caption="../report/page.rst"),
    log:
        "results/{experiment}/logs/page.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=needs.memory("small"),
        runtime=needs.runtime("small"),
    params:
        settings=lambda w: dumps(settings.report_plan(config, w.experiment)),
        code=code_hash("sae.report.page"),
        published=lambda w, input: Path(input.published[0]).parent,
    shell:
        "python -m sae report --results results/{wildcards.experiment} --manifests {input.activations}"
        " --published {params.published} --settings {params.settings:q} --out {output} --log {log}"
