/* passes.c - what happens to a recording before a backend sees it, in this order. */
#include "tape/tape.h"

int tape_finish(tape *t, bool merge, bool halo, styx_error *err)
{
    tape_share(t);
    if (halo)
        tape_hasten(t);
    tape_fuse(t);
    if (merge) {
        tape_merge(t);
        tape_defer(t);
    }
    tape_prune(t);
    tape_hoist(t);
    if (halo) {
        tape_halo(t);
        tape_widen(t);
    }
    return tape_plan(t, err);
}
