"""Textual inversion: words that a tokenizer and its text encoder learn."""

import json
import os

from .. import _arrays, _core
from . import _files

USUAL_NAME = "learned_embeds.safetensors"
PAIR = {"clip_l", "clip_g"}  # SDXL's two text encoders in one file


class Word:
    """What was learnt: token, and the file of its vectors."""

    def __init__(self, token, weights, pair):
        self.token, self.weights, self.pair = token, weights, pair


def _of_file(given, token, kwargs):
    weights = _files.find(given, USUAL_NAME, kwargs, guess=False)
    info = json.loads(_core.weights_info(weights.path))
    keys = [x["name"] for x in info["tensors"]]
    if token is None and len(keys) == 1 and keys[0] not in ("emb_params", "string_to_param.*"):
        token = keys[0]
    if token is None:
        token = info["metadata"].get("name") or os.path.splitext(os.path.basename(weights.path))[0]
    return Word(token, weights, PAIR <= set(keys))


def _of_array(x, token):
    if token is None:
        raise ValueError("You are trying to load a textual inversion embedding that has been saved "
                         "as a PyTorch tensor. Make sure to pass the name of the corresponding "
                         "token in this case: `token=...`.")
    return Word(token, _files.of_arrays({"emb_params": x}), False)


def _of_dict(given, token):
    if PAIR <= set(given):
        if token is None:
            raise ValueError("clip_l and clip_g have no name of their own: pass `token=...`")
        return Word(token, _files.of_arrays({k: given[k] for k in PAIR}), True)
    if len(given) == 1:
        name, x = next(iter(given.items()))
    elif "string_to_param" in given:
        name, x = given["name"], given["string_to_param"]["*"]
    else:
        raise ValueError(f"Loaded state dictionary is incorrect: {list(given)}. Please verify that "
                         f"the loaded state dictionary of the textual embedding either only has a "
                         f"single key or includes the `string_to_param` input key.")
    return _of_array(x, token or name)


def _words(given, tokens, kwargs):
    given = list(given) if isinstance(given, list) else [given]
    tokens = list(tokens) if isinstance(tokens, list) else [tokens] * len(given)
    if len(given) == 1 and len(tokens) > 1 and _arrays.is_array(given[0]):
        given = [given[0][i] for i in range(_arrays.shape_of(given[0])[0])]
    if len(given) != len(tokens):
        raise ValueError(f"You have passed a list of models of length {len(given)}, and list of "
                         f"tokens of length {len(tokens)} Make sure both lists have the same "
                         f"length.")
    named = [t for t in tokens if t is not None]
    if len(set(named)) < len(named):
        raise ValueError(f"You have passed a list of tokens that contains duplicates: {tokens}")
    made = []
    for x, token in zip(given, tokens):
        if isinstance(x, dict):
            made.append(_of_dict(x, token))
        elif _arrays.is_array(x):
            made.append(_of_array(x, token))
        else:
            made.append(_of_file(x, token, dict(kwargs)))
    return made


def _taught(tokenizer, encoder, words):
    """The engine's two components with these words and no others."""
    role = encoder._info["name"]
    names = (role, role.replace("text_encoder", "tokenizer"))
    plain = dict(zip(names, (encoder._untaught or encoder._handle,
                             tokenizer._untaught or tokenizer._handle)))
    learnt = [(w.weights.path, w.token) for w in words]
    model = _core.model_adapt(_core.model_assemble(None, None, plain), [], learnt)[0]
    return [plain[n] if not words else _core.model_component(model, n) for n in names]


def _put(tokenizer, encoder, words, handles):
    for part, handle in zip((encoder, tokenizer), handles):
        part._untaught = part._untaught or part._handle
        part._replace(handle)
        part._words = words


class TextualInversionLoader:
    """What a pipeline says to its tokenizers and text encoders."""

    def _pair(self, tokenizer, text_encoder):
        pair = (tokenizer or self._parts.get("tokenizer"),
                text_encoder or self._parts.get("text_encoder"))
        for part, name in zip(pair, ("tokenizer", "text_encoder")):
            if part is None:
                raise ValueError(f"{type(self).__name__} requires `self.{name}` or passing a "
                                 f"`{name}` for calling `load_textual_inversion`")
        return pair

    def load_textual_inversion(self, pretrained_model_name_or_path, token=None, tokenizer=None,
                               text_encoder=None, **kwargs):
        """Teaches a word: a file, a folder, a name in the cache, an array with its token, arrays by
        name; or a list of them.

        token: what prompts say instead of the file's own word. A word of several vectors is written
        once. A file of clip_l and clip_g teaches both text encoders of SDXL, unless one is given.
        """
        words = _words(pretrained_model_name_or_path, token, kwargs)
        pairs = [self._pair(tokenizer, text_encoder)]
        if all(w.pair for w in words) and not text_encoder and self._parts.get("text_encoder_2"):
            pairs.append((self._parts["tokenizer_2"], self._parts["text_encoder_2"]))
        made = []
        for pair in pairs:
            all_words = [*pair[0]._words, *words]
            made.append((*pair, all_words, _taught(*pair, all_words)))
        for one in made:
            _put(*one)

    def unload_textual_inversion(self, tokens=None, tokenizer=None, text_encoder=None):
        """Forgets words, or all of them."""
        pair = self._pair(tokenizer, text_encoder)
        tokens = [tokens] if isinstance(tokens, str) else tokens
        left = [w for w in pair[0]._words if tokens and w.token not in tokens]
        if tokens and len(left) == len(pair[0]._words):
            raise ValueError("No tokens to remove found")
        _put(*pair, left, _taught(*pair, left))
