/* help.c - what the table of flags says, as help, as a manual page and as shell completions. */
#include <stdio.h>
#include <string.h>

#include "command.h"

enum { WIDTH = 80, INDENT = 8 };

static bool takes(const struct command *c, const struct flag *f)
{
    return (f->commands & c->bit) != 0;
}

/* Words of text, wrapped, every line indented. */
static void wrap(const char *text, int indent)
{
    int column = 0;
    while (*text) {
        int length = (int)strcspn(text, " \n");
        if (column && column + 1 + length > WIDTH) {
            putchar('\n');
            column = 0;
        }
        column +=
            column ? printf(" %.*s", length, text) : printf("%*s%.*s", indent, "", length, text);
        text += length;
        if (*text == '\n') {
            putchar('\n');
            column = 0;
        }
        text += *text != '\0';
    }
    if (column)
        putchar('\n');
}

void help_overview(void)
{
    printf("Styx %s draws and edits pictures with Stable Diffusion.\n\n", styx_version());
    for (const struct command *c = commands; c->name; c++)
        printf("  styx %-9s %-15s %s\n", c->name, c->shown, c->summary);
    printf("\n'styx help COMMAND' lists a command's flags, 'styx --version' the version.\n");
}

void help_command(const struct command *c)
{
    bool any = false;
    printf("usage: styx %s %s%s[FLAGS]\n\n", c->name, c->shown, *c->shown ? " " : "");
    printf("%s.\n", c->summary);
    wrap(c->text, 0);
    for (size_t i = 0; i < flag_count; i++) {
        const struct flag *f = &flags[i];
        if (!takes(c, f))
            continue;
        printf("%s  --%s%s%s", any ? "" : "\n", f->name, f->argument ? " " : "",
               f->argument ? f->argument : "");
        if (f->letter)
            printf(", -%c%s%s", f->letter, f->argument ? " " : "", f->argument ? f->argument : "");
        putchar('\n');
        wrap(f->help, INDENT);
        any = true;
    }
}

/* Text in a manual page: a dash is a minus, a backslash and a dot or quote at the beginning lose
 * their meaning. */
static void roff(const char *text, size_t length)
{
    if (length && (*text == '.' || *text == '\''))
        fputs("\\&", stdout);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '-' || text[i] == '\\')
            putchar('\\');
        putchar(text[i] == '\\' ? 'e' : text[i]);
    }
}

static void manual_flags(const struct command *c)
{
    for (size_t i = 0; i < flag_count; i++) {
        const struct flag *f = &flags[i];
        if (!takes(c, f))
            continue;
        printf(".TP\n.B \\-\\-");
        roff(f->name, strlen(f->name));
        if (f->letter)
            printf(", \\-%c", f->letter);
        if (f->argument) {
            printf(" \\fI");
            roff(f->argument, strlen(f->argument));
            printf("\\fR");
        }
        printf("\n");
        roff(f->help, strlen(f->help));
        printf("\n");
    }
}

void help_manual(void)
{
    printf(".TH STYX 1 \"\" \"styx %s\" \"User Commands\"\n.SH NAME\n", styx_version());
    printf("styx \\- draw and edit pictures with Stable Diffusion\n.SH SYNOPSIS\n");
    for (const struct command *c = commands; c->name; c++) {
        printf(".B styx %s\n.I %s\n", c->name, *c->shown ? c->shown : "\\&");
        printf("[\\fIflags\\fR]\n.br\n");
    }
    printf(".SH COMMANDS\n");
    for (const struct command *c = commands; c->name; c++) {
        printf(".SS styx %s %s\n", c->name, c->shown);
        roff(c->summary, strlen(c->summary));
        printf(".\n");
        for (const char *text = c->text; *text;) {
            size_t length = strcspn(text, "\n");
            printf(".PP\n");
            roff(text, length);
            printf("\n");
            text += length + (text[length] == '\n');
        }
        manual_flags(c);
    }
    printf(".SH EXIT STATUS\n0 for success, 1 for a failure, 2 for a mistake in the command or "
           "its settings, 130 after Ctrl\\-C.\n");
    printf(".SH ENVIRONMENT\n.TP\n.B STYX_MODEL\nThe model to use without \\-\\-model.\n");
    printf(".TP\n.B STYX_TOKENIZER\nA folder with the vocabulary for single files.\n");
    printf(".TP\n.B HF_HOME, HF_HUB_CACHE\nWhere models by ORG/NAME are.\n");
    printf(".TP\n.B NO_COLOR\nNo colours from \\-\\-show.\n");
}

