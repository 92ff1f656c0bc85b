/* http.c - see http.h. Redirections are followed by hand, so that the token stays with its host. */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "files.h"
#include "styx.h"

char *url_encode(const char *text, bool slashes)
{
    static const char digits[] = "0123456789ABCDEF";
    char *url = malloc(3 * strlen(text) + 1), *to = url;
    for (; url && *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                     strchr("-._~", c) || (c == '/' && !slashes);
        if (plain) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    if (url)
        *to = '\0';
    return url;
}

/* The length of "https://host:port". */
static size_t origin_length(const char *url)
{
    const char *host = strstr(url, "://");
    return host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/?#") : 0;
}

bool url_same_origin(const char *a, const char *b)
{
    size_t length = origin_length(a);
    return length && length == origin_length(b) && strncasecmp(a, b, length) == 0;
}

#if STYX_HAVE_CURL
#include <curl/curl.h>

enum { MAX_REDIRECTIONS = 8 };

struct http {
    CURL *curl;
    long stalled;
    const volatile int *cancel;
    const struct http_request *r;
    struct http_answer *a;
    char location[4096];
    char trouble[CURL_ERROR_SIZE];
    uint64_t range; /* of Content-Range */
    bool begun, stopped;
};

bool http_available(void)
{
    return true;
}

struct http *http_new(long stalled, const volatile int *cancel)
{
    struct http *h = calloc(1, sizeof *h);
    if (h && !(h->curl = curl_easy_init())) {
        free(h);
        return NULL;
    }
    if (h) {
        h->stalled = stalled;
        h->cancel = cancel;
    }
    return h;
}

void http_free(struct http *h)
{
    if (h)
        curl_easy_cleanup(h->curl);
    free(h);
}

/* The value of a header of that name, without blanks around and a line's end. */
static bool header_is(const char *line, size_t bytes, const char *name, char *value, size_t room)
{
    size_t length = strlen(name);
    if (bytes <= length || strncasecmp(line, name, length) != 0 || line[length] != ':')
        return false;
    line += length + 1;
    bytes -= length + 1;
    while (bytes && (*line == ' ' || *line == '\t')) {
        line++;
        bytes--;
    }
    while (bytes && strchr(" \t\r\n", line[bytes - 1]))
        bytes--;
    snprintf(value, room, "%.*s", (int)bytes, line);
    return true;
}

/* W/"abc" is abc. */
static void plain_etag(char *etag)
{
    char *from = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
    size_t length = strlen(from);
    if (length >= 2 && *from == '"' && from[length - 1] == '"') {
        from++;
        length -= 2;
    }
    memmove(etag, from, length);
    etag[length] = '\0';
}

/* Link: <URL>; rel="next" */
static void read_next(const char *value, char *next, size_t room)
{
    const char *begin = strchr(value, '<'), *end = begin ? strchr(begin, '>') : NULL;
    if (end && strstr(end, "rel=\"next\""))
        snprintf(next, room, "%.*s", (int)(end - begin - 1), begin + 1);
}

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
    struct http *h = user;
    struct http_answer *a = h->a;
    size_t bytes = size * count;
    char value[4096];
    if (bytes > 5 && strncmp(line, "HTTP/", 5) == 0) { /* what came before was 100 Continue */
        h->range = 0;
        a->length = -1;
    } else if (header_is(line, bytes, "Location", h->location, sizeof h->location)) {
    } else if (header_is(line, bytes, "X-Linked-Etag", a->linked_etag, sizeof a->linked_etag)) {
        plain_etag(a->linked_etag);
    } else if (header_is(line, bytes, "ETag", a->etag, sizeof a->etag)) {
        plain_etag(a->etag);
    } else if (header_is(line, bytes, "X-Repo-Commit", a->commit, sizeof a->commit) ||
               header_is(line, bytes, "X-Error-Code", a->code, sizeof a->code)) {
    } else if (header_is(line, bytes, "X-Linked-Size", value, sizeof value)) {
        a->linked_size = atoll(value);
    } else if (header_is(line, bytes, "Content-Length", value, sizeof value)) {
        a->length = atoll(value);
    } else if (header_is(line, bytes, "Retry-After", value, sizeof value)) {
        a->retry_after = atol(value);
    } else if (header_is(line, bytes, "Link", value, sizeof value)) {
        read_next(value, a->next, sizeof a->next);
    } else if (header_is(line, bytes, "Content-Range", value, sizeof value)) {
        h->range = strncasecmp(value, "bytes ", 6) == 0 ? strtoull(value + 6, NULL, 10) : 0;
    }
    return bytes;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct http *h = user;
    long status = 0;
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206)
        return size * count; /* an error's page */
    if (!h->begun) {
        h->begun = true;
        h->stopped = h->r->begin && h->r->begin(h->r->user, status, h->range);
    }
    if (!h->stopped)
        h->stopped = h->r->put && h->r->put(h->r->user, data, size * count);
    return h->stopped ? 0 : size * count;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return *((struct http *)user)->cancel;
}

static struct curl_slist *headers_of(const struct http_request *r, bool trusted)
{
    struct curl_slist *list = curl_slist_append(NULL, "Accept-Encoding: identity");
    if (list && r->token && trusted) {
        char *line = text_format("Authorization: Bearer %s", r->token);
        struct curl_slist *more = line ? curl_slist_append(list, line) : NULL;
        free(line);
        if (!more)
            curl_slist_free_all(list);
        list = more;
    }
    return list;
}

/* Whom to trust, where the system's own list is not to say: libcurl itself does not ask the
 * environment. */
