"""Contradictions in a call's arguments: diffusers' exceptions, before any work."""

import warnings


def _both(a, first, b, second):
    if a is not None and b is not None:
        raise ValueError(f"Cannot forward both `{first}`: {_short(a)} and `{second}`: {_short(b)}. "
                         f"Please make sure to only forward one of the two.")


def _short(x):
    shape = getattr(x, "shape", None)
    return f"an array of shape {tuple(shape)}" if shape is not None else repr(x)


def _text(x, name):
    if x is not None and not isinstance(x, (str, list)):
        raise ValueError(f"`{name}` has to be of type `str` or `list` but is {type(x)}")
    if isinstance(x, list):
        for item in x:
            if not isinstance(item, str):
                raise ValueError(f"`{name}` has to be a list of `str`, but has a {type(item)}")
        if not x:
            raise ValueError(f"`{name}` is an empty list")


def check_prompts(pipe, a, guided):
    """prompt, prompt_2, their negatives and the embeddings. guided: negatives are looked at."""
    embeds = a.get("prompt_embeds")
    for name in ("prompt", "prompt_2"):
        _both(a.get(name), name, embeds, "prompt_embeds")
    if a.get("prompt") is None and embeds is None:
        raise ValueError("Provide either `prompt` or `prompt_embeds`. Cannot leave both `prompt` "
                         "and `prompt_embeds` undefined.")
    for name in ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2"):
        _text(a.get(name), name)
        if name.startswith("negative"):
            _both(a.get(name), name, a.get("negative_prompt_embeds"), "negative_prompt_embeds")
    negative = a.get("negative_prompt_embeds")
    if embeds is not None and negative is not None and \
            tuple(embeds.shape) != tuple(negative.shape):
        raise ValueError("`prompt_embeds` and `negative_prompt_embeds` must have the same shape "
                         f"when passed directly, but got: `prompt_embeds` {tuple(embeds.shape)} != "
                         f"`negative_prompt_embeds` {tuple(negative.shape)}.")
    if pipe.is_xl:
        _check_pooled(a, embeds, negative)
    _check_lengths(pipe, a, guided)


def _check_pooled(a, embeds, negative):
    for given, name in ((embeds, "prompt_embeds"), (negative, "negative_prompt_embeds")):
        pooled = name.replace("prompt_embeds", "pooled_prompt_embeds")
        if given is not None and a.get(pooled) is None:
            raise ValueError(f"If `{name}` are provided, `{pooled}` also have to be passed. Make "
                             f"sure to generate `{pooled}` from the same text encoder that was "
                             f"used to generate `{name}`.")


def _check_lengths(pipe, a, guided):
    prompt, negative = a.get("prompt"), a.get("negative_prompt")
    if prompt is None:
        return
    rows = len(prompt) if isinstance(prompt, list) else 1
    if guided and negative is not None and not pipe.is_xl and type(prompt) is not type(negative):
        raise TypeError(f"`negative_prompt` should be the same type to `prompt`, but got "
                        f"{type(negative)} != {type(prompt)}.")
    for name in ("prompt_2", "negative_prompt", "negative_prompt_2"):
        x = a.get(name)
        if isinstance(x, list) and len(x) != rows and (guided or name == "prompt_2"):
            raise ValueError(f"`{name}`: {x} has batch size {len(x)}, but `prompt`: {prompt} has "
                             f"batch size {rows}. Please make sure that passed `{name}` matches "
                             f"the batch size of `prompt`.")


def check_numbers(pipe, a):
    """Sizes, steps, strength, callbacks."""
    height, width = a.get("height"), a.get("width")
    for side in (height, width):
        if side is not None and not isinstance(side, int) and not hasattr(side, "__index__"):
            raise TypeError(f"`height` and `width` are whole numbers, not {type(side)}")
    if (height or 8) % 8 or (width or 8) % 8:
        raise ValueError(f"`height` and `width` have to be divisible by 8 but are {height} and "
                         f"{width}.")
    strength = a.get("strength")
    if strength is not None and (strength < 0 or strength > 1):
        raise ValueError(f"The value of strength should in [0.0, 1.0] but is {strength}")
    steps = a.get("num_inference_steps")
    custom = a.get("timesteps") is not None or a.get("sigmas") is not None
    if steps is None and not custom:
        raise ValueError("`num_inference_steps` cannot be None.")
    if not custom and (not hasattr(steps, "__index__") or int(steps) <= 0):
        raise ValueError(f"`num_inference_steps` has to be a positive integer but is {steps} of "
                         f"type {type(steps)}.")
    if a.get("timesteps") is not None and a.get("sigmas") is not None:
        raise ValueError("Only one of `timesteps` or `sigmas` can be passed. Please choose one to "
                         "set custom values")
    every = a.get("callback_steps")
    if every is not None and (not isinstance(every, int) or every <= 0):
        raise ValueError(f"`callback_steps` has to be a positive integer but is {every} of type "
                         f"{type(every)}.")


def check_callback(pipe, a):
    wanted = a.get("callback_on_step_end_tensor_inputs") or []
    unknown = [k for k in wanted if k not in pipe._callback_tensor_inputs]
    if unknown:
        raise ValueError(f"`callback_on_step_end_tensor_inputs` has to be in "
                         f"{pipe._callback_tensor_inputs}, but found {unknown}")


def check_batch(a, batch):
    generator = a.get("generator")
    if isinstance(generator, (list, tuple)) and len(generator) != batch:
        raise ValueError(f"You have passed a list of generators of length {len(generator)}, but "
                         f"requested an effective batch size of {batch}. Make sure the batch size "
                         f"matches the length of the generators.")


def check_output(a):
    """Anything unknown is an array, as diffusers has it."""
    if a["output_type"] not in ("pil", "np", "pt", "latent"):
        warnings.warn(f"the output_type {a['output_type']} is outdated or unknown and has been set "
                      f"to `np`; use one of 'pil', 'np', 'pt', 'latent'", FutureWarning,
                      stacklevel=6)
        a["output_type"] = "np"


def check_crop(a):
    """padding_mask_crop is for pictures of Pillow's, in and out."""
    if a.get("padding_mask_crop") is None:
        return
    for name in ("image", "mask_image"):
        if not hasattr(a.get(name), "getbbox"):
            raise ValueError(f"`{name}` should be a PIL image when inpainting mask crop, but is of "
                             f"type {type(a.get(name))}.")
    if a["output_type"] != "pil":
        raise ValueError(f"The output type should be PIL when inpainting mask crop, but is "
                         f"{a['output_type']}.")


#: arguments that diffusers has and Styx does not
MISSING = ("ip_adapter_image", "ip_adapter_image_embeds", "masked_image_latents")


def check_missing(a):
    for name in MISSING:
        if a.get(name) is not None:
            raise NotImplementedError(f"{name}: Styx does not have it")
