"""styx generate: what it writes, and that it keeps its promises about files, seeds and bytes."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from command import (QUICK, ROOT, SD, STYX, CommandTest, png_pixels, read_safetensors,
                     write_safetensors)


class Generate(CommandTest):
    def test_writes_the_picture_and_tells_the_seed(self):
        done = self.generate("a red apple", "-o", "apple.png", "--seed", 7)
        self.assertEqual(done.stdout, "apple.png\n")
        self.assertIn("seed 7", done.stderr)
        self.assertEqual(png_pixels(self.read("apple.png"))[:2], (64, 64))

    def test_picks_and_tells_a_seed(self):
        seeds = {json.loads(self.generate("a", "-o", f"{i}.png", "--json").stdout)["seed"]
                 for i in range(3)}
        self.assertEqual(len(seeds), 3)

    def test_same_seed_same_bytes_for_any_threads(self):
        for threads in 1, 2, 3:
            self.generate("a", "-o", f"{threads}.png", "--seed", 1, "--threads", threads)
        self.assertEqual(self.read("1.png"), self.read("2.png"))
        self.assertEqual(self.read("1.png"), self.read("3.png"))

    def test_folder_gets_new_names(self):
        for _ in range(2):
            self.generate("a", "--seed", 5, "--count", 2, "-o", "out/")
        self.assertEqual(self.files(), ["out"] + [f"out/styx-5-{n}.png" for n in (1, 2, 3, 4)])
        self.assertEqual(self.read("out/styx-5-1.png"), self.read("out/styx-5-3.png"))

    def test_without_output_it_is_the_current_folder(self):
        self.generate("a", "--seed", 5)
        self.assertEqual(self.files(), ["styx-5-1.png"])

    def test_existing_file_is_kept_unless_forced(self):
        self.path("a.png").write_bytes(b"mine")
        self.refused("generate", "a", "--model", SD, "-o", "a.png",
                     says=["a.png", "exists", "--force"])
        self.assertEqual(self.read("a.png"), b"mine")
        self.generate("a", "-o", "a.png", "--force")
        self.assertNotEqual(self.read("a.png"), b"mine")

    def test_seed_list_gives_each_picture_its_own(self):
        self.generate("a", "--seed", "1,2", "-o", "list/")
        self.generate("a", "--seed", "2", "-o", "alone.png")
        both = [png_pixels(self.read(name)) for name in ("list/styx-2-1.png", "alone.png")]
        self.assertEqual(both[0], both[1])

    def test_one_seed_draws_on(self):
        self.generate("a", "--seed", 1, "--count", 2, "-o", "two/")
        self.generate("a", "--seed", 1, "-o", "one.png")
        first, second, one = (png_pixels(self.read(name)) for name in
                              ("two/styx-1-1.png", "two/styx-1-2.png", "one.png"))
        self.assertEqual(first, one)
        self.assertNotEqual(second, one)

    def test_only_keeps_one_of_the_batch(self):
        self.generate("a", "--seed", 1, "--count", 2, "-o", "two/")
        self.generate("a", "--seed", 1, "--count", 2, "--only", 2, "-o", "second.png")
        self.assertEqual(png_pixels(self.read("two/styx-1-2.png")),
                         png_pixels(self.read("second.png")))

    def test_formats_by_extension(self):
        for name, magic in ("a.jpg", b"\xff\xd8\xff"), ("a.webp", b"RIFF"), ("a.png", b"\x89PNG"):
            self.generate("a", "-o", name, "--seed", 1)
            self.assertTrue(self.read(name).startswith(magic))
            self.assertIn("Seed: 1", self.styx("info", name).stdout)

    def test_quiet_says_nothing(self):
        self.assertEqual(self.generate("a", "-o", "a.png", "-q").stderr, "")

    def test_json_line_for_each_picture(self):
        done = self.generate("a", "--seed", "3,4", "-o", "out/", "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([line["seed"] for line in lines], [3, 4])
        self.assertEqual([line["output"] for line in lines],
                         ["out/styx-3-1.png", "out/styx-4-1.png"])
        self.assertEqual(lines[0]["recipe"]["settings"]["prompt"], "a")

    def test_the_largest_seed(self):
        done = self.generate("a", "--seed", 2**64 - 1, "-o", "a.png", "--json")
        self.assertEqual(json.loads(done.stdout)["seed"], str(2**64 - 1))
        self.generate("--from", "a.png", "-o", "b.png")
        self.assertEqual(png_pixels(self.read("a.png")), png_pixels(self.read("b.png")))

    def test_latents_in_and_out(self):
        self.generate("a", "--seed", 1, "-o", "a.png", "--save-latents", "last.safetensors",
                      "--trace", "trace.safetensors")
        last = read_safetensors(self.read("last.safetensors"))["latents"]
        trace = read_safetensors(self.read("trace.safetensors"))
        self.assertEqual(last[0], [1, 4, 8, 8])
        steps = sorted(name for name in trace if name.startswith("latents."))
        self.assertEqual(trace[steps[-1]], last)
        self.path("noise.safetensors").write_bytes(
            write_safetensors({"latents": trace["noise.000"]}))
        self.generate("a", "--seed", 9, "-o", "b.png", "--latents", "noise.safetensors")
        self.assertEqual(png_pixels(self.read("a.png")), png_pixels(self.read("b.png")))

    def test_trace_has_the_names_of_the_goldens(self):
        self.generate("a", "-o", "a.png", "--trace", "t.safetensors")
        names = set(read_safetensors(self.read("t.safetensors")))
        for name in ("cond.encoder_hidden_states", "noise.000", "latents.000", "unet.timesteps",
                     "unet.000.in", "unet.000.out", "vae.decode_in", "out.image"):
            self.assertIn(name, names)

    def test_prompts_file(self):
        self.path("p.jsonl").write_text(
            '{"prompt": "a", "seed": 1, "output": "one.png"}\n\n'
            '{"prompt": "b", "negative_prompt": "c", "seed": 2, "steps": 3, "guidance": 3.5, '
            '"width": 72, "height": 64, "output": "two.png"}\n')
        done = self.generate("--prompts", "p.jsonl", "--json")
        one, two = (json.loads(line) for line in done.stdout.splitlines())
        self.assertEqual((one["width"], one["seed"]), (64, 1))
        self.assertEqual((two["width"], two["height"]), (72, 64))
        self.assertEqual(two["recipe"]["settings"]["negative"], "c")
        self.generate("a", "--seed", 1, "-o", "alone.png")
        self.assertEqual(self.read("one.png"), self.read("alone.png"))

    def test_schedules_and_samplers(self):
        for sampler in "euler a", "dpm++ 2m karras", "DDIMScheduler", "unipc":
            self.generate("a", "-o", f"{sampler}.png", "--sampler", sampler, "--seed", 1)
        self.styx("generate", "a", "--model", SD, "--size", "64x64", "-o", "t.png",
                  "--sampler", "euler", "--timesteps", "900,500,100")
        self.styx("generate", "a", "--model", SD, "--size", "64x64", "-o", "s.png",
                  "--sampler", "euler", "--sigmas", "10,3,1")

    def test_lora(self):
        name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
        tensors = {t["name"]: t["shape"] for t in json.loads(self.styx(
            "info", SD + "/unet/diffusion_pytorch_model.safetensors", "--json").stdout)["tensors"]}
        rows, columns = tensors[name + ".weight"]
        self.path("l.safetensors").write_bytes(write_safetensors({
            f"unet.{name}.lora_A.weight": ([1, columns], [1.0] * columns),
            f"unet.{name}.lora_B.weight": ([rows, 1], [1.0] * rows)}))

        def draw(name, *words):
            self.generate("a", "-o", name, "--seed", 1, *words)
            return png_pixels(self.read(name))
        plain, none, full = (draw("plain.png"), draw("none.png", "--lora", "l.safetensors:0"),
                             draw("full.png", "--lora", "l.safetensors"))
        self.assertEqual(plain, none)
        self.assertNotEqual(plain, full)
        self.assertIn("equal", self.styx("replay", "full.png").stdout)
        self.refused("generate", "a", "--model", SD, "--lora", "l.safetensors:x", says="'x'")
        self.refused("generate", "a", "--model", SD, "--lora", "no.safetensors", says="no.", code=1)

    def test_replay_wants_the_same_extras(self):
        extras = ROOT / "tests" / "golden" / "extras"
        for name in ("lora_kohya", "word_sd15"):
            shutil.copy(extras / f"{name}.safetensors", self.path(f"{name}.safetensors"))
        lora = self.read("lora_kohya.safetensors")
        self.generate("a <sea>", "-o", "a.png", "--seed", 1, "--lora", "lora_kohya.safetensors:0.5",
                      "--embedding", "word_sd15.safetensors:<sea>")
        recipe = json.loads(self.styx("log", "a.png", "--json").stdout)[0]["recipe"]
        self.assertEqual(recipe["lora"], [{"path": "lora_kohya.safetensors",
                                           "sha256": hashlib.sha256(lora).hexdigest()}])
        self.assertEqual(recipe["embedding"][0]["path"], "word_sd15.safetensors")
        self.styx("replay", "a.png")
        there = self.files()
        os.mkdir(self.path("sub"))
        for name in there:
            self.path(name).rename(self.path("sub") / name)
        self.styx("replay", "sub/a.png")  # they are beside the picture
        (self.path("sub") / "lora_kohya.safetensors").write_bytes(
            (extras / "lora_old.safetensors").read_bytes())
        self.refused("replay", "sub/a.png", says=["a.png cannot be drawn again", "lora_kohya",
                                                  "its hash differs"], code=1)
        os.unlink(self.path("sub") / "lora_kohya.safetensors")
        self.refused("replay", "sub/a.png", says=["lora_kohya.safetensors is missing"], code=1)

    def test_model_from_the_environment(self):
        self.styx("generate", "a", *QUICK, "-o", "a.png", environment={"STYX_MODEL": SD})

    def test_long_prompts_are_cut_with_a_warning(self):
        done = self.generate("apple " * 17000, "-o", "long.png")
        self.assertIn("apple", done.stderr)
        done = self.generate("(" * 10000 + ")" * 10000, "-o", "brackets.png", "--emphasis")
        self.assertTrue(self.path("brackets.png").exists())

    def test_ctrl_c_stops_and_leaves_nothing(self):
        process = subprocess.Popen([STYX, "generate", "a", "--model", SD, "--steps", "1000",
                                    "--size", "512x512", "--backend", "ref", "-o", "a.png"],
                                   cwd=self.folder, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env=dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache")))
        time.sleep(0.5)
        self.assertIsNone(process.poll(), "it ended before it could be stopped")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, said)
        self.assertEqual(self.files(), [])

    def test_full_disk_loses_no_picture(self):
        self.path("rescue").mkdir()
        self.path("disk").mkdir()
        script = ('mount -t tmpfs -o size=8k none disk && "$@"; code=$?; ls -A disk; exit $code')
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", STYX, "generate", "a",
                               "--model", SD, *QUICK, "--seed", "3", "-o", "disk/a.png"],
                              cwd=self.folder, capture_output=True, text=True,
                              env=dict(os.environ, TMPDIR=str(self.path("rescue")),
                                       XDG_CACHE_HOME=str(self.folder / "cache")))
        if "unshare" in done.stderr or "mount:" in done.stderr:
            self.skipTest("no file system can be made here")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("disk/a.png", done.stderr)
        self.assertIn("rescue/styx-3-1.png", done.stderr)
        self.assertEqual(done.stdout, "")  # no half file
        self.assertEqual(png_pixels(self.read("rescue/styx-3-1.png"))[:2], (64, 64))

    def test_a_limit_of_file_size_is_an_error_not_a_crash(self):
        script = 'ulimit -f 4; exec "$@"'
        done = subprocess.run(["sh", "-c", script, "sh", STYX, "generate", "a", "--model", SD,
                               *QUICK, "-o", "a.png"], cwd=self.folder, capture_output=True,
                              text=True, env=dict(os.environ, TMPDIR=str(self.folder)))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("a.png", done.stderr)
        self.assertEqual([name for name in self.files() if name.endswith(".png")], [])

    def test_full_disk_is_told(self):
        if not pathlib.Path("/dev/full").exists():
            self.skipTest("no /dev/full here")
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([STYX, "info", SD], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot be written", done.stderr)


if __name__ == "__main__":
    unittest.main()
