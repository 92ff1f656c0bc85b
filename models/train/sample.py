"""Draws prompts with the networks in memory, as the diffusers pipeline would.

The start noise comes from a CPU generator seeded a picture, so a prompt and a seed name one picture
in diffusers, in Styx and here.
"""

import torch

import networks

# Looked at while training: the last three are the notebook's own.
PROMPTS = [
    "a red apple",
    "cat face",
    "a dragon on a black background",
    "a blue dog on a yellow background",
    "two pizzas",
    "a rocket on the left and a robot on the right",
    "volcano, fire",
    "three strawberries",
    "a green car on a sky blue background",
    "a penguin in the snow",
    "a sailboat on the ocean",
    "a purple octopus",
    "a flat icon of a castle",
    "a noto style drawing of an owl",
    "small banana",
    "an astronaut at night",
    "a camel in the desert",
    "four cupcakes on a mint background",
    "a castle by a calm lake",
    "a cactus and a guitar",
    "hot beverage",
    "Literal hell. Brimstone, flying demons, souls down the river Styx.",
    "a peaceful fantasy landscape with bright skies, no dragons, calm water, glowing crystals, "
    "and soft ambient light",
    "hyper realistic sprawling with hundreds of dwarves bustling about",
]


def start_noise(seeds):
    return torch.cat(
        [torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(s)) for s in seeds]
    )


@torch.no_grad()
def draw(unet, text, vae, tokenizer, prompts, seeds, guidance=7.5, steps=50, batch=128):
    """Pictures [n,3,256,256] in [-1,1] on the CPU, by DDIM with trailing steps."""
    device, out = next(unet.parameters()).device, []
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    kept = [*networks.levels().tolist(), 1.0]  # the last: nothing but the picture, "before t = 0"
    times = [round(1000 - k * 1000 / steps) - 1 for k in range(steps)]
    for k in range(0, len(prompts), batch):
        part = prompts[k : k + batch]
        ids = torch.from_numpy(tokenizer.encode([""] * len(part) + part).astype("int64")).to(device)
        z = start_noise(seeds[k : k + batch]).to(device)
        with half:
            context = text(ids)
        for t in times:
            with half:
                pair = torch.full((2 * len(z),), t, device=device)
                empty, full = unet(torch.cat([z, z]), pair, context).float().chunk(2)
            v = empty + guidance * (full - empty)
            a, b = kept[t], kept[max(t - 1000 // steps, -1)]
            picture, noise = a**0.5 * z - (1 - a) ** 0.5 * v, a**0.5 * v + (1 - a) ** 0.5 * z
            z = b**0.5 * picture + (1 - b) ** 0.5 * noise
        for part in z.split(32):
            out.append(vae.decode(part / vae.config["scaling_factor"]).clamp(-1, 1).float().cpu())
    return torch.cat(out)
