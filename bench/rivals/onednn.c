/* onednn.c - the shapes of the kernel gym in oneDNN (version 3, its C API).
 *
 *   bench_kernels f32 > styx.txt && OMP_NUM_THREADS=2 onednn < styx.txt
 *
 * Every shape that bench_kernels names is run with the same type, and printed with both times and
 * oneDNN's over Styx's. oneDNN chooses algorithm and layouts, and reorders are not counted; nor are
 * the upsampling and GEGLU's gate, which Styx does within the same time. Attention is a product, a
 * softmax in place and a product. */
#include <dnnl.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if DNNL_VERSION_MAJOR < 3
#error "onednn.c is written for oneDNN 3"
#endif

enum { MOST_ARGS = 4, MOST_PRIMITIVES = 3, MOST_MEMORIES = 8 };

struct primitive {
    dnnl_primitive_t p;
    dnnl_exec_arg_t args[MOST_ARGS];
    int nargs;
};

/* What one line is: some primitives, and the memory that they work on. */
struct work {
    struct primitive step[MOST_PRIMITIVES];
    dnnl_memory_t memory[MOST_MEMORIES];
    int steps, memories;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static dnnl_data_type_t type;
static double wall_total, cpu_total;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return;
    fprintf(stderr, "onednn: %s failed: status %d\n", what, (int)status);
    exit(1);
}

/* ---- memory ---- */

static dnnl_memory_desc_t describe(int dims, const dnnl_dims_t shape, dnnl_data_type_t t,
                                   dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    must(dnnl_memory_desc_create_with_tag(&md, dims, shape, t, tag), "describing a tensor");
    return md;
}

static float random_number(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

/* bfloat16 is the upper half of a float32; both are filled with numbers within 1. */
static dnnl_memory_t allocate(struct work *w, const_dnnl_memory_desc_t md)
{
    dnnl_memory_t m;
    dnnl_data_type_t t;
    void *data;
    must(dnnl_memory_create(&m, md, engine, DNNL_MEMORY_ALLOCATE), "allocating a tensor");
    must(dnnl_memory_get_data_handle(m, &data), "finding a tensor's data");
    must(dnnl_memory_desc_query(md, dnnl_query_data_type, &t), "asking for a tensor's type");
    size_t bytes = dnnl_memory_desc_get_size(md), size = t == dnnl_f32 ? 4 : 2;
    for (size_t i = 0; i < bytes / size; i++) {
        float x = random_number();
        memcpy((char *)data + i * size, (char *)&x + 4 - size, size);
    }
    w->memory[w->memories++] = m;
    return m;
}

/* Adds a primitive whose arguments lie where it wants them. A source or a target that another one
 * shares with it is given. */
static dnnl_memory_t add(struct work *w, dnnl_primitive_desc_t pd, const int *args, int n,
                         dnnl_memory_t source, dnnl_memory_t target)
{
    struct primitive *s = &w->step[w->steps++];
    dnnl_memory_t m = NULL;
    must(dnnl_primitive_create(&s->p, pd), "creating a primitive");
    for (int i = 0; i < n; i++) {
        m = args[i] == DNNL_ARG_SRC ? source : args[i] == DNNL_ARG_DST ? target : NULL;
        if (!m)
            m = allocate(w, dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, args[i]));
        s->args[s->nargs++] = (dnnl_exec_arg_t){ args[i], m };
    }
    dnnl_primitive_desc_destroy(pd);
    return m;
}

static void release(struct work *w)
{
    for (int i = 0; i < w->steps; i++)
        dnnl_primitive_destroy(w->step[i].p);
    for (int i = 0; i < w->memories; i++)
        dnnl_memory_destroy(w->memory[i]);
}

/* ---- the three kinds of shape ---- */

static const int product_args[] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST };
static const int scores_args[] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST };
static const int softmax_args[] = { DNNL_ARG_SRC, DNNL_ARG_DST };

