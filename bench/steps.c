/* steps.c - one whole step of a published network on random weights, on any backend: how long it
 * takes to start, and then every time.
 *
 *   bench_steps sd15|sdxl|refiner|vae [OPTION...]
 *     cpu, cuda                backend (cuda)
 *     f32, bf16, f16           type (f16 on cuda, bf16 on the CPU)
 *     rows=2                   pictures twice with guidance; the decoder takes one
 *     size=512                 pixels a side; 512, 1024 for sdxl
 *     runs=50                  steps that are timed
 *     offload=model, stream    where a card's weights wait
 *     fp8                      8-bit floats in the layers that bear them
 *     budget=BYTES             of weights on the device at a time; the rest is streamed
 *     device=N                 which card
 *     profile                  the time by kind of instruction, too, from runs of their own
 *
 * The last line is JSON. Times are of the wall's clock and include what passes between host and
 * card; of the steps the median counts. */
#include "base/clock.h"
#include "network.h"
#include "tape/kinds.h"

#include <math.h>

struct bench {
    struct net net;
    int runs;
    size_t budget;
    bool profile;
    enum dtype type;
    const struct backend *be;
    void *dev;
    tape *t;
};

static double flops_of(const tape *t)
{
    double sum = 0;
    for (int i = t->once; i < t->ncode; i++)
        sum += instr_flops(&t->code[i]);
    return sum;
}

/* ---- running it ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* A network whose numbers are none is no measure of anything. */
static void check_finite(const struct bench *b, const struct run_args *args)
{
    for (int i = 0; i < b->t->nout; i++)
        for (size_t j = 0; j < tensor_count(b->t->out[i]); j++)
            if (!isfinite(args->out[i][j])) {
                fprintf(stderr, "bench_steps: %s gives %g at %zu\n", b->net.name,
                        (double)args->out[i][j], j);
                exit(1);
            }
}

/* The best of some runs for each instruction. */
static void print_profile(const struct bench *b, void *plan, struct run_args *args)
{
    size_t n = (size_t)b->t->ncode + 1;
    double *now = calloc(n, sizeof *now), *best = calloc(n, sizeof *best), all = 0;
    struct kind *kinds = calloc(n, sizeof *kinds);
    styx_error err = { 0 };
    args->seconds = now;
    for (int run = 0; run < b->runs; run++) {
        must(b->be->run(plan, args, &err), &err);
        for (int i = 0; i < b->t->ncode; i++)
            best[i] = run == 0 || now[i] < best[i] ? now[i] : best[i];
    }
    int count = tape_kinds(b->t, best, kinds);
    for (int i = 0; i < count; i++)
        all += kinds[i].seconds;
    printf("%s: %.3f ms in %d instructions, one by one\n", b->net.name, all * 1e3,
           b->t->ncode - b->t->once);
    for (int i = 0; i < count; i++)
        printf("%9.3f ms %3d x %8.1f us %8.2f TFLOP/s  %s\n", kinds[i].seconds * 1e3,
               kinds[i].count, kinds[i].seconds / kinds[i].count * 1e6,
               kinds[i].flops / kinds[i].seconds * 1e-12, kinds[i].name);
    args->seconds = NULL;
    free(kinds);
    free(best);
    free(now);
}

