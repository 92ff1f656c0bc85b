"""The configs of the published models, and of tiny ones with the same topology."""

DOWN, CROSS_DOWN = "DownBlock2D", "CrossAttnDownBlock2D"
UP, CROSS_UP = "UpBlock2D", "CrossAttnUpBlock2D"

# Parameters and tensors of the published files: a grammar that misses one cannot go unnoticed.
PUBLISHED = {
    "sd15.unet": (859_520_964, 686),
    "sdxl.unet": (2_567_463_684, 1680),
    "refiner.unet": (2_259_526_660, 1220),
    "vae": (83_653_863, 248),
    "clip-l": (123_060_480, 196),
    "bigg": (694_659_840, 517),
    "safety": (303_981_588, 396),
}

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
         "num_train_timesteps": 1000, "trained_betas": None}
PNDM = {"_class_name": "PNDMScheduler", **BETAS, "skip_prk_steps": True, "set_alpha_to_one": False,
        "steps_offset": 1, "clip_sample": False}
EULER = {"_class_name": "EulerDiscreteScheduler", **BETAS, "prediction_type": "epsilon",
         "interpolation_type": "linear", "use_karras_sigmas": False, "timestep_spacing": "leading",
         "steps_offset": 1, "clip_sample": False, "sample_max_value": 1.0,
         "set_alpha_to_one": False, "skip_prk_steps": True}


def unet(channels, attends, heads, context, sample, groups=32, **more):
    """attends holds one "X" (cross attention) or "D" (none) per level, going down."""
    return {
        "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": heads,
        "block_out_channels": channels, "center_input_sample": False,
        "cross_attention_dim": context,
        "down_block_types": [CROSS_DOWN if a == "X" else DOWN for a in attends],
        "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4,
        "layers_per_block": 2, "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": groups,
        "out_channels": 4, "sample_size": sample,
        "up_block_types": [CROSS_UP if a == "X" else UP for a in reversed(attends)], **more}


def text_time(ids, dim, projection, depth):
    """SDXL's additions: the size conditioning beside the pooled text, deeper transformers."""
    return {"addition_embed_type": "text_time", "addition_time_embed_dim": dim,
            "projection_class_embeddings_input_dim": ids * dim + projection,
            "transformer_layers_per_block": depth, "use_linear_projection": True}


def vae(channels, scaling, sample, groups=32):
    levels = len(channels)
    return {
        "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels, "force_upcast": True,
        "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": groups,
        "out_channels": 3, "sample_size": sample, "scaling_factor": scaling,
        "up_block_types": ["UpDecoderBlock2D"] * levels}


def clip_text(hidden, layers, heads, act, projection=None, vocab=49408, ratio=4):
    """A projection makes it the class with text_embeds. Ids 0, 2, 1 are the legacy ones."""
    kind = "CLIPTextModelWithProjection" if projection else "CLIPTextModel"
    return {
        "architectures": [kind], "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 1, "hidden_act": act, "hidden_size": hidden, "initializer_factor": 1.0,
        "initializer_range": 0.02, "intermediate_size": ratio * hidden, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77, "model_type": "clip_text_model",
        "num_attention_heads": heads, "num_hidden_layers": layers,
        "projection_dim": projection or hidden, "vocab_size": vocab}


def clip_vision(hidden, layers, heads, image, patch, projection):
    return {
        "attention_dropout": 0.0, "hidden_act": "quick_gelu", "hidden_size": hidden,
        "image_size": image, "intermediate_size": 4 * hidden, "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model", "num_attention_heads": heads, "num_channels": 3,
        "num_hidden_layers": layers, "patch_size": patch, "projection_dim": projection}


def safety(vision):
    return {"architectures": ["StableDiffusionSafetyChecker"], "model_type": "clip",
            "projection_dim": vision["projection_dim"], "vision_config": vision,
            "text_config": {"model_type": "clip_text_model"}}


def preprocessor(size):
    """feature_extractor/preprocessor_config.json of the safety checker."""
    return {"crop_size": size, "do_center_crop": True, "do_convert_rgb": True,
            "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": size}


SD15 = unet([320, 640, 1280, 1280], "XXXD", 8, 768, 64)
SDXL = unet([320, 640, 1280], "DXX", [5, 10, 20], 2048, 128,
            **text_time(6, 256, 1280, [1, 2, 10]))
REFINER = unet([384, 768, 1536, 1536], "DXXD", [6, 12, 24, 24], 1280, 128,
               **text_time(5, 256, 1280, 4))
VAE_15 = vae([128, 256, 512, 512], 0.18215, 512)
VAE_XL = vae([128, 256, 512, 512], 0.13025, 1024)
CLIP_L = clip_text(768, 12, 12, "quick_gelu")
BIGG = clip_text(1280, 32, 20, "gelu", projection=1280)
SAFETY = safety(clip_vision(1024, 24, 16, 224, 14, 768))


def tiny(vocab):
    """Every tiny config by component. Levels differ in channels and heads on purpose."""
    small = vae([8, 8, 8, 12], 0.18215, 64, groups=4)
    return {
        "unet": unet([8, 8, 8, 12], "XXXD", 2, 16, 8, groups=4),
        "sdxl": unet([8, 8, 12], "DXX", [1, 2, 3], 40, 8, groups=4,
                     **text_time(6, 8, 24, [1, 1, 2])),
        "refiner": unet([8, 8, 8, 12], "DXXD", [1, 2, 4, 3], 24, 8, groups=4,
                        **text_time(5, 8, 24, 2)),
        "inpaint": unet([8, 12], "XD", 2, 16, 8, groups=4, in_channels=9,
                        layers_per_block=1),
        "lcm": unet([8, 12], "XD", 2, 16, 8, groups=4, time_cond_proj_dim=12,
                    layers_per_block=1),
        "small": unet([8, 12], "XX", 2, 16, 8, groups=4, layers_per_block=1, mid_block_type=None),
        "vae": small,
        "vae_xl": {**small, "scaling_factor": 0.13025},
        "text": clip_text(16, 3, 2, "quick_gelu", vocab=vocab),
        "text_2": clip_text(24, 4, 3, "gelu", projection=24, vocab=vocab,
                            ratio=2),
        "safety": safety(clip_vision(16, 2, 2, 28, 7, 12)),
    }