static void make_conv(struct work *w, int n, int size, int cin, int cout)
{
    dnnl_memory_desc_t src =
        describe(4, (dnnl_dims_t){ n, cin, size, size }, type, dnnl_format_tag_any);
    dnnl_memory_desc_t weights =
        describe(4, (dnnl_dims_t){ cout, cin, 3, 3 }, type, dnnl_format_tag_any);
    dnnl_memory_desc_t bias = describe(1, (dnnl_dims_t){ cout }, dnnl_f32, dnnl_a);
    dnnl_memory_desc_t dst =
        describe(4, (dnnl_dims_t){ n, cout, size, size }, type, dnnl_format_tag_any);
    const dnnl_dims_t one = { 1, 1 }, none = { 0, 0 };
    dnnl_primitive_desc_t pd;
    must(dnnl_convolution_forward_primitive_desc_create(&pd, engine, dnnl_forward_inference,
                                                        dnnl_convolution_auto, src, weights, bias,
                                                        dst, one, none, one, one, NULL),
         "describing a convolution");
    add(w, pd, product_args, 4, NULL, NULL);
    dnnl_memory_desc_destroy(src);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(bias);
    dnnl_memory_desc_destroy(dst);
}

static dnnl_primitive_desc_t product(int dims, const dnnl_dims_t a, const dnnl_dims_t b,
                                     const dnnl_dims_t c, const dnnl_format_tag_t tag[3],
                                     const_dnnl_memory_desc_t bias)
{
    dnnl_memory_desc_t src = describe(dims, a, type, tag[0]);
    dnnl_memory_desc_t weights = describe(dims, b, type, tag[1]);
    dnnl_memory_desc_t dst = describe(dims, c, type, tag[2]);
    dnnl_primitive_desc_t pd;
    must(dnnl_matmul_primitive_desc_create(&pd, engine, src, weights, bias, dst, NULL),
         "describing a product");
    dnnl_memory_desc_destroy(src);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(dst);
    return pd;
}

static void make_linear(struct work *w, int rows, int cin, int cout)
{
    static const dnnl_format_tag_t any[3] = { dnnl_format_tag_any, dnnl_format_tag_any,
                                              dnnl_format_tag_any };
    dnnl_memory_desc_t bias = describe(2, (dnnl_dims_t){ 1, cout }, dnnl_f32, dnnl_ab);
    dnnl_primitive_desc_t pd = product(2, (dnnl_dims_t){ rows, cin }, (dnnl_dims_t){ cin, cout },
                                       (dnnl_dims_t){ rows, cout }, any, bias);
    add(w, pd, product_args, 4, NULL, NULL);
    dnnl_memory_desc_destroy(bias);
}

static void make_attention(struct work *w, int heads, int d, int queries, int keys)
{
    static const dnnl_format_tag_t turned[3] = { dnnl_abc, dnnl_acb, dnnl_abc };
    static const dnnl_format_tag_t plain[3] = { dnnl_abc, dnnl_abc, dnnl_abc };
    const dnnl_dims_t out = { heads, queries, d }, table = { heads, queries, keys };
    dnnl_primitive_desc_t pd =
        product(3, out, (dnnl_dims_t){ heads, d, keys }, table, turned, NULL);
    dnnl_memory_t scores = add(w, pd, scores_args, 3, NULL, NULL);
    dnnl_memory_desc_t md = describe(3, table, type, dnnl_abc);
    must(dnnl_softmax_forward_primitive_desc_create(&pd, engine, dnnl_forward_inference,
                                                    dnnl_softmax_accurate, md, md, 2, NULL),
         "describing a softmax");
    dnnl_memory_desc_destroy(md);
    add(w, pd, softmax_args, 2, scores, scores);
    pd = product(3, table, (dnnl_dims_t){ heads, keys, d }, out, plain, NULL);
    add(w, pd, scores_args, 3, scores, NULL);
}

