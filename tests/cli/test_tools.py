"""styx tokenize, schedule, info, explain, help and what is printed from the table of flags."""
import hashlib
import json
import pathlib
import shutil
import subprocess
import unittest

from command import REFINER, ROOT, SD, SDXL, CommandTest, write_safetensors


class Tools(CommandTest):
    def test_version(self):
        header = (ROOT / "include" / "styx.h").read_text()
        self.assertIn(f'#define STYX_VERSION "{self.styx("--version").stdout.split()[1]}"', header)

    def test_tokenize(self):
        out = json.loads(self.styx("tokenize", "a red apple", "--model", SD, "--json").stdout)
        self.assertEqual(len(out["ids"]), 77)
        self.assertIsNone(out["cut"])
        self.assertEqual(len(out["ids"]), len(out["tokens"]))
        done = self.styx("tokenize", "apple " * 200, "--model", SD)
        self.assertEqual(len(done.stdout.splitlines()), 77)
        self.assertIn("cut off", done.stderr)
        self.assertEqual(len(json.loads(self.styx("tokenize", "a", "--model", SDXL, "--encoder", 2,
                                                  "--json").stdout)["ids"]), 77)
        self.refused("tokenize", "a", "--model", SD, "--encoder", "2", says="2")

    def test_schedule(self):
        def schedule(*words):
            return json.loads(self.styx("schedule", "--steps", 10, "--json", *words).stdout)
        own = schedule("--model", SD)
        same = schedule("--config", SD + "/scheduler/scheduler_config.json")
        self.assertEqual(own["timesteps"], same["timesteps"])
        # diffusers' own numbers for the swap to Euler (linspace, as the file says no spacing)
        euler = schedule("--model", SD, "--sampler", "euler")
        self.assertEqual(len(euler["timesteps"]), 10)
        self.assertEqual(euler["timesteps"][0], 999)
        self.assertEqual(len(euler["sigmas"]), 11)
        self.assertEqual(euler["sigmas"][-1], 0)
        table = self.styx("schedule", "--model", SD, "--steps", 10).stdout.splitlines()
        self.assertEqual(len(table), 1 + len(own["timesteps"]))

    def test_info(self):
        info = json.loads(self.styx("info", SDXL, "--json").stdout)
        self.assertEqual(info["family"], "sdxl")
        self.assertIn("text_encoder_2", info["components"])
        self.assertIn("UNet2DConditionModel", self.styx("info", SD).stdout)
        weights = json.loads(self.styx(
            "info", SD + "/unet/diffusion_pytorch_model.safetensors", "--json").stdout)
        self.assertIn("conv_in.weight", [t["name"] for t in weights["tensors"]])
        self.assertEqual(weights["parameters"],
                         json.loads(self.styx("info", SD, "--json").stdout)
                         ["components"]["unet"]["parameters"])
        self.refused("info", "nowhere", says="nowhere", code=1)

    def test_info_on_folders(self):
        weights = pathlib.Path(SD) / "unet/diffusion_pytorch_model.safetensors"
        right = hashlib.sha256(weights.read_bytes()).hexdigest()
        info = json.loads(self.styx("info", SD, "--json").stdout)
        self.assertEqual((info["prediction_type"], info["sha256"]["unet"]), ("epsilon", right))
        self.assertIn(f"F16, {right[:10]}", self.styx("info", SD).stdout)
        part = json.loads(self.styx("info", SD + "/unet", "--json").stdout)
        self.assertEqual((part["name"], part["sha256"]), ("unet", right))
        for folder, says in ((SDXL + "/text_encoder_2", "CLIPTextModelWithProjection"),
                             (SD + "/vae", "AutoencoderKL (vae), 49459 parameters, F16"),
                             (REFINER, "text_encoder_2     missing")):
            with self.subTest(folder=folder):
                self.assertIn(says, self.styx("info", folder).stdout)
        lacks = json.loads(self.styx("info", REFINER, "--json").stdout)["missing"]
        self.assertEqual(sorted(lacks), ["text_encoder_2", "vae"])

    def test_info_on_extras(self):
        extras = ROOT / "tests" / "golden" / "extras"

        def about(name):
            return json.loads(self.styx("info", extras / f"{name}.safetensors", "--json").stdout)
        kohya, sgm = about("lora_kohya"), about("lora_sgm")
        self.assertEqual((kohya["kind"], kohya["ranks"], kohya["changes"]["text_encoder_2"]),
                         ("LoRA", [2, 2], 0))
        self.assertGreater(kohya["changes"]["unet"], 100)
        self.assertEqual((sgm["family"], sgm["changes"]["text_encoder_2"]), ("SDXL", 6))
        word, pair = about("word_sd15"), about("word_sdxl")
        self.assertEqual((word["kind"], word["word"], word["vectors"], word["widths"]),
                         ("textual inversion", "<sea>", 3, [16, 0]))
        self.assertEqual((pair["kind"], pair["family"], pair["widths"]),
                         ("textual inversion", "SDXL", [16, 24]))
        said = self.styx("info", extras / "word_sd15.safetensors").stdout
        self.assertIn("the word <sea>, 3 vectors", said)
        wide = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k." + end: x
                for end, x in (("lora_down.weight", ([1, 768], [0.0] * 768)),
                               ("lora_up.weight", ([2, 1], [0.0] * 2)))}
        self.path("l.safetensors").write_bytes(write_safetensors(wide))
        self.assertIn("for SD 1.x", self.styx("info", "l.safetensors").stdout)
        self.path("d.safetensors").write_bytes(write_safetensors(
            {**wide, "lora_unet_a.dora_scale": ([1], [0.0])}))
        self.assertIn("refused: d.safetensors: is a DoRA", self.styx("info", "d.safetensors").stdout)

    def test_explain(self):
        text = self.styx("explain", "--model", SD, "--size", "64x64", "--batch", 2).stdout
        self.assertIn("unet", text)
        rows = [line.split() for line in text.splitlines()]
        stages = [sum(map(float, row[-3:])) for row in rows if row[1:2] in (["F32"], ["BF16"])]
        peak = float(text.split(" MiB)")[0].split("(")[-1])
        self.assertEqual(3, len(stages))
        besides = 10 + 36 * 64 * 64 / 2 ** 20  # what else a process holds
        self.assertAlmostEqual(besides + max(stages), peak, delta=0.3)  # one stage at a time
        longer = self.styx("explain", "--model", SD, "--size", "64x64", "--code").stdout
        self.assertGreater(len(longer.splitlines()), len(text.splitlines()))
        self.refused("explain", "--model", SD, "--size", "60x64", says="60")
        self.whole_model("refiner", REFINER, SDXL)  # explained with a picture that it lacks
        text = self.styx("explain", "--model", "refiner", "--size", "64x64").stdout
        self.assertIn("vae.encode", text)

    def test_help(self):
        overview = self.styx("help").stdout
        for line in overview.splitlines():
            if line.startswith("  styx "):
                name = line.split()[1]
                text = self.styx("help", name).stdout
                self.assertIn(f"usage: styx {name}", text)
                self.assertEqual(text, self.styx(name, "--help").stdout)
                self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.refused("help", "paint", says="paint")

    def test_manual_and_completions(self):
        manual = self.styx("help", "--print", "man").stdout
        for word in "generate", "\\-\\-guidance", "STYX_MODEL":
            self.assertIn(word, manual)
        for shell in "bash", "zsh", "fish":
            script = self.styx("help", "--print", shell).stdout
            self.assertIn("guidance", script)
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script, text=True, check=True)
        if shutil.which("man"):
            self.path("styx.1").write_text(manual)
            done = subprocess.run(["man", "--warnings", "-l", "styx.1"], cwd=self.folder,
                                  capture_output=True, text=True)
            self.assertEqual(done.stderr, "")

    def test_bash_completion_completes(self):
        script = self.styx("help", "--print", "bash").stdout

        def complete(*words):
            line = " ".join(f"'{w}'" for w in words)
            done = subprocess.run(["bash", "-c", f"{script}\nCOMP_WORDS=({line})\n"
                                   f"COMP_CWORD={len(words) - 1}\n_styx\n"
                                   'printf "%s\\n" "${COMPREPLY[@]}"'],
                                  capture_output=True, text=True, check=True)
            return done.stdout.split()
        self.assertEqual(complete("styx", "gen"), ["generate"])
        self.assertEqual(complete("styx", "generate", "--guidance-"), ["--guidance-rescale"])
        self.assertEqual(complete("styx", "generate", "--dtype", "b"), ["bf16"])


if __name__ == "__main__":
    unittest.main()
