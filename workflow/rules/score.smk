# One job scores a bank; one more joins the banks into metrics.parquet and chooses lambda on the validation split.


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
    params:
        code=code_hash("sae.score"),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifests[0]).parent.parent,
    shell:
        "python -m sae score --bank {input.bank} --activations {params.activations} --out {output.scores}"
        " --curves {output.curves} --threads {threads} --device {params.device} --log {log}"


rule collect:
    input:
        scores=lambda w: scores_of(w.experiment, "scores"),
        curves=lambda w: scores_of(w.experiment, "curves"),
    output:
        "results/{experiment}/metrics.parquet",
        "results/{experiment}/metrics.csv",
        "results/{experiment}/curves.parquet",
    log:
        "results/{experiment}/logs/collect.log",
    conda:
        ENVIRONMENT
    params:
        code=code_hash("sae.collect"),
    shell:
        "python -m sae collect --scores {input.scores} --curves {input.curves}"
        " --out results/{wildcards.experiment} --log {log}"