/* Whether the line names a shape. */
static bool make(struct work *w, const char *line)
{
    int a, b, c, d, e;
    if (sscanf(line, "conv 3x3 %d -> %d @ %dx%d, batch %d", &a, &b, &c, &d, &e) == 5)
        make_conv(w, e, c, a, b);
    else if (sscanf(line, "conv 3x3 2x up %d -> %d @ %dx%d, batch %d", &a, &b, &c, &d, &e) == 5)
        make_conv(w, e, 2 * c, a, b);
    else if (sscanf(line, "linear [%d x %d] [%d x %d]", &a, &b, &c, &d) == 4)
        make_linear(w, a, b, d);
    else if (sscanf(line, "attention %d x %d heads of %d, %d x %d", &a, &b, &c, &d, &e) == 5)
        make_attention(w, a * b, c, d, e);
    else
        return false;
    return true;
}

/* ---- timing ---- */

static void execute(struct work *w)
{
    for (int i = 0; i < w->steps; i++)
        must(dnnl_primitive_execute(w->step[i].p, stream, w->step[i].nargs, w->step[i].args),
             "running a primitive");
    must(dnnl_stream_wait(stream), "waiting for a primitive");
}

/* The best of as many runs as bench_kernels takes. */
static double best_time(struct work *w)
{
    double best = 1e30;
    execute(w);
    double begin = seconds(CLOCK_MONOTONIC), busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < 60 && (i < 3 || seconds(CLOCK_MONOTONIC) - begin < 0.5); i++) {
        double t = seconds(CLOCK_MONOTONIC);
        execute(w);
        t = seconds(CLOCK_MONOTONIC) - t;
        best = t < best ? t : best;
    }
    wall_total += seconds(CLOCK_MONOTONIC) - begin;
    cpu_total += seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    return best;
}

struct sum {
    const char *kind;
    double logs, least;
    int n, ahead;
};

static void count(struct sum *sums, int n, const char *line, double ratio)
{
    for (int i = 0; i < n; i++) {
        if (strncmp(line, sums[i].kind, strlen(sums[i].kind)))
            continue;
        sums[i].logs += log(ratio);
        sums[i].least = sums[i].n == 0 || ratio < sums[i].least ? ratio : sums[i].least;
        sums[i].ahead += ratio > 1;
        sums[i].n++;
    }
}

int main(void)
{
    static struct sum sums[] = { { .kind = "conv" },
                                 { .kind = "linear" },
                                 { .kind = "attention" } };
    enum { KINDS = sizeof sums / sizeof *sums };
    const char *threads = getenv("OMP_NUM_THREADS");
    char line[256];
    if (!threads) {
        fprintf(stderr, "onednn: set OMP_NUM_THREADS, so that both have as many threads\n");
        return 2;
    }
    must(dnnl_engine_create(&engine, dnnl_cpu, 0), "opening the CPU");
    must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "opening a stream");
    type = dnnl_f32;
    while (fgets(line, sizeof line, stdin)) {
        struct work w = { 0 };
        double ms = 0;
        if (strncmp(line, "BF16,", 5) == 0)
            type = dnnl_bf16;
        if (strlen(line) < 45 || sscanf(line + 44, "%lf ms", &ms) != 1 || !make(&w, line))
            continue;
        double own = best_time(&w) * 1e3;
        printf("%.44s %9.3f ms, Styx %9.3f ms: %5.2f\n", line, own, ms, own / ms);
        fflush(stdout);
        count(sums, KINDS, line, own / ms);
        release(&w);
    }
    const dnnl_version_t *v = dnnl_version();
    for (int i = 0; i < KINDS; i++)
        if (sums[i].n)
            printf("%s: oneDNN takes %.2f times as long (geometric mean; least %.2f); Styx is "
                   "ahead in %d of %d\n",
                   sums[i].kind, exp(sums[i].logs / sums[i].n), sums[i].least, sums[i].ahead,
                   sums[i].n);
    printf("oneDNN %d.%d.%d, %s, %s threads, %.0f %% of the CPU\n", v->major, v->minor, v->patch,
           type == dnnl_f32 ? "f32" : "bf16", threads,
           100 * cpu_total / (wall_total * atoi(threads)));
    return 0;
}
