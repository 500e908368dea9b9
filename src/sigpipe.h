/*
** sigpipe.h - keeps SIGPIPE away while libcurl or a socket may raise it.
*/
#ifndef ksms_sigpipe_h
#define ksms_sigpipe_h

#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "engine.h"

/*
** libcurl is told to leave signals alone. Before 7.87 OpenSSL then wrote to sockets in a way that
** raises SIGPIPE where the peer is gone, which ends a program that does not expect it; elsewhere
** no flag of 'send' prevents it.
*/
#ifndef KSMS_HOLD_SIGPIPE
#if !KSMS_CURL_GE(87, 0) || !defined(MSG_NOSIGNAL)
#define KSMS_HOLD_SIGPIPE 1
#else
#define KSMS_HOLD_SIGPIPE 0
#endif
#endif

static inline void ksms_hold_sigpipe(struct sigaction *old)
{
#if KSMS_HOLD_SIGPIPE
    struct sigaction ignore;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &ignore, old);
#else
    (void)old;
#endif
}

static inline void ksms_release_sigpipe(const struct sigaction *old)
{
#if KSMS_HOLD_SIGPIPE
    (void)sigaction(SIGPIPE, old, NULL);
#else
    (void)old;
#endif
}

#endif
