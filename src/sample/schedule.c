#include "sample/schedule.h"

#include <math.h>
#include <stdlib.h>

#include "base/json.h"

/* ---- noise levels ---- */

/* torch.linspace in float: from both ends towards the middle, rounded once. */
static float linspace_f32(float from, float to, int n, int i)
{
    float step = (to - from) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, from) : fmaf(-step, (float)(n - 1 - i), to);
}

/* Nichol and Dhariwal 2021, "Improved DDPM", eq. 17. */
static double squaredcos_level(double t)
{
    const double half_pi = 1.57079632679489661923;
    double root = cos((t + 0.008) / 1.008 * half_pi);
    return root * root;
}

/* Laplace-distributed log SNR (Hang and Gu 2024, "Improved Noise Schedule for Diffusion Training");
 * diffusers takes the square root of abar for abar. */
static double laplace_level(double t)
{
    double lambda = -0.5 * copysign(1, 0.5 - t) * log(1 - 2 * fabs(0.5 - t) + 1e-6);
    return sqrt(1 / (1 + exp(-lambda)));
}

static float level_beta(double (*level)(double), int i, int n)
{
    return (float)fmin(1 - level((double)(i + 1) / n) / level((double)i / n), 0.999);
}

static float beta_of(const struct knobs *k, int i)
{
    int n = k->num_train_timesteps;
    float from = (float)k->beta_start, to = (float)k->beta_end, root;
    switch (k->beta_schedule) {
    case BETA_LINEAR:
        return linspace_f32(from, to, n, i);
    case BETA_SCALED_LINEAR:
        root = linspace_f32((float)sqrt(k->beta_start), (float)sqrt(k->beta_end), n, i);
        return root * root;
    case BETA_SQUAREDCOS:
        return level_beta(squaredcos_level, i, n);
    case BETA_SIGMOID: /* Xu et al. 2022, "GeoDiff" */
        return 1 / (1 + expf(-linspace_f32(-6, 6, n, i))) * (float)(k->beta_end - k->beta_start) +
               from;
    case BETA_LAPLACE:
        break;
    }
    return level_beta(laplace_level, i, n);
}

static int trained_betas(const struct knobs *k, const char *class_name, float *beta,
                         styx_error *err)
{
    size_t n = json_array_size(k->trained_betas);
    if (n != (size_t)k->num_train_timesteps)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: 'trained_betas' must be a list of num_train_timesteps = %d numbers",
                    class_name, k->num_train_timesteps);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(k->trained_betas, i);
        beta[i] = (float)json_number_value(value);
        if (!json_is_number(value) || !(beta[i] >= 0 && beta[i] <= 1))
            return fail(err, STYX_ERR_FORMAT,
                        "%s: 'trained_betas'[%zu] is not a number from 0 to 1", class_name, i);
    }
    return STYX_OK;
}

static void cumulative_product(const float *beta, float *abar, int n)
{
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= 1.0f - beta[i];
        abar[i] = (float)product;
    }
}

/* Lin, Liu, Li and Yang 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed",
 * algorithm 1: shift and stretch sqrt(abar) so that the last one is 0. Through beta and back, since
 * that is what diffusers does and the detour rounds. */
static void rescale_to_zero_snr(float *beta, float *abar, int n)
{
    float first = sqrtf(abar[0]), last = sqrtf(abar[n - 1]), before = 1;
    for (int i = 0; i < n; i++) {
        float root = (sqrtf(abar[i]) - last) * (first / (first - last));
        float alpha = i == 0 ? root * root : root * root / before;
        before = root * root;
        beta[i] = 1 - alpha;
    }
    cumulative_product(beta, abar, n);
}

int schedule_alphas_cumprod(const struct knobs *k, const char *class_name, float *abar,
                            styx_error *err)
{
    int n = k->num_train_timesteps, rc = STYX_OK;
    float *beta = malloc((size_t)n * sizeof *beta);
    if (!beta)
        return fail_nomem(err, (size_t)n * sizeof *beta);
    if (k->trained_betas) {
        rc = trained_betas(k, class_name, beta, err);
        goto done;
    }
    for (int i = 0; i < n; i++)
        beta[i] = beta_of(k, i);
done:
    if (!rc) {
        cumulative_product(beta, abar, n);
        if (k->rescale_betas_zero_snr)
            rescale_to_zero_snr(beta, abar, n);
    }
    free(beta);
    return rc;
}

void schedule_sigma_table(const float *abar, int n, float *sigma, float *log_sigma)
{
    for (int i = 0; i < n; i++) {
        sigma[i] = sqrtf((1 - abar[i]) / abar[i]);
        log_sigma[i] = (float)log(sigma[i]);
    }
}

/* ---- timesteps ---- */

int schedule_capacity(int nsteps)
{
    return nsteps + 2;
}

/* numpy.arange(ntrain, 0, -ntrain / nsteps), rounded, less one. Its length and its step suffer the
 * same rounding as numpy's. */
static int trailing(int ntrain, int from, int nsteps, double *t)
{
    double ratio = (double)ntrain / nsteps;
    double step = ((double)from - ratio) - from;
    int count = (int)ceil(-(double)from / -ratio);
    if (count > schedule_capacity(nsteps))
        count = schedule_capacity(nsteps);
    for (int i = 0; i < count; i++)
        t[i] = rint(from + i * step) - 1;
    return count;
}

