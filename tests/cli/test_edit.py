"""styx edit, log, replay and run: chains of pictures."""
import json
import os
import shutil
import unittest

from command import (QUICK, REFINER, ROOT, SD, SDXL, INPAINT, CommandTest, png, png_pixels)


class Edit(CommandTest):
    def setUp(self):
        super().setUp()
        self.path("a.png").write_bytes(png(64, 64, lambda x, y: (4 * x, 4 * y, 128)))

    def edit(self, picture, prompt, *words, model=SD, **more):
        return self.styx("edit", picture, prompt, "--model", model, "--steps", "4", "--seed", 1,
                         *words, **more)

    def test_strength_decides_how_many_steps_run(self):
        for strength, calls in (0.25, 1), (0.5, 2), (1, 4):
            done = self.edit("a.png", "a", "--strength", strength, "--sampler", "euler", "--json",
                             "-o", f"{strength}.png")
            self.assertEqual(json.loads(done.stdout)["unet_calls"], calls)

    def test_large_pictures_are_scaled_down_and_told(self):
        self.path("wide.png").write_bytes(png(200, 100, lambda x, y: (x, y, 0)))
        side = json.loads(self.styx("info", SD, "--json").stdout)["size"]
        done = self.edit("wide.png", "a", "-o", "small.png")
        width, height, _ = png_pixels(self.read("small.png"))
        self.assertLessEqual(width * height, side * side)
        self.assertAlmostEqual(width / height, 2, delta=0.35)
        self.assertIn("200x100", done.stderr)
        self.edit("wide.png", "a", "--full-size", "-o", "full.png")
        self.assertEqual(png_pixels(self.read("full.png"))[:2], (200, 96))

    def test_outside_the_mask_every_bit_stays(self):
        self.path("mask.png").write_bytes(
            png(64, 64, lambda x, y: (255, 255, 255) if x < 32 else (0, 0, 0)))
        inpaint = self.whole_model("inpaint", INPAINT, SD)
        for model in SD, inpaint:
            self.edit("a.png", "a", "--mask", "mask.png", "-o", "b.png", "--force", model=model)
            old, new = (png_pixels(self.read(n))[2] for n in ("a.png", "b.png"))
            self.assertTrue(all(a[96:] == b[96:] for a, b in zip(old, new)))
            self.assertTrue(any(a[:96] != b[:96] for a, b in zip(old, new)))
        self.edit("a.png", "a", "--mask", "mask.png", "--no-paste", "-o", "c.png")
        self.assertTrue(any(a[96:] != b[96:]
                            for a, b in zip(old, png_pixels(self.read("c.png"))[2])))

    def test_mask_of_the_pictures_own_transparency(self):
        self.path("t.png").write_bytes(
            png(64, 64, lambda x, y: (9, 9, 9, 0 if y < 32 else 255)))
        self.edit("t.png", "a", "--mask", "alpha", "--feather", 4, "-o", "b.png")
        rows = png_pixels(self.read("b.png"))[2]
        self.assertTrue(all(row == bytes([9, 9, 9]) * 64 for row in rows[32:]))
        self.assertTrue(any(row != bytes([9, 9, 9]) * 64 for row in rows[:32]))

    def test_kept_latents_are_used_by_the_next_edit(self):
        self.edit("a.png", "a", "-o", "b.png", "--keep-latents")
        self.assertIn("b.png.latents.safetensors", self.files())
        done = self.edit("b.png", "c", "-o", "c.png", "--strength", 0.5)
        self.assertIn("latents", done.stderr)
        os.remove(self.path("b.png.latents.safetensors"))
        self.edit("b.png", "c", "-o", "d.png", "--strength", 0.5)
        self.assertNotEqual(png_pixels(self.read("c.png")), png_pixels(self.read("d.png")))

    def test_match_color(self):
        def mean(name):
            rows = png_pixels(self.read(name))[2]
            return [sum(sum(row[c::3]) for row in rows) / 4096 for c in range(3)]
        self.edit("a.png", "a", "-o", "b.png", "--strength", 1)
        self.edit("a.png", "a", "-o", "c.png", "--strength", 1, "--match-color")
        far, near = (max(abs(p - q) for p, q in zip(mean("a.png"), mean(n)))
                     for n in ("b.png", "c.png"))
        self.assertLess(near, 6)
        self.assertLess(near, far)


