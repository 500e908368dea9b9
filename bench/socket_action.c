/*
** socket_action.c - multi.c with the other way to wait: epoll, and
** curl_multi_socket_action for the sockets that are ready.
**   socket_action URL N C
*/
#define _POSIX_C_SOURCE 200809L

#include <sys/epoll.h>
#include <time.h>

#include "post.h"

#define EVENTS  256

static int epoll;
static long alarm_at = -1;      /* on the clock of 'now'; -1 for none */

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* libcurl remembers for us whether epoll knows a socket. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *u, void *known)
{
    struct epoll_event event;
    fleet *f = (fleet *)u;
    (void)easy;
    memset(&event, 0, sizeof event);
    event.data.fd = fd;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? (unsigned)EPOLLIN : 0u)
                 | (what & CURL_POLL_OUT ? (unsigned)EPOLLOUT : 0u);
    if (epoll_ctl(epoll, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
                  &event) != 0)
        return -1;
    if (known == NULL)
        curl_multi_assign(f->multi, fd, &epoll);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *u)
{
    (void)multi; (void)u;
    alarm_at = ms < 0 ? -1 : now() + ms;
    return 0;
}

/* Waits for what comes first, and moves on what it belongs to. */
static int turn(fleet *f)
{
    struct epoll_event events[EVENTS];
    int running, i, n;
    long wait = alarm_at < 0 ? 1000 : alarm_at - now();
    n = epoll_wait(epoll, events, EVENTS, wait < 0 ? 0 : (int)wait);
    for (i = 0; i < n; i++) {
        unsigned e = events[i].events;
        int mask = (e & EPOLLIN ? CURL_CSELECT_IN : 0)
                 | (e & EPOLLOUT ? CURL_CSELECT_OUT : 0)
                 | (e & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        if (curl_multi_socket_action(f->multi, events[i].data.fd, mask,
                                     &running) != CURLM_OK)
            return 0;
    }
    if (alarm_at >= 0 && alarm_at <= now()) {
        alarm_at = -1;
        if (curl_multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0,
                                     &running) != CURLM_OK)
            return 0;
    }
    return n >= 0 && fleet_collect(f);
}

int main(int argc, char **argv)
{
    fleet f;
    if (argc != 4)
        return 2;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    f.multi = curl_multi_init();
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return 1;
    curl_multi_setopt(f.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(f.multi, CURLMOPT_SOCKETDATA, &f);
    curl_multi_setopt(f.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    if (!fleet_start(&f, argv[1], atol(argv[2]), atoi(argv[3])))
        return 1;
    while (f.done < f.wanted)
        if (!turn(&f))
            return 1;
    fleet_end(&f);
    return 0;
}
