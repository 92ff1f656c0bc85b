"""The pipeline calls that are recorded. One line says one thing that could go wrong."""

import numpy as np

SEA = "a castle on a cliff above a stormy sea, oil painting"
APPLE = "An apple tree in the snow, soft morning light."
FERRY = "The ferryman's lantern; 3 dogs, 12 lamps -- it's night"
LONG = "a red boat, a blue boat, a black river, " * 6
UGLY = "blurry, low quality"
EMPTY = ""

TEXT = "StableDiffusionPipeline"
IMAGE = "StableDiffusionImg2ImgPipeline"
INPAINT = "StableDiffusionInpaintPipeline"
XL_TEXT = "StableDiffusionXLPipeline"
XL_IMAGE = "StableDiffusionXLImg2ImgPipeline"
XL_INPAINT = "StableDiffusionXLInpaintPipeline"

MULTI, SINGLE, UNIPC = "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"
EULER, EULER_A, HEUN = "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"
DPM2, DPM2_A, LMS, SDE = "KDPM2Discrete", "KDPM2AncestralDiscrete", "LMSDiscrete", "DPMSolverSDE"
KARRAS, EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
BETA = {"use_beta_sigmas": True}
TRAILING = {"timestep_spacing": "trailing"}
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, **TRAILING}
CASES = {}


def picture(width, height, seed=0):
    """Smooth colours with some grain, so that resizing and encoding have something to do."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c) - seed) for c in range(3)]
    grain = np.random.Generator(np.random.PCG64(seed)).standard_normal((height, width, 3))
    return np.clip(127.5 + 100 * np.stack(waves, -1) + 12 * grain, 0, 255).astype(np.uint8)


def mask(width, height):
    """A soft-edged disc: values on both sides of one half."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    r = np.hypot((x - 0.6 * width) / width, (y - 0.4 * height) / height)
    return np.clip(255 * (1.6 - 4 * r), 0, 255).astype(np.uint8)


def masks_2(width, height):
    """Two masks as numbers: the disc, and what is left of it."""
    disc = mask(width, height).astype(np.float32) / 255
    return np.stack([disc, 1 - disc])[:, None]


