/* split.c - see split.h. Processes, not threads: each has its own session and its own errors, and
 * nothing of the command must be shared between them. CUDA is first touched after the fork. */
#include "split.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"

enum { MOST = 16 };

static volatile pid_t children[MOST];
static volatile sig_atomic_t count;

static void pass_on(int number)
{
    for (int i = 0; i < count; i++)
        if (children[i] > 0)
            kill(children[i], number);
}

int split_check(const struct options *o)
{
    if (o->devices.count > MOST)
        return complain(EXIT_USAGE, "--devices: %zu cards, want at most %d", o->devices.count,
                        MOST);
    for (size_t i = 0; i < o->devices.count; i++)
        if (o->devices.values[i] > 1000)
            return complain(EXIT_USAGE, "--devices: there is no card of such a number");
    if (o->devices.count && flag_is_set(o, "device"))
        return complain(EXIT_USAGE, "--device and --devices exclude each other");
    if (o->devices.count > 1 && !o->prompts && o->seeds.count < 2)
        return complain(EXIT_USAGE, "--devices divides pictures with seeds of their own: give "
                                    "--seed a list, or --prompts");
    if (o->devices.count > 1 && (o->save_latents || o->trace))
        return complain(EXIT_USAGE, "--devices and --%s exclude each other: it is one file for all",
                        o->trace ? "trace" : "save-latents");
    return 0;
}

/* The exit code of a child; one that crashed has failed. */
static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILED;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return complain(EXIT_FAILED, "the process of one card ended with signal %d", WTERMSIG(status));
}

static void wait_for_all(struct split *s)
{
    struct sigaction action = { .sa_handler = pass_on };
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL); /* they get it too */
    for (int i = 0; i < count; i++) {
        int rc = wait_for(children[i]);
        s->rc = rc ? rc : s->rc;
        children[i] = 0;
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

struct split split_begin(struct options *o, size_t items)
{
    struct split s = { .processes = 1 };
    const char *const *names = flag_find("backend")->words;
    if (!o->devices.count)
        return s;
    if (strcmp(names[o->backend], "auto") == 0)
        for (o->backend = 0; strcmp(names[o->backend], "cuda") != 0;)
            o->backend++;
    s.processes = (int)(o->devices.count < items ? o->devices.count : items);
    o->device = (int)o->devices.values[0];
    if (s.processes == 1)
        return s;
    fflush(NULL);
    for (int i = 0; i < s.processes; i++) {
        pid_t child = fork();
        if (child == 0) {
            s.number = i;
            o->device = (int)o->devices.values[i];
            o->quiet = o->quiet || i > 0; /* one bar of progress */
            return s;
        }
        if (child < 0) {
            s.rc = complain(EXIT_FAILED, "no process for card %d: %s", i, strerror(errno));
            break;
        }
        children[count++] = child;
    }
    s.parent = true;
    wait_for_all(&s);
    return s;
}

void split_seeds(const struct split *s, struct options *o)
{
    size_t n = 0;
    if (s->processes < 2)
        return;
    for (size_t i = (size_t)s->number; i < o->seeds.count; i += (size_t)s->processes)
        o->seeds.values[n++] = o->seeds.values[i];
    o->seeds.count = n;
    o->count = (int)n;
}
