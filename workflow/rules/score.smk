# Scores, in two steps: every SAE of a bank; then, with lambda chosen, the chosen ones and their ablation in depth. One
# more job joins all banks into the experiment's tidy tables.


rule score:
    input:
        manifests=expand("results/activations/{{dataset}}/{{backbone}}/{split}/manifest.json", split=SPLITS),
        embeddings=ancient(expand("results/activations/{{dataset}}/{{backbone}}/{split}/embeddings.npy", split=SPLITS)),
        bank="results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json",
    output:
        scores="results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet",
        curves="results/{experiment}/scores/{dataset}/{backbone}/k{k}/curves.parquet",
    log:
        "results/{experiment}/logs/score/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/score/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        mem_mb=needs.memory("score"),
        runtime=needs.runtime("score"),
        gpu=GPU,
    params:
        code=code_hash("sae.scoring.score"),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifests[0]).parent.parent,
    shell:
        "python -m sae score --bank {input.bank} --activations {params.activations} --scores {output.scores}"
        " --curves {output.curves} --threads {threads} --device {params.device} --log {log}"


rule evaluate:
    input:
        manifests=expand("results/activations/{{dataset}}/{{backbone}}/{split}/manifest.json", split=SPLITS),
        embeddings=ancient(expand("results/activations/{{dataset}}/{{backbone}}/{split}/embeddings.npy", split=SPLITS)),
        judges=lambda w: [
            f"results/activations/{w.dataset}/{judge}/test/manifest.json"
            for judge in settings.judges(config, w.experiment, w.backbone)
        ],
        judging=lambda w: ancient(
            [
                f"results/activations/{w.dataset}/{judge}/test/embeddings.npy"
                for judge in settings.judges(config, w.experiment, w.backbone)
            ]
        ),
        bank="results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json",
        ablation="results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank_all.json",
        scores="results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet",
    output:
        expand("results/{{experiment}}/scores/{{dataset}}/{{backbone}}/k{{k}}/{kind}.parquet", kind=EVALUATED),
    log:
        "results/{experiment}/logs/evaluate/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/evaluate/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        mem_mb=needs.memory("evaluate"),
        runtime=needs.runtime("evaluate"),
        gpu=GPU,
    params:
        settings=lambda w: dumps(settings.evaluation_plan(config, w.experiment)),
        code=code_hash("sae.scoring.evaluate"),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifests[0]).parent.parent,
        judges=lambda w: [
            f"{judge}=results/activations/{w.dataset}/{judge}"
            for judge in settings.judges(config, w.experiment, w.backbone)
        ],
        out=lambda w, output: Path(output[0]).parent,
    shell:
        "python -m sae evaluate --bank {input.bank} --ablation {input.ablation} --scores {input.scores}"
        " --activations {params.activations} --judges {params.judges} --out {params.out}"
        " --settings {params.settings:q} --threads {threads} --device {params.device} --log {log}"


rule probe_embeddings:
    input:
        manifests=expand("results/activations/{{dataset}}/{{backbone}}/{split}/manifest.json", split=SPLITS),
        embeddings=ancient(expand("results/activations/{{dataset}}/{{backbone}}/{split}/embeddings.npy", split=SPLITS)),
    output:
        "results/{experiment}/scores/{dataset}/{backbone}/embeddings.json",
    log:
        "results/{experiment}/logs/probe_embeddings/{dataset}/{backbone}.log",
    benchmark:
        "results/{experiment}/benchmarks/probe_embeddings/{dataset}/{backbone}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        mem_mb=needs.memory("probe_embeddings"),
        runtime=needs.runtime("probe_embeddings"),
    params:
        settings=lambda w: dumps(settings.probe_plan(config, w.experiment)),
        code=code_hash("sae.scoring.evaluate"),
        activations=lambda w, input: Path(input.manifests[0]).parent.parent,
    shell:
        "python -m sae probe --activations {params.activations} --out {output} --settings {params.settings:q}"
        " --threads {threads} --log {log}"


rule collect:
    input:
        scores=lambda w: scores_of(w.experiment, "scores"),
        others=lambda w: [f for kind in ("curves", *EVALUATED) for f in scores_of(w.experiment, kind)],
        references=lambda w: of_banks(w.experiment, "results/{experiment}/scores/{dataset}/{backbone}/embeddings.json"),
    output:
        "results/{experiment}/metrics.parquet",
        "results/{experiment}/metrics.csv",
        "results/{experiment}/curves.parquet",
        "results/{experiment}/latents.parquet",
    log:
        "results/{experiment}/logs/collect.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=needs.memory("collect"),
        runtime=needs.runtime("small"),
    params:
        code=code_hash("sae.scoring.collect"),
        banks=lambda w, input: [Path(file).parent for file in input.scores],
    shell:
        "python -m sae collect --banks {params.banks} --references {input.references}"
        " --out results/{wildcards.experiment} --log {log}"
