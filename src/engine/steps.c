/* steps.c - which timesteps a request runs: the whole schedule, its end (strength, denoising_start)
 * or its beginning (denoising_end). */
#include "engine/job.h"
#include <math.h>

/* diffusers ignores a denoising_start or _end that is not strictly inside (0, 1). */
static bool inside(double x)
{
    return x > 0 && x < 1;
}

/* The training timestep where the noise of fraction f ends; Python's round is half to even. */
static double cutoff(const struct job *j, double f)
{
    double n = scheduler_num_train_timesteps(j->scheduler);
    return nearbyint(n - f * n);
}

static int set_timesteps(struct job *j, styx_error *err)
{
    const struct styx_request *r = &j->r;
    struct schedule_request custom = { r->timesteps, (int)r->timestep_count, r->sigmas,
                                       (int)r->sigma_count };
    bool given = r->timestep_count || r->sigma_count;
    int code = scheduler_set_timesteps(j->scheduler, r->steps, given ? &custom : NULL, err);
    if (code)
        return code;
    j->timesteps = scheduler_timesteps(j->scheduler, &j->ntimesteps);
    j->ticks = r->timestep_count || r->sigma_count ? j->ntimesteps : r->steps;
    return 0;
}

static void skip(struct job *j, int n)
{
    scheduler_set_begin_index(j->scheduler, n);
    j->timesteps += n;
    j->ntimesteps -= n;
}

/* A strength of s runs the last int(N s) steps; the product is truncated as IEEE doubles do. Of
 * PLMS, which has a call more than steps, that one is left when they are 0; inpainting refuses. */
static int by_strength(struct job *j, styx_error *err)
{
    int n = j->ticks, run = (int)((double)n * j->r.strength);
    int start = n - (run < n ? run : n);
    j->ticks = n - start;
    if ((j->ticks < 1 && j->task == TASK_INPAINT) ||
        start * scheduler_order(j->scheduler) >= j->ntimesteps)
        return fail(err, STYX_ERR_INVALID,
                    "strength %g of %d steps leaves none to run; at least 1/%d is wanted",
                    j->r.strength, n, n);
    skip(j, start * scheduler_order(j->scheduler));
    return 0;
}

static void by_start(struct job *j)
{
    int n = 0;
    for (int i = 0; i < j->ntimesteps; i++)
        n += j->timesteps[i] < cutoff(j, j->r.denoising_start);
    if (scheduler_order(j->scheduler) == 2 && n % 2 == 0)
        n++;
    n = n < j->ntimesteps ? n : j->ntimesteps;
    j->ticks = n;
    skip(j, j->ntimesteps - n);
}

static void by_end(struct job *j)
{
    int n = 0;
    for (int i = 0; i < j->ntimesteps; i++)
        n += j->timesteps[i] >= cutoff(j, j->r.denoising_end);
    j->ticks = n;
    j->ntimesteps = n;
}

static int make_scheduler(struct job *j, styx_error *err)
{
    const styx_component *c = j->m->part[SLOT_SCHEDULER];
    int code;
    if (j->r.scheduler)
        return scheduler_clone(j->r.scheduler->s, &j->scheduler, err);
    if (!c)
        return fail(err, STYX_ERR_INVALID, "%s has no scheduler; one must be given", j->m->path);
    code = scheduler_new(NULL, c->config, &j->scheduler, err);
    if (!code && !j->xl)
        code = scheduler_fix_for_sd(j->scheduler, err);
    return code;
}

int job_schedule(struct job *j, styx_error *err)
{
    double start = j->r.denoising_start, end = j->r.denoising_end;
    bool slice = j->xl; /* SD pipelines have neither */
    int code;
    if (!slice && (!isnan(start) || !isnan(end)))
        return fail(err, STYX_ERR_INVALID,
                    "denoising_start and denoising_end are for SDXL; %s is not", j->m->path);
    if (j->task != TASK_TEXT && inside(start) && inside(end) && start >= end)
        return fail(err, STYX_ERR_INVALID, "denoising_start %g is not before denoising_end %g",
                    start, end);
    if ((code = make_scheduler(j, err)) || (code = set_timesteps(j, err)))
        return code;
    j->noisy = isnan(start);
    if (j->task != TASK_TEXT) {
        if (inside(start))
            by_start(j);
        else if ((code = by_strength(j, err)))
            return code;
    }
    if (inside(end))
        by_end(j);
    if (j->ntimesteps < 1)
        return fail(err, STYX_ERR_INVALID,
                    "no steps are left between denoising_start %g and denoising_end %g of %d",
                    start, end, j->r.steps);
    job_trace(j, "unet.timesteps", 1, &j->ntimesteps, (float *)j->timesteps);
    return 0;
}
