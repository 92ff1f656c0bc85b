/* download.c - see download.h. */
#include "download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "digest.h"
#include "files.h"
#include "http.h"
#include "meter.h"
#include "options.h"
#include "say.h"

enum { TRIES = 6, WRONG = 2 }; /* without a byte of progress; with a wrong hash */

/* One file on its way. */
struct transfer {
    struct download *d;
    const struct download_options *o;
    struct http *http;
    struct digest digest;
    char *temp;
    int file, lock;
    uint64_t have; /* bytes of it, which are in digest too */
    enum { FINE, FROM_ELSEWHERE, TOO_LONG, DISK } trouble;
};

static int give_up(struct transfer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int give_up(struct transfer *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->d->why, sizeof t->d->why, fmt, args);
    va_end(args);
    return EXIT_FAILED;
}

bool wait_for(double seconds, const volatile int *cancel)
{
    for (; seconds > 0 && !*cancel; seconds -= 0.05)
        nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    return !*cancel;
}

double backoff(int n, long asked)
{
    double seconds = 0.25;
    while (--n > 0 && seconds < 8)
        seconds *= 2;
    return asked > seconds ? (double)(asked < 60 ? asked : 60) : seconds;
}

bool status_passes(long status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500;
}

static int start_again(struct transfer *t)
{
    t->have = 0;
    atomic_store(&t->d->done, 0);
    if (ftruncate(t->file, 0) != 0 || lseek(t->file, 0, SEEK_SET) != 0)
        return give_up(t, "%s: %s", t->temp, strerror(errno));
    uint64_t size = t->d->size < 0 ? 0 : (uint64_t)t->d->size;
    return digest_begin(&t->digest, t->d->digest, size);
}

/* Takes up what an earlier run left. */
static int resume(struct transfer *t)
{
    char *buffer = malloc(1 << 20);
    ssize_t got = 1;
    int rc = buffer
                 ? digest_begin(&t->digest, t->d->digest, t->d->size < 0 ? 0 : (uint64_t)t->d->size)
                 : give_up(t, "out of memory");
    while (rc == 0 && got > 0 && !*t->o->cancel) {
        got = read(t->file, buffer, 1 << 20);
        if (got > 0) {
            digest_add(&t->digest, buffer, (size_t)got);
            t->have += (uint64_t)got;
        }
    }
    free(buffer);
    if (rc == 0 && got < 0)
        rc = give_up(t, "%s: %s", t->temp, strerror(errno));
    if (rc == 0 && t->d->size >= 0 && t->have > (uint64_t)t->d->size)
        rc = start_again(t);
    /* without a hash nobody knows what those bytes are of */
    if (rc == 0 && t->digest.kind == DIGEST_NONE && t->have)
        rc = start_again(t);
    atomic_store(&t->d->begun, t->have);
    atomic_store(&t->d->done, t->have);
    return rc;
}

static int on_begin(void *user, long status, uint64_t from)
{
    struct transfer *t = user;
    if (status == 206 && from == t->have)
        return 0;
    if (status == 206 && from != 0) {
        t->trouble = FROM_ELSEWHERE;
        return 1;
    }
    return start_again(t); /* all of it, whatever was asked for */
}

static int on_bytes(void *user, const void *data, size_t bytes)
{
    struct transfer *t = user;
    if (t->d->size >= 0 && bytes > (uint64_t)t->d->size - t->have) {
        t->trouble = TOO_LONG;
        return 1;
    }
    for (size_t at = 0; at < bytes;) {
        ssize_t n = write(t->file, (const char *)data + at, bytes - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            give_up(t, "%s: %s", t->temp, strerror(errno));
            t->trouble = DISK;
            return 1;
        }
        at += (size_t)n;
    }
    digest_add(&t->digest, data, bytes);
    t->have += bytes;
    atomic_store(&t->d->done, t->have);
    return 0;
}

static bool complete(const struct transfer *t, const struct http_answer *a)
{
    if (t->d->size >= 0)
        return t->have == (uint64_t)t->d->size;
    return a && (a->status == 200 || a->status == 206);
}

/* One request. 0: ask again or be done; *idle counts what led nowhere. */
static int ask(struct transfer *t, int *idle, bool *done)
{
    struct http_request r = { .url = t->d->url,
                              .token = t->d->token,
                              .from = t->have,
                              .begin = on_begin,
                              .put = on_bytes,
                              .user = t };
    struct http_answer a;
    uint64_t before = t->have;
    t->trouble = FINE;
    enum http_result result = http_get(t->http, &r, &a);
    if (result == HTTP_CANCELLED)
        return EXIT_CANCELLED;
    if (result == HTTP_REFUSED)
        return give_up(t, "%s %s", t->d->label, a.why);
    if (t->trouble == DISK)
        return EXIT_FAILED;
    *done = result == HTTP_DONE && complete(t, &a);
    if (*done)
        return 0;
    if (result == HTTP_DONE && a.status >= 400 && a.status != 416 && !status_passes(a.status))
        return give_up(t, "%s: the server answers %ld%s%s", t->d->label, a.status,
                       *a.code ? ", " : "", a.code);
    if (t->trouble == FROM_ELSEWHERE || t->trouble == TOO_LONG ||
        (result == HTTP_DONE && a.status == 416)) {
        if (start_again(t))
            return EXIT_FAILED;
    }
    *idle = t->have > before ? 1 : *idle + 1;
    if (*idle > WRONG && t->trouble == TOO_LONG)
        return give_up(t, "%s: the server sends more than the %" PRId64 " bytes it announced",
                       t->d->label, t->d->size);
    if (*idle > TRIES && result == HTTP_DONE)
        return give_up(t, "%s: the server answers %ld again and again", t->d->label, a.status);
    if (*idle > TRIES)
        return give_up(t, "%s: %s", t->d->label, *a.why ? a.why : "the connection breaks");
    return wait_for(backoff(*idle, a.retry_after), t->o->cancel) ? 0 : EXIT_CANCELLED;
}

