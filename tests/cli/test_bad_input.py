"""Whatever is asked for: one sentence, the right exit code, no file, no crash."""
import json
import os
import shutil
import struct
import unittest

from command import INPAINT, REFINER, SD, SDXL, CommandTest, png, write_safetensors


class Flags(CommandTest):
    def test_numbers(self):
        for flag, value, says in (
                ("--steps", "0", "'0'"), ("--steps", "-5", "'-5'"), ("--steps", "abc", "'abc'"),
                ("--steps", "1e23", "'1e23'"), ("--steps", "", "''"), ("--steps", "5x", "'5x'"),
                ("--guidance", "nan", "'nan'"), ("--guidance", "inf", "'inf'"),
                ("--guidance", "0x10", "'0x10'"), ("--seed", "-1", "'-1'"),
                ("--seed", "1,,2", "'1,,2'"), ("--seed", "18446744073709551616", "want"),
                ("--size", "64", "'64'"), ("--size", "0x64", "'0x64'"),
                ("--size", "-64x64", "'-64x64'"), ("--size", "64x64x64", "'64x64x64'"),
                ("--count", "0", "'0'"), ("--eta", "2", "'2'"), ("--clip-skip", "-2", "'-2'"),
                ("--threads", "many", "'many'"), ("--dtype", "int8", "bf16"),
                ("--backend", "abacus", "cpu"), ("--generator", "dice", "cuda"),
                ("--timesteps", "9,a", "'a'"), ("--max-memory", "2Q", "'2Q'")):
            with self.subTest(flag=flag, value=value):
                self.refused("generate", "a", "--model", SD, flag, value, says=[flag, says])

    def test_sizes_that_the_model_cannot_do(self):
        for size in "60x64", "100000x100000", "8x100000":
            with self.subTest(size=size):
                self.refused("generate", "a", "--model", SD, "--size", size, says="")

    def test_unknown_words(self):
        self.refused("paint", says=["paint", "styx help"])
        self.refused("generate", "a", "--stepz", "3", says=["--stepz", "--steps"])
        self.refused("generate", "a", "b", says=["'b'", "quotes"])
        self.refused("generate", "--model", SD, says="PROMPT")
        self.refused("generate", "a", "--steps", says="--steps")
        self.refused("edit", says="PICTURE")
        self.refused("tokenize", says="TEXT")
        self.refused("generate", "a", "--model", SD, "--sampler", "magic", says="magic")

    def test_contradictions(self):
        self.refused("generate", "a", "--model", SD, "--seed", "1,2", "--count", "3",
                     says=["2 seeds", "3"])
        self.refused("generate", "a", "--model", SD, "--count", "2", "-o", "a.png",
                     says=["a.png", "2 pictures"])
        self.refused("generate", "a", "--model", SD, "--timesteps", "9", "--sigmas", "1",
                     says=["--timesteps", "--sigmas"])
        self.refused("generate", "a", "--model", SD, "--refiner-at", "0.5", says="--refiner")
        self.refused("generate", "a", "--model", SD, "--only", "2", says="--only")

    def test_text_that_is_not_utf8(self):
        self.refused("generate", b"\xff\xfe", "--model", SD, says="UTF-8")

    def refused(self, *words, **more):
        words = [os.fsdecode(w) if isinstance(w, bytes) else w for w in words]
        return super().refused(*words, **more)

    def styx(self, *words, **more):
        more.setdefault("text", True)
        return super().styx(*words, **more)


class Outputs(CommandTest):
    def test_places_that_cannot_be_written(self):
        self.refused("generate", "a", "--model", SD, "-o", "missing/a.png", says="missing", code=1)
        self.refused("generate", "a", "--model", SD, "-o", "a.bmp", says="a.bmp")
        self.refused("generate", "a", "--model", SD, "-o", "/proc/a.png", says="/proc/a.png",
                     code=1)
        self.refused("generate", "a", "--model", SD, "--trace", "missing/t.safetensors",
                     says="missing", code=1)

    def test_they_are_found_before_the_work(self):
        """The model is not even looked at: its folder is broken."""
        self.path("model").mkdir()
        self.refused("generate", "a", "--model", "model", "-o", "missing/a.png", says="missing/",
                     code=1)


