"""The generative adversarial network: the recipe of R3GAN, with older losses and bodies for comparison."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, cost, nn
from scaling.devices import sharding
from scaling.families import _gan_conv, _gan_dcgan, _gan_ladder, _gan_losses, _gan_tokens
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, divisors, ladder_arguments
from scaling.families._gan_augment import POLICIES, augment
from scaling.families._pictures import great_circles, random_images
from scaling.families._sums import mean_of
from scaling.fields import ConfigError, check_fields, convert_fields, how, shown, static
from scaling.nn import convolution

BODIES = {"tokens": _gan_tokens, "conv": _gan_conv, "dcgan": _gan_dcgan}
SMALLEST, LARGEST = 5e3, 2e9  # parameters of the ladder
SIZES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 5e8)  # generator and discriminator together


@dataclasses.dataclass(frozen=True)
class GAN:
    """Sizes and rules of a two-player game (Goodfellow et al. 2014), by default that of R3GAN (2501.05441).

    The discriminator ("disc") minimises the relativistic pairing loss plus gamma/2 times R1 + R2, exact penalties of each
    example's gradient. The generator ("gen") then moves against the updated discriminator. Bodies: "tokens" (patches and
    attention, matrix products only), "conv" (R3GAN's residual blocks), "dcgan" (Radford et al. 2015). None normalises
    across the batch. `width` scales both players, which mirror each other; `critic_width` and `critic_layers` set the
    discriminator's sizes separately. The latents have the same size in every member, so all members can be given the same
    ones. What leaves either network, pixels or logits, starts with std 1/fan_in, as muP asks of outputs (Yang et al.
    2203.03466, table 8). With `base_layers`, residual branches are multiplied by (base_layers / layers)^depth_exponent
    (CompleteP, Dey et al. 2505.01618). Recipe: Adam with beta1 = 0 and an average of the generator's weights
    (`optim.ema`), no weight decay. Images are in [-1, 1] for the networks, 0 .. levels-1 outside.
    """

    reads: ClassVar[str] = "images"

    image_size: int = static(16, least=8, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    classes: int = static(0, least=0, most=2**24)  # of batch["label"]; 0: no label
    caption: int = static(0, least=0, most=2**16)  # bytes of batch["caption"]; 0: no caption
    body: str = static("tokens", choices=tuple(BODIES))  # patches and attention, R3GAN's residual blocks, or the DCGAN
    width: int = static(32, least=1, most=2**16)  # tokens: of the residual stream; conv, dcgan: channels at full resolution
    layers: int = static(2, least=1, most=MOST_LAYERS)  # tokens: blocks; conv: blocks at each resolution; dcgan: always one
    critic_width: int = static(0, least=0, most=2**16)  # 0: as the generator's
    critic_layers: int = static(0, least=0, most=MOST_LAYERS)  # 0: as the generator's
    latent: int = static(64, least=1, most=2**20)  # numbers that an image is drawn from
    patch: int = static(0, least=0, most=4096)  # tokens: pixels of a patch's side; 0: 4, or 8 from 64 pixels on
    groups: int = static(1, least=1, most=2**16)  # conv: of the 3x3 convolutions; grouped ones are slow on CPU
    expansion: int = static(1, least=1, most=64)  # conv: middle channels over outer ones (R3GAN: 2, with groups)
    loss: str = static("relativistic", choices=tuple(_gan_losses.GAMES))  # of the game, see _gan_losses
    gamma: float = static(0.3, least=0)  # weight of R1 and R2; 0: none. On letters of 16 pixels 0.3 and 1 are as good
    penalise: str = static("both", choices=("both", "real", "fake"))  # "real": R1 alone; "fake": R2 alone
    base_layers: int = static(0, later=True, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, later=True, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    disc_steps: int = static(1, least=1, most=64)  # updates of the discriminator for each update of the generator
    augment: str = static("")  # "translation,colour,cutout" or some of them (DiffAugment)
    augment_probability: float = static(1.0, least=0, most=1)  # of each policy and image; an adaptive one would be state
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    convolution: str = how("auto", choices=convolution.IMPLEMENTATIONS)  # lax.conv, or products of shifted images

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.image_size & (self.image_size - 1):
            raise ConfigError(f"family.image_size={self.image_size} must be a power of two for a GAN; write data.size=8, "
                              "16, 32, 64, ...")
        if self.image_size % self.patch_size:
            raise ConfigError(f"family.patch={self.patch} must divide the {self.image_size} pixels of data.size; write "
                              f"one of {divisors(self.image_size)}")
        for name in self.policies:
            if name not in POLICIES:
                raise ConfigError(f"family.augment={shown(self.augment)} has {shown(name)}, which is not known; write "
                                  f"some of {','.join(POLICIES)}")
        if self.base_layers and (self.body == "dcgan" or self.body == "conv" and self.depth_exponent != 1):
            raise ConfigError(f"family.base_layers={self.base_layers} is not for family.body={self.body!r}; write 0, or "
                              "body=tokens (or body=conv with family.depth_exponent=1)")
        widths = self.width, self.critic_sizes[0]
        if self.body == "conv" and any(width * self.expansion % self.groups for width in widths):
            raise ConfigError(f"family.groups={self.groups} must divide width * expansion of both players, "
                              f"{widths[0] * self.expansion} and {widths[1] * self.expansion}; write family.groups=1")

    # ---- the protocol of families

    def init(self, key):
        gen, disc = jax.random.split(key)
        return {"gen": nnx.state(_build(self, "gen", gen)), "disc": nnx.state(_build(self, "disc", disc))}

    def players(self):
        return (Player("disc", self.disc_loss),) * self.disc_steps + (Player("gen", self.gen_loss),)

    def depth(self, player):
        layers = self.layers if player == "gen" else self.critic_sizes[1]
        return Depth(layers / (self.base_layers or layers), self.depth_exponent)

    def disc_loss(self, params, batch, key):
        """Mean nats per pair, with penalties. Metrics: mean logits, their difference, "adversarial", "r1", "r2"."""
        z_key, augment_key = jax.random.split(key)
        real, fake = nn.levels_to_signed(batch["image"], self.levels), self._generate(params, batch, z_key)
        twice = {name: jnp.repeat(x, 2, axis=0) for name, x in batch.items() if name != "image"}
        twice["example"] = 2 * twice["example"] + jnp.arange(2 * real.shape[0]) % 2  # every image has its own draws

        def critic(images):
            return self._judge(params, images, twice, augment_key)

        return _gan_losses.critic_loss(self.loss, critic, real, fake, self.gamma, self.penalise)

    def gen_loss(self, params, batch, key):
        """Mean nats per pair. Metrics: mean logits and their difference."""
        z_key, real_key, fake_key = jax.random.split(key, 3)
        fake = self._judge(params, self._generate(params, batch, z_key), batch, fake_key)
        real = self._judge(params, nn.levels_to_signed(batch["image"], self.levels), batch, real_key)
        return _gan_losses.generator_loss(self.loss, real, fake)

    def evaluate(self, params, batch, key):
        """For each example, metrics of the game, which do not measure quality: "relativistic_loss" (nats per pair),
        "pair_accuracy" (share with D(real) > D(fake)), "disc_real_accuracy" and "disc_fake_accuracy" (shares with
        D(real) > 0 and D(fake) < 0, meaningful for losses that are not relativistic). Images are not augmented."""
        disc = self.module(params, "disc")
        real = disc(nn.levels_to_signed(batch["image"], self.levels), batch)
        fake = disc(self._generate(params, batch, key), batch)
        found = {"relativistic_loss": jax.nn.softplus(fake - real), "pair_accuracy": real > fake,
                 "disc_real_accuracy": real > 0, "disc_fake_accuracy": fake < 0}
        return {name: mean_of(x) for name, x in found.items()}

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    # ---- images

    def sample(self, params, batch, key, temperature=1.0):
        """Images uint8 [B, H, W, C], one for each of batch["example"], given its label or caption. `temperature` multiplies
        the latents."""
        z = temperature * nn.noise(key, batch["example"], (self.latent,))
        return nn.signed_to_levels(self._network(params, z, batch), self.levels)

    def pictures(self, params, batch, key):
        """"samples" and "interpolations" (along great circles between two latents), uint8 [4, 8, H, W, C]."""
        rows, columns = 4, 8
        count = batch["example"].shape[0]
        conditions = {k: v for k, v in batch.items() if k in ("label", "caption")}

        def draw(z, index):
            images = self._network(params, z, {k: v[index % count] for k, v in conditions.items()})
            images = nn.signed_to_levels(images, self.levels)
            return images.reshape(rows, columns, *images.shape[1:])

        numbers = jnp.arange(rows * columns)
        arcs = great_circles(jax.random.fold_in(key, 1), rows, columns, (self.latent,))
        return {"samples": draw(nn.noise(key, numbers, (self.latent,)), numbers),
                "interpolations": draw(arcs, numbers // columns)}

    def broken(self, curve, metrics=None):
        """(step, reason) if training broke down, else None; see `_gan_losses.broken`."""
        return _gan_losses.broken(curve, metrics)

    def module(self, params, player):
        """The generator ("gen") or the discriminator ("disc") with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self, player), params[player])

    def flops_by_player(self):
        """{player: FLOPs of one forward pass for one example}."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        params = jax.eval_shape(self.init, key)
        batch = jax.eval_shape(lambda key: self.example_batch(1, key), key)

        def judge(params, batch):
            return self.module(params, "disc")(nn.levels_to_signed(batch["image"], self.levels), batch)

        with sharding.as_on(cost.CANONICAL):
            return {"gen": cost.flops(self._generate, params, batch, key), "disc": cost.flops(judge, params, batch)}

    def _network(self, params, z, batch):
        return self.module(params, "gen")(z, batch)

    def _generate(self, params, batch, key):
        return self._network(params, nn.noise(key, batch["example"], (self.latent,)), batch)

    def _judge(self, params, images, batch, key):
        if self.policies:
            images = augment(images, self.policies, self.augment_probability, key, batch["example"])
        return self.module(params, "disc")(images, batch)

    # ---- sizes

    @property
    def patch_size(self):
        return self.patch or (8 if self.image_size >= 64 else 4)

    @property
    def tokens(self):
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self):
        return self.patch_size**2 * self.channels

    @property
    def critic_sizes(self):
        """(width, layers) of the discriminator."""
        return self.critic_width or self.width, self.critic_layers or self.layers

    @property
    def conditional(self):
        return bool(self.classes or self.caption)

    @property
    def inputs(self):
        """The number of inputs of a generator: the latents, and a condition of the same size."""
        return self.latent * (2 if self.conditional else 1)

    @property
    def policies(self):
        return tuple(filter(None, self.augment.replace(" ", "").split(",")))

    @classmethod
    def ladder(cls, size, **overrides):
        """The GAN with about `size` parameters, both players together, within 20% from 1e4 to 5e8.

        Parameters are counted with the overrides in place, so a size means the same for every image size and for a given
        `critic_width`. `_gan_ladder` says how depth follows width.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        return _gan_ladder.nearest_rung(cls(**overrides), size, overrides)

    @classmethod
    def sizes(cls):
        return SIZES


def _build(family, player, key):
    body = BODIES[family.body]
    network = body.Generator if player == "gen" else body.Critic
    if family.body != "tokens":
        return axes.drawn(functools.partial(network, family), key)
    width, layers = (family.width, family.layers) if player == "gen" else family.critic_sizes
    rest, blocks = jax.random.split(key)
    blocks = _gan_tokens.stack_blocks(family, player, width, jax.random.split(blocks, layers))
    return axes.drawn(functools.partial(network, family, blocks), rest)


@functools.lru_cache(maxsize=256)
def _graphdef(family, player):
    return nnx.graphdef(nnx.eval_shape(lambda: _build(family, player, jax.random.key(0))))
