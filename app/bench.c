/* bench.c - styx bench: how fast the published models would draw here. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "command.h"
#include "say.h"
#include "small.h"
#include "studio.h"

static const char *const networks[] = { "text_encoder", "text_encoder_2", "unet", "vae.decode" };
enum { NETWORKS = sizeof networks / sizeof *networks };

static const struct published {
    const char *name;
    bool has[NETWORKS];
} all[] = { /* the smallest first, so that each finds the memory's peak its own */
            { "sd15", { true, false, true, true } },
            { "refiner", { false, true, true, true } },
            { "sdxl", { true, true, true, true } }
};
enum { MODELS = sizeof all / sizeof *all };

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double mib(double bytes)
{
    return bytes / 1048576;
}

/* "472.0 GFLOP/s  96.1 %", the share only where the peak is known. */
static void print_speed(double gflop, double seconds, double peak)
{
    printf("%8.1f GFLOP/s", gflop / seconds);
    if (peak > 0)
        printf(" %6.1f %% of peak", 100 * gflop / seconds / peak);
}

static void print_kernel(const json_t *k, double peak, double run)
{
    double seconds = number(k, "seconds"), gflop = number(k, "gflop");
    int count = (int)number(k, "count");
    printf("  %-54s x%-3d %9.3f ms %5.1f %%", text_at(k, "kernel"), count, seconds / count * 1e3,
           100 * seconds / run);
    if (gflop > 0)
        print_speed(gflop, seconds, peak);
    putchar('\n');
}

static void print_network(const json_t *info)
{
    double seconds = number(info, "seconds"), peak = number(info, "peak_gflops");
    const json_t *kernel;
    size_t i;
    printf("%s %s on %s: %s, %d x %d, %d row%s\n", text_at(info, "model"), text_at(info, "network"),
           text_at(info, "device"), text_at(info, "dtype"), (int)number(info, "width"),
           (int)number(info, "height"), (int)number(info, "rows"),
           number(info, "rows") > 1 ? "s" : "");
    printf("  load %.3f s, run %.3f s, %.1f GFLOP,", number(info, "load_seconds"), seconds,
           number(info, "gflop"));
    print_speed(number(info, "gflop"), seconds, peak);
    if (peak > 0)
        printf(" (%.0f GFLOP/s)", peak);
    printf("\n  weights %.1f MiB, arena %.1f MiB, scratch %.1f MiB\n",
           mib(number(info, "weights_bytes")), mib(number(info, "arena_bytes")),
           mib(number(info, "workspace_bytes")));
    if (number(info, "compiled") > 0)
        printf("  kernels compiled at run time so far: %.0f\n", number(info, "compiled"));
    json_array_foreach(json_object_get(info, "kernels"), i, kernel)
        print_kernel(kernel, peak, seconds);
    fflush(stdout);
}

static double peak_memory(void) /* of this process, so far, in bytes */
{
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) == 0 ? (double)use.ru_maxrss * 1024 : 0;
}

/* The sum of what was measured: nothing is drawn. Each text is encoded twice, with and without. */
static void print_picture(const struct options *o, const char *model, json_t *const *info)
{
    int steps = o->steps ? o->steps : 50, width = 0, height = 0;
    double load = 0, text = 0, step = 0, decode = 0;
    for (int i = 0; i < NETWORKS; i++) {
        double seconds = number(info[i], "seconds");
        load += number(info[i], "load_seconds");
        if (i < 2)
            text += 2 * seconds;
        else if (i == 2)
            step = seconds;
        else
            decode = seconds;
        if (info[i]) {
            width = (int)number(info[i], "width");
            height = (int)number(info[i], "height");
        }
    }
    double all_seconds = load + text + steps * step + decode;
    if (o->json)
        printf("{\"model\": \"%s\", \"width\": %d, \"height\": %d, \"steps\": %d, "
               "\"picture_seconds\": %.3f, \"resident_bytes\": %.0f}\n",
               model, width, height, steps, all_seconds, peak_memory());
    else
        printf("%s picture, %d x %d: %.2f s to load + %.2f s of text + %d x %.3f s + %.2f s to "
               "decode = %.1f s; %.1f MiB of memory at the peak\n\n",
               model, width, height, load, text, steps, step, decode, all_seconds,
               mib(peak_memory()));
}

static int measure(const struct studio *studio, const struct options *o, const char *model,
                   const char *network, json_t **info)
{
    struct styx_bench_options b = STYX_BENCH_OPTIONS_INIT;
    char *text = NULL;
    styx_error err;
    bool vae = strncmp(network, "vae", 3) == 0;
    b.model = model;
    b.network = network;
    b.dtype = (enum styx_dtype)(vae && flag_is_set(o, "vae-dtype") ? o->vae_dtype : o->dtype);
    b.width = o->size.a;
    b.height = o->size.b;
    b.runs = o->runs;
    if (styx_bench(studio->session, &b, &text, &err))
        return complain_of(&err);
    *info = json_loads(text, 0, NULL);
    if (*info && o->json)
        puts(text);
    else if (*info)
        print_network(*info);
    fflush(stdout);
    styx_text_free(text);
    return *info ? 0 : complain_memory();
}

static int bench_model(const struct studio *studio, const struct options *o,
                       const struct published *model)
{
    json_t *info[NETWORKS] = { NULL };
    int rc = 0;
    for (int i = 0; i < NETWORKS && rc == 0; i++)
        if (model->has[i] && (!o->network || strcmp(o->network, networks[i]) == 0))
            rc = measure(studio, o, model->name, networks[i], &info[i]);
    if (rc == 0 && !o->network)
        print_picture(o, model->name, info);
    for (int i = 0; i < NETWORKS; i++)
        json_decref(info[i]);
    return rc;
}

static int check_network(const char *name)
{
    for (int i = 0; name && i < NETWORKS; i++)
        if (strcmp(name, networks[i]) == 0)
            return 0;
    if (!name)
        return 0;
    return complain(EXIT_USAGE,
                    "--network is '%.60s'; want text_encoder, text_encoder_2, unet or vae.decode",
                    name);
}

int run_bench(struct options *o)
{
    struct studio studio = { 0 };
    const struct published *only = NULL;
    for (int i = 0; o->subject && i < MODELS; i++)
        if (strcmp(o->subject, all[i].name) == 0)
            only = &all[i];
    if (o->subject && !only)
        return complain(EXIT_USAGE, "'%.60s' is no model to measure; want sd15, refiner or sdxl",
                        o->subject);
    int rc = check_network(o->network);
    if (rc == 0)
        rc = studio_begin(&studio, o);
    for (int i = 0; i < MODELS && rc == 0; i++)
        if (!only || only == &all[i])
            rc = bench_model(&studio, o, &all[i]);
    if (studio.session)
        studio_end(&studio);
    return rc;
}
