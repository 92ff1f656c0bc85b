/* main.c - `styx COMMAND ...`: finds the command, parses its flags, runs it. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "say.h"

/* clang-format off */
const struct command commands[] = {
    { "generate", GENERATE, { "prompt" }, 0, "PROMPT", "draw a picture of what the prompt says",
      "The picture carries its recipe: 'styx generate --from PICTURE' takes the settings out of it "
      "again, 'styx replay PICTURE' draws it again byte for byte.\n"
      "Ctrl-C stops within one instruction and leaves no half file.",
      run_generate },
    { "edit", EDIT, { "picture", "prompt" }, 1, "PICTURE PROMPT",
      "draw over a picture what the prompt says",
      "A picture larger than the model's own is scaled down to its area first, with its aspect "
      "kept, unless --full-size is given. With --mask only the white part is repainted, and the "
      "rest stays bit for bit as it was.",
      run_edit },
    { "run", RUN, { "subject" }, 1, "RECIPE.json", "run a recipe of several steps",
      "A recipe names models, which may share components, and steps, which draw or edit and may "
      "start from each other's pictures; docs/formats.md describes it.",
      run_recipe },
    { "log", LOG, { "picture" }, 1, "PICTURE", "print how a picture came to be",
      "Follows the pictures that it was made from back to the first.", run_log },
    { "replay", REPLAY, { "picture" }, 1, "PICTURE", "draw a picture again from its recipe",
      "The same build, backend, instruction set and dtype give the same bytes; where they differ, "
      "it says so. Exit code 0 only if the bytes are equal, or if -o takes the new picture.",
      run_replay },
    { "explain", EXPLAIN, { NULL }, 0, "", "say what a request would do, without doing it",
      "Prints every program with its operations and the peak of memory, without reading a weight.",
      run_explain },
    { "tokenize", TOKENIZE, { "subject" }, 1, "TEXT", "print the token ids of a text",
      "And what does not fit into the model's 77 tokens.", run_tokenize },
    { "schedule", SCHEDULE, { NULL }, 0, "", "print a scheduler's timesteps and sigmas",
      "Of a model's scheduler, or of a scheduler_config.json.", run_schedule },
    { "info", INFO, { "subject" }, 1, "PATH", "describe a model, a weights file or a picture", "",
      run_info },
    { "pull", PULL, { "subject", "target" }, 1, "MODEL|list|rm|verify", "fetch a model",
      "MODEL is ORG/NAME or ORG/NAME@REVISION of a Hugging Face hub, civitai:VERSION, or a URL. A "
      "hub's models go into the cache that Python's packages use, and --model ORG/NAME finds them "
      "there. Only what a pipeline needs is fetched, never pickles; sizes and hashes are checked; "
      "what was cut off goes on where it stopped. Of a file that is here already, 'styx pull FILE "
      "--sha256 HASH' checks the hash.\n"
      "'styx pull list' tells what is in the cache, 'styx pull rm ORG/NAME' removes a model, 'styx "
      "pull verify ORG/NAME' hashes its files again.\n"
      "Environment: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, CIVITAI_TOKEN.",
      run_pull },
    { "convert", CONVERT, { "subject", "target" }, 2, "IN OUT",
      "write a model in another layout or type",
      "IN is a folder in the diffusers layout, a single checkpoint file, or any file of weights. "
      "OUT "
      "becomes a single file if it ends in .safetensors or .gguf, else a folder in the diffusers "
      "layout.\n"
      "Python pickles (.ckpt, .pt, .bin) can run any program when Python opens them, so they are "
      "refused. With --allow-pickle they are read without running anything.",
      run_convert },
    { "devices", DEVICES, { NULL }, 0, "", "list what there is to compute on",
      "The CPU and the CUDA cards, with the versions of the driver and the libraries, or why they "
      "cannot be used.",
      run_devices },
    { "bench", BENCH, { "subject" }, 0, "[sd15|sdxl|refiner]",
      "measure how fast this machine draws",
      "Runs the networks of SD 1.5, the SDXL refiner and SDXL, or of one of them, on random "
      "weights: no model need be there. Prints every kernel with its speed and its share of what "
      "the CPU's multiply-adds reach by themselves, the times of a step and of a picture, and the "
      "peak of memory. Leave the machine alone meanwhile.",
      run_bench },
    { "help", HELP, { "subject" }, 0, "[COMMAND]", "explain a command", "", run_help },
    { 0 },
};
/* clang-format on */

static const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    complain(EXIT_USAGE, "there is no command '%.60s'; 'styx help' lists them", name);
    return NULL;
}

int run_help(struct options *o)
{
    const struct flag *print = flag_find("print");
    if (flag_is_set(o, "print")) {
        if (strcmp(print->words[o->print], "man") == 0)
            help_manual();
        else
            help_completion(print->words[o->print]);
        return EXIT_OK;
    }
    const struct command *c = o->subject ? command_find(o->subject) : NULL;
    if (o->subject && !c)
        return EXIT_USAGE;
    if (c)
        help_command(c);
    else
        help_overview();
    return EXIT_OK;
}

static int run(const struct command *c, int argc, char **argv)
{
    struct options o;
    bool help;
    options_init(&o);
    int rc = args_parse(c, argc, argv, &o, &help);
    if (rc == 0 && help)
        help_command(c);
    else if (rc == 0) {
        say_quiet(o.quiet);
        rc = c->run(&o);
    }
    options_free(&o);
    /* A full disk or a closed pipe behind stdout is found here at the latest. */
    if (fflush(stdout) != 0 && rc == 0)
        rc = complain(EXIT_FAILED, "standard output: cannot be written");
    return rc;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        printf("styx %s\n", styx_version());
        return EXIT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        help_overview();
        return EXIT_OK;
    }
    const struct command *c = command_find(word);
    return c ? run(c, argc > 1 ? argc - 1 : 1, argc > 1 ? argv + 1 : argv) : EXIT_USAGE;
}
