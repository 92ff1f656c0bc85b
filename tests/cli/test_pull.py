"""styx pull against a hub on the loopback that misbehaves: the cache is right, or untouched."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from command import SD, STYX, CommandTest
from hub_server import COMMIT, Hub, blob_name

try:
    import huggingface_hub
except ImportError:
    huggingface_hub = None

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


def repository():
    """tiny_sd15 as hubs hold models: fp16 and plain weights, pickles, and what nobody wants."""
    files = {}
    for path in sorted(pathlib.Path(SD).rglob("*")):
        if path.is_file():
            name, data = str(path.relative_to(SD)), path.read_bytes()
            files[name] = data
            if name.endswith(".safetensors"):
                files[name.replace(".safetensors", ".fp16.safetensors")] = data
                files[name.replace(".safetensors", ".bin")] = b"pickle"
                files[name.replace(".safetensors", ".non_ema.safetensors")] = b"other"
    files["README.md"] = b"# a model"
    files["v1-5.safetensors"] = b"everything in one"
    files["unet/flax_model.msgpack"] = b"flax"
    return files


class PullTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.hub = Hub(repository())
        self.addCleanup(self.hub.close)
        self.home = self.path("hf")
        self.store = self.home / "hub" / "models--some--model"

    def environment(self, **more):
        names = dict(HF_HOME=str(self.home), HF_ENDPOINT=self.hub.endpoint, HF_TOKEN="",
                     HF_HUB_CACHE="", HF_HUB_OFFLINE="", no_proxy="127.0.0.1,127.0.0.2",
                     CIVITAI_ENDPOINT=self.hub.endpoint)
        names.update(more)
        return names

    def pull(self, *words, code=0, **more):
        return self.styx("pull", *words, "--timeout", "2", code=code,
                         environment=self.environment(**more))

    def blobs(self):
        folder = self.store / "blobs"
        return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}

    def assert_right(self, *names):
        """Every blob is what its name says, and the snapshot holds the files."""
        for name, data in self.blobs().items():
            self.assertIn(name, (hashlib.sha256(data).hexdigest(), blob_name("", data)))
        for name in names:
            link = self.store / "snapshots" / COMMIT / name
            self.assertTrue(link.is_symlink(), name)
            self.assertFalse(os.path.isabs(os.readlink(link)))
            self.assertEqual(link.read_bytes(), self.hub.files[name])
        self.assertEqual((self.store / "refs" / "main").read_bytes(), COMMIT.encode())

    def assert_nothing(self):
        """Nothing that a reader of the cache would take for a model; no wrong blob."""
        self.assertFalse((self.store / "refs").exists())
        self.assertFalse((self.store / "snapshots").exists())
        for name, data in self.blobs().items():
            if not name.endswith(".incomplete"):
                self.assertIn(name, (hashlib.sha256(data).hexdigest(), blob_name("", data)))


class Good(PullTest):
    def test_what_a_pipeline_needs(self):
        done = self.pull("some/model")
        self.assertEqual(done.stdout.strip(), str(self.store / "snapshots" / COMMIT))
        snapshot = self.store / "snapshots" / COMMIT
        got = {str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_symlink()}
        self.assert_right(*got)
        self.assertIn(UNET, got)
        self.assertIn("tokenizer/vocab.json", got)
        self.assertIn("scheduler/scheduler_config.json", got)
        for name in got:
            self.assertTrue(name.endswith((".fp16.safetensors", ".json", ".txt")), name)
        self.hub.requests.clear()
        self.pull("some/model")
        self.assertFalse([r for r in self.hub.requests if "/api/" not in r[2]])

    def test_draws(self):
        where = self.environment()
        words = ["generate", "a castle", "--steps", "1", "--seed", "1", "-q"]
        done = self.styx(*words, "--model", "some/model", code=1, environment=where)
        self.assertIn("styx pull some/model", done.stderr)
        self.pull("some/model")
        self.styx(*words, "--model", "some/model", "-o", "a.png", environment=where)
        self.styx(*words, "--model", "some/model@main", "-o", "b.png", environment=where)
        self.styx("replay", "a.png", environment=where)

    def test_variant_and_only(self):
        self.pull("some/model", "--only", "unet,tokenizer", "--variant", "non_ema")
        snapshot = self.store / "snapshots" / COMMIT
        self.assertEqual(sorted(p.name for p in snapshot.iterdir()),
                         ["model_index.json", "tokenizer", "unet"])
        self.assert_right("unet/diffusion_pytorch_model.non_ema.safetensors")
        done = self.pull("some/model", "--variant", "fp8", "--only", "vae")
        self.assertIn("no variant fp8", done.stderr)
        self.assert_right("vae/diffusion_pytorch_model.safetensors")
        self.pull("some/model", "--only", "unet,engine", code=2)

    def test_pickles_are_never_fetched(self):
        for name in list(self.hub.files):
            if name.startswith("unet/") and name.endswith(".safetensors"):
                del self.hub.files[name]
        self.assertIn("safetensors", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def test_shards(self):
        for name in list(self.hub.files):
            if name.startswith("unet/") and "fp16" in name:
                del self.hub.files[name]
        names = ["unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
                 "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
                 "unet/diffusion_pytorch_model.safetensors.index.fp16.json"]
        self.hub.files.update({name: name.encode() for name in names})
        self.pull("some/model", "--only", "unet")
        self.assert_right(*names)
        self.assertEqual(len(list((self.store / "snapshots" / COMMIT / "unet").iterdir())), 4)

    def test_without_a_tree(self):
        self.hub.tree = False
        self.pull("some/model")
        self.assert_right(UNET, "unet/config.json")

    def test_dry_run_and_json(self):
        plan = json.loads(self.pull("some/model", "--dry-run", "--json").stdout)
        self.assertTrue(plan["dry_run"])
        self.assert_nothing()
        real = json.loads(self.pull("some/model", "--json").stdout)
        self.assertEqual([f["path"] for f in real["files"]], [f["path"] for f in plan["files"]])
        self.assertEqual(real["commit"], COMMIT)
        for file in real["files"]:
            self.assertEqual(file["size"], len(self.hub.files[file["path"]]))

    def test_token_stays_with_its_host(self):
        self.pull("some/model", HF_TOKEN="secret")
        seen = {(r[0], r[3]) for r in self.hub.requests}
        self.assertEqual(seen, {("hub", "Bearer secret"), ("cdn", None)})

    def test_list_rm_verify(self):
        self.pull("some/model")
        listed = json.loads(self.pull("list", "--json").stdout)
        self.assertEqual([(m["id"], m["revisions"]) for m in listed],
                         [("some/model", {"main": COMMIT})])
        self.assertIn("some/model", self.pull("list").stdout)
        self.pull("verify", "some/model")
        blob = self.store / "blobs" / blob_name(UNET, self.hub.files[UNET])
        blob.write_bytes(bytes(blob.stat().st_size))
        self.assertIn("another hash", self.pull("verify", "some/model", code=1).stderr)
        self.pull("verify", "some/model", "--force", code=1)
        self.assertFalse(blob.exists())
        self.pull("some/model")
        self.assert_right(UNET)
        self.pull("rm", "some/model")
        self.assertFalse(self.store.exists())
        self.pull("rm", "some/model", code=1)

    def test_offline(self):
        self.assertIn("HF_HUB_OFFLINE", self.pull("some/model", code=1, HF_HUB_OFFLINE="1").stderr)
        self.pull("some/model")
        self.hub.requests.clear()
        self.pull("some/model", HF_HUB_OFFLINE="1")
        self.assertEqual(self.hub.requests, [])

    def test_retired_id(self):
        self.hub.repository = "stable-diffusion-v1-5/stable-diffusion-v1-5"
        done = self.pull("runwayml/stable-diffusion-v1-5", "--only", "tokenizer")
        self.assertIn("successor", done.stderr)
        self.styx("tokenize", "a castle", "--model", "runwayml/stable-diffusion-v1-5",
                  environment=self.environment(), code=1)  # only its tokenizer is here

    def test_a_file_from_anywhere(self):
        data = self.hub.files[UNET]
        url, right = f"{self.hub.endpoint}/direct/{UNET}", hashlib.sha256(data).hexdigest()
        self.assertEqual(self.pull(url, "--sha256", right.upper()).stdout.strip(),
                         UNET.split("/")[1])
        self.assertEqual(self.read(UNET.split("/")[1]), data)
        self.pull(url, "--sha256", right, code=2)
        self.pull(url, "--sha256", "0" * 64, "-o", "wrong.safetensors", code=1)
        self.pull(url, "--sha256", "short", "-o", "wrong.safetensors", code=2)
        self.assertIn(right, self.pull(url, "-o", "b.safetensors").stderr)
        self.assertEqual(self.files(), ["b.safetensors", UNET.split("/")[1]])

    def test_a_folder_that_is_here(self):
        plan = json.loads(self.pull(SD, "--dry-run", "--json").stdout)
        self.assertEqual(self.files(), [])
        done = json.loads(self.pull(SD, "--json").stdout)
        self.assertEqual((done["id"], done["files"]), ("local/tiny_sd15", plan["files"]))
        snapshot = pathlib.Path(done["path"])
        for file in done["files"]:
            data = (snapshot / file["path"]).read_bytes()
            self.assertEqual(data, (pathlib.Path(SD) / file["path"]).read_bytes())
            self.assertEqual(file["hash"], hashlib.sha256(data).hexdigest())
            self.assertFalse(os.path.isabs(os.readlink(snapshot / file["path"])))
        again = json.loads(self.pull(SD, "--json").stdout)
        self.assertEqual((again["path"], again["bytes"]), (done["path"], 0))
        where = self.environment()
        self.styx("generate", "a castle", "--model", "local/tiny_sd15", "--steps", "1", "-o",
                  "a.png", environment=where)
        self.assertIn("are right", self.pull("verify", "local/tiny_sd15").stdout)
        self.pull(SD, "other", "--only", "unet")
        self.assertEqual([line.split()[0] for line in self.pull("list").stdout.splitlines()],
                         ["local/other", "local/tiny_sd15"])
        self.pull("rm", "local/tiny_sd15")
        self.pull("rm", "local/other")
        self.assertEqual(self.pull("list").stdout, "")
        self.assertTrue((pathlib.Path(SD) / "unet/diffusion_pytorch_model.safetensors").exists())
        self.assertFalse(self.hub.requests)

    def test_a_file_that_is_here(self):
        name = "my [first] model.safetensors"
        self.styx("convert", SD, name)
        right = hashlib.sha256(self.read(name)).hexdigest()
        self.pull(name, "--sha256", "0" * 64, code=1)
        self.assertEqual(self.files(), [name])
        snapshot = self.pull(name, "--sha256", right.upper()).stdout.strip()
        self.assertEqual((pathlib.Path(snapshot) / name).read_bytes(), self.read(name))
        words = ["generate", "a", "--steps", "1", "--seed", "1", "-q", "--model-config", SD]
        self.styx(*words, "--model", name, "-o", "a.png", environment=self.environment())
        self.path(name).unlink()  # the cache has its own link
        self.styx(*words, "--model", "local/my-first-model", "-o", "b.png",
                  environment=self.environment())
        self.assertIn("SD 1.x", self.styx("info", "local/my-first-model",
                                          environment=self.environment()).stdout)

    def test_copied_where_links_cannot_be(self):
        if os.stat("/dev/shm").st_dev == os.stat(SD).st_dev or not os.access("/dev/shm", os.W_OK):
            self.skipTest("there is no second file system")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            done = json.loads(self.pull(SD, "--json", HF_HOME=folder).stdout)
            for file in pathlib.Path(done["path"]).rglob("*.safetensors"):
                self.assertEqual(file.stat().st_nlink, 1)
            self.assertIn("all 12 files", self.pull("verify", "local/tiny_sd15",
                                                    HF_HOME=folder).stdout)

    def test_what_cannot_be_registered(self):
        self.path("a.txt").write_text("no model")
        self.path("bad.safetensors").write_bytes(b"no safetensors")
        self.path("empty").mkdir()
        shutil.copytree(SD, self.path("broken"))
        with open(self.path("broken") / "unet/diffusion_pytorch_model.safetensors", "r+b") as f:
            f.truncate(1000)
        there = self.files()
        for what, says in (("a.txt", "want a .safetensors"), ("bad.safetensors", "bad.safetensors"),
                           ("empty", "no model_index.json"), ("broken", "unet")):
            with self.subTest(what=what):
                self.assertIn(says, self.pull(what, code=1).stderr)
        for name in ("../x", "a/b", "a@b", "a b", ".", "a--b"):
            with self.subTest(name=name):
                self.pull(SD, name, code=2)
        self.pull(SD, "--sha256", "0" * 64, code=2)
        self.assertEqual(self.files(), there)

    def test_civitai(self):
        data = self.hub.files[UNET]
        self.hub.civitai = {"files": [
            {"name": "a.ckpt", "primary": True, "hashes": {"SHA256": "0" * 64}, "downloadUrl": "x"},
            {"name": "a b.safetensors", "downloadUrl": f"{self.hub.endpoint}/direct/{UNET}",
             "hashes": {"SHA256": hashlib.sha256(data).hexdigest().upper()}}]}
        done = self.pull("civitai:12", CIVITAI_TOKEN="mine")
        self.assertEqual(self.read(done.stdout.strip()), data)
        self.assertEqual({r[3] for r in self.hub.requests}, {"Bearer mine"})
        self.pull("civitai:twelve", code=2)

    @unittest.skipUnless(huggingface_hub, "huggingface_hub is not installed")
    def test_opens_with_huggingface_hub(self):
        self.pull("some/model")
        found = huggingface_hub.snapshot_download("some/model", local_files_only=True,
                                                  cache_dir=self.home / "hub")
        self.assertEqual(pathlib.Path(found).resolve(),
                         (self.store / "snapshots" / COMMIT).resolve())
        self.assertIsInstance(huggingface_hub.try_to_load_from_cache(
            "some/model", UNET, cache_dir=self.home / "hub"), str)
        here = self.pull(SD).stdout.strip()
        self.assertEqual(huggingface_hub.snapshot_download(
            "local/tiny_sd15", local_files_only=True, cache_dir=self.home / "hub"), here)

    @unittest.skipUnless(huggingface_hub, "huggingface_hub is not installed")
    def test_opens_what_huggingface_hub_wrote(self):
        huggingface_hub.snapshot_download("some/model", endpoint=self.hub.endpoint,
                                          cache_dir=self.home / "hub", token=False,
                                          allow_patterns=["*.json", "*.txt", "*fp16.safetensors"])
        self.assert_right(UNET)
        self.styx("generate", "a castle", "--model", "some/model", "--steps", "1",
                  environment=self.environment())
        self.hub.requests.clear()
        self.pull("some/model")
        self.assertFalse([r for r in self.hub.requests if "/api/" not in r[2]])


class Bad(PullTest):
    def setUp(self):
        super().setUp()
        random.seed(7)
        self.hub.files[UNET] = random.randbytes(300000)

    def test_cut_connections(self):
        self.hub.trouble[UNET] = {"cut_after": 40000, "cuts": 4, "chunk": 10000}
        self.pull("some/model")
        self.assert_right(UNET)
        ranges = self.hub.got(UNET)
        self.assertEqual(len(ranges), 5)
        self.assertTrue(all(r and r.startswith("bytes=") for r in ranges[1:]), ranges)

    def test_range_ignored(self):
        self.hub.trouble[UNET] = {"cut_after": 40000, "cuts": 2, "ignore_range": True}
        self.pull("some/model")
        self.assert_right(UNET)

    def test_range_lied_about(self):
        self.hub.trouble[UNET] = {"cut_after": 40000, "cuts": 1, "range_lie": 5}
        self.pull("some/model")
        self.assert_right(UNET)

    def test_length_lies(self):
        self.hub.trouble[UNET] = {"longer": True}
        self.assertIn("more than", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def test_wrong_bytes(self):
        self.hub.trouble[UNET] = {"wrong_bytes": True}
        done = self.pull("some/model", code=1)
        self.assertIn("hash", done.stderr)
        self.assertIn(UNET, done.stderr)
        self.assert_nothing()
        self.assertFalse([n for n in self.blobs() if blob_name(UNET, self.hub.files[UNET]) in n])
        self.hub.trouble.clear()
        self.pull("some/model")
        self.assert_right(UNET)

    def test_wrong_bytes_of_a_small_file(self):
        self.hub.trouble["unet/config.json"] = {"wrong_bytes": True}
        self.assertIn("hash", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def test_wrong_bytes_left_behind(self):
        blobs = self.store / "blobs"
        blobs.mkdir(parents=True)
        (blobs / (blob_name(UNET, self.hub.files[UNET]) + ".incomplete")).write_bytes(b"x" * 1000)
        self.pull("some/model")
        self.assert_right(UNET)

    def test_stalls(self):
        self.hub.trouble[UNET] = {"stall_after": 65536, "stalls": 1}
        self.pull("some/model")
        self.assert_right(UNET)

    def test_busy_then_fine(self):
        self.hub.refusals = [(f"/{UNET}", 500, {"times": 2}),
                             (f"/some/model/resolve/{COMMIT}/unet/config.json", 429,
                              {"times": 1, "Retry_After": "1"}),
                             ("/api/models", 503, {"times": 1})]
        self.pull("some/model")
        self.assert_right(UNET)

    def test_never_fine(self):
        self.hub.refusals = [("/api/models", 404, {"X_Error_Code": "RepoNotFound"})]
        self.assertIn("HF_TOKEN", self.pull("some/model", code=1).stderr)
        self.hub.refusals = [("/api/models", 401, {"X_Error_Code": "GatedRepo"})]
        self.assertIn("gated", self.pull("some/model", code=1).stderr)
        self.hub.refusals = [("/api/models", 403, {})]
        self.assertIn("gated", self.pull("some/model", code=1).stderr)
        self.hub.refusals = []
        self.assertIn("revision", self.pull("some/model@v2", code=1).stderr)
        self.hub.refusals = [(f"/{UNET}", 403, {})]
        self.assertIn("403", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def test_names_that_lead_out(self):
        self.hub.evil = ["../../evil.json", "/unet/evil.json", "unet/../../evil.json",
                         "unet/ev\nil.json"]
        self.pull("some/model")
        self.assertFalse(list(self.folder.rglob("*vil.json")))
        for name in "some/..", "../some", "a/b/c", "some/mo del", "some/model@../..", "a--b/c":
            with self.subTest(name=name):
                self.pull(name, code=2)

    def test_hash_that_is_no_name(self):
        self.hub.lies[UNET] = "../../../../evil"
        self.pull("some/model", code=1)
        self.assertFalse(list(self.folder.rglob("evil*")))
        self.assert_nothing()

    def test_no_room(self):
        self.hub.sizes[UNET] = 1 << 60
        self.assertIn("free", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def test_broken_list(self):
        self.hub.refusals = [("/api/models/some/model/tree", 200, {})]
        self.assertIn("JSON", self.pull("some/model", code=1).stderr)
        self.assert_nothing()

    def begin(self):
        return subprocess.Popen([STYX, "pull", "some/model", "-q"], cwd=self.folder,
                                env=dict(os.environ, **self.environment()),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kept(self):
        """Bytes of the file that is not complete yet."""
        part = self.store / "blobs" / (blob_name(UNET, self.hub.files[UNET]) + ".incomplete")
        return part.stat().st_size if part.exists() else 0

    def test_killed_and_resumed(self):
        data = self.hub.files[UNET] = random.randbytes(8000000)  # more than all kills let through
        self.hub.trouble[UNET] = {"chunk": 5000, "pause": 0.01}
        for _ in range(20):
            run = self.begin()
            time.sleep(random.uniform(0.05, 0.7))
            self.assertIsNone(run.poll())
            run.send_signal(signal.SIGKILL)
            run.wait()
            self.assert_nothing()
        before, run = self.kept(), self.begin()
        while self.kept() <= before:  # however long the machine takes
            self.assertIsNone(run.poll())
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        self.hub.trouble.clear()
        self.pull("some/model")
        self.assert_right(UNET)
        self.assertEqual((self.store / "snapshots" / COMMIT / UNET).read_bytes(), data)
        self.assertTrue(self.hub.got(UNET)[-1], "nothing was resumed")

    def test_two_at_once(self):
        self.hub.trouble[UNET] = {"chunk": 20000, "pause": 0.01}
        runs = [self.begin() for _ in range(3)]
        self.assertEqual([run.wait(60) for run in runs], [0, 0, 0])
        self.assert_right(UNET)
        self.assertEqual(len(self.hub.got(UNET)), 1)

    def test_interrupted(self):
        self.hub.trouble[UNET] = {"chunk": 5000, "pause": 0.05}
        run = subprocess.Popen([STYX, "pull", "some/model", "-q"], cwd=self.folder,
                               env=dict(os.environ, **self.environment()))
        time.sleep(0.6)
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(10), 130)
        self.assert_nothing()


def setUpModule():
    done = subprocess.run([STYX, "pull", "some/model"], capture_output=True, text=True,
                          env=dict(os.environ, HF_ENDPOINT="nothing://", HF_HOME="/nowhere"))
    if "without libcurl" in done.stderr:
        raise unittest.SkipTest("styx was built without libcurl")


if __name__ == "__main__":
    unittest.main()
