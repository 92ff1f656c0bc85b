/* command.h - the commands: `styx NAME ...`. */
#ifndef STYX_APP_COMMAND_H
#define STYX_APP_COMMAND_H
#include "options.h"

struct command {
    const char *name;
    unsigned bit;
    const char *positional[2]; /* flags that are given without dashes; NULL: no more */
    int needed;                /* how many of them must be there */
    const char *shown;         /* the usage line's words for them */
    const char *summary;
    const char *text; /* paragraphs for help and the manual */
    int (*run)(struct options *o);
};

extern const struct command commands[]; /* ends with a NULL name */

/* Parses argv[1..argc): the words after the command's name. Exit code 0, or the reason on stderr.
 * *help is set if --help was there. */
int args_parse(const struct command *c, int argc, char **argv, struct options *o, bool *help);

void help_overview(void);
void help_command(const struct command *c);
void help_manual(void);
void help_completion(const char *shell);

int run_generate(struct options *o);
int run_edit(struct options *o);
int run_explain(struct options *o);
int run_tokenize(struct options *o);
int run_schedule(struct options *o);
int run_info(struct options *o);
int run_log(struct options *o);
int run_replay(struct options *o);
int run_recipe(struct options *o);
int run_pull(struct options *o);
int run_convert(struct options *o);
int run_devices(struct options *o);
int run_bench(struct options *o);
int run_help(struct options *o);

#endif
