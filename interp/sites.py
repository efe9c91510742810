"""Where in a model one reads and writes: a block and a stream.

A layer is a block index, counted from 0, and `L14.resid_post` is the output of block 14. Hugging Face's
`hidden_states[15]` is the same tensor, except that its last entry is usually taken after the final norm.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from interp.errors import SiteError

STREAMS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")

_SITE = re.compile(r"(?:blocks\.(?P<block>\d+)\.hook_|L?(?P<layer>-?\d+(?:/\d+)?)\.?)(?P<stream>[a-z_]*)")
_DO = "write a site as L14.resid_post, 14, -1, 2/3 or blocks.14.hook_resid_post"


@dataclass(frozen=True, order=True)
class Site:
    """A block (0-based) and one of its streams; prints as `L14.resid_post`."""

    layer: int
    stream: str = "resid_post"

    def __post_init__(self) -> None:
        if self.stream not in STREAMS:
            raise SiteError(
                f"site {self.layer}.{self.stream}", f"no stream {self.stream!r}", f"choose one of {', '.join(STREAMS)}"
            )
        if self.layer < 0:
            raise SiteError(f"site {self}", "a negative layer", "resolve it with Site.parse(text, n_layers)")

    def __str__(self) -> str:
        return f"L{self.layer}.{self.stream}"

    @property
    def hook_name(self) -> str:
        """TransformerLens's name for this site."""
        return f"blocks.{self.layer}.hook_{self.stream}"

    @classmethod
    def parse(cls, text: str, n_layers: int | None = None) -> "Site":
        """The site that `text` names.

        Accepts `L14.resid_post`, `14`, TransformerLens names, negative layers (`-1` is the last block) and
        fractions of depth (`2/3` is block `floor(2/3 * n_layers)`). `str(Site.parse(str(site))) == str(site)`.

        Raises:
            SiteError: `text` does not parse, or the model has no such block.
        """
        match = _SITE.fullmatch(text.strip())
        if match is None:
            raise SiteError(f"site {text!r}", "it does not parse", _DO)
        stream = {"": "resid_post", "out": "resid_post", "in": "resid_pre"}.get(match["stream"], match["stream"])
        number = match["block"] or match["layer"]
        if n_layers is None and ("/" in number or number.startswith("-")):
            raise SiteError(f"site {text!r}", "it is relative to the depth of a model", "give the number of layers")
        layer = _resolve(number, n_layers)
        if layer is None:
            raise SiteError(f"site {text!r}", f"the model has blocks 0 to {(n_layers or 0) - 1}", _DO)
        return cls(layer, stream)


def _resolve(number: str, n_layers: int | None) -> int | None:
    """The block index, or None when the model has no such block."""
    if n_layers is None:
        return int(number)
    numerator, _, denominator = number.partition("/")
    if denominator == "":
        layer = int(number) + (n_layers if int(number) < 0 else 0)
    elif int(denominator) == 0:
        return None
    else:
        depth = Fraction(int(numerator), int(denominator))
        layer = min(int(depth * n_layers), n_layers - 1) if 0 <= depth <= 1 else -1
    return layer if 0 <= layer < n_layers else None


def parse_sites(text: str | Sequence[str], n_layers: int) -> tuple[Site, ...]:
    """The sites named by a list or a comma-separated text, in order, without repeats; `all` is every resid_post."""
    names = text.split(",") if isinstance(text, str) else list(text)
    found: dict[Site, None] = {}
    for name in names:
        every = name.strip() == "all"
        found |= dict.fromkeys([Site(i) for i in range(n_layers)] if every else [Site.parse(name, n_layers)])
    return tuple(found)
