"""Run another library, with the Python of an environment that holds it:

    PYTHON tests/models/their_side.py LIBRARY encode FOLDER X OUT
        load FOLDER, and encode the embeddings X
    PYTHON tests/models/their_side.py LIBRARY train KIND X FOLDER OUT
        train a small SAE, save it and encode X

OUT gets codes (N, m) and reconstructions (N, d), by the library's own loader and code
alone. The variable SIDE may hold other settings than those below, as JSON; `options`
are more of the SAE's own, `start` is a file of the weights to begin with, W_enc (d, m),
W_dec (m, d) and b_dec (d,).
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
    """Yield random batches of the rows of x, for each step of a training."""
    generator = torch.Generator().manual_seed(SIDE["seed"])
    for _ in range(STEPS):
        yield x[torch.randint(len(x), (BATCH,), generator=generator)]


@torch.no_grad()
def set_start_weights(model, centred):
    """Give a model the weights of `start`, if there are some.

    Args:
        model: of any library, with its own names of tensors.
        centred: whether it subtracts b_dec from its inputs.
    """
    if "start" not in SIDE:
        return
    start = np.load(SIDE["start"])
    W_enc = torch.from_numpy(start["W_enc"])
    W_dec = torch.from_numpy(start["W_dec"])
    b_dec = torch.from_numpy(start["b_dec"])
    b_enc = torch.zeros(W_enc.shape[1]) if centred else -b_dec @ W_enc

    if hasattr(model, "W_enc"):
        model.W_enc.copy_(W_enc)
    else:
        model.encoder.weight.copy_(W_enc.T)
    if hasattr(model, "W_dec"):
        model.W_dec.copy_(W_dec)
    else:
        model.decoder.weight.copy_(W_dec.T)
    (model.b_enc if hasattr(model, "b_enc") else model.encoder.bias).copy_(b_enc)
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

        class_stems = {
            "topk": "TopK",
            "batchtopk": "BatchTopK",
            "matryoshka": "MatryoshkaBatchTopK",
            "jumprelu": "JumpReLU",
            "gated": "Gated",
            "standard": "Standard",
        }
        options = {"d_in": x.shape[1], "d_sae": M}
        if "topk" in kind or kind == "matryoshka":
            options["k"] = K
        if kind == "matryoshka":
            options["matryoshka_widths"] = LEVELS
        options |= SIDE["options"]
        if kind == "jumprelu_batch":
            # Its quadratic loss, of the batch's mean L0 instead of each sample's.
            kind = "jumprelu"
            own_step = jumprelu_sae.Step
            jumprelu_sae.Step = SimpleNamespace(
                apply=lambda *arguments: own_step.apply(*arguments).mean(
                    dim=0, keepdim=True
                )
            )
        stem = class_stems[kind]
        config = getattr(sae_lens, f"{stem}TrainingSAEConfig")(**options)
        sae = getattr(sae_lens, f"{stem}TrainingSAE")(config)
        set_start_weights(sae, config.apply_b_dec_to_input)
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
        """Return the trainer and the class of a kind of SAE."""
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
        sae_classes = [self.classes(kind)[1] for kind in self.KINDS]
        class_of = {sae_class.__name__: sae_class for sae_class in sae_classes}
        sae_class = class_of[config["dict_class"]]
        options = {"k": config["k"]} if config.get("k") else {}
        sae = sae_class.from_pretrained(str(Path(folder) / "ae.pt"), **options)
        codes = sae.encode(x)
        return codes, sae.decode(codes)

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
        set_start_weights(
            trainer.ae, not isinstance(trainer, self.classes("jumprelu")[0])
        )
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
        """Encode as its `fused_encoder`, with the gradient of all activations.

        Its own drops all but that of the k largest.
        """
        from sparsify.fused_encoder import EncoderOutput

        activations = torch.relu(torch.nn.functional.linear(x, weight, bias))
        values, latents = activations.topk(k, dim=-1, sorted=False)
        return EncoderOutput(values, latents, activations)

    def encode(self, folder, x):
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        from sparsify import SparseCoder

        coder = SparseCoder.load_from_disk(folder, device="cpu")
        encoded = coder.encode(x)
        zeros = torch.zeros(len(x), coder.num_latents)
        codes = zeros.scatter(1, encoded.top_indices, encoded.top_acts)
        return codes, coder.decode(encoded.top_acts, encoded.top_indices)

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
        set_start_weights(coder, True)
        optimiser = torch.optim.Adam(coder.parameters(), lr=LR)
        decay = STEPS // 5 if "start" in SIDE else 1
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (STEPS - step) / decay)
        )
        for batch in batches(x):
            coder.set_decoder_norm_to_unit_norm()
            losses = coder(batch)
            (losses.fvu + losses.multi_topk_fvu / 8).backward()
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

    def encode_by(self, model, x):
        model.eval()
        _, codes = model.encode(x)
        return codes, model.decode(codes)

    def encode(self, folder, x):
        from overcomplete.sae import TopKSAE

        state = torch.load(folder / "state_dict.pt", weights_only=True)
        m, d = state["encoder.final_block.0.weight"].shape
        model = TopKSAE(d, m, top_k=K, encoder_module="linear")
        model.load_state_dict(state)
        codes, rebuilt = self.encode_by(model, x)
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


def main(library, command, *arguments):
    torch.manual_seed(SIDE["seed"])
    side = LIBRARIES[library]()
    if command == "train":
        kind, x_file, folder, out = arguments
    else:
        folder, x_file, out = arguments
    x = torch.from_numpy(np.load(x_file))
    folder = Path(folder)
    if command == "train":
        side.train(kind, x, folder)

    with torch.no_grad():
        # A model of Overcomplete is not loaded again: its file lacks what is pickled.
        trained = getattr(side, "trained", None)
        if trained is None:
            codes, rebuilt = side.encode(folder, x)
        else:
            codes, rebuilt = side.encode_by(trained, x)
    np.savez(out, codes=codes.float().numpy(), rebuilt=rebuilt.float().numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
