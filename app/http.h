/* http.h - GET over libcurl, one request at a time: proxies by the environment, HTTP/2 where the
 * server has it. The only file that knows libcurl is http.c. */
#ifndef STYX_APP_HTTP_H
#define STYX_APP_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http; /* one connection; one thread at a time */

/* Is the command built with libcurl? */
bool http_available(void);
/* NULL without memory. stalled: seconds without a byte after which a connection is given up. */
struct http *http_new(long stalled, const volatile int *cancel);
void http_free(struct http *h);

struct http_request {
    const char *url;
    const char *token; /* for the URL's own host, never for one that it leads to; or NULL */
    bool head;
    bool stop;     /* at a redirection to another host: its answer is what is wanted */
    uint64_t from; /* ask for the bytes from here on */
    /* Gets the body of a 200 or 206: begin before the first byte, then put. Non-zero ends the
     * request. */
    int (*begin)(void *user, long status, uint64_t from);
    int (*put)(void *user, const void *data, size_t bytes);
    void *user;
};

enum http_result {
    HTTP_DONE,    /* an answer, of whatever status, to its end */
    HTTP_CUT,     /* no connection, or one that broke: worth another try */
    HTTP_STOPPED, /* by put or begin */
    HTTP_CANCELLED,
    HTTP_REFUSED /* not worth another try: `why` */
};

struct http_answer {
    long status;
    int64_t length; /* -1: not told */
    char etag[160], linked_etag[160], commit[80], code[64], next[1024];
    int64_t linked_size; /* -1: not told */
    long retry_after;    /* seconds; 0: not told */
    char why[300];
};

enum http_result http_get(struct http *h, const struct http_request *r, struct http_answer *a);

/* The body as text with a NUL behind it, at most max bytes; free it. *text stays NULL if the status
 * is none of success. */
enum http_result http_text(struct http *h, const char *url, const char *token, size_t max,
                           char **text, struct http_answer *a);

/* "a b/c" as "a%20b/c"; free it. With slashes, those become %2F too. */
char *url_encode(const char *text, bool slashes);
/* Do both URLs have the same scheme, host and port? */
bool url_same_origin(const char *a, const char *b);

#endif
