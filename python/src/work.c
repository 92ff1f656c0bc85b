/* work.c - see struct work in core.h. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { POLL_MS = 50 }; /* how long Ctrl-C may go unseen */

/* What the two threads tell each other; everything under the mutex. */
struct exchange {
    pthread_mutex_t mutex;
    pthread_cond_t to_python, to_engine;
    int done, code;
    styx_error err;
    int (*call)(void *payload); /* the engine waits for this */
    void *payload;
    int answer;
};

struct held_exception {
    PyObject *type, *value, *traceback;
};

int work_call(struct work *work, int (*call)(void *payload), void *payload)
{
    struct exchange *x = work->exchange;
    pthread_mutex_lock(&x->mutex);
    x->payload = payload;
    x->call = call;
    pthread_cond_signal(&x->to_python);
    while (x->call)
        pthread_cond_wait(&x->to_engine, &x->mutex);
    int answer = x->answer;
    pthread_mutex_unlock(&x->mutex);
    return answer;
}

static void *engine_thread(void *user)
{
    struct work *work = user;
    struct exchange *x = work->exchange;
    int code = work->run(work->args, &x->err);
    pthread_mutex_lock(&x->mutex);
    x->code = code;
    x->done = 1;
    pthread_cond_signal(&x->to_python);
    pthread_mutex_unlock(&x->mutex);
    return NULL;
}

/* Without the GIL, until the engine wants something or the time is up. */
static void wait_a_moment(struct exchange *x)
{
    struct timespec until;
    PyThreadState *python = PyEval_SaveThread();
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += POLL_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&x->mutex);
    while (!x->done && !x->call)
        if (pthread_cond_timedwait(&x->to_python, &x->mutex, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&x->mutex);
    PyEval_RestoreThread(python);
}

static void keep_exception(struct held_exception *e)
{
    if (!e->type)
        PyErr_Fetch(&e->type, &e->value, &e->traceback);
    else
        PyErr_Clear();
}

/* Runs the pending callback, if there is one; after an exception all are refused. */
static void serve(struct exchange *x, struct held_exception *e)
{
    pthread_mutex_lock(&x->mutex);
    int (*call)(void *) = x->call;
    void *payload = x->payload;
    pthread_mutex_unlock(&x->mutex);
    if (!call)
        return;
    int answer = e->type ? -1 : call(payload);
    if (PyErr_Occurred()) {
        keep_exception(e);
        answer = -1;
    }
    pthread_mutex_lock(&x->mutex);
    x->answer = answer;
    x->call = NULL;
    pthread_cond_signal(&x->to_engine);
    pthread_mutex_unlock(&x->mutex);
}

static int is_done(struct exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    int done = x->done;
    pthread_mutex_unlock(&x->mutex);
    return done;
}

/* Signals are for the thread that Python knows. */
static int start(struct work *work, pthread_t *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, engine_thread, work);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void supervise(struct work *work, struct held_exception *e)
{
    struct exchange *x = work->exchange;
    while (!is_done(x)) {
        wait_a_moment(x);
        serve(x, e);
        if (PyErr_CheckSignals() < 0)
            keep_exception(e);
        if (e->type) /* again and again: the first may come before the engine has begun */
            styx_cancel(work->session);
    }
}

int work_do(PyObject *module, struct work *work)
{
    struct exchange x = { .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .to_engine = PTHREAD_COND_INITIALIZER };
    struct held_exception e = { 0 };
    pthread_condattr_t monotonic;
    pthread_t thread;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&x.to_python, &monotonic);
    pthread_condattr_destroy(&monotonic);
    work->exchange = &x;
    if (start(work, &thread) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "the system refuses another thread");
        return -1;
    }
    supervise(work, &e);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&x.to_python);
    if (e.type) {
        PyErr_Restore(e.type, e.value, e.traceback);
        return -1;
    }
    if (x.code) {
        raise_error(module, &x.err);
        return -1;
    }
    return 0;
}
