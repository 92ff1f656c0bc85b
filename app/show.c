/* show.c - see show.h. */
#include "show.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "say.h"

enum { MAX_COLUMNS = 80 };

static int terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 ||
        size.ws_col > MAX_COLUMNS)
        return MAX_COLUMNS;
    return size.ws_col;
}

int show(const struct styx_image *image)
{
    char *bytes = NULL;
    size_t count;
    styx_error err;
    int columns = terminal_columns();
    if (styx_image_terminal(image, "auto", columns, &bytes, &count, NULL) &&
        styx_image_terminal(image, "blocks", columns, &bytes, &count, &err))
        return complain_of(&err);
    fwrite(bytes, 1, count, stdout);
    fflush(stdout);
    styx_text_free(bytes);
    return 0;
}