class Models(CommandTest):
    def broken(self, *, file, change=None, model=SD):
        """A copy of the model with one file changed (None: removed)."""
        shutil.rmtree(self.path("model"), ignore_errors=True)
        shutil.copytree(model, self.path("model"))
        path = self.path("model") / file
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))

    def refuses(self, *, file, change=None, says, model=SD):
        self.broken(file=file, change=change, model=model)
        before = self.files()
        done = self.styx("generate", "a", "--model", "model", "--steps", "1", "--size", "64x64",
                         "-o", "a.png", code=1)
        *report, sentence = done.stderr.strip().splitlines()
        self.assertTrue(all(line.split(":")[0] in ("missing", "wrong shape")
                            for line in report), done.stderr)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, sentence)
        self.assertEqual(self.files(), before)

    def test_no_model(self):
        self.refused("generate", "a", "--model", "nowhere", says="nowhere", code=1)
        self.path("empty").mkdir()
        self.refused("generate", "a", "--model", "empty", says=["empty", "model_index.json"],
                     code=1)

    WEIGHTS = "unet/diffusion_pytorch_model.safetensors"

    def header(self, edit):
        """A change of the weights' header that keeps the file well formed otherwise."""
        def change(data):
            length = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:8 + length])
            text = edit(header)
            if not isinstance(text, bytes):
                text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[8 + length:]
        return change

    def first(self, header):
        return next(entry for name, entry in header.items() if name != "__metadata__")

    def test_broken_weights(self):
        def overlap(h):
            names = [n for n in h if n != "__metadata__"]
            h[names[1]]["data_offsets"] = h[names[0]]["data_offsets"]
            h[names[1]]["shape"] = h[names[0]]["shape"]

        def shape(h):
            h["conv_in.bias"]["shape"] = [2, h["conv_in.bias"]["shape"][0] // 2]

        cases = {
            "truncated": lambda d: d[:len(d) // 2],
            "empty": lambda d: b"",
            "huge header": lambda d: struct.pack("<Q", 1 << 62) + d[8:],
            "no JSON": lambda d: d[:8] + b"\xff" + d[9:],
            "out of range": self.header(lambda h: self.first(h).update(data_offsets=[0, 1 << 60])),
            "backwards": self.header(lambda h: self.first(h).update(data_offsets=[8, 0])),
            "unknown dtype": self.header(lambda h: self.first(h).update(dtype="Z9")),
            "overflow": self.header(lambda h: self.first(h).update(shape=[1 << 40, 1 << 40])),
            "overlap": self.header(overlap),
            "wrong shape": self.header(shape),
            "deep": self.header(lambda h: b'{"a":' * 5000 + b"1" + b"}" * 5000),
        }
        for name, change in cases.items():
            with self.subTest(name):
                self.refuses(file=self.WEIGHTS, change=change, says="unet")

    def test_missing_tensor_is_named(self):
        def drop(h):
            h["conv_in.bias.gone"] = h.pop("conv_in.bias")
        self.refuses(file=self.WEIGHTS, change=self.header(drop), says="conv_in.bias")

    def test_missing_files(self):
        for file in ("unet/config.json", self.WEIGHTS, "vae/config.json",
                     "scheduler/scheduler_config.json", "tokenizer/vocab.json"):
            with self.subTest(file):
                self.refuses(file=file, says=file.split("/")[0])

    def test_mistyped_json(self):
        for name, change in {
                "cut": lambda d: d[:10],
                "list": lambda d: b"[]",
                "type": lambda d: d.replace(b'"in_channels": 4', b'"in_channels": "four"'),
                "deep": lambda d: b'{"a":' * 5000 + b"1" + b"}" * 5000}.items():
            with self.subTest(name):
                self.refuses(file="unet/config.json", change=change, says="unet/config.json")
        self.refuses(file="vae/config.json", says=["vae/config.json", "_latent_colours has 2"],
                     change=lambda d: d.replace(b"{", b'{"_latent_colours": [1, 2],', 1))

    def test_models_in_the_wrong_place(self):
        self.whole_model("refiner", REFINER, SDXL)
        self.refused("generate", "a", "--model", "refiner", "--steps", "1", says="refiner")
        self.refused("generate", "a", "--model", SDXL, "--refiner", SDXL, "--steps", "1",
                     says=["--refiner", "base"])
        self.whole_model("inpaint", INPAINT, SD)
        self.refused("generate", "a", "--model", "inpaint", "--steps", "1", "--size", "64x64",
                     says="inpaint")
        self.broken(file="model_index.json", model=SDXL, change=lambda d: d.replace(
            b'"text_encoder_2"', b'"text_encoder_3"'))
        self.refused("generate", "a", "--model", "model", "--steps", "1", says="text_encoder_2",
                     code=1)


class Pictures(CommandTest):
    def setUp(self):
        super().setUp()
        self.path("a.png").write_bytes(png(64, 64, lambda x, y: (x, y, 0)))

    def edit(self, *words, **more):
        return self.refused("edit", *words, "--model", SD, "--steps", "4", **more)

    def test_strength(self):
        for value in "-1", "1.5", "nan":
            self.edit("a.png", "a", "--strength", value, says=["--strength", f"'{value}'"])
        self.edit("a.png", "a", "--strength", "0", "--sampler", "euler", says="strength")

    def test_broken_pictures(self):
        whole = self.read("a.png")
        self.path("cut.png").write_bytes(whole[:len(whole) // 2])
        self.edit("cut.png", "a", says="cut.png", code=1)
        bomb = bytearray(whole)
        bomb[16:24] = struct.pack(">II", 60000, 60000)
        self.path("bomb.png").write_bytes(bytes(bomb))
        self.edit("bomb.png", "a", says="bomb.png", code=1)
        self.path("text.png").write_text("no picture at all")
        self.edit("text.png", "a", says="text.png", code=1)
        self.edit("nowhere.png", "a", says="nowhere.png", code=1)
        self.path("dot.png").write_bytes(png(1, 1, lambda x, y: (0, 0, 0)))
        self.edit("dot.png", "a", says=["dot.png", "1x1"])

    def test_masks(self):
        self.path("small.png").write_bytes(png(32, 32, lambda x, y: (255, 255, 255)))
        self.edit("a.png", "a", "--mask", "small.png", says=["32x32", "64x64"])
        self.edit("a.png", "a", "--mask", "alpha", says="transparency")
        self.edit("a.png", "a", "--mask", "nowhere.png", says="nowhere.png", code=1)

    def test_latents_of_another_shape(self):
        self.path("l.safetensors").write_bytes(
            write_safetensors({"latents": ([1, 4, 4, 4], [0.0] * 64)}))
        self.refused("generate", "a", "--model", SD, "--size", "64x64", "--steps", "1",
                     "--latents", "l.safetensors", says="latents")
        self.path("two.safetensors").write_bytes(
            write_safetensors({"x": ([1], [0.0]), "y": ([1], [0.0])}))
        self.refused("generate", "a", "--model", SD, "--latents", "two.safetensors",
                     says="two.safetensors", code=1)

    def test_from_a_picture_without_settings(self):
        self.refused("generate", "--from", "a.png", says=["a.png", "no recipe"], code=1)
        self.refused("replay", "a.png", says=["a.png", "no recipe"], code=1)


class Files(CommandTest):
    def test_prompts(self):
        for text, says in (("", "no line"), ("{", "line 1"), ('{"seed": 1}', "no prompt"),
                           ('{"prompt": "a", "steps": 0}', "steps"),
                           ('{"prompt": "a", "stepz": 1}', "stepz"),
                           ('{"prompt": 5}', "prompt"), ('{"prompt": "a", "width": 8}', "height"),
                           ('{"prompt": "a", "trace": "x"}', "trace"), ("[]", "line 1"),
                           ('{"prompt":"a","output":"x.png"}\n{"prompt":"b","output":"x.png"}',
                            "x.png")):
            with self.subTest(text=text):
                self.path("p.jsonl").write_text(text)
                self.refused("generate", "--model", SD, "--prompts", "p.jsonl",
                             says=["p.jsonl", says])
        self.refused("generate", "--model", SD, "--prompts", "none.jsonl", says="none.jsonl",
                     code=1)

    def test_recipes(self):
        model = {"m": {"path": SD}}

        def step(**settings):
            return dict({"model": "m", "prompt": "a", "steps": 1, "size": "64x64"}, **settings)
        for recipe, says in (
                ([], "object"), ({}, "steps"), ({"steps": []}, "steps"),
                ({"steps": [{"prompt": "a"}]}, "name"),
                ({"models": model, "steps": [step(name="x", model="n")]}, "called n"),
                ({"models": model, "steps": [step(name="x", picture="y")]}, "'y'"),
                ({"models": model, "steps": [step(name="x"), step(name="x")]}, "called x"),
                ({"models": model, "steps": [step(name="x", picture="y"),
                                             step(name="y", picture="x")]}, "circle"),
                ({"models": model, "steps": [step(name="x", picture="x")]}, "circle"),
                ({"models": model, "steps": [step(name="x", output="o.png"),
                                             step(name="y", output="o.png")]}, "o.png"),
                ({"models": {"a": {"path": SD, "components": {"vae": "b.vae"}},
                             "b": {"path": SD, "components": {"vae": "a.vae"}}},
                  "steps": [step(name="x", model="a")]}, "circle"),
                ({"models": model, "steps": [step(name="x", colour=1)]}, "colour")):
            with self.subTest(recipe=recipe):
                self.path("r.json").write_text(json.dumps(recipe))
                self.refused("run", "r.json", says=["r.json", says])


if __name__ == "__main__":
    unittest.main()
