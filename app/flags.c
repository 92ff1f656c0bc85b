/* flags.c - the table of all flags. Help texts are shown as they stand here. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "options.h"

static const char *const generators[] = { "cpu", "cuda", NULL };
static const char *const dtypes[] = { "auto", "f32", "bf16", "f16", NULL };
static const char *const backends[] = { "auto", "cpu", "ref", "cuda", NULL };
static const char *const offloads[] = { "none", "model", "stream", NULL };
static const char *const isas[] = {
    "auto", "portable", "avx2", "avx512", "avx512bf16", "amx", NULL
};
static const char *const winograds[] = { "auto", "off", NULL };
static const char *const refiner_modes[] = { "img2img", "ensemble", NULL };
static const char *const safeties[] = { "black", "flag", "off", NULL };
static const char *const tilings[] = { "auto", "off", "on", "seamless", NULL };
static const char *const types[] = { "f32", "f16", "bf16", "q8_0", NULL };
static const char *const prints[] = { "man", "bash", "zsh", "fish", NULL };

#define AT(field) offsetof(struct options, field)
#define DRAW (GENERATE | EDIT)
#define LOAD (GENERATE | EDIT | EXPLAIN)
#define COMPUTE (LOAD | REPLAY)
#define NONE 0, 0, NULL, NULL
#define RANGE(min, max) min, max, NULL, NULL
#define WORDS(list) 0, 0, list, NULL
#define ALIAS(alias) 0, 0, NULL, alias

/* clang-format off */
const struct flag flags[] = {
    /* Positional: no dashes, shown in the usage line. */
    { "prompt", 0, KIND_TEXT, RECIPE, AT(prompt), "PROMPT", NONE, "what to draw" },
    { "picture", 0, KIND_TEXT, RECIPE, AT(picture), "PICTURE", ALIAS("image"),
      "the picture to work on" },
    { "subject", 0, KIND_TEXT, 0, AT(subject), "PATH", NONE, "what to look at" },

    { "target", 0, KIND_TEXT, 0, AT(target), "OUT", NONE, "what to write" },

    { "output", 'o', KIND_TEXT, DRAW | REPLAY | RECIPE, AT(output), "FILE|DIR", NONE,
      "where the picture goes: .png, .jpg or .webp, or a folder, which gets styx-SEED-N.png; "
      "default: the current folder" },
    { "model", 0, KIND_TEXT, COMPUTE | TOKENIZE | SCHEDULE | RECIPE, AT(model), "MODEL", NONE,
      "a folder in the diffusers layout, a single checkpoint file, or ORG/NAME of a model that "
      "'styx pull' fetched; default: $STYX_MODEL, or the model that comes with Styx" },
    { "negative", 0, KIND_TEXT, DRAW | RECIPE, AT(negative), "TEXT", ALIAS("negative_prompt"),
      "what to keep away from" },
    { "steps", 0, KIND_INT, DRAW | EXPLAIN | SCHEDULE | BENCH | RECIPE, AT(steps), "N", 1, 1000,
      NULL, "num_inference_steps", "denoising steps; default: 50" },
    { "guidance", 0, KIND_REAL, DRAW | EXPLAIN | RECIPE, AT(guidance), "G", -1000, 1000, NULL,
      "guidance_scale",
      "how closely to follow the prompt; 1 or less: no guidance; default: 7.5, or 5 with SDXL" },
    { "guidance-rescale", 0, KIND_REAL, DRAW | RECIPE, AT(guidance_rescale), "R", RANGE(0, 1),
      "pull the contrast of guided steps back towards the unguided one; default: 0" },
    { "seed", 0, KIND_SEEDS, DRAW | RECIPE, AT(seeds), "S[,S...]", ALIAS("seeds"),
      "start of the random numbers. One seed with --count draws on from picture to picture; a list "
      "gives each picture its own; default: a random seed, which is told" },
    { "generator", 0, KIND_CHOICE, DRAW | RECIPE, AT(generator), "cpu|cuda", WORDS(generators),
      "whose random numbers: torch's on the CPU or on a CUDA card; default: cpu" },
    { "noise-dtype", 0, KIND_CHOICE, DRAW | RECIPE, AT(noise_dtype), "auto|f32|bf16|f16",
      WORDS(dtypes), "the type that noise is drawn in, f16 for an fp16 pipeline of diffusers; "
      "default: f32" },
    { "size", 0, KIND_SIZE, DRAW | EXPLAIN | BENCH | RECIPE, AT(size), "WxH", RANGE(1, 100000),
      "width and height, multiples of 8; default: the model's own, or the picture's" },
    { "sampler", 0, KIND_TEXT, DRAW | SCHEDULE | RECIPE, AT(sampler), "NAME", ALIAS("scheduler"),
      "a scheduler of diffusers or a short name: \"euler a\", \"dpm++ 2m karras\"; default: the "
      "model's" },
    { "scheduler-config", 0, KIND_TEXT, DRAW | RECIPE, AT(scheduler_config), "FILE", NONE,
      "a scheduler_config.json instead of the model's" },
    { "count", 0, KIND_INT, DRAW | RECIPE, AT(count), "N", 1, 10000, NULL,
      "num_images_per_prompt", "how many pictures; default: 1, or one for each seed" },
    { "only", 0, KIND_INT, DRAW | RECIPE, AT(only), "K", RANGE(1, 10000),
      "draw --count pictures, but keep only the K-th" },
    { "clip-skip", 0, KIND_INT, DRAW | RECIPE, AT(clip_skip), "N", RANGE(0, 64),
      "leave out the last N layers of the text encoder" },
    { "eta", 0, KIND_REAL, DRAW | RECIPE, AT(eta), "E", RANGE(0, 1),
      "noise that DDIM and TCD add in each step; default: 0" },
    { "timesteps", 0, KIND_REALS, DRAW | SCHEDULE | RECIPE, AT(timesteps), "T,T...",
      RANGE(0, 1e6), "a schedule of your own, instead of --steps" },
    { "sigmas", 0, KIND_REALS, DRAW | SCHEDULE | RECIPE, AT(sigmas), "S,S...", RANGE(0, 1e6),
      "the same as noise levels" },
    { "emphasis", 0, KIND_BOOL, DRAW | RECIPE, AT(emphasis), NULL, NONE,
      "understand (word:1.3), [word], BREAK and prompts beyond 77 tokens" },
    { "no-norm", 0, KIND_BOOL, DRAW | RECIPE, AT(no_norm), NULL, NONE,
      "with --emphasis: do not bring the mean of the embedding back" },
    { "prompt-2", 0, KIND_TEXT, DRAW | RECIPE, AT(prompt_2), "TEXT", NONE,
      "another prompt for SDXL's second text encoder" },
    { "negative-2", 0, KIND_TEXT, DRAW | RECIPE, AT(negative_2), "TEXT", ALIAS("negative_prompt_2"),
      "the same for the negative prompt" },
    { "original-size", 0, KIND_SIZE, DRAW | RECIPE, AT(original_size), "WxH", RANGE(0, 100000),
      "SDXL: the size that the picture should look to have had" },
    { "target-size", 0, KIND_SIZE, DRAW | RECIPE, AT(target_size), "WxH", RANGE(0, 100000),
      "SDXL: the size that it should look to have" },
    { "crop", 0, KIND_PAIR, DRAW | RECIPE, AT(crop), "TOP,LEFT", RANGE(0, 100000),
      "SDXL: what should look cut off; default: 0,0" },
    { "negative-original-size", 0, KIND_SIZE, DRAW | RECIPE, AT(negative_original_size), "WxH",
      RANGE(0, 100000), "--original-size for the negative prompt" },
    { "negative-target-size", 0, KIND_SIZE, DRAW | RECIPE, AT(negative_target_size), "WxH",
      RANGE(0, 100000), "--target-size for the negative prompt" },
    { "negative-crop", 0, KIND_PAIR, DRAW | RECIPE, AT(negative_crop), "TOP,LEFT",
      RANGE(0, 100000), "--crop for the negative prompt" },
    { "aesthetic-score", 0, KIND_REAL, DRAW | RECIPE, AT(aesthetic_score), "A", RANGE(0, 10),
      "refiner: how pretty; default: 6" },
    { "negative-aesthetic-score", 0, KIND_REAL, DRAW | RECIPE, AT(negative_aesthetic_score), "A",
      RANGE(0, 10), "refiner: how pretty not; default: 2.5" },
    { "denoising-end", 0, KIND_REAL, DRAW | RECIPE, AT(denoising_end), "F", RANGE(0, 1),
      "SDXL: stop after this share of the schedule" },
    { "denoising-start", 0, KIND_REAL, EDIT | RECIPE, AT(denoising_start), "F", RANGE(0, 1),
      "SDXL: begin after this share of the schedule" },

    { "strength", 0, KIND_REAL, EDIT | RECIPE, AT(strength), "0..1", RANGE(0, 1),
      "how much to change: 0.3 keeps the layout, 0.8 changes nearly all; default: 0.8, or 0.3 with "
      "SDXL; with a mask 1" },
    { "mask", 0, KIND_TEXT, EDIT | RECIPE, AT(mask), "FILE|alpha", NONE,
      "repaint only where this picture is white, or where PICTURE is transparent" },
    { "feather", 0, KIND_INT, EDIT | RECIPE, AT(feather), "PIXELS", RANGE(0, 1000),
      "soften the seam when the repainted part is pasted back; default: 0" },
    { "no-paste", 0, KIND_BOOL, EDIT | RECIPE, AT(no_paste), NULL, NONE,
      "with a mask: keep the whole new picture, not only its repainted part" },
    { "full-size", 0, KIND_BOOL, EDIT | RECIPE, AT(full_size), NULL, NONE,
      "work at the picture's own size, even beyond the model's" },
    { "match-color", 0, KIND_BOOL, EDIT | RECIPE, AT(match_color), NULL, NONE,
      "give the result the mean and spread of the picture's colours" },
    { "keep-latents", 0, KIND_BOOL, DRAW | RECIPE, AT(keep_latents), NULL, NONE,
      "write the latents beside the picture (NAME.latents.safetensors); an edit of it starts from "
      "them instead of from rounded pixels" },

    { "refiner", 0, KIND_TEXT, GENERATE | RECIPE, AT(refiner), "PATH", NONE,
      "finish the picture with this model, which shares the VAE and second text encoder" },
    { "refiner-mode", 0, KIND_CHOICE, GENERATE | RECIPE, AT(refiner_mode), "img2img|ensemble",
      WORDS(refiner_modes),
      "img2img edits the finished picture; ensemble takes over the last steps; default: img2img" },
    { "refiner-at", 0, KIND_REAL, GENERATE | RECIPE, AT(refiner_at), "F", RANGE(0, 1),
      "ensemble: the share of the steps before the change; default: 0.8" },
    { "refiner-strength", 0, KIND_REAL, GENERATE | RECIPE, AT(refiner_strength), "F", RANGE(0, 1),
      "img2img: how much to change; default: 0.3" },
    { "vae", 0, KIND_TEXT, LOAD | RECIPE, AT(vae), "PATH", NONE,
      "take this VAE instead of the model's" },
    { "text-encoder-2", 0, KIND_TEXT, LOAD | RECIPE, AT(text_encoder_2), "PATH", NONE,
      "take this second text encoder" },
    { "tokenizer", 0, KIND_TEXT, LOAD | TOKENIZE | RECIPE, AT(tokenizer), "PATH", NONE,
      "take this tokenizer" },
    { "lora", 0, KIND_TEXTS, LOAD | RECIPE, AT(loras), "FILE[:SCALE]", NONE,
      "add this LoRA to the model, with a scale (default: 1); may be given several times" },
    { "embedding", 0, KIND_TEXTS, LOAD | TOKENIZE | RECIPE, AT(embeddings), "FILE[:WORD]", NONE,
      "learn this textual inversion, under another word if one is given; may be given several "
      "times" },
    { "model-config", 0, KIND_TEXT, LOAD | TOKENIZE | SCHEDULE | CONVERT | RECIPE, AT(model_config),
      "FOLDER", NONE, "for a single file: take what its weights leave open from this folder in the "
      "diffusers layout; default: the published configs" },
    { "variant", 0, KIND_TEXT, LOAD | TOKENIZE | SCHEDULE | PULL | RECIPE, AT(variant), "NAME",
      NONE,
      "prefer weights files of that name, such as fp16" },
    { "safety", 0, KIND_CHOICE, DRAW | RECIPE, AT(safety), "black|flag|off", WORDS(safeties),
      "what to do when the model's safety checker objects; default: black" },

    { "dtype", 0, KIND_CHOICE, COMPUTE | BENCH | RECIPE, AT(dtype), "auto|f32|bf16|f16",
      WORDS(dtypes),
      "numbers that the networks compute in; auto: f16 on a card (bf16 if the "
      "weights are), bf16 where the CPU has AVX-512 BF16, else f32" },
    { "vae-dtype", 0, KIND_CHOICE, COMPUTE | BENCH | RECIPE, AT(vae_dtype), "auto|f32|bf16|f16",
      WORDS(dtypes),
      "the same for the VAE" },
    { "vae-slicing", 0, KIND_BOOL, LOAD | RECIPE, AT(vae_slicing), NULL, NONE,
      "decode one picture at a time" },
    { "vae-tiling", 0, KIND_CHOICE, LOAD | RECIPE, AT(tiling), "auto|on|off|seamless",
      WORDS(tilings), "decode in tiles: on blends as diffusers does, auto tiles without seams when "
      "memory asks for it; default: auto" },
    { "backend", 0, KIND_CHOICE, COMPUTE | BENCH | RECIPE, AT(backend), "auto|cpu|ref|cuda",
      WORDS(backends),
      "what computes; auto: a CUDA card if one works, else the CPU ('styx devices' lists them); "
      "default: $STYX_BACKEND, or auto" },
    { "device", 0, KIND_INT, COMPUTE | RUN, AT(device), "N", RANGE(0, 1000),
      "which card; default: 0" },
    { "devices", 0, KIND_SEEDS, GENERATE, AT(devices), "N,N...", NONE,
      "divide the pictures of --prompts, or of a list of seeds, between these cards" },
    { "offload", 0, KIND_CHOICE, COMPUTE | RUN, AT(offload), "none|model|stream", WORDS(offloads),
      "where a card's weights wait: on it, in the host's memory until their network runs, or "
      "always there, to stream through the card; default: none" },
    { "max-vram", 0, KIND_BYTES, COMPUTE | RUN, AT(max_vram), "BYTES", RANGE(0, 1e18),
      "the card's memory to stay under (K, M and G are understood)" },
    { "isa", 0, KIND_CHOICE, COMPUTE | BENCH | RECIPE, AT(isa), "NAME", WORDS(isas),
      "instruction set: auto, portable, avx2, avx512, avx512bf16 or amx; default: the best "
      "there is" },
    { "winograd", 0, KIND_CHOICE, COMPUTE | RECIPE, AT(winograd), "auto|off", WORDS(winograds),
      "3x3 convolutions on the CPU: Winograd's algorithm where it is faster, or off: never, which "
      "rounds less; default: auto" },
    { "int8", 0, KIND_BOOL, COMPUTE | RECIPE, AT(int8), NULL, NONE,
      "multiply 8-bit numbers in linear layers and convolutions on the CPU: faster with AVX-512 "
      "VNNI, and a slightly different picture" },
    { "fp8", 0, KIND_BOOL, COMPUTE | BENCH | RECIPE, AT(fp8), NULL, NONE,
      "multiply 8-bit floats in linear layers of the UNet's transformers, on a card of compute "
      "capability 9.0: faster, less memory, and a slightly different picture" },
    { "threads", 0, KIND_INT, COMPUTE | RUN | BENCH, AT(threads), "N", RANGE(0, 4096),
      "threads; the picture is the same for any number; default: all" },
    { "max-memory", 0, KIND_BYTES, COMPUTE | RUN | BENCH, AT(max_memory), "BYTES", RANGE(0, 1e18),
      "memory to stay under (K, M and G are understood): weights that do not fit are read again "
      "for each step, a VAE that does not fit decodes in tiles" },

    { "latents", 0, KIND_TEXT, GENERATE | RECIPE, AT(latents), "FILE", NONE,
      "start from the noise in this safetensors file" },
    { "save-latents", 0, KIND_TEXT, DRAW, AT(save_latents), "FILE", NONE,
      "store the last latents as safetensors" },
    { "prompts", 0, KIND_TEXT, GENERATE, AT(prompts), "FILE.jsonl", NONE,
      "draw one picture for each line, a JSON object with prompt, negative_prompt, seed, steps, "
      "guidance, width, height, output and other flags by name" },
    { "from", 0, KIND_TEXT, DRAW, AT(from), "PICTURE", NONE,
      "take the settings out of a picture of Styx or A1111; other flags override them" },
    { "trace", 0, KIND_TEXT, DRAW, AT(trace), "FILE.safetensors", NONE,
      "store every intermediate value" },
    { "force", 0, KIND_BOOL, DRAW | REPLAY | RUN | CONVERT | PULL, AT(force), NULL, NONE,
      "overwrite existing files" },
    { "show", 0, KIND_BOOL, DRAW, AT(show), NULL, NONE,
      "draw the picture in the terminal (Kitty, Ghostty, iTerm2, Konsole, or coarse blocks)" },
    { "json", 0, KIND_BOOL,
      DRAW | TOKENIZE | SCHEDULE | INFO | LOG | REPLAY | RUN | PULL | DEVICES | BENCH,
      AT(json), NULL, NONE, "print results as JSON" },
    { "quiet", 'q', KIND_BOOL, DRAW | REPLAY | RUN | CONVERT | PULL, AT(quiet), NULL, NONE,
      "say nothing but errors" },

    { "batch", 0, KIND_INT, EXPLAIN, AT(batch), "N", RANGE(1, 10000),
      "pictures at a time; default: 1" },
    { "network", 0, KIND_TEXT, EXPLAIN | BENCH, AT(network), "NAME", NONE,
      "only this program: text_encoder, unet, vae.decode..." },
    { "code", 0, KIND_BOOL, EXPLAIN, AT(code), NULL, NONE, "print the instructions too" },
    { "encoder", 0, KIND_INT, TOKENIZE, AT(encoder), "1|2", RANGE(1, 2),
      "which tokenizer of the model; default: 1" },
    { "config", 0, KIND_TEXT, SCHEDULE, AT(config), "FILE", NONE,
      "a scheduler_config.json instead of a model's" },
    { "type", 0, KIND_CHOICE, CONVERT, AT(type), "f32|f16|bf16|q8_0", WORDS(types),
      "of the weights; default: as they are" },
    { "allow-pickle", 0, KIND_BOOL, CONVERT, AT(allow_pickle), NULL, NONE,
      "read .ckpt, .pt and .bin files too; nothing in them is run" },
    { "output", 'o', KIND_TEXT, PULL, AT(place), "FILE|DIR", NONE,
      "where a single file goes; default: the current folder" },
    { "only", 0, KIND_TEXT, PULL, AT(only_parts), "NAME,NAME...", NONE,
      "only these components: unet, vae, tokenizer..." },
    { "sha256", 0, KIND_TEXT, PULL, AT(sha256), "HASH", NONE, "what the file must hash to" },
    { "dry-run", 0, KIND_BOOL, PULL, AT(dry_run), NULL, NONE, "only say what would be fetched" },
    { "jobs", 0, KIND_INT, PULL, AT(jobs), "N", RANGE(1, 32),
      "files to fetch at a time; default: 4" },
    { "timeout", 0, KIND_INT, PULL, AT(timeout), "SECONDS", RANGE(1, 3600),
      "how long to wait for a byte before trying again; default: 30" },
    { "runs", 0, KIND_INT, BENCH, AT(runs), "N", RANGE(1, 1000),
      "runs of each network, of which the best counts; default: 3" },
    { "print", 0, KIND_CHOICE, HELP, AT(print), "man|bash|zsh|fish", WORDS(prints),
      "print the manual page or the completion for a shell" },
};
/* clang-format on */

const size_t flag_count = sizeof flags / sizeof *flags;
_Static_assert(sizeof flags / sizeof *flags <= MAX_FLAGS, "options.set is too short");

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b))
            return false;
    return *a == *b;
}

const struct flag *flag_find(const char *name)
{
    for (size_t i = 0; i < flag_count; i++)
        if (same_name(flags[i].name, name) || (flags[i].alias && same_name(flags[i].alias, name)))
            return &flags[i];
    return NULL;
}

void *flag_field(struct options *o, const struct flag *f)
{
    return (char *)o + f->offset;
}

bool flag_is_set(const struct options *o, const char *name)
{
    const struct flag *f = flag_find(name);
    return f && o->set[f - flags];
}
