"""GANs draw sharper images than VAEs of equal compute, and VAEs cover more of the data."""

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

# FLOPs of each slice, the width of its GANs, the width of its VAEs
SLICES = {"5m": ((2e10, 8, 16), (8e10, 12, 24), (3.2e11, 24, 40)),
          "30m": ((5e10, 12, 24), (2e11, 16, 32), (8e11, 32, 48), (3.2e12, 48, 64)),
          "2h": ((2e11, 16, 32), (8e11, 32, 48), (3.2e12, 48, 64), (1.28e13, 64, 96)),
          "gpu": ((1e12, 32, 48), (1e13, 48, 96), (1e14, 96, 176), (4e14, 128, 256))}
SAMPLES = {"5m": 2048, "30m": 4096, "2h": 4096, "gpu": 8192}
SEEDS = 3


def parts(budget):
    runs, samples = [], {"data.samples": SAMPLES[budget], "data.evaluation_examples": SAMPLES[budget]}
    for slice_, (flops, gan, vae) in enumerate(SLICES[budget]):
        for seed in range(slice_ * SEEDS, (slice_ + 1) * SEEDS):  # a seed belongs to one slice
            runs += [_recipes.at_compute("gan", gan, flops, seed, **samples),
                     _recipes.at_compute("vae", vae, flops, seed, **samples)]
    return {"gan and vae": Part(runs, "precision")}


def analyse(name: str, part: Trained) -> Finding:
    del name
    runs = part.runs.assign(slice=part.runs["seed"] // SEEDS)
    sharper = statistics.paired(runs, "precision", "family", "vae", "gan", ["seed"], log=False)
    wider = statistics.paired(runs, "coverage", "family", "gan", "vae", ["seed"], log=False)
    recalled = statistics.paired(runs, "recall", "family", "gan", "vae", ["seed"], log=False)
    by_slice = {seed: runs[runs["slice"] == seed] for seed in sorted(runs["slice"].unique())}
    flops = [float(slice_["flops"].mean()) for slice_ in by_slice.values()]
    lines = [Line(f"{family.upper()}, {metric}", flops, [
        float(slice_[slice_["family"] == family][metric].mean()) for slice_ in by_slice.values()])
        for family in ("gan", "vae") for metric in ("precision", "coverage")]
    said = (f"Precision is the share of samples that lie near real images, and coverage is the share of real images that "
            f"have a sample near them. Recall is {recalled.value:+.3f}, 90% [{recalled.low:+.3f}, {recalled.high:+.3f}], "
            "higher for the VAE.")
    return Finding({"sharper": sharper, "wider": wider}, Panel("FLOPs", "share", lines), said)


CLAIM = Claim(
    id="sharp", statement="GANs draw sharper images than VAEs of equal compute, and VAEs cover more of the data.",
    source="Sajjadi et al. 2018, arXiv:1806.00035, section 4.3, figure 8 (800 GANs and VAEs on Fashion-MNIST); precision "
           "and coverage by Naeem et al. 2020, arXiv:2002.09797",
    published={"": "GANs ahead in precision, VAEs in recall; no number"},
    rules={"sharper": Criterion("the precision of the GAN less that of the VAE", low=0.0,
                                why="The claim is about the sign alone, since no size was published."),
           "wider": Criterion("the coverage of the VAE less that of the GAN", low=0.0,
                              why="The claim is about the sign alone, since no size was published.")},
    parts=parts, analyse=analyse,
    cost={"5m": "18 runs in three slices of compute", "30m": "24 runs in four slices of compute",
          "2h": "24 runs in four slices, up to 1.3e13 FLOPs", "gpu": "24 runs in four slices, up to 4e14 FLOPs"},
    more="Coverage counts a real image only where a sample comes close, so a family that draws poor images covers little "
         "even where it draws all kinds. More compute for the VAE, or samples at a lower temperature, could turn the sign.")