static void set_trust(CURL *c)
{
    const char *bundle = getenv("CURL_CA_BUNDLE"), *folder = getenv("SSL_CERT_DIR");
    if (!bundle || !*bundle)
        bundle = getenv("SSL_CERT_FILE");
    if (bundle && *bundle)
        curl_easy_setopt(c, CURLOPT_CAINFO, bundle);
    if (folder && *folder)
        curl_easy_setopt(c, CURLOPT_CAPATH, folder);
}

static CURLcode one_request(struct http *h, const char *url, bool trusted)
{
    const struct http_request *r = h->r;
    CURL *c = h->curl;
    char range[40];
    struct curl_slist *headers = headers_of(r, trusted);
    if (!headers)
        return CURLE_OUT_OF_MEMORY;
    curl_easy_reset(c); /* keeps connections */
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "styx/" STYX_VERSION);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->trouble);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set_trust(c);
    curl_easy_setopt(c, CURLOPT_NOBODY, (long)r->head);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 1L << 18);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, h->stalled);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, h->stalled);
    if (r->from) {
        snprintf(range, sizeof range, "%llu-", (unsigned long long)r->from);
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
    h->location[0] = '\0';
    h->trouble[0] = '\0';
    h->begun = h->stopped = false;
    h->range = 0;
    CURLcode code = curl_easy_perform(c);
    curl_slist_free_all(headers);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &h->a->status);
    return code;
}

/* Where a redirection leads; NULL with `why` if it must not be followed. */
static char *follow(struct http *h, const char *url)
{
    char *next = NULL, *copy;
    CURLU *u = curl_url();
    if (u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
        !curl_url_set(u, CURLUPART_URL, h->location, 0))
        curl_url_get(u, CURLUPART_URL, &next, 0);
    copy = next ? strdup(next) : NULL;
    curl_free(next);
    curl_url_cleanup(u);
    if (copy && strncasecmp(url, "https:", 6) == 0 && strncasecmp(copy, "https:", 6) != 0) {
        free(copy);
        copy = NULL;
    }
    if (!copy)
        snprintf(h->a->why, sizeof h->a->why, "is sent on to %.150s, where nobody should go",
                 h->location);
    return copy;
}

static enum http_result result_of(struct http *h, CURLcode code)
{
    struct http_answer *a = h->a;
    if (code == CURLE_OK)
        return HTTP_DONE;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return HTTP_CANCELLED;
    if (h->stopped)
        return HTTP_STOPPED;
    const char *trouble = *h->trouble ? h->trouble : curl_easy_strerror(code);
    long proxy = 0;
    curl_easy_getinfo(h->curl, CURLINFO_HTTP_CONNECTCODE, &proxy);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        snprintf(a->why, sizeof a->why,
                 "comes from a server that cannot be trusted: %.180s; "
                 "CURL_CA_BUNDLE may name a file of other certificates",
                 trouble);
        return HTTP_REFUSED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_OUT_OF_MEMORY:
        snprintf(a->why, sizeof a->why, "cannot be asked for: %.200s", trouble);
        return HTTP_REFUSED;
    default:
        snprintf(a->why, sizeof a->why, "%.250s", trouble);
        if (proxy < 400 || proxy >= 500)
            return HTTP_CUT;
        snprintf(a->why, sizeof a->why, "is beyond a proxy that answers %ld", proxy);
        return HTTP_REFUSED;
    }
}

enum http_result http_get(struct http *h, const struct http_request *r, struct http_answer *a)
{
    char *url = strdup(r->url);
    enum http_result result = HTTP_REFUSED;
    *a = (struct http_answer){ .length = -1, .linked_size = -1, .why = "out of memory" };
    h->r = r;
    h->a = a;
    for (int i = 0; url; i++) {
        result = result_of(h, one_request(h, url, url_same_origin(url, r->url)));
        if (result != HTTP_DONE || a->status < 301 || a->status > 308 || !h->location[0])
            break;
        char *next = i < MAX_REDIRECTIONS ? follow(h, url) : NULL;
        if (i == MAX_REDIRECTIONS)
            snprintf(a->why, sizeof a->why, "is sent on and on");
        bool enough = next && r->stop && !url_same_origin(next, r->url);
        free(url);
        url = next;
        if (enough)
            break;
        result = HTTP_REFUSED;
    }
    free(url);
    return result;
}

#else

bool http_available(void)
{
    return false;
}

struct http *http_new(long stalled, const volatile int *cancel)
{
    (void)stalled, (void)cancel;
    return NULL;
}

void http_free(struct http *h)
{
    (void)h;
}

enum http_result http_get(struct http *h, const struct http_request *r, struct http_answer *a)
{
    (void)h, (void)r;
    *a = (struct http_answer){ .why = "is out of reach: this styx was built without libcurl" };
    return HTTP_REFUSED;
}
#endif

/* ---- whole answers ---- */

struct memory {
    char *data;
    size_t bytes, max;
};

static int keep(void *user, const void *data, size_t bytes)
{
    struct memory *m = user;
    char *more = bytes <= m->max - m->bytes ? realloc(m->data, m->bytes + bytes + 1) : NULL;
    if (!more)
        return 1;
    m->data = more;
    memcpy(m->data + m->bytes, data, bytes);
    m->data[m->bytes += bytes] = '\0';
    return 0;
}

enum http_result http_text(struct http *h, const char *url, const char *token, size_t max,
                           char **text, struct http_answer *a)
{
    struct memory m = { .max = max };
    struct http_request r = { .url = url, .token = token, .put = keep, .user = &m };
    enum http_result result = http_get(h, &r, a);
    *text = NULL;
    if (result == HTTP_DONE && a->status == 200 && m.data && !memchr(m.data, 0, m.bytes))
        *text = m.data;
    else
        free(m.data);
    if (result == HTTP_STOPPED)
        snprintf(a->why, sizeof a->why, "is longer than %zu bytes", max);
    return result;
}
