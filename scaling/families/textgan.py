"""The generative adversarial network of text: a Transformer that writes, and a discriminator that reads what it wrote."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes
from scaling.families import _gan_losses, _gan_tokens
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._sums import mean_of
from scaling.families._text import example_windows
from scaling.families._textgan_critic import TextCritic, gumbel_noise, straight_through
from scaling.families.transformer import Transformer
from scaling.fields import check_fields, convert_fields, how, static
from scaling.nn import remat

SMALLEST, LARGEST = 4e3, 1e10  # parameters of the ladder


@dataclasses.dataclass(frozen=True)
class TextGAN:
    """Sizes and rules of a two-player game over windows of text.

    The generator ("gen") is the `Transformer` of the same sizes, parameter by parameter, so that it can begin with those of
    a trained language model: `Start(base, {"gen": "model"})`. It continues the first token of each window of the data. The
    discriminator ("disc") reads the whole window, and compares it with the window of the data (`_gan_losses`; relativistic
    pairing with R1 and R2 as in R3GAN, Huang et al. 2501.05441, of the gradient by the vectors of words).

    A window is written token by token. For its gradient, the generator then reads what it wrote once more, and every token
    is a straight-through Gumbel-softmax sample of that pass (Jang et al. 1611.01144): a one-hot vector with the gradient of
    softmax((logits + noise) / gumbel). That costs one pass like that of a language model. The gradient reaches the logits
    of each token, but does not go through a token into the choice of those after it.

    `likelihood` adds so many times the nats of the data to the generator's loss, which keeps it a language model. The
    discriminator mirrors the generator; `critic_width` and `critic_layers` set its sizes separately. Recipe: Adam with
    beta1 = 0 and an average of the generator's weights (`optim.ema`), no weight decay.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    width: int = static(64, least=1, most=2**20)  # of the residual stream of the generator
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of the generator
    heads: int = static(0, least=0, most=2**16)  # of the generator; 0: as many as a Transformer of this width has
    head_dim: int = static(0, least=0, most=2**20)  # of the generator; 0: width / heads
    positions: str = static("rotary", choices=("rotary", "learned"))  # of the generator
    tied: bool = static(False)  # of the generator
    critic_width: int = static(0, least=0, most=2**16)  # 0: as the generator's
    critic_layers: int = static(0, least=0, most=MOST_LAYERS)  # 0: as the generator's
    loss: str = static("relativistic", choices=tuple(_gan_losses.GAMES))  # of the game, see _gan_losses
    gamma: float = static(1.0, least=0)  # weight of R1 and R2; 0: none. On eight tokens 0.3 taught less
    penalise: str = static("both", choices=("both", "real", "fake"))  # "real": R1 alone; "fake": R2 alone
    gumbel: float = static(1.0, above=0, most=1e3, meaning="the temperature of the softmax that gradients pass")
    likelihood: float = static(0.0, least=0, most=1e6, meaning="the weight of the nats of the data")
    disc_steps: int = static(1, least=1, most=64)  # updates of the discriminator for each update of the generator
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    scan: bool = how(True)  # the generator's layers in a compiled loop, or unrolled
    unroll: int = how(1, least=1, most=2**20)  # tokens that it writes in one iteration of the compiled loop
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what its backward pass recomputes

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        _ = self.writer  # which refuses heads that do not fit

    @property
    def writer(self) -> Transformer:
        """The language model that the generator is."""
        same = ("vocab", "length", "width", "layers", "positions", "tied", "base_layers", "depth_exponent", "dtype", "scan",
                "remat")
        return Transformer(heads=self.heads or None, head_dim=self.head_dim or None,
                           **{name: getattr(self, name) for name in same})

    # ---- the protocol of families

    def init(self, key):
        gen, disc = jax.random.split(key)
        return {"gen": self.writer.init(gen)["model"], "disc": nnx.state(_critic(self, disc))}

    def players(self):
        return (Player("disc", self.disc_loss),) * self.disc_steps + (Player("gen", self.gen_loss),)

    def depth(self, player):
        layers = self.layers if player == "gen" else self.critic_sizes[1]
        return Depth(layers / (self.base_layers or layers), self.depth_exponent)

    def disc_loss(self, params, batch, key):
        """Mean nats per pair, with penalties. Metrics: mean logits, their difference, "adversarial", "r1", "r2"."""
        disc = self.critic(params)
        real, (fake, _) = batch["tokens"].astype(jnp.int32), self.write(params, batch, key)
        return _gan_losses.critic_loss(self.loss, disc, disc.embed(real), disc.embed(fake), self.gamma, self.penalise)

    def gen_loss(self, params, batch, key):
        """Mean nats per pair, and `likelihood` times the nats per token of the data. Metrics: mean logits and their
        difference; with `likelihood` also "adversarial" and "nats"."""
        disc, (windows, gumbel) = self.critic(params), self.write(params, batch, key)
        words = straight_through(self.logits(params, windows[:, :-1]), gumbel, windows[:, 1:], self.gumbel)
        fake = disc(jnp.concatenate([disc.embed(windows[:, :1]), disc.embed(words)], axis=1))
        loss, metrics = _gan_losses.generator_loss(self.loss, disc(disc.embed(batch["tokens"].astype(jnp.int32))), fake)
        if self.likelihood:
            nats, _ = self.writer.loss(_model(params), batch, key)
            metrics |= {"adversarial": loss, "nats": nats}
            loss += self.likelihood * nats
        return loss, metrics

    def write(self, params, batch, key):
        """(windows, int32 [B, S + 1], the noise that chose their tokens after the first one, float32 [B, S, vocab]).

        There is one for each batch["example"], which begins with the first token of its row of batch["tokens"]. There is no
        gradient.
        """
        gumbel = gumbel_noise(key, batch["example"], (self.length, self.vocab))
        model, first = lax.stop_gradient(_model(params)), batch["tokens"][:, :1].astype(jnp.int32)

        def choose(logits, noise):
            return (logits + noise).argmax(-1).astype(jnp.int32)

        def one_more(carry, noise):
            logits, state = self.writer.decode(model, carry[1], carry[0])
            token = choose(logits, noise)
            return (token, state), token

        logits, state = self.writer.begin(model, first, jnp.ones(len(first), jnp.int32), self.length)
        token = choose(logits, gumbel[:, 0])
        _, rest = lax.scan(one_more, (token, state), gumbel[:, 1:].swapaxes(0, 1), unroll=self.unroll)
        return jnp.concatenate([first, token[:, None], rest.T], axis=1), gumbel

    def evaluate(self, params, batch, key):
        """Those of the generator as a language model (`scaling.families._text.likelihood_metrics`), and of the game:
        "relativistic_loss" (nats per pair), "pair_accuracy" (share with D(real) > D(fake)), "disc_real_accuracy" and
        "disc_fake_accuracy" (shares with D(real) > 0 and D(fake) < 0, meaningful for losses that are not relativistic)."""
        disc, (windows, _) = self.critic(params), self.write(params, batch, key)
        real, fake = disc(disc.embed(batch["tokens"].astype(jnp.int32))), disc(disc.embed(windows))
        game = {"relativistic_loss": jax.nn.softplus(fake - real), "pair_accuracy": real > fake,
                "disc_real_accuracy": real > 0, "disc_fake_accuracy": fake < 0}
        return self.writer.evaluate(_model(params), batch, key) | {name: mean_of(x) for name, x in game.items()}

    def example_batch(self, batch_size, key):
        return example_windows(batch_size, self.length, self.vocab, key) | {
            "example": jnp.arange(batch_size, dtype=jnp.int32)}

    # ---- text

    def logits(self, params, tokens):
        """Tokens, integer [B, S] -> float32 logits [B, S, vocab] of the token that follows each one."""
        return self.writer.logits(_model(params), tokens)

    @property
    def longest(self):
        return self.writer.longest

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`); see `Transformer.begin`."""
        return self.writer.begin(_model(params), tokens, lengths, capacity)

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        return self.writer.decode(_model(params), state, token)

    def sample(self, params, batch, key, **options):
        """Windows of text, int32 [B, 1 + length]; see `scaling.families._generate.sample_windows`."""
        return sample_windows(self, params, batch, key, **options)

    def broken(self, curve, metrics=None):
        """(step, reason) if training broke down, else None; see `_gan_losses.broken`."""
        return _gan_losses.broken(curve, metrics)

    def critic(self, params) -> TextCritic:
        """The discriminator with these parameters."""
        return nnx.merge(_graphdef(self), params["disc"])

    # ---- sizes

    @property
    def critic_sizes(self):
        """(width, layers) of the discriminator."""
        return self.critic_width or self.width, self.critic_layers or self.layers

    @classmethod
    def ladder(cls, size, **overrides):
        """The GAN whose generator is `Transformer.ladder(size)`, with about `size` non-embedding parameters, from 5e3 to
        1e8 and beyond. Unless overrides say otherwise, the discriminator has about as many again."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        rung = Transformer.ladder(size, **{name: overrides[name] for name in overrides if name == "layers"})
        return cls(**{"width": rung.width, "layers": rung.layers, "scan": rung.scan} | overrides)

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9)) + (1e8,)


def _model(params):
    """The generator's parameters as those of a language model."""
    return {"model": params["gen"]}


def _critic(family, key):
    width, layers = family.critic_sizes
    rest, blocks = jax.random.split(key)
    layers = _gan_tokens.stack_blocks(family, "disc", width, jax.random.split(blocks, layers))
    return axes.drawn(functools.partial(TextCritic, family, layers), rest)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _critic(family, jax.random.key(0))))
