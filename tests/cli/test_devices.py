"""What there is to compute on, and what is said where there is no card."""
import json
import unittest

from command import CommandTest


class Devices(CommandTest):
    def setUp(self):
        super().setUp()
        self.listed = json.loads(self.styx("devices", "--json").stdout)
        self.backends = {b["name"]: b for b in self.listed["backends"]}

    def test_the_cpu_is_always_there(self):
        self.assertRegex(self.backends["cpu"]["device"], r"^cpu, \w+, \d+ threads?$")

    def test_the_list_in_words(self):
        shown = self.styx("devices").stdout.splitlines()
        self.assertTrue(shown[0].startswith("cpu   "), shown[0])
        self.assertTrue(shown[1].startswith("cuda  "), shown[1])
        for card in self.listed["cards"]:
            self.assertTrue(any(card["name"] in line for line in shown))

    def test_a_card_or_why_not(self):
        cuda = self.backends["cuda"]
        self.assertEqual("why" in cuda, not self.listed["cards"])
        for card in self.listed["cards"]:
            self.assertGreater(card["memory"], 0)
            self.assertRegex(card["compute_capability"], r"^\d+\.\d+$")
            self.assertNotEqual("why" in card, "device" in card)

    def test_without_a_card_it_is_refused_by_the_same_sentence(self):
        if "why" not in self.backends["cuda"]:
            self.skipTest("this machine has a card")
        why = self.backends["cuda"]["why"]
        for words in (["--backend", "cuda"], ["--device", "1"], ["--offload", "model"],
                      ["--max-vram", "4G"], ["--fp8"]):
            self.assertIn(why, self.refused("generate", "x", *words, says="CUDA", code=1))
        self.assertIn(why, self.refused("explain", "--backend", "cuda", says="CUDA", code=1))

    def test_without_a_card_auto_is_the_cpu(self):
        if "why" not in self.backends["cuda"]:
            self.skipTest("this machine has a card")
        self.generate("x", "-o", "a.png", environment={"STYX_BACKEND": "auto"})
        self.generate("x", "-o", "b.png", environment={"STYX_BACKEND": "cpu"})

    def test_the_environment_names_a_backend(self):
        shown = self.styx("explain", environment={"STYX_BACKEND": "ref"}).stdout
        self.assertIn(" on ref ", shown.splitlines()[0])
        self.refused("generate", "x", says="'abacus'", environment={"STYX_BACKEND": "abacus"})

    def test_a_card_on_the_cpu(self):
        for words in (["--device", "1"], ["--offload", "stream"], ["--max-vram", "4G"], ["--fp8"]):
            self.refused("generate", "x", "--backend", "cpu", *words, says="the cpu backend has no")

    def test_pictures_divided_between_cards(self):
        """Here both are the CPU: what counts is who draws what."""
        self.generate("x", "--seed", "1,2,3", "--backend", "cpu", "--devices", "0,0", "-o", "both/")
        for seeds in ("1,3", "2"):
            self.generate("x", "--seed", seeds, "--backend", "cpu", "-o", "one/")
        self.assertEqual(len(list(self.folder.glob("both/*.png"))), 3)
        for path in self.folder.glob("both/*.png"):
            self.assertEqual(path.read_bytes(), (self.folder / "one" / path.name).read_bytes())

    def test_prompts_divided_between_cards(self):
        lines = [json.dumps({"prompt": p, "seed": 7, "output": f"{p}.png"}) for p in "abc"]
        (self.folder / "list.jsonl").write_text("\n".join(lines))
        done = self.generate("--prompts", "list.jsonl", "--backend", "cpu", "--devices", "0,0")
        self.assertEqual(sorted(done.stdout.split()), ["a.png", "b.png", "c.png"])

    def test_one_card_that_fails_fails_the_command(self):
        done = self.generate("x", "--seed", "1,2", "--backend", "cpu", "--devices", "0,1", "-o",
                             "out/", code=2)
        self.assertIn("the cpu backend has no card", done.stderr)
        self.assertEqual(len(list(self.folder.glob("out/*.png"))), 1)

    def test_what_cannot_be_divided(self):
        self.refused("generate", "x", "--devices", "0,1", says="--seed a list")
        self.refused("generate", "x", "--devices", "0,1", "--seed", "1,2", "--device", "1", "-o",
                     "out/", says="exclude each other")
        self.refused("generate", "x", "--devices", "0,1", "--seed", "1,2", "--trace",
                     "t.safetensors", "-o", "out/", says="one file for all")
        self.refused("generate", "x", "--devices", "0,x", says="--devices")

    def test_arithmetic_of_the_cpu_decides_the_picture(self):
        """8-bit products and plain convolutions draw other pictures, and a replay knows it."""
        plain = ["x", "--seed", "1", "--dtype", "f32"]
        self.generate(*plain, "-o", "plain.png")
        self.generate(*plain, "--int8", "-o", "int8.png")
        self.assertNotEqual(self.read("plain.png"), self.read("int8.png"))
        settings = self.recipe("int8.png")["settings"]
        self.assertIs(settings["int8"], True)
        self.assertNotIn("winograd", settings)
        self.styx("replay", "int8.png", "-o", "again.png")
        self.assertEqual(self.read("int8.png"), self.read("again.png"))
        self.generate(*plain, "--winograd", "off", "-o", "off.png")
        self.assertEqual(self.recipe("off.png")["settings"]["winograd"], "off")

    def test_arithmetic_of_the_cpu_on_other_backends(self):
        self.refused("generate", "x", "--backend", "ref", "--int8", says="no 8-bit integers")
        self.refused("generate", "x", "--backend", "ref", "--winograd", "off",
                     says="no choice of convolutions")
        self.refused("generate", "x", "--int8", says="no 8-bit integers",
                     environment={"STYX_BACKEND": "ref"})

    def recipe(self, name):
        return json.loads(self.styx("log", name, "--json").stdout)[0]["recipe"]

    def test_values_that_are_none(self):
        for words in (["--device", "-1"], ["--device", "x"], ["--offload", "disk"],
                      ["--max-vram", "much"], ["--winograd", "on"]):
            self.refused("generate", "x", *words, says=words[0])


if __name__ == "__main__":
    unittest.main()