static int fetch(struct transfer *t)
{
    int idle = 0, wrong = 0, rc = resume(t);
    bool done = rc == 0 && t->d->size >= 0 && complete(t, NULL);
    while (rc == 0) {
        while (rc == 0 && !done)
            rc = *t->o->cancel ? EXIT_CANCELLED : ask(t, &idle, &done);
        if (rc || digest_matches(&t->digest, t->d->digest, t->d->hash))
            break;
        if (++wrong == WRONG) {
            unlink(t->temp);
            return give_up(t, "%s: its hash is %s, where %s was announced: it is thrown away",
                           t->d->label, t->d->hash, t->d->digest);
        }
        rc = start_again(t);
        done = false;
    }
    return rc;
}

/* Has the file been given another name while it was waited for? */
static bool moved(int file, const char *path)
{
    struct stat mine, there;
    return fstat(file, &mine) != 0 || stat(path, &there) != 0 || mine.st_ino != there.st_ino ||
           mine.st_dev != there.st_dev;
}

/* Opens a file and waits for other programs that fetch the same. */
static int lock(struct transfer *t, const char *path, int *file)
{
    int rc = files_make_folders(path);
    while (rc == 0) {
        *file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*file < 0)
            return give_up(t, "%s: %s", path, strerror(errno));
        while (rc == 0 && flock(*file, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK && errno != EINTR)
                return 0; /* a file system without locks: the hash has the last word */
            if (!wait_for(0.2, t->o->cancel))
                rc = EXIT_CANCELLED;
        }
        if (rc || !moved(*file, path))
            break;
        close(*file);
        *file = -1;
    }
    return rc;
}

static int finish(struct transfer *t)
{
    if (fsync(t->file) != 0 || rename(t->temp, t->d->path) != 0)
        return give_up(t, "%s: %s", t->d->path, strerror(errno));
    return 0;
}

static void download_one(struct download *d, const struct download_options *o)
{
    struct transfer t = { .d = d, .o = o, .file = -1, .lock = -1 };
    struct stat st;
    t.temp = text_format("%s.incomplete", d->path);
    t.http = http_new(o->stalled, o->cancel);
    d->rc = t.temp && (t.http || !http_available()) ? 0 : give_up(&t, "out of memory");
    if (d->rc == 0 && d->lock)
        d->rc = lock(&t, d->lock, &t.lock);
    if (d->rc == 0 && d->lock && stat(d->path, &st) == 0) { /* another program was faster */
        atomic_store(&d->done, (uint64_t)st.st_size);
        goto done;
    }
    if (d->rc == 0)
        d->rc = lock(&t, t.temp, &t.file);
    if (d->rc == 0)
        d->rc = fetch(&t);
    if (d->rc == 0)
        d->rc = finish(&t);
done:
    if (t.file >= 0)
        close(t.file);
    if (t.lock >= 0)
        close(t.lock);
    digest_free(&t.digest);
    http_free(t.http);
    free(t.temp);
}

/* ---- several at a time ---- */

struct pool {
    struct download *list;
    int n;
    const struct download_options *o;
    atomic_int next, finished, failed;
};

static void *work(void *user)
{
    struct pool *p = user;
    int i;
    while (!*p->o->cancel && !atomic_load(&p->failed) &&
           (i = atomic_fetch_add(&p->next, 1)) < p->n) {
        download_one(&p->list[i], p->o);
        if (p->list[i].rc)
            atomic_store(&p->failed, 1);
        atomic_fetch_add(&p->finished, 1);
    }
    return NULL;
}

int download_all(struct download *list, int n, const struct download_options *o)
{
    struct pool p = { .list = list, .n = n, .o = o };
    int threads = o->parallel < n ? o->parallel : n, started = 0;
    pthread_t *ids = calloc((size_t)threads + 1, sizeof *ids);
    if (!ids)
        return complain_memory();
    for (; started < threads; started++)
        if (pthread_create(&ids[started], NULL, work, &p) != 0)
            break;
    if (!started)
        work(&p); /* no thread to be had: then without */
    meter_begin(list, n);
    while (started && atomic_load(&p.finished) < n && !atomic_load(&p.failed) && !*o->cancel) {
        meter_show();
        nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    }
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    meter_end();
    free(ids);
    for (int i = 0; i < n; i++)
        if (list[i].rc && list[i].rc != EXIT_CANCELLED)
            return complain(list[i].rc, "%s", list[i].why);
    return *o->cancel ? EXIT_CANCELLED : 0;
}
