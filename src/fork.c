/*
** fork.c - counts the forks of this process.
*/
#include <pthread.h>

#include "fork.h"

unsigned ksms_forks;

static void count_fork(void)
{
    ksms_forks++;
}

int ksms_watch_forks(void)
{
    static int watching;
    if (!watching)
        watching = pthread_atfork(NULL, NULL, count_fork) == 0;
    return watching;
}
