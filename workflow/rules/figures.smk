# Tables, claims and figures, from the tidy tables alone; the galleries from the images of one cell.


rule table:
    input:
        metrics="results/{experiment}/metrics.parquet",
        published=PUBLISHED,
    output:
        expand("results/{{experiment}}/tables/table{{number}}.{suffix}", suffix=("csv", "tex")),
        report("results/{experiment}/tables/table{number}.md", category="Tables", caption="../report/table.rst"),
    log:
        "results/{experiment}/logs/table{number}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=needs.memory("small"),
        runtime=needs.runtime("small"),
    params:
        code=code_hash("sae.report.tables"),
        published=lambda w, input: Path(input.published[0]).parent,
    shell:
        "python -m sae table --number {wildcards.number} --metrics {input.metrics} --published {params.published}"
        " --out results/{wildcards.experiment}/tables --log {log}"


rule claims:
    input:
        metrics="results/{experiment}/metrics.parquet",
        curves="results/{experiment}/curves.parquet",
        published=PUBLISHED,
    output:
        "results/{experiment}/claims.csv",
        report("results/{experiment}/claims.md", category="Claims", caption="../report/claims.rst"),
    log:
        "results/{experiment}/logs/claims.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=needs.memory("small"),
        runtime=needs.runtime("small"),
    params:
        settings=dumps(config["claims"]),
        code=code_hash("sae.report.claims"),
        published=lambda w, input: Path(input.published[0]).parent,
    shell:
        "python -m sae claims --metrics {input.metrics} --curves {input.curves} --published {params.published}"
        " --settings {params.settings:q} --out results/{wildcards.experiment} --log {log}"


rule gallery:
    input:
        lambda w: images_of(settings.gallery(config, w.experiment)["dataset"]),
        dataset=lambda w: of_gallery(w, "results/datasets/{dataset}/manifest.json"),
        manifest=lambda w: of_gallery(w, "results/activations/{dataset}/{backbone}/test/manifest.json"),
        embeddings=lambda w: ancient(of_gallery(w, "results/activations/{dataset}/{backbone}/test/embeddings.npy")),
        bank=lambda w: of_gallery(w, "results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json"),
        scores=lambda w: of_gallery(w, "results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet"),
        latents=lambda w: of_gallery(w, "results/{experiment}/scores/{dataset}/{backbone}/k{k}/latents.parquet"),
    output:
        expand("results/{{experiment}}/gallery/{kind}.parquet", kind=("images", "sample")),
    log:
        "results/{experiment}/logs/gallery.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        mem_mb=needs.memory("gallery"),
        runtime=needs.runtime("small"),
        gpu=GPU,
    params:
        code=lambda w: code_hash(
            "sae.report.gallery",
            settings.dataset_module(config, settings.gallery(config, w.experiment)["dataset"]),
        ),
        device=COMPUTE["device"],
        dataset=lambda w, input: Path(input.dataset).parent,
        activations=lambda w, input: Path(input.manifest).parent.parent,
    shell:
        "python -m sae gallery --bank {input.bank} --scores {input.scores} --latents {input.latents}"
        " --activations {params.activations} --dataset {params.dataset} --artifacts results/artifacts"
        " --out results/{wildcards.experiment}/gallery --threads {threads} --device {params.device} --log {log}"


rule plot:
    input:
        lambda w: [f"results/{w.experiment}/{table}" for table in FIGURES[w.figure].tables],
    output:
        report("results/{experiment}/figures/{figure}.png", category="Figures", caption="../report/figure.rst"),
        "results/{experiment}/figures/{figure}.pdf",
    log:
        "results/{experiment}/logs/plot/{figure}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=needs.memory("small"),
        runtime=needs.runtime("small"),
    params:
        code=lambda w: code_hash(FIGURES[w.figure].module),
        caption=lambda w: FIGURES[w.figure].caption,
    shell:
        "python -m sae plot --figure {wildcards.figure} --results results/{wildcards.experiment}"
        " --out results/{wildcards.experiment}/figures --log {log}"
