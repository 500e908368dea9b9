/*
** fork.h - how often this process was forked since it loaded the module. A child must use
** neither its parent's connections nor its random bytes; to ask the system who we are for each
** message would cost a call each time.
*/
#ifndef ksms_fork_h
#define ksms_fork_h

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

extern unsigned ksms_forks;

/* Call it when the module is opened; 0 where the system refuses. */
int ksms_watch_forks(void);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