class Chain(CommandTest):
    def chain(self):
        self.generate("a", "-o", "a.png", "--seed", 1)
        for before, after, prompt in ("a.png", "b.png", "b"), ("b.png", "c.jpg", "c"):
            self.styx("edit", before, prompt, "--model", SD, "--steps", 4, "--strength", 0.5,
                      "-o", after)

    def test_log_goes_back_to_the_root(self):
        self.chain()
        steps = json.loads(self.styx("log", "c.jpg", "--json").stdout)
        self.assertEqual([s["path"] for s in steps], ["c.jpg", "b.png", "a.png"])
        self.assertEqual(steps[1]["recipe"]["settings"]["prompt"], "b")
        self.assertEqual(steps[0]["recipe"]["parent"]["sha256"], steps[1]["sha256"])
        text = self.styx("log", "c.jpg").stdout
        self.assertLess(text.index("b.png"), text.index("a.png"))

    def test_replay_gives_every_byte_again(self):
        self.chain()
        for name in "a.png", "b.png", "c.jpg":
            self.assertIn("every byte is equal", self.styx("replay", name).stdout)
        shutil.rmtree(self.path("cache"))
        done = self.styx("replay", "c.jpg", "-o", "again.jpg", "--threads", 1)
        self.assertEqual(self.read("c.jpg"), self.read("again.jpg"))
        self.assertIn("every byte is equal", done.stdout)

    def test_replay_of_one_picture_of_a_batch(self):
        self.generate("a", "-o", "out/", "--seed", 1, "--count", 3, "--sampler", "euler a")
        self.assertIn("equal", self.styx("replay", "out/styx-1-3.png").stdout)

    def test_replay_names_what_is_missing_or_changed(self):
        self.chain()
        os.rename(self.path("a.png"), self.path("kept.png"))
        self.assertIn("a.png", self.refused("replay", "b.png", says="missing", code=1))
        self.path("a.png").write_bytes(self.read("b.png"))
        self.refused("replay", "b.png", says=["a.png", "not what it was"], code=1)
        shutil.copytree(SD, self.path("model"))
        self.generate("a", "-o", "m.png", model="model")
        shutil.rmtree(self.path("model"))
        self.refused("replay", "m.png", says=["model", "missing"], code=1)

    def test_replay_tells_what_differs(self):
        self.generate("a", "-o", "a.png", "--dtype", "f32", "--isa", "portable")
        done = self.styx("replay", "a.png", "--backend", "ref", "-o", "b.png")
        self.assertIn("machine was", done.stderr)

    def test_settings_travel_in_the_picture(self):
        self.generate("a (fine) day", "--negative", "grey, dull", "--guidance", 3.25, "--seed", 11,
                      "--sampler", "dpm++ 2m karras", "--clip-skip", 1, "-o", "a.png")
        self.styx("generate", "--from", "a.png", "-o", "b.png")
        self.assertEqual(png_pixels(self.read("a.png")), png_pixels(self.read("b.png")))
        self.styx("generate", "--from", "a.png", "-o", "c.png", "--seed", 12)
        self.assertNotEqual(png_pixels(self.read("a.png")), png_pixels(self.read("c.png")))

    def test_settings_of_other_programs(self):
        self.generate("x", "-o", "plain.png", "--seed", 11, "--guidance", 4, "--sampler",
                      "euler a", "--negative", "dull")
        text = self.styx("info", "plain.png").stdout
        self.assertIn("Negative prompt: dull\nSteps: 2, Sampler: Euler a, CFG scale: 4, Seed: 11, "
                      "Size: 64x64", text)
        data = self.read("plain.png")
        at = data.index(b"styx\0") - 8  # drop our own recipe: what is left is A1111's text
        length = int.from_bytes(data[at:at + 4], "big")
        self.path("theirs.png").write_bytes(data[:at] + data[at + 12 + length:])
        self.styx("generate", "--from", "theirs.png", "--model", SD, "-o", "b.png")
        self.assertEqual(png_pixels(data), png_pixels(self.read("b.png")))


