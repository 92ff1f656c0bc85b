/* kernels.c - the kernel gym: how near the CPU backend comes to what the CPU can do.
 *
 *   bench_kernels [f32|bf16] [conv|linear|attention]
 *                                     every shape that makes a percent of a network's work
 *   bench_kernels sd15|sdxl|refiner|vae512|vae1024 [f32|bf16] [runs] [600M]
 *                                     a whole network on random weights, time by operation;
 *                                     600M: weights in that much memory, the rest streamed
 *
 * Each line gives the best of several runs and its share of the peak, measured again for each
 * block of lines. STYX_THREADS and STYX_ISA are heeded, STYX_INT8=1 multiplies 8-bit numbers, and
 * STYX_WINOGRAD=off leaves Winograd's algorithm out. */
#include "cpu/cpu.h"
#include "network.h"
#include "tape/kinds.h"

#include <time.h>

/* One thread is timed by the CPU's clock, so that other processes do not show; several by the
 * wall's. */
static clockid_t ticking = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(ticking, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the process: what other programs took is the rest. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- programs on random weights ---- */

struct program {
    struct cpu *dev;
    tape *t;
    void *loaded, *plan;
    struct run_args args;
    struct weights weights;
};

/* Of a planned tape. */
static void start(struct program *p, struct cpu *dev, tape *t, size_t budget)
{
    styx_error err = { 0 };
    double from = now();
    *p = (struct program){ .dev = dev, .t = t };
    struct weights w = random_weights(t);
    double made = now();
    must(backend_cpu.load(dev, t, &w, budget, &p->loaded, &err), &err);
    double loaded = now();
    must(backend_cpu.prepare(dev, t, p->loaded, &p->plan, &err), &err);
    random_inputs(t, &p->args);
    must(backend_cpu.run(p->plan, &p->args, &err), &err);
    if (t->ncode > 8)
        printf("weights %.3f s, pack %.3f s, prepare and first run %.3f s\n", made - from,
               loaded - made, now() - loaded);
    p->weights = w;
}

static void stop(struct program *p)
{
    backend_cpu.release(p->plan);
    backend_cpu.unload(p->dev, p->loaded);
    random_free(p->t, &p->weights, &p->args);
    tape_free(p->t);
}

static double time_step(struct plan *p, const struct step *s, int runs)
{
    double best = 1e30, t, begin = now();
    for (int i = 0; i < runs && (i < 3 || now() - begin < 0.5); i++) {
        t = now();
        s->run(p, s);
        t = now() - t;
        best = t < best ? t : best;
    }
    return best;
}

/* ---- single shapes ---- */

static void report(struct cpu *dev, tape *t, const char *name, double peak)
{
    struct program p;
    styx_error err = { 0 };
    must(tape_plan(t, &err), &err);
    start(&p, dev, t, 0);
    struct plan *plan = p.plan;
    const struct step *s = &plan->step[t->ncode - 1];
    double best = time_step(plan, s, 60), flops = instr_flops(s->i);
    printf("%-44s %9.3f ms %7.1f GFLOP/s %5.1f %%\n", name, best * 1e3, flops / best * 1e-9,
           100 * flops / best / peak);
    fflush(stdout);
    stop(&p);
}

static void bench_conv(struct cpu *dev, enum dtype type, double peak, int n, int size, int cin,
                       int cout, int up)
{
    char name[64];
    tape *t = tape_new("conv", type);
    tensor *x = input(t, "x", n, size, size, cin, type, false);
    output(t, conv2d(t, up ? upsample(t, x, 2 * size, 2 * size) : x, "conv", cout, 3, 1));
    tape_fuse(t);
    tape_prune(t);
    x->halo = !up;
    snprintf(name, sizeof name, "conv 3x3%s %d -> %d @ %dx%d, batch %d", up ? " 2x up" : "", cin,
             cout, size, size, n);
    report(dev, t, name, peak);
}

static void bench_linear(struct cpu *dev, enum dtype type, double peak, int rows, int cin, int cout,
                         enum act a)
{
    char name[64];
    tape *t = tape_new("linear", type);
    tensor *x = input(t, "x", 1, 1, rows, cin, type, false), *y = linear(t, x, "linear", cout);
    output(t, a == ACT_GEGLU ? geglu(t, y) : y);
    tape_fuse(t);
    tape_prune(t);
    snprintf(name, sizeof name, "linear [%d x %d] [%d x %d]%s", rows, cin, cin, cout,
             a == ACT_GEGLU ? " geglu" : "");
    report(dev, t, name, peak);
}

static void bench_attention(struct cpu *dev, enum dtype type, double peak, int n, int heads, int tq,
                            int tk, int d)
{
    char name[64];
    tape *t = tape_new("attention", type);
    tensor *q = input(t, "q", n, 1, tq, heads * d, type, false);
    tensor *k = input(t, "k", n, 1, tk, heads * d, type, false);
    output(t, attention(t, q, k, k, heads, false));
    snprintf(name, sizeof name, "attention %d x %d heads of %d, %d x %d", n, heads, d, tq, tk);
    report(dev, t, name, peak);
}

static bool wanted(const char *kind, const char *name)
{
    return !kind || strcmp(kind, name) == 0;
}

static void bench_shapes(struct cpu *dev, enum dtype type, const char *kind)
{
    /* batch, size, in, out, upsampled */
    static const int convs[][5] = {
        { 2, 64, 320, 320 },    { 2, 64, 640, 320 },      { 2, 64, 960, 320 },
        { 2, 32, 640, 640 },    { 2, 32, 1280, 640 },     { 2, 16, 1280, 1280 },
        { 2, 16, 2560, 1280 },  { 2, 8, 1280, 1280 },     { 2, 8, 2560, 1280 },
        { 2, 32, 640, 640, 1 }, { 2, 16, 1280, 1280, 1 }, { 2, 128, 320, 320 },
        { 1, 64, 512, 512 },    { 1, 256, 256, 256 },     { 1, 512, 128, 128 },
        { 1, 512, 256, 128 },   { 1, 256, 256, 256, 1 },  { 1, 512, 128, 3 },
        { 2, 64, 4, 320 },
    };
    static const int linears[][4] = {
        { 8192, 320, 320 },
        { 8192, 320, 2560, ACT_GEGLU },
        { 8192, 1280, 320 },
        { 2048, 640, 640 },
        { 2048, 640, 5120, ACT_GEGLU },
        { 2048, 2560, 640 },
        { 512, 1280, 1280 },
        { 512, 1280, 10240, ACT_GEGLU },
        { 512, 5120, 1280 },
        { 128, 1280, 1280 },
        { 2048, 1280, 1280 },
        { 2048, 1280, 10240, ACT_GEGLU },
        { 2048, 5120, 1280 },
        { 8192, 640, 640 },
        { 8192, 960, 320 },
        { 154, 768, 320 },
        { 2, 1280, 1280 },
        { 512, 6144, 1536 },
    };
    static const int attentions[][5] = {
        { 2, 8, 4096, 4096, 40 },  { 2, 8, 1024, 1024, 80 },  { 2, 8, 256, 256, 160 },
        { 2, 10, 4096, 4096, 64 }, { 2, 20, 1024, 1024, 64 }, { 1, 1, 4096, 4096, 512 },
        { 2, 8, 4096, 77, 40 },    { 2, 20, 1024, 77, 64 },
    };
    double peak = cpu_peak(dev, type);
    printf("%s, peak %.0f GFLOP/s\n", dtype_name(type), peak * 1e-9);
    for (size_t i = 0; wanted(kind, "conv") && i < sizeof convs / sizeof *convs; i++)
        bench_conv(dev, type, peak, convs[i][0], convs[i][1], convs[i][2], convs[i][3],
                   convs[i][4]);
    peak = cpu_peak(dev, type);
    printf("peak %.0f GFLOP/s\n", peak * 1e-9);
    for (size_t i = 0; wanted(kind, "linear") && i < sizeof linears / sizeof *linears; i++)
        bench_linear(dev, type, peak, linears[i][0], linears[i][1], linears[i][2],
                     (enum act)linears[i][3]);
    peak = cpu_peak(dev, type);
    printf("peak %.0f GFLOP/s\n", peak * 1e-9);
    for (size_t i = 0; wanted(kind, "attention") && i < sizeof attentions / sizeof *attentions; i++)
        bench_attention(dev, type, peak, attentions[i][0], attentions[i][1], attentions[i][2],
                        attentions[i][3], attentions[i][4]);
}

/* ---- whole networks ---- */

/* The steps of a program one after the other, the best of some runs for each of them. */
static void profile(struct plan *p, int runs, double peak)
{
    const tape *t = p->t;
    double *best = malloc((size_t)t->ncode * sizeof *best), least = 1e30, flops = 0, share = 0;
    int threads = pool_threads(p->dev->pool);
    struct kind *kinds = calloc((size_t)t->ncode + 1, sizeof *kinds);
    styx_error err = { 0 };
    for (int r = 0; r < runs; r++) {
        double begin = now(), busy = cpu_seconds();
        for (int i = t->once; i < t->ncode; i++) {
            double from = now();
            if (p->step[i].packed && p->step[i].packed->streamed)
                must(pack_stream(p->weights, p->step[i].packed, &err), &err);
            p->step[i].run(p, &p->step[i]);
            from = now() - from;
            best[i] = r == 0 || from < best[i] ? from : best[i];
        }
        begin = now() - begin;
        if (begin < least) {
            least = begin;
            share = (cpu_seconds() - busy) / (begin * threads);
        }
    }
    int n = tape_kinds(t, best, kinds);
    for (int j = 0; j < n; j++) {
        const struct kind *k = &kinds[j];
        flops += k->flops;
        printf("%-54s x%-3d %9.2f ms %5.1f %% of the run %6.1f GFLOP/s %5.1f %% of peak\n", k->name,
               k->count, k->seconds * 1e3, 100 * k->seconds / least, k->flops / k->seconds * 1e-9,
               100 * k->flops / k->seconds / peak);
    }
    printf("run %.3f s with %.0f %% of the CPU, %.0f GFLOP, %.1f %% of peak %.0f; arena %.1f MB, "
           "workspace %.1f MB\n",
           least, 100 * share, flops * 1e-9, 100 * flops / least / peak, peak * 1e-9,
           (double)p->arena_bytes * 1e-6,
           (double)(p->shared_bytes + p->thread_bytes * (size_t)threads) * 1e-6);
    free(best);
    free(kinds);
}

int main(int argc, char **argv)
{
    const char *net = NULL, *threads = getenv("STYX_THREADS"), *winograd = getenv("STYX_WINOGRAD");
    int runs = 3;
    size_t budget = 0;
    enum dtype type = DT_BF16;
    void *dev = NULL;
    styx_error err = { 0 };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "f32") == 0)
            type = DT_F32;
        else if (strcmp(argv[i], "bf16") == 0)
            type = DT_BF16;
        else if (atoi(argv[i]) > 0 && strchr(argv[i], 'M'))
            budget = (size_t)atoi(argv[i]) << 20;
        else if (atoi(argv[i]) > 0)
            runs = atoi(argv[i]);
        else
            net = argv[i];
    }
    struct device_options options = { .threads = threads ? atoi(threads) : 0,
                                      .int8 = getenv("STYX_INT8") != NULL,
                                      .direct = winograd && strcmp(winograd, "off") == 0 };
    must(backend_cpu.open(&options, &dev, &err), &err);
    char text[80];
    backend_cpu.describe(dev, text, sizeof text);
    printf("%s\n", text);
    if (options.threads == 1)
        ticking = CLOCK_PROCESS_CPUTIME_ID;
    if (wanted(net, "conv") || wanted(net, "linear") || wanted(net, "attention")) {
        bench_shapes(dev, type, net);
    } else {
        struct program p;
        struct net n;
        if (!find_net(net, &n)) {
            fprintf(stderr,
                    "bench_kernels: %s is neither sd15, sdxl, refiner, vae512 nor vae1024\n", net);
            return 1;
        }
        start(&p, dev, record_net(&n, type, &backend_cpu), budget);
        profile(p.plan, runs, cpu_peak(dev, type));
        stop(&p);
    }
    backend_cpu.close(dev);
    return 0;
}