/* numpy.linspace(from, to, n)[i] */
static double linspace(double from, double to, int n, int i)
{
    if (n < 2)
        return from;
    return i == n - 1 ? to : i * ((to - from) / (n - 1)) + from;
}

int schedule_space(enum spacing spacing, int ntrain, int nsteps, int offset, bool whole, double *t)
{
    if (spacing == SPACING_TRAILING)
        return trailing(ntrain, ntrain, nsteps, t);
    for (int i = 0; i < nsteps; i++) {
        int up = nsteps - 1 - i;
        if (spacing == SPACING_LEADING)
            t[i] = (double)up * (ntrain / nsteps) + offset;
        else if (whole)
            t[i] = rint(linspace(0, ntrain - 1, nsteps, up));
        else
            t[i] = (float)linspace(0, ntrain - 1, nsteps, up);
    }
    return nsteps;
}

int schedule_space_solver(enum spacing spacing, int ntrain, int last, int nsteps, int offset,
                          double *t)
{
    if (spacing == SPACING_TRAILING)
        return trailing(ntrain, last, nsteps, t);
    for (int i = 0; i < nsteps; i++) {
        int up = nsteps - i;
        if (spacing == SPACING_LEADING)
            t[i] = (double)up * (last / (nsteps + 1)) + offset;
        else
            t[i] = rint(linspace(0, last - 1, nsteps + 1, up));
    }
    return nsteps;
}

/* ---- sigmas ---- */

double schedule_sigma_at(const float *sigma, int n, double t)
{
    if (t <= 0)
        return sigma[0];
    if (t >= n - 1)
        return sigma[n - 1];
    int low = (int)t;
    return ((double)sigma[low + 1] - sigma[low]) * (t - low) + sigma[low];
}

double schedule_t_of(const float *log_sigma, int n, double sigma)
{
    double wanted = log(fmax(sigma, 1e-10));
    int low = 0;
    while (low < n - 2 && wanted >= log_sigma[low + 1])
        low++;
    double w = ((double)log_sigma[low] - wanted) / ((double)log_sigma[low] - log_sigma[low + 1]);
    w = fmin(fmax(w, 0), 1);
    return (1 - w) * low + w * (low + 1);
}

/* The continued fraction of I_x(a, b) (DLMF 8.17.22), by Lentz's method; it converges fast for
 * x < (a + 1) / (a + b + 2), which the symmetry I_x(a, a) = 1 - I_{1-x}(a, a) can arrange. */
static double incomplete_beta(double a, double x)
{
    const double tiny = 1e-300;
    if (x > 0.5)
        return 1 - incomplete_beta(a, 1 - x);
    if (x <= 0)
        return 0;
    double c = 1, d = 1 / (1 - 2 * a * x / (a + 1)), fraction = d;
    for (int m = 1; m < 300; m++) {
        double even = m * (a - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (2 * a + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double before = fraction;
        d = 1 / fmax(1 + even * d, tiny);
        c = fmax(1 + even / c, tiny);
        fraction *= c * d;
        d = 1 / fmax(1 + odd * d, tiny);
        c = fmax(1 + odd / c, tiny);
        fraction *= c * d;
        if (fabs(fraction - before) <= 1e-16 * fraction)
            break;
    }
    double log_front = a * log(x) + a * log1p(-x) + lgamma(2 * a) - 2 * lgamma(a);
    return exp(log_front) * fraction / a;
}

/* The inverse of the regularised incomplete beta function I_x(a, a). */
static double beta_quantile(double a, double p)
{
    double low = 0, high = 1;
    if (p <= 0 || p >= 1)
        return p <= 0 ? 0 : 1;
    if (p > 0.5) /* near 1 the digits are in 1 - x */
        return 1 - beta_quantile(a, 1 - p);
    for (int i = 0; i < 1100 && low < high; i++) {
        double middle = low + (high - low) / 2;
        if (middle == low || middle == high)
            break;
        if (incomplete_beta(a, middle) < p)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}

/* Karras, Aittala, Aila and Laine 2022, eq. 5, with rho = 7. */
static double karras(double first, double last, double ramp)
{
    double max = pow(first, 1.0 / 7), min = pow(last, 1.0 / 7);
    return pow(max + ramp * (min - max), 7);
}

bool schedule_reshape(const struct knobs *k, double first, double last, double *sigma, int n)
{
    for (int i = 0; i < n; i++) {
        double ramp = linspace(0, 1, n, i);
        if (k->use_karras_sigmas)
            sigma[i] = karras(first, last, ramp);
        else if (k->use_lu_lambdas) /* even in lambda = -log sigma, of the float table (Lu 2022) */
            sigma[i] = exp(linspace((float)log(first), (float)log(last), n, i));
        else if (k->use_exponential_sigmas) /* even in log sigma */
            sigma[i] = exp(linspace(log(first), log(last), n, i));
        else if (k->use_beta_sigmas) /* Lee et al. 2024, "Beta Sampling is All You Need" */
            sigma[i] = last + (first - last) * beta_quantile(0.6, 1 - ramp);
        else
            return false;
    }
    return true;
}