class Sdxl(CommandTest):
    def test_refiner_shares_what_it_does_not_have(self):
        for mode in "img2img", "ensemble":
            self.styx("generate", "a", "--model", SDXL, "--refiner", REFINER, "--refiner-mode",
                      mode, "--steps", 4, "--size", "64x64", "--seed", 1, "-o", f"{mode}.png")
            self.assertIn("equal", self.styx("replay", f"{mode}.png").stdout)
        self.styx("generate", "a", "--model", SDXL, "--steps", 4, "--size", "64x64", "--seed", 1,
                  "-o", "base.png")
        pictures = [self.read(n) for n in ("base.png", "img2img.png", "ensemble.png")]
        self.assertEqual(len({bytes(b"".join(png_pixels(p)[2])) for p in pictures}), 3)

    def test_components_from_elsewhere(self):
        self.styx("generate", "a", "--model", SDXL, *QUICK, "--vae", SDXL + "/vae", "--tokenizer",
                  SDXL + "/tokenizer", "--text-encoder-2", SDXL + "/text_encoder_2", "-o", "a.png",
                  "--seed", 1)
        self.styx("generate", "a", "--model", SDXL, *QUICK, "-o", "b.png", "--seed", 1)
        self.assertEqual(png_pixels(self.read("a.png")), png_pixels(self.read("b.png")))

    def test_sizes_of_the_conditioning(self):
        names = {"plain": [], "original": ["--original-size", "512x256"],
                 "crop": ["--crop", "8,16"], "target": ["--target-size", "128x64"],
                 "second": ["--prompt-2", "z"], "negative": ["--negative-2", "z"]}
        for name, words in names.items():
            self.styx("generate", "a", "--model", SDXL, *QUICK, *words, "-o", name + ".png",
                      "--seed", 1, "--negative", "b")
        pixels = {bytes(b"".join(png_pixels(self.read(n + ".png"))[2])) for n in names}
        self.assertEqual(len(pixels), len(names))


class Run(CommandTest):
    def test_steps_share_and_follow_each_other(self):
        self.path("r.json").write_text(json.dumps({
            "models": {
                "refiner": {"path": REFINER, "components": {
                    "vae": "base.vae", "text_encoder_2": "base.text_encoder_2"}},
                "base": {"path": SDXL}},
            "steps": [
                {"name": "night", "model": "refiner", "picture": "day", "prompt": "night",
                 "strength": 0.5, "steps": 4, "seed": 2},
                {"name": "day", "model": "base", "prompt": "day", "steps": 2, "size": "64x64",
                 "seed": 1, "output": "morning.png"}]}))
        done = self.styx("run", "r.json")
        self.assertEqual(done.stdout, "morning.png\nnight.png\n")
        self.styx("edit", "morning.png", "night", "--model",
                  self.whole_model("refiner", REFINER, SDXL), "--strength", 0.5, "--steps", 4,
                  "--seed", 2, "-o", "by-hand.png")
        self.assertEqual(png_pixels(self.read("night.png")), png_pixels(self.read("by-hand.png")))

    def test_the_notebook(self):
        """The example that is shipped, on models of the real topology."""
        recipe = json.loads((ROOT / "examples" / "notebook.json").read_text())
        for name, path in ("sd", SD), ("base", SDXL), ("refiner", REFINER):
            recipe["models"][name]["path"] = path
            recipe["models"][name].pop("variant", None)
        self.path("notebook.json").write_text(json.dumps(recipe))
        done = self.styx("run", "notebook.json")
        self.assertEqual(len(done.stdout.split()), len(recipe["steps"]))
        chain = json.loads(self.styx("log", done.stdout.split()[-1], "--json").stdout)
        self.assertEqual(len(chain), len(recipe["steps"]))


if __name__ == "__main__":
    unittest.main()
