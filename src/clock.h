/*
** clock.h - the clock of deadlines and pacing.
*/
#ifndef ksms_clock_h
#define ksms_clock_h

#include <time.h>

/* Where the system has one that goes on while the machine is suspended, it is used: a message
   must not leave hours after its deadline because a laptop was closed meanwhile. May be given on
   the command line. */
#ifndef KSMS_CLOCK
#ifdef CLOCK_BOOTTIME
#define KSMS_CLOCK CLOCK_BOOTTIME
#else
#define KSMS_CLOCK CLOCK_MONOTONIC
#endif
#endif

/* Seconds since some fixed moment; never set back. */
static inline double ksms_now(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(KSMS_CLOCK, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
