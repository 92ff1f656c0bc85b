/* args.c - argv to options, by getopt_long over the table of flags. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "say.h"

enum { LONG_BASE = 256, LONG_HELP = LONG_BASE + MAX_FLAGS };

static void getopt_tables(const struct command *c, struct option *longs, char *shorts)
{
    *shorts++ = ':'; /* tell a missing value from an unknown flag */
    for (size_t i = 0; i < flag_count; i++) {
        const struct flag *f = &flags[i];
        if (!(f->commands & c->bit))
            continue;
        *longs++ = (struct option){ f->name, f->argument ? required_argument : no_argument, NULL,
                                    LONG_BASE + (int)i };
        if (f->letter) {
            *shorts++ = f->letter;
            if (f->argument)
                *shorts++ = ':';
        }
    }
    *longs++ = (struct option){ "help", no_argument, NULL, LONG_HELP };
    *longs = (struct option){ 0 };
    *shorts++ = 'h';
    *shorts = '\0';
}

static const struct flag *flag_of(const struct command *c, int found)
{
    if (found >= LONG_BASE)
        return &flags[found - LONG_BASE];
    for (size_t i = 0; i < flag_count; i++)
        if (flags[i].letter == found && (flags[i].commands & c->bit))
            return &flags[i];
    return NULL;
}

/* How many edits turn a into b; for "did you mean". */
static size_t distance(const char *a, const char *b)
{
    size_t row[64];
    size_t n = strlen(b);
    if (n >= sizeof row / sizeof *row)
        return n;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < shorter ? change : shorter;
        }
    }
    return row[n];
}

static int unknown(const struct command *c, const char *word)
{
    const char *near = NULL;
    size_t best = 3;
    for (size_t i = 0; i < flag_count; i++) {
        if (!(flags[i].commands & c->bit) || strncmp(word, "--", 2) != 0)
            continue;
        char name[64] = "";
        memcpy(name, word + 2, strcspn(word + 2, "=") % sizeof name);
        size_t d = distance(name, flags[i].name);
        if (d < best) {
            best = d;
            near = flags[i].name;
        }
    }
    if (near)
        return complain(EXIT_USAGE, "styx %s has no flag %.60s; did you mean --%s?", c->name, word,
                        near);
    return complain(EXIT_USAGE, "styx %s has no flag %.60s; 'styx help %s' lists them", c->name,
                    word, c->name);
}

static int take_flag(const struct command *c, int found, struct options *o)
{
    const struct flag *f = flag_of(c, found);
    char what[64];
    snprintf(what, sizeof what, "--%s", f->name);
    return option_parse(o, f, what, f->argument ? optarg : "true");
}

static int take_positional(const struct command *c, int argc, char **argv, struct options *o)
{
    int i = 0;
    for (; optind < argc; optind++, i++) {
        if (i == 2 || !c->positional[i])
            return complain(EXIT_USAGE,
                            "styx %s takes %s, not also '%.60s'; put quotes around a text with "
                            "blanks",
                            c->name, c->shown[0] ? c->shown : "no words of its own", argv[optind]);
        const struct flag *f = flag_find(c->positional[i]);
        int rc = option_parse(o, f, f->argument, argv[optind]);
        if (rc)
            return rc;
    }
    if (i < c->needed)
        return complain(EXIT_USAGE, "styx %s wants %s; see 'styx help %s'", c->name, c->shown,
                        c->name);
    return 0;
}

int args_parse(const struct command *c, int argc, char **argv, struct options *o, bool *help)
{
    struct option longs[MAX_FLAGS + 2];
    char shorts[2 * MAX_FLAGS + 3];
    int rc = 0, found;
    getopt_tables(c, longs, shorts);
    opterr = 0;
    optind = 1;
    *help = false;
    while (rc == 0 && (found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (found == LONG_HELP || found == 'h') {
            *help = true;
            return 0;
        }
        if (found == ':')
            rc = complain(EXIT_USAGE, "%.60s wants a value; see 'styx help %s'", argv[optind - 1],
                          c->name);
        else if (found == '?')
            rc = unknown(c, argv[optind - 1]);
        else
            rc = take_flag(c, found, o);
    }
    return rc ? rc : take_positional(c, argc, argv, o);
}