def normal(*shape, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def case(name, model, pipeline, prompt=SEA, steps=4, scheduler=None, knobs=None, seed=0, store="",
         arrays=None, note=None, borrow=None, dtype="float32", loras=(), words=(), **call):
    """scheduler: a class to swap in (None: the model's own); knobs: its config changed; borrow:
    components from other folders; loras: (file, scale); words: (file, token)."""
    if name in CASES:
        raise ValueError(f"case {name} is there twice")
    if prompt is not None:
        call["prompt"] = prompt
    call["num_inference_steps"] = steps
    CASES[name] = {"model": model, "pipeline": pipeline, "call": call, "seed": seed,
                   "scheduler": (scheduler, knobs or {}), "arrays": arrays or {},
                   "store": set(store.split()), "note": note, "borrow": borrow or {},
                   "dtype": dtype, "loras": [[f"extras/lora_{n}.safetensors", x] for n, x in loras],
                   "words": [[f"extras/word_{n}.safetensors", x] for n, x in words]}


def sd15(name, **more):
    case("sd15_" + name, "tiny_sd15", TEXT, **more)


def sd15_conditioning():
    sd15("pndm", steps=6, store="cond unet image", note="defaults: guidance 7.5, 64x64")
    sd15("negative", negative_prompt=UGLY, prompt=FERRY, store="image")
    sd15("no_guidance", guidance_scale=1.0, store="unet")
    sd15("guidance_high", guidance_scale=20.0, seed=2**32 + 5)
    sd15("batch", prompt=[EMPTY, LONG], steps=2, store="cond image",
         note="prompts of different length, the last one truncated")
    sd15("batch_3", prompt=[APPLE, EMPTY, SEA], steps=2, height=32, width=40, store="unet image")
    sd15("batch_negative", prompt=[SEA, APPLE], negative_prompt=[UGLY, EMPTY], steps=2,
         store="unet")
    sd15("images_2", prompt=[SEA, APPLE], num_images_per_prompt=2, steps=2,
         note="rows are p0, p0, p1, p1")
    sd15("seeds", num_images_per_prompt=3, seed=[5, 0, 5], steps=3, scheduler=EULER_A,
         store="noise", note="one generator for each picture; the first and the last are alike")
    sd15("clip_skip_1", clip_skip=1, store="cond", note="the negative prompt ignores clip_skip")
    sd15("clip_skip_2", clip_skip=2, negative_prompt=UGLY)
    sd15("guidance_rescale", guidance_rescale=0.7)
    sd15("rescale_batch", prompt=[SEA, APPLE], guidance_rescale=0.4, guidance_scale=12.0, steps=3)
    sd15("embeds", prompt=None, arrays={"prompt_embeds": normal(1, 77, 16),
                                        "negative_prompt_embeds": normal(1, 77, 16, seed=1)})
    case("small", "tiny_small", TEXT, steps=3, height=40, width=48, store="unet",
         note="a UNet without a middle, as distilled ones have it")
    sd15("one_step", steps=1, note="a single step, which PLMS takes twice")


    sd15("tokenizer_2", borrow={"tokenizer": "models/tiny_sdxl/tokenizer_2"}, store="cond",
         height=40, width=48, note="a tokenizer that pads with !, id 0: every position is read")
    sd15("float16", dtype="float16", height=40, width=48, store="cond",
         note="the CPU generator draws in half precision; compare the rest loosely")


def sd15_shapes():
    sd15("wide", height=48, width=72, steps=3, store="unet image",
         note="latents 6x9: upsampling goes to the size of the skip, not to the double")
    sd15("tall", height=104, width=40, steps=3, store="unet", note="latents 13x5")
    sd15("smallest", height=8, width=8, steps=3, store="unet image", note="latents 1x1: 4 numbers,"
         " which torch draws the short way")
    sd15("short_draw", height=8, width=24, steps=3, scheduler=EULER_A, store="noise float",
         note="12 numbers a draw, fewer than 16: the generator's cached normal is used")
    sd15("tail_draw", height=24, width=56, steps=3, scheduler=EULER_A, store="noise",
         note="84 numbers a draw, no multiple of 16")
    sd15("latents", scheduler=EULER, arrays={"latents": normal(1, 4, 8, 8)},
         note="latents given are multiplied by init_noise_sigma")
    sd15("output_latent", scheduler=EULER, output_type="latent")
    sd15("latents_size", scheduler=EULER, arrays={"latents": normal(1, 4, 5, 9, seed=7)}, steps=3,
         note="no height, no width: latents say the size")
    sd15("latents_batch", prompt=[SEA, APPLE], arrays={"latents": normal(2, 4, 8, 8, seed=3)},
         steps=3, output_type="latent")


def sd15_samplers():
    """Every class and the knobs that change its sigmas or its order."""
    def sampler(name, cls, knobs=None, steps=5, **more):
        sd15("s_" + name, scheduler=cls, knobs=knobs, steps=steps, height=40, width=48, **more)

    sampler("pndm_prk", "PNDM", {"skip_prk_steps": False}, steps=6)
    sampler("pndm_v", "PNDM", {"prediction_type": "v_prediction"})
    sampler("ddim", "DDIM", {"clip_sample": False})
    sampler("ddim_clip", "DDIM", {"clip_sample": True}, guidance_scale=2.0)
    sampler("ddim_eta", "DDIM", {"clip_sample": False}, eta=0.5, store="noise")
    sampler("ddim_eta_seeds", "DDIM", {"clip_sample": False}, steps=3, eta=1.0, seed=[1, 2],
            num_images_per_prompt=2, store="noise")
    sampler("ddim_zero_snr", "DDIM", {"clip_sample": False, **ZERO_SNR}, guidance_rescale=0.7)
    sampler("ddpm", "DDPM", {"clip_sample": False}, store="noise")
    sampler("euler", EULER)
    sampler("euler_trailing", EULER, TRAILING)
    sampler("euler_karras", EULER, KARRAS)
    sampler("euler_exponential", EULER, EXPONENTIAL)
    sampler("euler_beta", EULER, BETA)
    sampler("euler_v", EULER, {"prediction_type": "v_prediction"})
    sampler("euler_zero_snr", EULER, ZERO_SNR)
    sampler("euler_a", EULER_A, store="noise")
    sampler("heun", HEUN, store="unet")
    sampler("heun_karras", HEUN, KARRAS)
    sampler("dpm2", DPM2)
    sampler("dpm2_karras", DPM2, KARRAS)
    sampler("dpm2_a", DPM2_A, store="noise")
    sampler("lms", LMS, steps=7)
    sampler("lms_karras", LMS, KARRAS, steps=7)
    sampler("2m", MULTI, steps=8, store="unet")
    sampler("2m_16", MULTI, steps=16, note="15 steps or more: no first order at the end by rule")
    sampler("2m_karras", MULTI, KARRAS)
    sampler("2m_exponential", MULTI, EXPONENTIAL)
    sampler("2m_beta", MULTI, BETA)
    sampler("2m_lu", MULTI, {"use_lu_lambdas": True})
    sampler("2m_heun", MULTI, {"solver_type": "heun"})
    sampler("2m_v", MULTI, {"prediction_type": "v_prediction", **TRAILING})
    sampler("2m_euler_last", MULTI, {"euler_at_final": True})
    sampler("2m_sde", MULTI, {"algorithm_type": "sde-dpmsolver++"}, store="noise")
    sampler("2m_sde_karras", MULTI, {"algorithm_type": "sde-dpmsolver++", **KARRAS}, store="noise")
    sampler("3m", MULTI, {"solver_order": 3}, steps=6)
    sampler("2s", SINGLE)
    sampler("2s_even", SINGLE, steps=6)
    sampler("2s_karras", SINGLE, KARRAS)
    sampler("3s", SINGLE, {"solver_order": 3}, steps=6)
    sampler("sde", SDE, store="noise", note="normal tensors in place of torchsde's Brownian tree")
    sampler("sde_karras", SDE, KARRAS, store="noise", note="as sd15_s_sde")
    sampler("unipc", UNIPC)
    sampler("unipc_karras", UNIPC, KARRAS)
    sampler("unipc_3", UNIPC, {"solver_order": 3}, steps=7)
    sampler("unipc_bh1", UNIPC, {"solver_type": "bh1", "final_sigmas_type": "sigma_min"})
    sampler("deis", "DEISMultistep", steps=6)
    sampler("lcm", "LCM", steps=4, guidance_scale=1.5, store="noise")
    sampler("tcd", "TCD", steps=4, guidance_scale=1.5, store="noise",
            note="the pipeline passes its own eta, 0, on")
    sampler("tcd_eta", "TCD", steps=4, eta=0.3, guidance_scale=1.5, store="noise")
    sd15("timesteps", scheduler=EULER, timesteps=[999, 700, 333, 20], steps=50)
    sd15("timesteps_2m", scheduler=MULTI, timesteps=[981, 640, 300, 80, 5], steps=50)
    sd15("timesteps_ddpm", scheduler="DDPM", knobs={"clip_sample": False},
         timesteps=[950, 500, 120], steps=50, store="noise")
    sd15("sigmas", scheduler=EULER, sigmas=[14.0, 5.0, 1.5, 0.3], steps=50)


def lcm():
    case("lcm", "tiny_lcm", TEXT, scheduler="LCM", guidance_scale=8.0, store="unet noise image",
         note="time_cond_proj_dim: the guidance is embedded, one row a picture")
    case("lcm_batch", "tiny_lcm", TEXT, prompt=[SEA, APPLE], scheduler="LCM", guidance_scale=1.0,
         steps=2, store="unet noise")


def sd15_img2img():
    def edit(name, size=(48, 40), seed=0, **more):
        more.setdefault("arrays", {"image_u8": picture(*size)})
        case("img2img_" + name, "tiny_sd15", IMAGE, seed=seed, **more)

    edit("default", size=(64, 64), steps=5, store="unet image",
         note="strength 0.8, PNDM from the middle")
    edit("weak", strength=0.3, steps=10)
    edit("full", strength=1.0, steps=3)
    edit("plms_rest", strength=0.05, steps=5, store="unet",
         note="int(0.05 * 5) is 0, but PLMS makes 6 calls of 5 steps: the last one is left")
    edit("truncated", strength=0.29, steps=100, scheduler="DDIM", knobs={"clip_sample": False},
         note="int(0.29 * 100) is 28")
    edit("resized", size=(59, 46), steps=3, store="unet image", note="Lanczos to 56x40")
    edit("euler_a", strength=0.6, steps=5, scheduler=EULER_A, store="noise")
    edit("heun", strength=0.5, steps=6, scheduler=HEUN)
    edit("2m", strength=0.5, steps=8, scheduler=MULTI, knobs=KARRAS)
    edit("ddim_eta", strength=0.5, steps=6, scheduler="DDIM", knobs={"clip_sample": False},
         eta=0.5, store="noise")
    edit("prompts_2", prompt=[SEA, APPLE], steps=3, strength=0.7, store="unet",
         note="one picture: one posterior draw, noise for two")
    edit("pictures_2", prompt=[SEA, APPLE], steps=3, strength=0.7, seed=[3, 4],
         arrays={"image_u8": np.stack([picture(40, 32), picture(40, 32, 1)])}, store="noise")
    edit("images_2", num_images_per_prompt=2, steps=3, strength=0.7, negative_prompt=UGLY,
         clip_skip=1)
    edit("timesteps", timesteps=[901, 700, 500, 250, 80], strength=0.6, steps=50, scheduler=EULER,
         note="strength keeps the last three of the given timesteps")
    edit("from_latents", arrays={"image": normal(1, 4, 8, 8)}, steps=4, strength=0.5,
         note="four channels are taken for latents, unscaled")


def sd15_inpaint():
    def fill(name, model="tiny_sd15", size=(48, 40), arrays=None, **more):
        arrays = arrays or {"image_u8": picture(*size), "mask_image_u8": mask(*size)}
        case("inpaint_" + name, model, INPAINT, height=size[1] // 8 * 8, width=size[0] // 8 * 8,
             arrays=arrays, **more)

    fill("4", size=(64, 64), strength=1.0, store="unet noise image")
    fill("4_part", strength=0.6, steps=6, store="noise")
    fill("4_euler_a", strength=0.7, steps=4, scheduler=EULER_A, store="noise")
    fill("4_batch", prompt=[SEA, APPLE], strength=0.75, size=(40, 32), steps=4, store="noise")
    fill("4_resized", size=(67, 45), steps=3, strength=1.0, store="image")
    fill("4_masks_2", prompt=[SEA, APPLE], size=(40, 32), steps=3, strength=0.7, store="noise",
         arrays={"image_u8": picture(40, 32), "mask_image": masks_2(40, 32)},
         note="one picture and two masks are two pictures with a hole: noise for two")
    fill("9_masks_2", model="tiny_inpaint", prompt=[SEA, APPLE], size=(40, 32), steps=3,
         arrays={"image_u8": picture(40, 32), "mask_image": masks_2(40, 32)}, store="unet noise")
    small = {"image_u8": picture(90, 56, 1), "mask_image_u8": mask(90, 56)}
    fill("crop", arrays=small, padding_mask_crop=3, strength=0.8, steps=3, num_images_per_prompt=2,
         note="a part that is wider than the size: it fits in, and its edges go on above and below")
    fill("9_crop", model="tiny_inpaint", size=(24, 64), arrays=small, padding_mask_crop=8,
         strength=1.0, steps=2)
    fill("9", model="tiny_inpaint", strength=1.0, store="unet noise image")
    fill("9_part", model="tiny_inpaint", strength=0.5, steps=6, store="noise")
    fill("9_images_2", model="tiny_inpaint", num_images_per_prompt=2, strength=0.9, steps=3,
         size=(32, 56), scheduler=EULER, store="unet noise")


def sdxl():
    def xl(name, **more):
        case("sdxl_" + name, "tiny_sdxl", XL_TEXT, **more)

    sizes = {"original_size": (96, 40), "crops_coords_top_left": (3, 17), "target_size": (64, 80)}
    negative = {"negative_original_size": (32, 48), "negative_crops_coords_top_left": (5, 6),
                "negative_target_size": (72, 24)}
    xl("euler", store="cond unet image", note="guidance 5, zeros as the negative prompt")
    xl("negative", negative_prompt=UGLY)
    xl("negative_empty", negative_prompt=EMPTY, note="encoded, not zeros")
    xl("prompts", prompt=SEA, prompt_2=APPLE, negative_prompt=UGLY, negative_prompt_2=FERRY,
       store="cond")
    xl("negative_2_alone", negative_prompt=EMPTY, negative_prompt_2=FERRY)
    xl("prompts_empty", prompt_2=EMPTY, negative_prompt=UGLY, negative_prompt_2=EMPTY,
       store="cond", note="an empty second text is none: the first one stands for it")
    xl("pooled", negative_prompt=UGLY, arrays={"pooled_prompt_embeds": normal(1, 24, seed=1)},
       store="cond", note="a pooled vector beside a text stands for the text's own")
    xl("exclamation", prompt="Look! a boat!! no!!!",
       note="! is tokenizer_2's padding token, hence a token by itself there")
    xl("no_guidance", guidance_scale=1.0)
    xl("clip_skip", clip_skip=1, negative_prompt=UGLY, store="cond")
    xl("guidance_rescale", guidance_rescale=0.5)
    xl("sizes", **sizes, store="unet")
    xl("sizes_negative", **sizes, **negative)
    xl("sizes_one_negative", negative_original_size=(32, 48),
       note="without negative_target_size the negative ids are the positive ones")
    xl("sizes_batch", prompt=[SEA, APPLE], num_images_per_prompt=2, steps=2, **sizes, **negative,
       store="unet", note="ids of negative and positive rows alternate, the embeddings' do not")
    xl("batch", prompt=[SEA, APPLE, FERRY], negative_prompt=[UGLY, EMPTY, APPLE], steps=2,
       seed=[1, 2, 3])
    xl("wide", height=40, width=72, store="unet")
    xl("latents", arrays={"latents": normal(1, 4, 8, 8)})
    xl("latents_size", arrays={"latents": normal(1, 4, 5, 9, seed=7)}, steps=3,
       note="latents say the size, but the model is told its usual one")
    xl("embeds", prompt=None, arrays={
        "prompt_embeds": normal(1, 77, 40), "pooled_prompt_embeds": normal(1, 24, seed=1),
        "negative_prompt_embeds": normal(1, 77, 40, seed=2),
        "negative_pooled_prompt_embeds": normal(1, 24, seed=3)})
    xl("heun", scheduler=HEUN)
    xl("2m_sde", scheduler=MULTI, knobs={"algorithm_type": "sde-dpmsolver++", **KARRAS},
       store="noise")
    xl("euler_a", scheduler=EULER_A, store="noise")
    xl("unipc", scheduler=UNIPC)
    xl("denoising_end", steps=10, denoising_end=0.8, output_type="latent")
    xl("denoising_end_heun", steps=6, denoising_end=0.55, scheduler=HEUN, output_type="latent")
    sdxl_img2img(sizes, negative)


def sdxl_img2img(sizes, negative):
    def edit(name, pipeline=XL_IMAGE, size=(48, 40), **more):
        arrays = more.pop("arrays", None) or {"image_u8": picture(*size)}
        case("sdxl_" + name, "tiny_sdxl", pipeline, arrays=arrays, **more)

    edit("img2img", size=(64, 64), steps=10, store="unet image", note="strength 0.3")
    edit("img2img_sizes", strength=0.6, steps=5, **sizes, **negative,
         note="the negative ids keep the positive crop")
    edit("img2img_batch", prompt=[SEA, APPLE], num_images_per_prompt=2, strength=0.5, steps=4,
         **sizes, **negative, store="noise")
    edit("img2img_resized", size=(51, 66), strength=0.5, steps=4, clip_skip=1,
         negative_prompt=UGLY, store="image")
    hole = {"image_u8": picture(48, 40), "mask_image_u8": mask(48, 40)}
    edit("inpaint", XL_INPAINT, height=40, width=48, steps=4, arrays=hole,
         store="unet noise image", note="strength 0.9999")
    latent = {"image": normal(1, 4, 5, 6, seed=4), "mask_image_u8": mask(48, 40)}
    edit("inpaint_latents", XL_INPAINT, height=40, width=48, steps=6, arrays=latent, strength=0.6,
         store="noise", note="latents as the image: nothing is encoded")
    edit("inpaint_start", XL_INPAINT, height=40, width=48, steps=8, denoising_start=0.6,
         arrays=latent, store="unet noise", note="where a base stopped: the second half of a pair")
    edit("inpaint_start_latents", XL_INPAINT, height=40, width=48, steps=6, denoising_start=0.4,
         arrays={**hole, "latents": normal(1, 4, 5, 6, seed=6)}, store="noise",
         note="denoising_start does not start from the latents given, nor take them for noise")
    edit("inpaint_crop", XL_INPAINT, height=40, width=48, steps=4, strength=0.7,
         padding_mask_crop=2,
         arrays={"image_u8": picture(50, 70), "mask_image_u8": mask(50, 70)})
    edit("inpaint_part", XL_INPAINT, height=40, width=48, steps=6, strength=0.5, arrays=hole,
         store="noise", scheduler=EULER_A)
    edit("inpaint_full", XL_INPAINT, height=40, width=48, steps=3, strength=1.0, arrays=hole,
         store="noise", negative_prompt=UGLY)


def refiner():
    def refine(name, size=(48, 40), **more):
        arrays = more.pop("arrays", None) or {"image_u8": picture(*size, 2)}
        case("refiner_" + name, "tiny_refiner", XL_IMAGE, arrays=arrays, **more)

    raw = {"image": normal(1, 4, 8, 8, seed=4)}
    refine("default", size=(64, 64), steps=50, store="cond unet image",
           note="strength 0.3: 15 steps")
    refine("edit", size=(64, 64), strength=0.5, guidance_scale=8.0, steps=10)
    refine("prompt_2", prompt_2=APPLE, negative_prompt=UGLY, negative_prompt_2=FERRY, steps=10,
           note="one encoder: prompt_2 and negative_prompt_2 are not used")
    refine("aesthetic", aesthetic_score=7.25, negative_aesthetic_score=1.5, steps=10,
           original_size=(96, 40), crops_coords_top_left=(3, 17),
           negative_original_size=(32, 48), negative_crops_coords_top_left=(5, 6), store="unet")
    refine("heun", scheduler=HEUN, steps=10)
    refine("2m", scheduler=MULTI, steps=12, strength=0.5)
    refine("2m_karras", scheduler=MULTI, knobs=KARRAS, steps=12)
    refine("euler_a", scheduler=EULER_A, steps=10, store="noise")
    refine("batch", prompt=[SEA, APPLE], num_images_per_prompt=2, steps=8, store="noise")
    refine("resized", size=(45, 59), steps=8, store="unet image", note="Lanczos to 40x56")
    refine("no_guidance", guidance_scale=1.0, steps=8)
    refine("latents", arrays=raw, steps=10)
    refine("given_latents", steps=10, arrays={"image_u8": picture(48, 40, 2),
                                              "latents": normal(1, 4, 5, 6, seed=6)},
           note="latents are taken as they are: nothing is drawn")
    refine("start", arrays=raw, steps=10, denoising_start=0.8, store="image")
    refine("start_heun", arrays=raw, steps=10, denoising_start=0.7, scheduler=HEUN)
    refine("start_2m", arrays=raw, steps=10, denoising_start=0.7, scheduler=MULTI)
    refine("middle", arrays=raw, steps=20, denoising_start=0.35, denoising_end=0.7,
           output_type="latent")
    refine("middle_heun", arrays=raw, steps=12, denoising_start=0.35, denoising_end=0.7,
           scheduler=HEUN, output_type="latent")
    refine("start_picture", steps=10, denoising_start=0.6,
           note="a picture with denoising_start: encoded, no noise added")


def adapted():
    """LoRA in every spelling, and learnt words."""
    small = {"steps": 2, "height": 40, "width": 48, "store": "cond unet"}
    sd15("lora_kohya", loras=[("kohya", 0.7)], **small, note="alpha; convolutions; text encoder")
    sd15("lora_peft", loras=[("peft", 1.0)], **small, note="alpha and rsLoRA in the metadata")
    sd15("lora_old", loras=[("old", 0.9)], **small)
    sd15("lora_several", loras=[("kohya", 0.6), ("peft", -0.4), ("old", 1.0)], **small)
    sd15("word", words=[("sd15", "<sea>")], **small,
         prompt="a castle above <sea>, <sea> and sky", note="one word of three vectors")
    sd15("word_lora", words=[("sd15", "<sea>")], loras=[("kohya", 1.0)], **small,
         prompt="<sea>", negative_prompt="no <sea>")
    case("sdxl_lora_sgm", "tiny_sdxl", XL_TEXT, loras=[("sgm", 0.8)], **small,
         note="no alpha; the UNet's modules by the names of generative-models; both encoders")
    case("sdxl_word", "tiny_sdxl", XL_TEXT, words=[("sdxl", "<sea>")], **small,
         prompt="a castle above <sea>", note="clip_l and clip_g")


def all_cases():
    """Every case by name."""
    if not CASES:
        for group in (sd15_conditioning, sd15_shapes, sd15_samplers, lcm, sd15_img2img,
                      sd15_inpaint, sdxl, refiner, adapted):
            group()
    return CASES
