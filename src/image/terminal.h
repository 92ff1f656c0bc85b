/* terminal.h - a picture as bytes for a terminal. Nothing is printed here. */
#ifndef STYX_IMAGE_TERMINAL_H
#define STYX_IMAGE_TERMINAL_H
#include "image/image.h"

enum terminal_kind {
    TERMINAL_NONE,   /* cannot show colours, or nobody knows */
    TERMINAL_BLOCKS, /* half blocks in 24-bit colour: everywhere else */
    TERMINAL_KITTY,  /* Kitty's graphics protocol: Kitty, Ghostty, Konsole, WezTerm */
    TERMINAL_ITERM   /* iTerm2's inline pictures: iTerm2, VS Code, mintty */
};

/* Judges by the environment, which get(user, name) reads (NULL if unset), so that a test or a
 * server can bring its own. */
enum terminal_kind terminal_kind(const char *(*get)(void *user, const char *name), void *user);

/* img is RGB. As blocks it gets at most that many columns and rows (0: as many rows as it takes),
 * through a protocol just that many columns. Ends below the picture, at the first column. */
int terminal_picture(const struct image *img, enum terminal_kind kind, int columns, int rows,
                     char **text, size_t *bytes, styx_error *err);

#endif
