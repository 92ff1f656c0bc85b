"""styx convert, and models in one file: nothing is lost between the layouts."""
import hashlib
import json
import os
import pathlib
import pickle
import shutil
import unittest
import zipfile

from command import INPAINT, SD, SDXL, CommandTest, png_pixels

WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
           "text_encoder/model.safetensors", "text_encoder_2/model.safetensors")


class Convert(CommandTest):
    def picture(self, name, model, *words):
        self.generate("a castle", "--seed", "1", "-o", name, *words, model=model)
        return png_pixels(self.read(name))

    def there_and_back(self, model):
        whole = self.whole_model("whole", model, SD)
        self.styx("convert", whole, "a.safetensors", "-q")
        self.styx("convert", "a.safetensors", "back", "--model-config", whole, "-q")
        for name in WEIGHTS:
            if (self.path(whole) / name).exists():
                self.assertTrue(self.read(f"back/{name}") == self.read(f"{whole}/{name}"), name)
        then = json.loads(self.path(whole).joinpath("model_index.json").read_text())
        now = json.loads(self.path("back").joinpath("model_index.json").read_text())
        for key in then:
            if isinstance(then[key], list) and then[key][0]:
                self.assertEqual(now[key], then[key])
        return whole

    def test_sd(self):
        self.same_pictures(self.there_and_back(SD))

    def test_sdxl(self):
        self.same_pictures(self.there_and_back(SDXL))

    def test_inpainting(self):
        self.there_and_back(INPAINT)

    def same_pictures(self, whole):
        want = self.picture("1.png", whole)
        self.assertEqual(self.picture("2.png", "back"), want)
        self.assertEqual(self.picture("3.png", "a.safetensors", "--model-config", whole), want)

    def test_types_and_containers(self):
        want = self.picture("want.png", SD)
        for kind, near in ("f32", 0), ("f16", 0), ("bf16", 40), ("q8_0", 60):
            for ending in "safetensors", "gguf":
                with self.subTest(kind=kind, ending=ending):
                    name = f"{kind}.{ending}"
                    self.styx("convert", SD, name, "--type", kind)
                    got = self.picture(f"{name}.png", name, "--model-config", SD)
                    far = max(abs(a - b) for x, y in zip(want[2], got[2]) for a, b in zip(x, y))
                    self.assertLessEqual(far, near)

    def test_one_component(self):
        self.styx("convert", SD + "/vae/diffusion_pytorch_model.safetensors", "vae.safetensors")
        self.assertEqual(self.read("vae.safetensors"),
                         pathlib.Path(SD, WEIGHTS[1]).read_bytes())

    def test_info(self):
        self.styx("convert", SDXL, "a.safetensors")
        info = json.loads(self.styx("info", "a.safetensors", "--json").stdout)
        self.assertEqual((info["kind"], info["prediction_type"]), ("SDXL", "epsilon"))
        self.assertEqual(info["missing"], ["tokenizer"])
        self.assertEqual(sorted(info["components"]),
                         ["text_encoder", "text_encoder_2", "unet", "vae"])
        self.assertEqual(info["sha256"], hashlib.sha256(self.read("a.safetensors")).hexdigest())
        self.assertIn(info["sha256"][:10], self.styx("info", "a.safetensors").stdout)

    def test_refusals(self):
        self.refused("convert", SD, says="IN OUT")
        self.refused("convert", "nowhere", "a.gguf", says="nowhere", code=1)
        self.refused("convert", SD, "a.gguf", "--type", "q3", says="q8_0")
        self.styx("convert", SD, "a.gguf")
        self.refused("convert", SD, "a.gguf", says="a.gguf")
        self.styx("convert", SD, "a.gguf", "--force")
        self.refused("convert", "a.gguf", "folder", says=["channels", "config"], code=1)
        self.path("there").mkdir()
        self.refused("convert", SD, "there", says="there")
        self.refused("generate", "a", "--model", "a.gguf", says="config", code=1)
        self.refused("generate", "a", "--model", "a.gguf", "--model-config", "nowhere",
                     says="nowhere", code=1)

    def test_without_vocabulary(self):
        self.styx("convert", SD, "a.safetensors")
        shutil.copytree(SD, self.path("configs"))
        shutil.rmtree(self.path("configs/tokenizer"))
        words = ["generate", "a castle", "--model", "a.safetensors", "--model-config", "configs",
                 "--steps", "1", "-o", "a.png"]
        self.refused(*words, says=["vocabulary", "styx pull"], code=1)
        self.styx(*words, environment={"STYX_TOKENIZER": SD + "/tokenizer"})

    def test_pickles(self):
        class Runs:
            def __reduce__(self):
                return os.mkdir, (str(hit),)

        hit = self.path("hit")
        with zipfile.ZipFile(self.path("evil.ckpt"), "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps({"state_dict": Runs()}, 2))
            file.writestr("archive/version", "3\n")
        self.refused("convert", "evil.ckpt", "a.safetensors", says=["pickle", "--allow-pickle"],
                     code=1)
        self.refused("generate", "a", "--model", "evil.ckpt", says="--allow-pickle", code=1)
        self.refused("convert", "evil.ckpt", "a.safetensors", "--allow-pickle", says="mkdir",
                     code=1)
        self.assertFalse(hit.exists())


if __name__ == "__main__":
    unittest.main()
