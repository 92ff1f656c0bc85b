"""Pictures in bf16 are near those in f32 (PSNR of 35 dB), with the model that comes with Styx.

Two pictures of 20 steps; with STYX_ACCURACY=all 20 pictures of the default steps, and the PSNR of
each. The tree took another turn while the text encoder's sums were rounded to bf16.
"""
import json
import math
import os
import unittest

from command import ROOT, CommandTest, png_pixels

TREE = "a tree on a hill, bright sky"
PROMPTS = [
    "a red apple on a green background", "a house, night with stars", "a mushroom on green hills",
    "three lemons", "a blue car on a sunset beach", "a cat in the snow", "a rocket in space",
    "a small dog on the left", "a yellow flower", "two pears on a wooden table",
    "a ship at sea", "a purple butterfly", TREE, "a robot in a city",
    "a pumpkin at night", "a teal fish under water", "a big strawberry", "an umbrella in the rain",
    "a crown on a pink background", "a penguin on ice",
]
ALL = os.environ.get("STYX_ACCURACY") == "all"


def error(a, b):
    """The mean square of the differences of two pictures."""
    squares = [(x - y) ** 2 for p, q in zip(png_pixels(a)[2], png_pixels(b)[2])
               for x, y in zip(p, q)]
    return sum(squares) / len(squares)


def psnr(square):
    return 10 * math.log10(255 ** 2 / square) if square else math.inf


class Accuracy(CommandTest):
    def draw(self, prompts, dtype):
        seeds = [PROMPTS.index(prompt) for prompt in prompts]
        lines = [{"prompt": prompt, "seed": seed, "output": f"{dtype}-{seed}.png"}
                 for prompt, seed in zip(prompts, seeds)]
        self.path("prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
        self.styx("generate", "--prompts", "prompts.jsonl", "--dtype", dtype, "--vae-dtype", dtype,
                  *([] if ALL else ["--steps", 20]), timeout=3600 if ALL else 300,
                  environment={"STYX_MODEL": str(ROOT / "models" / "styx-emoji")})
        return [self.read(line["output"]) for line in lines]

    def test_bf16_is_near_f32(self):
        prompts = PROMPTS if ALL else [PROMPTS[0], TREE]
        pairs = zip(self.draw(prompts, "f32"), self.draw(prompts, "bf16"))
        found = [error(*pair) for pair in pairs]
        if ALL:
            for prompt, square in zip(prompts, found):
                print(f"{psnr(square):5.1f} dB  {prompt}")
            print(f"{psnr(sum(found) / len(found)):5.1f} dB together")
        self.assertGreaterEqual(psnr(max(found)), 35)


if __name__ == "__main__":
    unittest.main()
