/*
** fork.h - how often this process was forked since it loaded the module.
** A child must not use its parent's connections or random bytes; asking the
** system who we are for each message would cost a call each time.
*/
#ifndef ksms_fork_h
#define ksms_fork_h

#include <pthread.h>

static unsigned ksms_forks;

static void ksms_count_fork(void)
{
    ksms_forks++;
}

/* Call it when the module is opened; 0 where the system refuses. */
static inline int ksms_watch_forks(void)
{
    static int watching;
    if (!watching)
        watching = pthread_atfork(NULL, NULL, ksms_count_fork) == 0;
    return watching;
}

#endif
