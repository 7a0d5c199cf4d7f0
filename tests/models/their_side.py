"""What other libraries do, run with the Python of an environment that holds one:

    ENV/bin/python tests/models/their_side.py LIBRARY encode FOLDER X OUT     load FOLDER, encode the embeddings X
    ENV/bin/python tests/models/their_side.py LIBRARY train KIND X FOLDER OUT   train a small SAE, save and encode it

OUT gets codes (N, m) and reconstructions (N, d), by the library's own loader and code alone. The variable SIDE may hold
other settings than these, as JSON; `options` are more of the SAE's own, `start` is a file of the weights to begin with,
W_enc (d, m), W_dec (m, d) and b_dec (d,).
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

SIDE = {
    "m": 48,
    "k": 4,
    "steps": 60,
    "batch": 64,
    "lr": 0.003,
    "seed": 0,
    "options": {},
}
SIDE |= json.loads(os.environ.get("SIDE", "{}"))
M, K, STEPS, BATCH, LR = (SIDE[name] for name in ("m", "k", "steps", "batch", "lr"))
LEVELS = [M // 16, M // 8, M // 4, M // 2, M]


def batches(x):
    generator = torch.Generator().manual_seed(SIDE["seed"])
    for _ in range(STEPS):
        yield x[torch.randint(len(x), (BATCH,), generator=generator)]


@torch.no_grad()
def begin(model, centred):
    """Give a model the weights of `start`; `centred`: whether it subtracts b_dec from its inputs."""
    if "start" not in SIDE:
        return
    w_enc, w_dec, b_dec = (
        torch.from_numpy(np.load(SIDE["start"])[name])
        for name in ("W_enc", "W_dec", "b_dec")
    )
    encoder = model.W_enc if hasattr(model, "W_enc") else model.encoder.weight
    decoder = model.W_dec if hasattr(model, "W_dec") else model.decoder.weight
    encoder.copy_(w_enc if hasattr(model, "W_enc") else w_enc.T)
    decoder.copy_(w_dec if hasattr(model, "W_dec") else w_dec.T)
    (model.b_enc if hasattr(model, "b_enc") else model.encoder.bias).copy_(
        -b_dec @ w_enc * (not centred)
    )
    (model.b_dec if hasattr(model, "b_dec") else model.bias).copy_(b_dec)


class Saelens:
    KINDS = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "standard")

    def load(self, folder):
        from sae_lens import SAE

        return SAE.load_from_disk(folder, device="cpu")

    def encode(self, folder, x):
        sae = self.load(folder)
        codes = sae.encode(x)
        return codes, sae.decode(codes)

    def train(self, kind, x, folder):
        import sae_lens
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.saes import jumprelu_sae
        from sae_lens.training.sae_trainer import SAETrainer

        stem = {
            "topk": "TopK",
            "batchtopk": "BatchTopK",
            "matryoshka": "MatryoshkaBatchTopK",
            "jumprelu": "JumpReLU",
        }
        stem |= {"gated": "Gated", "standard": "Standard"}
        options = {"d_in": x.shape[1], "d_sae": M}
        if "topk" in kind or kind == "matryoshka":
            options["k"] = K
        if kind == "matryoshka":
            options["matryoshka_widths"] = LEVELS
        options |= SIDE["options"]
        if (
            kind == "jumprelu_batch"
        ):  # Its quadratic loss, of the batch's mean L0 instead of each sample's.
            kind, own = "jumprelu", jumprelu_sae.Step
            jumprelu_sae.Step = SimpleNamespace(
                apply=lambda *given: own.apply(*given).mean(dim=0, keepdim=True)
            )
        config = getattr(sae_lens, f"{stem[kind]}TrainingSAEConfig")(**options)
        sae = getattr(sae_lens, f"{stem[kind]}TrainingSAE")(config)
        begin(sae, config.apply_b_dec_to_input)
        training = SAETrainerConfig(
            total_training_samples=BATCH * STEPS,
            train_batch_size_samples=BATCH,
            lr=LR,
            lr_end=LR / 10 if "start" not in SIDE else 0.0,
            lr_decay_steps=0 if "start" not in SIDE else STEPS // 5,
            logger=LoggingConfig(log_to_wandb=False),
        )
        trainer = SAETrainer(training, sae, iter(()))
        for batch in batches(x):
            trainer._train_step(sae, batch)
        sae.save_inference_model(folder)


class DictionaryLearning:
    KINDS = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "standard")

    def classes(self, kind):
        from dictionary_learning import dictionary
        from dictionary_learning.trainers import (
            batch_top_k,
            gdm,
            jumprelu,
            standard,
            top_k,
        )
        from dictionary_learning.trainers import matryoshka_batch_top_k as matryoshka

        return {
            "topk": (top_k.TopKTrainer, top_k.AutoEncoderTopK),
            "batchtopk": (batch_top_k.BatchTopKTrainer, batch_top_k.BatchTopKSAE),
            "matryoshka": (
                matryoshka.MatryoshkaBatchTopKTrainer,
                matryoshka.MatryoshkaBatchTopKSAE,
            ),
            "jumprelu": (jumprelu.JumpReluTrainer, dictionary.JumpReluAutoEncoder),
            "gated": (gdm.GatedSAETrainer, dictionary.GatedAutoEncoder),
            "standard": (standard.StandardTrainer, dictionary.AutoEncoder),
        }[kind]

    def encode(self, folder, x):
        config = json.loads((Path(folder) / "config.json").read_text())["trainer"]
        by_class = {
            self.classes(kind)[1].__name__: self.classes(kind)[1] for kind in self.KINDS
        }
        made = by_class[config["dict_class"]]
        options = {"k": config["k"]} if config.get("k") else {}
        ae = made.from_pretrained(str(Path(folder) / "ae.pt"), **options)
        codes = ae.encode(x)
        return codes, ae.decode(codes)

    def train(self, kind, x, folder):
        trainer_class, _ = self.classes(kind)
        names = {"layer": 0, "lm_name": "", "device": "cpu"}
        options = {"k": K} if kind in ("topk", "batchtopk", "matryoshka") else {}
        if kind == "matryoshka":
            options["group_fractions"] = [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
        if kind in ("batchtopk", "matryoshka"):
            options["threshold_start_step"] = STEPS // 12
        if kind in ("jumprelu", "gated", "standard"):
            options["sparsity_warmup_steps"] = STEPS // 12
        if kind == "jumprelu":
            options["target_l0"] = float(K)
        if "start" in SIDE:
            options["decay_start"] = STEPS - STEPS // 5
        trainer = trainer_class(
            steps=STEPS,
            activation_dim=x.shape[1],
            dict_size=M,
            lr=LR,
            warmup_steps=2,
            **names,
            **options,
        )
        begin(trainer.ae, not isinstance(trainer, self.classes("jumprelu")[0]))
        for step, batch in enumerate(batches(x)):
            trainer.update(step, batch)
        folder.mkdir(parents=True)
        torch.save(trainer.ae.state_dict(), folder / "ae.pt")
        (folder / "config.json").write_text(
            json.dumps({"trainer": trainer.config}, default=str)
        )


class Sparsify:
    KINDS = ("topk", "multitopk")

    def encoder(self, x, weight, bias, k, activation):
        """Its `fused_encoder`, with the gradient of all activations; its own drops all but that of the k largest."""
        from sparsify.fused_encoder import EncoderOutput

        a = torch.relu(torch.nn.functional.linear(x, weight, bias))
        return EncoderOutput(*a.topk(k, dim=-1, sorted=False), a)

    def encode(self, folder, x):
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        from sparsify import SparseCoder

        coder = SparseCoder.load_from_disk(folder, device="cpu")
        found = coder.encode(x)
        codes = torch.zeros(len(x), coder.num_latents).scatter(
            1, found.top_indices, found.top_acts
        )
        return codes, coder.decode(found.top_acts, found.top_indices)

    def train(self, kind, x, folder):
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        from sparsify import SparseCoder, sparse_coder
        from sparsify.config import SparseCoderConfig

        if kind == "multitopk_whole":
            sparse_coder.fused_encoder = self.encoder
        # As its Trainer does with Adam, which wants a language model around the coder.
        coder = SparseCoder(
            x.shape[1], SparseCoderConfig(num_latents=M, k=K, multi_topk=kind != "topk")
        )
        coder.b_dec.data = x.mean(dim=0)
        begin(coder, True)
        optimiser = torch.optim.Adam(coder.parameters(), lr=LR)
        decay = STEPS // 5 if "start" in SIDE else 1
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (STEPS - step) / decay)
        )
        for batch in batches(x):
            coder.set_decoder_norm_to_unit_norm()
            out = coder(batch)
            (out.fvu + out.multi_topk_fvu / 8).backward()
            coder.remove_gradient_parallel_to_decoder_directions()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
        coder.save_to_disk(folder)


class Overcomplete:
    KINDS = ("topk", "jumprelu")

    def model(self, kind, d):
        from overcomplete.sae import JumpSAE, TopKSAE

        if kind == "topk":
            return TopKSAE(d, M, top_k=K, encoder_module="linear")
        return JumpSAE(d, M, encoder_module="linear")

    def coded(self, model, x):
        model.eval()
        _, codes = model.encode(x)
        return codes, model.decode(codes)

    def encode(self, folder, x):
        from overcomplete.sae import TopKSAE

        state = torch.load(folder / "state_dict.pt", weights_only=True)
        m, d = state["encoder.final_block.0.weight"].shape
        model = TopKSAE(d, m, top_k=K, encoder_module="linear")
        model.load_state_dict(state)
        codes, rebuilt = self.coded(model, x)
        return codes, rebuilt + torch.from_numpy(np.load(folder / "b_dec.npy"))

    def train(self, kind, x, folder):
        model = self.model(kind, x.shape[1]).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
        for batch in batches(x):
            rebuilt = model(batch)[2]
            (batch - rebuilt).square().sum(dim=1).mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        folder.mkdir(parents=True)
        self.trained = model
        torch.save(model.state_dict(), folder / "state_dict.pt")


LIBRARIES = {
    "saelens": Saelens,
    "dictionary_learning": DictionaryLearning,
    "sparsify": Sparsify,
    "overcomplete": Overcomplete,
}


def main(library, what, *arguments):
    torch.manual_seed(SIDE["seed"])
    side = LIBRARIES[library]()
    if what == "train":
        kind, *arguments = arguments
    x_file, folder, out = (
        (arguments[1], arguments[0], arguments[2]) if what == "encode" else arguments
    )
    x, folder = torch.from_numpy(np.load(x_file)), Path(folder)
    if what == "train":
        side.train(kind, x, folder)
    with torch.no_grad():
        trained = getattr(side, "trained", None)
        codes, rebuilt = (
            side.encode(folder, x) if trained is None else side.coded(trained, x)
        )
    np.savez(out, codes=codes.float().numpy(), rebuilt=rebuilt.float().numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