static void measure(const struct bench *b)
{
    double *seconds = malloc((size_t)b->runs * sizeof *seconds), load, prepare, first;
    struct weights w = random_weights(b->t);
    struct run_args args = { 0 };
    struct footprint need;
    void *loaded, *plan;
    styx_error err = { 0 };
    random_inputs(b->t, &args);
    for (int i = 0; i < b->t->nout; i++)
        args.out[i] = malloc(tensor_count(b->t->out[i]) * sizeof(float));
    b->be->measure(b->dev, b->t, b->budget, &need);
    load = clock_seconds();
    must(b->be->load(b->dev, b->t, &w, b->budget, &loaded, &err), &err);
    prepare = clock_seconds();
    must(b->be->prepare(b->dev, b->t, loaded, &plan, &err), &err);
    first = clock_seconds();
    must(b->be->run(plan, &args, &err), &err);
    double end = clock_seconds();
    args.again = true;
    for (int i = -3; i < b->runs; i++) {
        double from = clock_seconds();
        must(b->be->run(plan, &args, &err), &err);
        seconds[i < 0 ? 0 : i] = clock_seconds() - from;
    }
    check_finite(b, &args);
    if (b->profile)
        print_profile(b, plan, &args);
    qsort(seconds, (size_t)b->runs, sizeof *seconds, by_size);
    double median = seconds[b->runs / 2], flops = flops_of(b->t);
    printf("{\"network\": \"%s\", \"dtype\": \"%s\", \"rows\": %d, \"size\": %d, \"load_s\": %.3f, "
           "\"prepare_s\": %.3f, \"first_ms\": %.3f, \"median_ms\": %.3f, \"least_ms\": %.3f, "
           "\"most_ms\": %.3f, \"gflop\": %.1f, \"tflops\": %.2f, \"weights_mb\": %.1f, "
           "\"arena_mb\": %.1f, \"workspace_mb\": %.1f, \"compiled\": %d}\n",
           b->net.name, dtype_name(b->type), b->net.rows, b->net.size, prepare - load,
           first - prepare, (end - first) * 1e3, median * 1e3, seconds[0] * 1e3,
           seconds[b->runs - 1] * 1e3, flops * 1e-9, flops / median * 1e-12,
           (double)need.weights * 1e-6, (double)need.arena * 1e-6, (double)need.workspace * 1e-6,
           b->be->compiled ? b->be->compiled(b->dev) : 0);
    b->be->release(plan);
    b->be->unload(b->dev, loaded);
    for (int i = 0; i < b->t->nout; i++)
        free(args.out[i]);
    random_free(b->t, &w, &args);
    free(seconds);
}

/* ---- what was asked ---- */

static bool take_word(struct bench *b, const char *word)
{
    static const char *const types[] = { "f32", "bf16", "f16" };
    if (find_net(word, &b->net))
        return true;
    for (int i = 0; i < 3; i++)
        if (strcmp(word, types[i]) == 0) {
            b->type = (enum dtype)i;
            return true;
        }
    const struct backend *be = backend_find(word);
    bool profile = strcmp(word, "profile") == 0;
    b->be = be ? be : b->be;
    b->profile = b->profile || profile;
    return be || profile;
}

static bool take_number(struct bench *b, struct device_options *o, const char *word)
{
    unsigned long long n = 0;
    char key[16];
    if (strcmp(word, "offload=model") == 0 || strcmp(word, "offload=stream") == 0) {
        o->offload = strcmp(word, "offload=model") == 0 ? OFFLOAD_MODEL : OFFLOAD_STREAM;
        return true;
    }
    if (strcmp(word, "fp8") == 0) {
        o->fp8 = true;
        return true;
    }
    if (sscanf(word, "%15[a-z]=%llu", key, &n) != 2)
        return false;
    int *const to[] = { &b->net.rows, &b->net.size, &b->runs, &o->index, &o->threads };
    static const char *const keys[] = { "rows", "size", "runs", "device", "threads" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) {
            *to[i] = (int)n;
            return true;
        }
    b->budget = (size_t)n;
    return strcmp(key, "budget") == 0;
}

int main(int argc, char **argv)
{
    struct bench b = { .runs = 50, .type = DT_COUNT, .be = backend_find("cuda") };
    struct device_options o = { 0 };
    char text[128];
    styx_error err = { 0 };
    for (int i = 1; i < argc; i++)
        if (!take_word(&b, argv[i]) && !take_number(&b, &o, argv[i])) {
            fprintf(stderr,
                    "bench_steps: '%s' is none of its words; they stand at the top of its "
                    "source\n",
                    argv[i]);
            return 2;
        }
    if (!b.net.name || !b.be || b.runs < 1 || b.net.rows < 1 || b.net.size < 64) {
        fprintf(stderr, "bench_steps: sd15, sdxl, refiner or vae was wanted%s\n",
                b.be ? "" : ", and a backend: CUDA was not compiled in");
        return 2;
    }
    if (o.fp8 && (strcmp(b.be->name, "cuda") != 0 || b.type == DT_F32)) {
        fprintf(stderr, "bench_steps: fp8 belongs to cuda, and to f16 or bf16\n");
        return 2;
    }
    if (b.type == DT_COUNT)
        b.type = b.be->dtype[DT_F16] ? DT_F16 : DT_BF16;
    must(b.be->open(&o, &b.dev, &err), &err);
    b.be->describe(b.dev, text, sizeof text);
    printf("%s\n", text);
    b.t = record_net(&b.net, b.type, b.be);
    measure(&b);
    tape_free(b.t);
    b.be->close(b.dev);
    return 0;
}