static bool names_file(const struct flag *f)
{
    static const char *const words[] = { "FILE", "PATH", "PICTURE", "DIR", "FOLDER", "MODEL" };
    for (size_t i = 0; f->argument && i < sizeof words / sizeof *words; i++)
        if (strstr(f->argument, words[i]))
            return true;
    return false;
}

static void completion_bash(void)
{
    printf("# bash completion for styx\n_styx()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} "
           "prev=${COMP_WORDS[COMP_CWORD-1]}\n    case $prev in\n");
    for (size_t i = 0; i < flag_count; i++) {
        if (!flags[i].words)
            continue;
        printf("    --%s) COMPREPLY=($(compgen -W '", flags[i].name);
        for (int w = 0; flags[i].words[w]; w++)
            printf("%s%s", w ? " " : "", flags[i].words[w]);
        printf("' -- \"$cur\")); return ;;\n");
    }
    printf("    esac\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (const struct command *c = commands; c->name; c++)
        printf("%s ", c->name);
    printf("--version' -- \"$cur\")); return\n    fi\n    local names=\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (const struct command *c = commands; c->name; c++) {
        printf("    %s) names='", c->name);
        for (size_t i = 0; i < flag_count; i++)
            if (takes(c, &flags[i]))
                printf("--%s ", flags[i].name);
        printf("--help' ;;\n");
    }
    printf("    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$names\" -- \"$cur\")) "
           ";;\n    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\n"
           "complete -o filenames -F _styx styx\n");
}

/* Within single quotes of a shell; marks what the shell's completion would read as its own. */
static void quoted(const char *text, const char *marked)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(marked, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void completion_zsh(void)
{
    printf("#compdef styx\nlocal -a names\n"
           "if (( CURRENT == 2 )); then\n    names=(");
    for (const struct command *c = commands; c->name; c++) {
        printf("'%s:", c->name);
        quoted(c->summary, "[]:");
        printf("' ");
    }
    printf(")\n    _describe command names\n    return\nfi\nlocal which=$words[2]\n"
           "shift words\n(( CURRENT-- ))\ncase $which in\n");
    for (const struct command *c = commands; c->name; c++) {
        printf("%s) _arguments ", c->name);
        for (size_t i = 0; i < flag_count; i++) {
            const struct flag *f = &flags[i];
            if (!takes(c, f))
                continue;
            printf("'--%s[", f->name);
            quoted(f->help, "[]:");
            printf("]%s%s", f->argument ? ":value:" : "", names_file(f) ? "_files" : "");
            for (int w = 0; f->words && f->words[w]; w++)
                printf("%s%s", w ? " " : "(", f->words[w]);
            printf("%s' ", f->words ? ")" : "");
        }
        printf("'*:file:_files' ;;\n");
    }
    printf("esac\n");
}

static void completion_fish(void)
{
    for (const struct command *c = commands; c->name; c++) {
        printf("complete -c styx -n __fish_use_subcommand -a %s -d '", c->name);
        quoted(c->summary, "");
        printf("'\n");
    }
    for (const struct command *c = commands; c->name; c++)
        for (size_t i = 0; i < flag_count; i++) {
            const struct flag *f = &flags[i];
            if (!takes(c, f))
                continue;
            printf("complete -c styx -n '__fish_seen_subcommand_from %s' -l %s", c->name, f->name);
            printf("%s", !f->argument ? "" : names_file(f) ? " -r" : " -x");
            if (f->words) {
                printf(" -a '");
                for (int w = 0; f->words[w]; w++)
                    printf("%s%s", w ? " " : "", f->words[w]);
                printf("'");
            }
            printf(" -d '");
            quoted(f->help, "");
            printf("'\n");
        }
}

void help_completion(const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        completion_bash();
    else if (strcmp(shell, "zsh") == 0)
        completion_zsh();
    else
        completion_fish();
}
