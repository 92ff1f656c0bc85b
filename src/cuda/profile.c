/* profile.c - events around every instruction, summed by shape. */
#include "cuda/profile.h"
#include <stdlib.h>

struct profile {
    const struct gpu *g;
    const tape *t;
    CUevent *begin, *end;
    bool *ran;
    double *ms;
    int runs;
};

static int make_events(struct profile *f, styx_error *err)
{
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < f->t->ncode && result == CUDA_SUCCESS; i++) {
        result = f->g->cu->cuEventCreate(&f->begin[i], CU_EVENT_DEFAULT);
        if (result == CUDA_SUCCESS)
            result = f->g->cu->cuEventCreate(&f->end[i], CU_EVENT_DEFAULT);
    }
    return gpu_check(f->g, result, "making events", err);
}

int profile_new(const struct gpu *g, const tape *t, struct profile **profile, styx_error *err)
{
    size_t n = (size_t)t->ncode + 1;
    if (!getenv("STYX_CUDA_PROFILE"))
        return STYX_OK;
    struct profile *f = calloc(1, sizeof *f);
    if (!f)
        return fail_nomem(err, sizeof *f);
    *profile = f;
    f->g = g;
    f->t = t;
    f->begin = calloc(n, sizeof *f->begin);
    f->end = calloc(n, sizeof *f->end);
    f->ran = calloc(n, sizeof *f->ran);
    f->ms = calloc(n, sizeof *f->ms);
    if (!f->begin || !f->end || !f->ran || !f->ms)
        return fail_nomem(err, n * sizeof *f->begin);
    return make_events(f, err);
}

void profile_begin(struct profile *f, int i)
{
    if (f)
        f->g->cu->cuEventRecord(f->begin[i], f->g->stream);
}

void profile_end(struct profile *f, int i)
{
    if (!f)
        return;
    f->g->cu->cuEventRecord(f->end[i], f->g->stream);
    f->ran[i] = true;
}

void profile_collect(struct profile *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->t->ncode; i++) {
        float ms = 0;
        if (f->ran[i] &&
            f->g->cu->cuEventElapsedTime(&ms, f->begin[i], f->end[i]) == CUDA_SUCCESS &&
            f->runs > 0) /* the first run loads kernels */
            f->ms[i] += ms;
        f->ran[i] = false;
    }
    f->runs++;
}

static bool alike(const instr *a, const instr *b)
{
    const tensor *x = a->in[0], *y = b->in[0];
    bool same = a->op == b->op && a->act == b->act && a->once == b->once && x->n == y->n &&
                x->h == y->h && x->w == y->w && x->c == y->c && a->out->c == b->out->c &&
                a->out->h == b->out->h && a->out->w == b->out->w;
    if (a->op == OP_CONV2D)
        same = same && a->u.conv.k == b->u.conv.k;
    if (a->op == OP_ATTENTION)
        same = same && tensor_count(a->in[1]) == tensor_count(b->in[1]);
    return same;
}

static void write_table(const struct profile *f, FILE *to)
{
    const tape *t = f->t;
    double all = 0, runs = f->runs > 1 ? f->runs - 1 : 1;
    bool *told = f->ran; /* all false by now */
    for (int i = 0; i < t->ncode; i++)
        all += f->ms[i] / runs;
    fprintf(to, "%s: %.3f ms a run in %d instructions, mean of %.0f\n", t->name, all, t->ncode,
            runs);
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        int count = 0;
        double ms = 0;
        for (int j = i; j < t->ncode && !told[i]; j++)
            if (!told[j] && alike(o, &t->code[j])) {
                ms += f->ms[j] / runs;
                count++;
                told[j] = j > i;
            }
        if (count)
            fprintf(to, "%8.3f ms %3d x %8.1f us %s%s %dx%dx%dx%d -> %dx%dx%d%s%s%s\n", ms, count,
                    1000 * ms / count, op_name(o->op), o->once ? " once" : "", o->in[0]->n,
                    o->in[0]->h, o->in[0]->w, o->in[0]->c, o->out->h, o->out->w, o->out->c,
                    o->act ? " " : "", act_name(o->act), o->residual ? " residual" : "");
    }
}

void profile_free(struct profile *f)
{
    if (!f)
        return;
    const char *path = getenv("STYX_CUDA_PROFILE");
    FILE *to = path && f->runs > 1 ? fopen(path, "a") : NULL;
    if (to) {
        write_table(f, to);
        fclose(to);
    }
    for (int i = 0; i < f->t->ncode; i++) {
        if (f->begin && f->begin[i])
            f->g->cu->cuEventDestroy(f->begin[i]);
        if (f->end && f->end[i])
            f->g->cu->cuEventDestroy(f->end[i]);
    }
    free(f->begin);
    free(f->end);
    free(f->ran);
    free(f->ms);
    free(f);
}
