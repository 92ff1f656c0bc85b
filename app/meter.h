/* meter.h - how far downloads are: one line on a terminal for the file that lacks most, with rate
 * and time left, and a line for each that is there. */
#ifndef STYX_APP_METER_H
#define STYX_APP_METER_H
#include "download.h"

void meter_begin(const struct download *list, int n);
void meter_show(void); /* a few times a second */
void meter_end(void);
/* "4.9 GB" */
const char *meter_bytes(double bytes, char text[16]);

#endif
