"""The classes of transformers that diffusers' pipelines are made of."""

import json
import os

from . import _arrays, _core
from ._engine import Session
from .diffusers._components import Adaptable, Component
from .diffusers._outputs import BaseOutput
from .torch._tensor import Tensor, from_numpy

__all__ = ["CLIPImageProcessor", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer"]


class BatchEncoding(dict):
    """input_ids and attention_mask, as entries and as attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args, **kwargs):
        return self


class CLIPTokenizer(Component):
    """Text to CLIP's ids and back."""

    slot = "tokenizer"
    bos_token, eos_token, unk_token = "<|startoftext|>", "<|endoftext|>", "<|endoftext|>"

    @classmethod
    def _of(cls, handle, dtype=None):
        made = super()._of(handle, dtype)
        path = os.path.join(made._info["path"], "tokenizer_config.json")
        settings = {}
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                settings = json.load(file)
        pad = settings.get("pad_token") or cls.eos_token
        made.pad_token = pad["content"] if isinstance(pad, dict) else pad
        made._padded = list(_core.tokenize(made._loose(), 1, "")[0])
        made.model_max_length = len(made._padded)
        made.bos_token_id, made.eos_token_id = made._padded[:2]
        made.pad_token_id = made._padded[2] if len(made._padded) > 2 else made.eos_token_id
        return made

    def tokenize(self, text):
        """The tokens as texts, without start and end."""
        ids = self._ids(text, True)[1:-1]
        return [self.decode([i]) for i in ids]

    def _ids(self, text, truncate):
        if not isinstance(text, str):
            raise ValueError(f"text input must be of type `str` or a list of them, not "
                             f"{type(text).__name__}")
        ids, cut = self._window(text)
        while not truncate and cut:  # the rest, window by window
            more, cut = self._window(cut)
            ids = ids[:-1] + more[1:]
        return ids

    def _window(self, text):
        """Ids with start and end, without padding (which may look like the end); and the rest."""
        text = text.replace("\0", "")  # C's texts end there
        ids, cut = _core.tokenize(self._loose(), 1, text)
        ids = list(ids)
        if cut:
            return ids, cut
        end = ids.index(self.eos_token_id, 1)
        if "<|" in text:  # perhaps an end that was written out: a word behind it shows where
            longer = list(_core.tokenize(self._loose(), 1, text + " a")[0])
            padding = (self.eos_token_id, self.pad_token_id)
            end = max(i for i, id in enumerate(longer) if id not in padding)
        return ids[:end] + [self.eos_token_id], None

    def __call__(self, text, padding=False, max_length=None, truncation=False,
                 return_tensors=None, **ignored):
        """Texts -> input_ids and attention_mask: lists; arrays for return_tensors="pt" or "np"."""
        many = isinstance(text, (list, tuple))
        limit = max_length or self.model_max_length
        rows = []
        for one in text if many else [text]:
            ids = self._ids(one, bool(truncation))
            if truncation and len(ids) > limit:
                ids = ids[:limit - 1] + [self.eos_token_id]
            rows.append(ids)
        width = limit if padding == "max_length" else max(map(len, rows)) if padding else 0
        masks = [[1] * len(r) + [0] * (width - len(r)) for r in rows]
        rows = [r + [self.pad_token_id] * (width - len(r)) for r in rows]
        if return_tensors is None:
            pick = (lambda x: x) if many else (lambda x: x[0])
            return BatchEncoding(input_ids=pick(rows), attention_mask=pick(masks))
        ids, mask = (Tensor(_arrays.from_lists(x, "q")) for x in (rows, masks))
        if return_tensors == "np":
            ids, mask = ids.numpy(), mask.numpy()
        return BatchEncoding(input_ids=ids, attention_mask=mask)

    def encode(self, text, **kwargs):
        """The ids of one text, with start and end."""
        return self(text, **kwargs)["input_ids"]

    def decode(self, ids, skip_special_tokens=False, **ignored):
        """Ids back to text."""
        ids = [int(i) for i in ids]
        if skip_special_tokens:
            ids = [i for i in ids if i not in (self.bos_token_id, self.eos_token_id)]
        return _core.detokenize(self._loose(), 1, _arrays.from_lists(ids, "i")) if ids else ""

    def batch_decode(self, rows, skip_special_tokens=False, **ignored):
        """decode for each row."""
        return [self.decode(r, skip_special_tokens) for r in rows]


class CLIPTextModelOutput(BaseOutput):
    """text_embeds (with projection), last_hidden_state, pooler_output, hidden_states (a tuple)."""

    fields = ("text_embeds", "last_hidden_state", "pooler_output", "hidden_states")


class CLIPTextModel(Adaptable):
    """CLIP's text encoder."""

    slot = "text_encoder"
    projection = False

    def __call__(self, input_ids, attention_mask=None, position_ids=None, output_attentions=None,
                 output_hidden_states=None, return_dict=True):
        """ids [n, tokens] -> last_hidden_state [n, tokens, dim]; output_hidden_states=True adds
        every layer's input and the last one's output."""
        rows = [[int(i) for i in row] for row in (input_ids.tolist()
                if hasattr(input_ids, "tolist") else input_ids)]
        ids = _arrays.from_lists([i for row in rows for i in row], "i")
        encoder = 2 if self.slot == "text_encoder_2" else 1
        with Session() as session:
            def encode(layer, pooled=False):
                return _core.encode_text(session, self._loose(), encoder, ids, len(rows), layer,
                                         self._compute(), pooled)

            last = encode(-1, self.projection)
            layers = self.config["num_hidden_layers"] + 1 if output_hidden_states else 0
            states = tuple(Tensor(encode(k)) for k in range(layers)) or None
        last, embeds = last if self.projection else (last, None)
        made = CLIPTextModelOutput(text_embeds=Tensor(embeds) if self.projection else None,
                                   last_hidden_state=Tensor(last), hidden_states=states)
        if not self.projection:
            made.pooler_output = _pooled(made.last_hidden_state, rows)
        if return_dict:
            return made
        return made.to_tuple()

    forward = __call__


def _pooled(hidden, rows):
    """The state at the end token, which is the largest id, as transformers has it."""
    if _arrays.numpy_or_none() is None:
        return None
    at = [row.index(max(row)) for row in rows]
    return from_numpy(hidden.numpy()[range(len(rows)), at].copy())


class CLIPTextModelWithProjection(CLIPTextModel):
    """CLIP's text encoder with its projection: text_embeds [n, projection_dim]."""

    slot = "text_encoder_2"
    projection = True


class CLIPImageProcessor(Component):
    """The safety checker's view of pictures. Styx prepares them itself: this holds the settings."""

    slot = "feature_extractor"
